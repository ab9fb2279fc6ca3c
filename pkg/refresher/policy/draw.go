package policy

import "math/rand/v2"

// draw draws candidates in proportion to their weights, in constant time.
//
// Equal weights need nothing but the number of candidates. Others take the alias
// method (A. J. Walker 1977; M. D. Vose 1991): each candidate is a column of equal
// width of which it owns the lower part, and another one the rest.
type draw struct {
	n       uint64
	columns []column // nil when all weights are equal
	// scale is 1 / weight relative to the mean, nil when all are equal.
	scale []float32
	// random is for tests; nil is math/rand/v2, whose generator is per thread and
	// takes no lock.
	random func() uint64
}

// column is owned by its own candidate below 2^32 x share, by other above.
type column struct{ own, other uint32 }

func newDraw(c []Candidate) draw {
	d := draw{n: uint64(len(c))}
	sum, equal := 0.0, true
	for i := range c {
		sum += c[i].weight()
		equal = equal && c[i].weight() == c[0].weight()
	}
	if equal {
		return d
	}
	mean := sum / float64(len(c))
	d.scale = make([]float32, len(c))
	left := make([]float64, len(c)) // the weight that is not placed yet; the mean is 1
	var small, large []int
	for i := range c {
		left[i] = c[i].weight() / mean
		d.scale[i] = float32(1 / left[i])
		if left[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	d.columns = make([]column, len(c))
	for i := range d.columns {
		d.columns[i] = column{own: 1<<32 - 1, other: uint32(i)}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		d.columns[s] = column{own: uint32(min(left[s]*(1<<32), 1<<32-1)), other: uint32(l)}
		left[l] -= 1 - left[s]
		if left[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return d
}

// bits returns 64 random bits.
func (d *draw) bits() uint64 {
	if d.random != nil {
		return d.random()
	}
	return rand.Uint64()
}

// one draws one candidate; n must be at least 1.
func (d *draw) one(r uint64) int {
	// Multiplying 32 random bits by n is off from even by n / 2^32 at most.
	wide := (r >> 32) * d.n
	i := wide >> 32
	if d.columns != nil && uint32(r) >= d.columns[i].own {
		i = uint64(d.columns[i].other)
	}
	return int(i)
}

// two draws two different candidates; n must be at least 2.
func (d *draw) two(r uint64) (int, int) {
	if d.columns != nil {
		return d.twoWeighted(r)
	}
	i := (r >> 32) * d.n >> 32
	j := uint64(uint32(r)) * (d.n - 1) >> 32
	if j >= i {
		j++
	}
	return int(i), int(j)
}

// twoWeighted draws again while both are the same, but not for ever: next to a
// candidate with nearly all the weight the others are worth little.
func (d *draw) twoWeighted(r uint64) (int, int) {
	const tries = 4
	i := d.one(r)
	for range tries {
		if j := d.one(d.bits()); j != i {
			return i, j
		}
	}
	j := int(d.bits() >> 32 * (d.n - 1) >> 32)
	if j >= i {
		j++
	}
	return i, j
}

// scaleOf is 1 / weight of candidate i.
func (d *draw) scaleOf(i int) float32 {
	if d.scale == nil {
		return 1
	}
	return d.scale[i]
}
