// Package policytest is the contract of a [policy.Policy] as a test. Whoever
// writes a policy runs it:
//
//	func TestContract(t *testing.T) {
//		policytest.Run(t, func() policy.Policy { return mine.New() })
//	}
//
// It asks for what every policy owes its users, whatever it chooses by: each
// candidate is picked within a bounded number of picks, none that is not a
// candidate ever is, the order of candidates means nothing, equals get equal
// shares, weights are shares, a new endpoint begins with less than its share and
// is not starved, picks go on at any number of goroutines (run it with -race) and
// allocate nothing. The clock is the suite's own.
package policytest

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// Run runs the suite against what makePolicy makes.
func Run(t *testing.T, makePolicy func() policy.Policy) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, policy.Policy)
	}{
		{"no candidates", noCandidates},
		{"one candidate", oneCandidate},
		{"all are picked", allPicked},
		{"equals get equal shares", equalShares},
		{"weights are shares", weights},
		{"bad weights count as one", badWeights},
		{"order means nothing", order},
		{"a new endpoint is picked soon", added},
		{"a removed endpoint is never picked", removed},
		{"a new endpoint begins with less", slowStart},
		{"all new is a fair start", allNew},
		{"updates lose no state", updates},
		{"two candidates may share a node", sharedNode},
		{"any moment is a good one", anyClock},
		{"many goroutines", concurrent},
		{"picks allocate nothing", allocations},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := makePolicy()
			if p.Name() == "" {
				t.Error("it has no name")
			}
			c.run(t, p)
		})
	}
}

// bench is some endpoints, a clock and a picker over them.
type bench struct {
	tb     testing.TB
	now    policy.Nanos
	all    []policy.Candidate
	picker policy.Picker
}

const firstMoment = policy.Nanos(time.Hour)

func newBench(tb testing.TB, p policy.Policy, n int, edit ...func([]policy.Candidate)) *bench {
	tb.Helper()
	b := &bench{tb: tb, now: firstMoment, all: make([]policy.Candidate, n)}
	for i := range b.all {
		b.all[i].Node = policy.NewNode(policy.DefaultNodeConfig())
	}
	for _, e := range edit {
		e(b.all)
	}
	b.picker = p.NewPicker(b.all, b.now)
	return b
}

// call makes one call that takes a millisecond and returns who got it.
func (b *bench) call() int {
	b.tb.Helper()
	i := b.picker.Pick(b.now)
	if i < 0 || i >= len(b.all) {
		b.tb.Fatalf("Pick = %d of %d candidates", i, len(b.all))
	}
	b.all[i].Node.Begin(b.now)
	start := b.now
	b.now = b.now.Add(time.Millisecond)
	b.all[i].Node.End(start, b.now, policy.Success)
	return i
}

// shares makes calls and returns the part of each candidate, 1 being the fair one.
func (b *bench) shares(calls int) []float64 {
	b.tb.Helper()
	out := make([]float64, len(b.all))
	for range calls {
		out[b.call()] += float64(len(b.all)) / float64(calls)
	}
	return out
}

func noCandidates(t *testing.T, p policy.Policy) {
	for _, c := range [][]policy.Candidate{nil, {}} {
		if i := p.NewPicker(c, firstMoment).Pick(firstMoment); i != -1 {
			t.Errorf("Pick of nothing = %d, want -1", i)
		}
	}
}

func oneCandidate(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 1, func(c []policy.Candidate) { c[0].Since = firstMoment })
	for range 100 {
		b.call()
	}
	// Nowhere else to go: however bad it is.
	n := b.all[0].Node
	for range 100 {
		n.Begin(b.now)
		n.End(b.now, b.now+1, policy.Failed)
		b.call()
	}
}

func allPicked(t *testing.T, p policy.Policy) {
	for _, n := range []int{2, 3, 10, 1000} {
		b := newBench(t, p, n)
		for i, share := range b.shares(30 * n) {
			if share == 0 {
				t.Errorf("%d candidates: number %d was not picked in %d calls", n, i, 30*n)
			}
		}
	}
}

func equalShares(t *testing.T, p policy.Policy) {
	for _, n := range []int{2, 3, 7} {
		b := newBench(t, p, n)
		for i, share := range b.shares(2500 * n) {
			if share < 0.9 || share > 1.1 {
				t.Errorf("%d candidates: number %d has %.3f of its share", n, i, share)
			}
		}
	}
}

func weights(t *testing.T, p policy.Policy) {
	want := []float64{0.4, 0.8, 2, 0.8}
	b := newBench(t, p, 4, func(c []policy.Candidate) {
		for i := range c {
			c[i].Weight = want[i] * 50
		}
	})
	for i, share := range b.shares(15000) {
		if share < want[i]*0.8 || share > want[i]*1.25 {
			t.Errorf("number %d of weight %v has %.3f of an even share, want %v", i, b.all[i].Weight, share, want[i])
		}
	}
}

func badWeights(t *testing.T, p policy.Policy) {
	var zero float64
	for _, w := range []float64{0, -1, zero / zero} {
		b := newBench(t, p, 3, func(c []policy.Candidate) { c[0].Weight, c[1].Weight, c[2].Weight = w, 1, 1 })
		for i, share := range b.shares(8000) {
			if share < 0.85 || share > 1.15 {
				t.Errorf("weight %v: number %d has %.3f of its share", w, i, share)
			}
		}
	}
	huge := newBench(t, p, 3, func(c []policy.Candidate) { c[0].Weight = 1 / zero })
	huge.shares(1000) // it ends, and picks who is there
}

func order(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 5)
	var ofNode map[*policy.Node]float64
	for _, turn := range []int{0, 2} {
		rotated := append(append([]policy.Candidate(nil), b.all[turn:]...), b.all[:turn]...)
		b.all, b.picker = rotated, p.NewPicker(rotated, b.now)
		now := make(map[*policy.Node]float64)
		for i, share := range b.shares(8000) {
			now[b.all[i].Node] = share
			if before, ok := ofNode[b.all[i].Node]; ok && (share < before-0.25 || share > before+0.25) {
				t.Errorf("in another order an endpoint has %.2f of its share, %.2f before", share, before)
			}
		}
		ofNode = now
	}
}

func added(t *testing.T, p policy.Policy) {
	for _, n := range []int{2, 10, 100} {
		b := newBench(t, p, n)
		b.shares(20 * n)
		b.all = append(b.all, policy.Candidate{Node: policy.NewNode(policy.DefaultNodeConfig())})
		b.picker = p.NewPicker(b.all, b.now)
		calls := 0
		for b.call() != n {
			if calls++; calls > 40*n {
				t.Fatalf("beside %d others a new endpoint had no call in %d", n, calls)
			}
		}
		share := b.shares(200 * n)[n]
		if share > 3 {
			t.Errorf("beside %d others a new endpoint gets %.2f of its share", n, share)
		}
	}
}

func removed(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 10)
	b.shares(1000)
	gone := b.all[3].Node
	before := gone.Stats().Started
	b.all = append(append([]policy.Candidate(nil), b.all[:3]...), b.all[4:]...)
	b.picker = p.NewPicker(b.all, b.now)
	b.shares(5000)
	if after := gone.Stats().Started; after != before {
		t.Errorf("%d calls on a removed endpoint", after-before)
	}
}

func slowStart(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 9)
	b.shares(2000)
	b.all = append(b.all, policy.Candidate{Node: policy.NewNode(policy.DefaultNodeConfig()), Since: b.now})
	b.picker = p.NewPicker(b.all, b.now)
	first := b.shares(500)[9] // half a second
	if first > 0.8 {
		t.Errorf("at first a new endpoint has %.2f of its share", first)
	}
	b.now = b.now.Add(time.Minute)
	b.shares(2000)
	if last := b.shares(10000)[9]; last < 0.7 || last > 1.4 {
		t.Errorf("after a minute a new endpoint has %.2f of its share", last)
	}
}

func allNew(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 4, func(c []policy.Candidate) {
		for i := range c {
			c[i].Since = firstMoment
		}
	})
	for i, share := range b.shares(8000) {
		if share < 0.8 || share > 1.2 {
			t.Errorf("all are new: number %d has %.2f of its share", i, share)
		}
	}
}

func updates(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 5)
	want := uint64(0)
	for range 200 {
		b.picker = p.NewPicker(b.all, b.now)
		want += 5
		b.shares(5)
	}
	var got uint64
	for _, c := range b.all {
		s := c.Node.Stats()
		got += s.Succeeded
		if s.EWMA != time.Millisecond {
			t.Errorf("EWMA = %v after calls of 1ms", s.EWMA)
		}
	}
	if got != want {
		t.Errorf("%d of %d calls are remembered", got, want)
	}
}

func sharedNode(t *testing.T, p policy.Policy) {
	b := newBench(t, p, 3, func(c []policy.Candidate) { c[1].Node = c[0].Node })
	for i, share := range b.shares(3000) {
		if share == 0 {
			t.Errorf("number %d is never picked", i)
		}
	}
}

func anyClock(t *testing.T, p policy.Policy) {
	for _, now := range []policy.Nanos{-1 << 62, -1, 0, 1, 1 << 62} {
		b := newBench(t, p, 4)
		b.now = now
		b.picker = p.NewPicker(b.all, now)
		for i, share := range b.shares(2500) {
			if share < 0.7 || share > 1.3 {
				t.Errorf("at %d: number %d has %.2f of its share", now, i, share)
			}
		}
		for _, c := range b.all {
			if s := c.Node.Stats(); s.InFlight != 0 || s.EWMA != time.Millisecond {
				t.Errorf("at %d: %+v", now, s)
			}
		}
		b.now-- // a reading of the clock that is late
		b.call()
	}
}

func concurrent(t *testing.T, p policy.Policy) {
	const goroutines, calls = 8, 1000
	b := newBench(t, p, 5)
	pickers := make(chan policy.Picker, 1)
	pickers <- b.picker
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range calls {
				k := <-pickers
				if i%100 == 0 {
					k = p.NewPicker(b.all, policy.Now())
				}
				pickers <- k
				start := policy.Now()
				n := b.all[k.Pick(start)].Node
				n.Begin(start)
				n.End(start, policy.Now(), policy.Outcome(rnd.IntN(5)))
				if i%500 == 0 {
					n.Stats()
				}
			}
		})
	}
	all.Wait()
	var started uint64
	for i, c := range b.all {
		s := c.Node.Stats()
		started += s.Started
		if s.InFlight != 0 || s.Started != s.Succeeded+s.Failed+s.Overloaded+s.TimedOut+s.Erred+s.Neutral {
			t.Errorf("number %d at rest: %+v", i, s)
		}
	}
	if started != goroutines*calls {
		t.Errorf("%d calls began, the nodes know of %d", goroutines*calls, started)
	}
}

func allocations(t *testing.T, p policy.Policy) {
	for _, edit := range []func([]policy.Candidate){
		func([]policy.Candidate) {},
		func(c []policy.Candidate) { c[0].Weight = 3 },
		func(c []policy.Candidate) { c[0].Since = firstMoment },
	} {
		b := newBench(t, p, 10, edit)
		i := 0
		got := testing.AllocsPerRun(1000, func() {
			i++
			n := b.all[b.picker.Pick(b.now)].Node
			n.Begin(b.now)
			n.End(b.now, b.now+1000, policy.Outcome(i%5))
		})
		if got != 0 {
			t.Errorf("%v allocations per call", got)
		}
	}
}
