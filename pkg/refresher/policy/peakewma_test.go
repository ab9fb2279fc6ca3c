package policy

import (
	"testing"
	"time"
)

// What of two endpoints decides.
func TestPeakEWMAOfTwo(t *testing.T) {
	type pod struct {
		latency  time.Duration // 0: none is known
		inFlight int
		failures int
	}
	const us = time.Microsecond
	for _, c := range []struct {
		name string
		a, b pod
		want float64 // a's part of the picks
	}{
		{"equals", pod{latency: 500 * us}, pod{latency: 500 * us}, 0.5},
		{"fast, and twice as fast", pod{latency: 500 * us}, pod{latency: 1000 * us}, 0.5},
		{"a difference of less than a time slice", pod{latency: 100 * us}, pod{latency: 1100 * us}, 0.5},
		{"as fast, give or take a third", pod{latency: 50_000 * us}, pod{latency: 70_000 * us}, 0.5},
		{"one is slower", pod{latency: 2000 * us}, pod{latency: 6000 * us}, 1},
		{"one is far slower", pod{latency: 200_000 * us}, pod{latency: 1000 * us}, 0},
		{"as fast, and calls in flight", pod{latency: 500 * us}, pod{latency: 500 * us, inFlight: 1}, 1},
		{"faster by nothing, and a call in flight", pod{latency: 100 * us, inFlight: 1}, pod{latency: 1000 * us}, 0},
		{"as fast, and as many calls in flight", pod{latency: 500 * us, inFlight: 7}, pod{latency: 600 * us, inFlight: 7}, 0.5},
		{"as fast, at saturation", pod{latency: 500 * us, inFlight: 100}, pod{latency: 500 * us, inFlight: 120}, 1},
		{"slower, and the other is busy", pod{latency: 50_000 * us}, pod{latency: 5000 * us, inFlight: 4}, 0},
		{"slower, and the other is far busier", pod{latency: 50_000 * us}, pod{latency: 5000 * us, inFlight: 12}, 1},
		{"a new one", pod{}, pod{latency: 200_000 * us}, 0.5},
		{"a new one, and calls in flight", pod{inFlight: 1}, pod{latency: 200_000 * us}, 0},
		{"as fast, and failures", pod{latency: 500 * us, failures: 2}, pod{latency: 1000 * us}, 0},
		{"failures of the faster", pod{latency: 1000 * us, failures: 5}, pod{latency: 50_000 * us}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			const now = 10 * second
			var both []Candidate
			for _, p := range []pod{c.a, c.b} {
				n := NewNode(DefaultNodeConfig())
				if p.latency > 0 {
					latency(n, now, p.latency)
				}
				for range p.failures {
					call(n, now, us, Failed)
				}
				for range p.inFlight {
					n.Begin(now)
				}
				both = append(both, Candidate{Node: n})
			}
			picker := PeakEWMA(DefaultPeakEWMAConfig()).NewPicker(both, now)
			const picks = 2000
			first := 0
			for range picks {
				if picker.Pick(now) == 0 {
					first++
				}
			}
			if got := float64(first) / picks; got < c.want-0.1 || got > c.want+0.1 {
				t.Errorf("it gets %.2f of the picks, want %v", got, c.want)
			}
		})
	}
}
