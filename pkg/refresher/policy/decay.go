package policy

import (
	"math"
	"time"
)

// pow2neg returns 2^-y for y >= 0, and 0 from 126 on. The relative error is at
// most 1.1e-4, nothing beside the noise of a latency; it falls strictly from
// one step of 1/4096 to the next, and 0, 1, 2 … are exact. It costs a third of
// math.Exp2, which matters because every pick needs two.
//
// The exponent's bits are the whole part of y. 2^-f of the rest is a polynomial
// through both ends of [0, 1], so that the curve has no steps, and through two
// points between them that make the largest error small.
func pow2neg(y float32) float32 {
	const c1, c2, c3 = -0.6913947612, 0.2305086335, -0.0391138723
	if y < 1.0/64 {
		return 1 - y*math.Ln2 // off by less than 6e-5; an endpoint in use is nearly always here
	}
	if !(y < 126) {
		return 0
	}
	whole := int32(y)
	f := y - float32(whole)
	p := 1 + f*(c1+f*(c2+f*c3))
	return math.Float32frombits(uint32(127-whole)<<23) * p
}

// rate is the factor that turns ticks into the argument of [pow2neg] so that a
// value falls to 1/e within tau: log2(e) / tau.
func rate(tau time.Duration) float32 {
	return float32(math.Log2E * float64(int64(1)<<tickBits) / float64(tau))
}
