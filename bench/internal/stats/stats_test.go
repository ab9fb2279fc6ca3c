package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestOf(t *testing.T) {
	cases := []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"one value is every quantile", []float64{7}, Summary{1, 7, 7, 7, 7, 7, 7}},
		{"order does not matter", []float64{5, 1, 4, 2, 3}, Summary{5, 1, 2, 3, 4, 4.8, 5}},
		{"an even sample has its median in between", []float64{4, 1, 3, 2}, Summary{4, 1, 1.75, 2.5, 3.25, 3.85, 4}},
		{"equal values have no spread", []float64{2, 2, 2}, Summary{3, 2, 2, 2, 2, 2, 2}},
		{"one slow run moves the maximum, not the median", []float64{31, 29, 30, 33, 480}, Summary{5, 29, 30, 31, 33, 390.6, 480}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Of(c.values...)
			if got.N != c.want.N {
				t.Errorf("N = %d, want %d", got.N, c.want.N)
			}
			for name, pair := range map[string][2]float64{
				"min": {got.Min, c.want.Min}, "p25": {got.P25, c.want.P25}, "p50": {got.P50, c.want.P50},
				"p75": {got.P75, c.want.P75}, "p95": {got.P95, c.want.P95}, "max": {got.Max, c.want.Max},
			} {
				if math.Abs(pair[0]-pair[1]) > 1e-9 {
					t.Errorf("%s = %v, want %v", name, pair[0], pair[1])
				}
			}
		})
	}
}

func TestOfNothing(t *testing.T) {
	got := Of()
	if got.N != 0 || !math.IsNaN(got.P50) || !math.IsNaN(got.P95) {
		t.Errorf("Of() = %+v, want NaN and N 0", got)
	}
	if Below(got.P50, math.Inf(1)) {
		t.Error("nothing measured meets a target")
	}
}

func TestOfLeavesItsInputAlone(t *testing.T) {
	values := []float64{3, 1, 2}
	Of(values...)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the sample was sorted in place: %v", values)
	}
}

// TestQuantilesOfUniform holds the estimates against a distribution whose quantiles are known.
func TestQuantilesOfUniform(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 20000)
	for i := range values {
		values[i] = r.Float64()
	}
	got := Of(values...)
	for want, have := range map[float64]float64{0.25: got.P25, 0.5: got.P50, 0.75: got.P75, 0.95: got.P95} {
		if math.Abs(have-want) > 0.015 {
			t.Errorf("quantile %v of a uniform sample = %v", want, have)
		}
	}
	if got.Min > got.P25 || got.P25 > got.P50 || got.P50 > got.P75 || got.P75 > got.P95 || got.P95 > got.Max {
		t.Errorf("quantiles are out of order: %+v", got)
	}
}

func TestBelow(t *testing.T) {
	if Below(60, 60) || Below(math.NaN(), 60) || !Below(59.99, 60) {
		t.Error("a target is met strictly below it only")
	}
}
