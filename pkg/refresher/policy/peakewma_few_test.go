package policy

import (
	"testing"
	"time"
)

// TestPeakEWMAFindsTheFew: where most endpoints hang or fail, two at random are too few to find one that does not.
func TestPeakEWMAFindsTheFew(t *testing.T) {
	hangs := func(n *Node, now Nanos) {
		for range 20 {
			n.Begin(now)
		}
	}
	fails := func(n *Node, now Nanos) {
		for range 3 {
			call(n, now, time.Millisecond, Failed)
		}
	}
	for _, c := range []struct {
		name       string
		good, bad  int
		trouble    func(*Node, Nanos)
		least, max float64 // the good ones' part of the picks
	}{
		{"two of three hang", 1, 2, hangs, 0.93, 1},
		{"two of three fail", 1, 2, fails, 0.93, 1},
		{"half of many hang", 10, 10, hangs, 0.97, 1},
		{"nine of ten hang", 1, 9, hangs, 0.4, 0.6}, // of six looks one hits it: the price of a bound on what a pick costs
	} {
		t.Run(c.name, func(t *testing.T) {
			const now = 10 * second
			var all []Candidate
			for i := range c.good + c.bad {
				n := NewNode(DefaultNodeConfig())
				latency(n, now, 5*time.Millisecond)
				if i >= c.good {
					c.trouble(n, now)
				}
				all = append(all, Candidate{Node: n})
			}
			picker := PeakEWMA(DefaultPeakEWMAConfig()).NewPicker(all, now)
			const picks = 20_000
			good := 0
			for range picks {
				if picker.Pick(now) < c.good {
					good++
				}
			}
			if part := float64(good) / picks; part < c.least || part > c.max {
				t.Errorf("the good ones got %.3f of the picks, want %.2f to %.2f", part, c.least, c.max)
			}
		})
	}
}
