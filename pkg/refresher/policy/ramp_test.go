package policy

import (
	"testing"
	"time"
)

// Of a set half of which starts slowly, every other draw has one of these and
// every fourth has two: the share of those is small all the same.
func TestHalfRamps(t *testing.T) {
	const now = Nanos(time.Hour)
	cases := []struct {
		name string
		p    Policy
	}{
		{"peak_ewma", PeakEWMA(DefaultPeakEWMAConfig())},
		{"least_request", LeastRequest(DefaultLeastRequestConfig())},
		{"round_robin", RoundRobin(DefaultRoundRobinConfig())},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			candidates := make([]Candidate, 8)
			for i := range candidates {
				candidates[i].Node = NewNode(NodeConfig{})
				if i < 4 {
					candidates[i].Since = now
				}
			}
			const picks = 20_000
			picker, ramping := c.p.NewPicker(candidates, now), 0
			for range picks {
				if picker.Pick(now) < 4 {
					ramping++
				}
			}
			if share := float64(ramping) / picks; share < 0.02 || share > 0.14 {
				t.Errorf("their share is %.3f, want about a tenth", share)
			}
		})
	}
}
