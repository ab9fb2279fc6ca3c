package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const milli = float64(time.Millisecond)

// around is a service time of so many ms, give or take two fifths.
func around(ms float64) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration((0.6 + 0.8*r.Float64()) * ms * milli) }
}

// disturbed is what half a millisecond looks like on a busy machine.
func disturbed(r *rand.Rand) time.Duration {
	switch u := r.Float64(); {
	case u < 0.01:
		return 20 * time.Millisecond
	case u < 0.06:
		return 3 * time.Millisecond
	}
	return around(0.5)(r)
}

// serves gives a pod that never queues a service time.
func (s *sim) serves(p *simPod, took func(*rand.Rand) time.Duration) {
	p.workers, p.service = 64, 0
	p.free = make([]Nanos, p.workers)
	p.extra = func(Nanos) time.Duration { return took(s.rnd) }
}

// newFastSim makes n such pods, and a client of so many calls per second.
func newFastSim(n int, rate float64, took func(*rand.Rand) time.Duration) *sim {
	s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), n)
	s.rate = rate
	for _, p := range s.pods {
		s.serves(p, took)
	}
	return s
}

// spread lets the draws be spread evenly (a Kronecker sequence in two dimensions):
// what is uneven is then the policy's doing.
func (s *sim) spread() {
	var x, y uint32
	s.draws = func() uint64 {
		x += 3242174889 // 2^32 / 1.3247…, the root of x^3 = x + 1
		y += 2447445414 // and by its square
		return uint64(x)<<32 | uint64(y)
	}
}

// Equal pods get equal shares, from the first call on, though a call of a hundred
// takes 40 times as long as the others. A machine that stops for a moment stops
// the calls of all.
func TestSimEqualFastPods(t *testing.T) {
	for _, c := range []struct {
		pods  int
		rate  float64
		stops bool
	}{{3, 100, false}, {6, 100, false}, {3, 350, false}, {3, 50, false}, {6, 3000, false}, {3, 350, true}} {
		t.Run(fmt.Sprintf("%d pods, %v calls per second, stops: %v", c.pods, c.rate, c.stops), func(t *testing.T) {
			s := newFastSim(c.pods, c.rate, disturbed)
			s.spread()
			if c.stops {
				for _, p := range s.pods {
					p.extra = s.stopped(p.extra)
				}
			}
			for range 3 {
				s.run(10 * time.Second)
				var shares []float64
				for _, p := range s.pods {
					shares = append(shares, s.share(p))
				}
				t.Logf("shares %.2f", shares)
				for i, share := range shares {
					if share < 0.8 || share > 1.2 {
						t.Errorf("pod %d has %.2f of its share over 10 s", i, share)
					}
				}
			}
		})
	}
}

// stopped lets calls wait that come while the machine stops: for 2 to 22 ms, about
// once a second.
func (s *sim) stopped(took func(Nanos) time.Duration) func(Nanos) time.Duration {
	var from, to Nanos
	rnd := rand.New(rand.NewPCG(2, 2)) // the same for all
	return func(now Nanos) time.Duration {
		for to <= now {
			from = to + Nanos(rnd.ExpFloat64()*1000*milli)
			to = from + Nanos((2+20*rnd.Float64())*milli)
		}
		d := took(now)
		if now >= from {
			d += to.Sub(now)
		}
		return d
	}
}

// A pod that is really slower than its peers is left alone by and large, so that
// the slowest hundredth of the calls is theirs. Where it is three times as slow in
// milliseconds nobody promises that: it gets fewer calls.
func TestSimSlowerPod(t *testing.T) {
	for _, c := range []struct {
		fast, slow float64 // ms
		rate       float64
		share      float64 // at most
		budget     bool    // of p99
	}{
		{1, 200, 100, 0.02, true},
		{1, 200, 1000, 0.02, true},
		{5, 50, 100, 0.02, true},
		{5, 50, 1000, 0.03, true},
		{2, 6, 100, 0.5, false},
		{2, 6, 1000, 0.5, false},
		{1, 10, 100, 0.03, true},
	} {
		s := newFastSim(3, c.rate, around(c.fast))
		base := s.run(10 * time.Second).p99()
		s.serves(s.pods[0], around(c.slow))
		r := s.run(30 * time.Second)
		p99, share := r.p99(), s.share(s.pods[0])
		t.Logf("%v ms beside %v ms, %v calls/s: %.3f of its share, p99 %v (%v before)", c.slow, c.fast, c.rate, share, p99, base)
		if share > c.share {
			t.Errorf("a pod of %v ms beside those of %v ms has %.3f of its share", c.slow, c.fast, share)
		}
		if c.budget && p99 > base*5/4 {
			t.Errorf("a pod of %v ms beside those of %v ms makes p99 %v of %v", c.slow, c.fast, p99, base)
		}
		if share == 0 {
			t.Errorf("a pod of %v ms beside those of %v ms was never tried again", c.slow, c.fast)
		}
	}
}
