// Package stats sums up a sample of measurements by its order: quantiles, never means, because one slow run of a busy machine would
// drag a mean anywhere.
//
//	s := stats.Of(31, 29, 30, 33, 480)
//	s.P50 // 31
//
// It refuses to guess: no outlier is removed, no distribution assumed, and quantiles that a sample is too small for are simply its
// extremes. Whether two samples differ is benchstat's question, not this package's.
package stats

import (
	"math"
	"slices"
)

// Summary is a sample in eight numbers, in the unit of the sample. All are NaN, and N is 0, for an empty sample.
type Summary struct {
	N                  int
	Min, P25, P50, P75 float64
	P95, Max           float64
}

// Of sums up a sample. The order of the values does not matter.
func Of(values ...float64) Summary {
	sorted := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 { return quantile(sorted, p) }
	return Summary{N: len(sorted), Min: at(0), P25: at(0.25), P50: at(0.5), P75: at(0.75), P95: at(0.95), Max: at(1)}
}

// quantile interpolates between the two values around p (0 to 1) of a sorted sample: definition 7 of Hyndman and Fan (1996), which R and
// NumPy use unless told otherwise.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	h := p * float64(len(sorted)-1)
	low := int(math.Floor(h))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (h-float64(low))*(sorted[high]-sorted[low])
}

// Below reports whether v is under the limit; nothing measured is not.
func Below(v, limit float64) bool { return !math.IsNaN(v) && v < limit }
