package policy

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// stage is some nodes, their Ejector and a clock.
type stage struct {
	tb    testing.TB
	now   Nanos
	cfg   EjectConfig
	ej    *Ejector
	nodes []*Node
	next  Nanos
}

func newStage(tb testing.TB, n int, edit ...func(*EjectConfig)) *stage {
	s := &stage{tb: tb, now: 100 * second, cfg: DefaultEjectConfig()}
	for _, e := range edit {
		e(&s.cfg)
	}
	s.ej = NewEjector(s.cfg)
	for range n {
		s.nodes = append(s.nodes, NewNode(NodeConfig{Eject: s.cfg}))
	}
	s.look()
	return s
}

// calls makes calls of a millisecond and reports whether any of them tripped.
func (s *stage) calls(i, count int, o Outcome) (trip bool) {
	for range count {
		if call(s.nodes[i], s.now, time.Millisecond, o) {
			trip = true
		}
	}
	return trip
}

// look evaluates and returns who was ejected (+i) and who came back (-i), i
// counting from 1.
func (s *stage) look() (changes []int) {
	got, next := s.ej.Evaluate(s.now, s.nodes)
	for _, c := range got {
		i := slices.Index(s.nodes, c.Node) + 1
		if c.Ejected != s.ej.Ejected(c.Node) || c.Reason == "" || (c.For > 0) != c.Ejected {
			s.tb.Errorf("change %+v", c)
		}
		if !c.Ejected {
			i = -i
		}
		changes = append(changes, i)
	}
	s.next = next
	return changes
}

func (s *stage) want(want ...int) {
	s.tb.Helper()
	if got := s.look(); !slices.Equal(got, want) {
		s.tb.Errorf("at %v s: changes %v, want %v", s.now.Sub(0).Seconds(), got, want)
	}
}

func (s *stage) wait(d time.Duration) { s.now = s.now.Add(d) }

func TestEjectConsecutiveFailures(t *testing.T) {
	s := newStage(t, 3)
	if s.calls(0, 4, Failed) {
		t.Error("four failures trip")
	}
	s.want()
	if !s.calls(0, 1, Overloaded) {
		t.Error("the fifth does not trip")
	}
	s.want(1)
	s.want() // said once
	if got := s.next.Sub(s.now); got != 10*time.Second {
		t.Errorf("next look in %v, want at the end of the interval", got)
	}
	s.wait(29 * time.Second)
	s.want()
	s.wait(time.Second)
	s.want(-1)
}

func TestSuccessEndsARow(t *testing.T) {
	s := newStage(t, 3)
	s.calls(0, 4, Failed)
	s.wait(time.Second)
	s.calls(0, 1, Success)
	if s.calls(0, 4, Failed) {
		t.Error("it trips after four of nine")
	}
	s.want()
	s.calls(0, 1, Neutral)
	if !s.calls(0, 1, Failed) {
		t.Error("a neutral call ended the row")
	}
}

// A server that shuts down finishes what it has.
func TestOldSuccessDoesNotEndARow(t *testing.T) {
	s := newStage(t, 3)
	n := s.nodes[0]
	n.Begin(s.now)
	s.wait(time.Second)
	s.calls(0, 4, Failed)
	n.End(s.now-second, s.now, Success)
	if !s.calls(0, 1, Failed) {
		t.Error("the end of an old call ended the row")
	}
	s.want(1)
}

func TestEjectTimeouts(t *testing.T) {
	s := newStage(t, 4)
	silent := func(i int, took time.Duration) bool { return call(s.nodes[i], s.now.Add(-took), took, TimedOut) }
	// Impatient callers: three within a second.
	for range 3 {
		s.wait(300 * time.Millisecond)
		if silent(0, 200*time.Millisecond) {
			t.Error("it trips within a second")
		}
	}
	s.want()
	s.wait(time.Second)
	if !silent(0, 200*time.Millisecond) {
		t.Error("it does not trip after 1.5 s")
	}
	s.want(1)
	// Long deadlines: the third ends long after.
	for range 3 {
		silent(1, 5*time.Second)
	}
	s.want(2)
	// Something came back in between.
	silent(2, 5*time.Second)
	silent(2, 5*time.Second)
	s.calls(2, 1, Failed)
	silent(2, 5*time.Second)
	s.want()
	s.wait(5 * time.Second)
	s.want(-1, -2)
}

func TestProbation(t *testing.T) {
	s := newStage(t, 3)
	s.calls(0, 5, Failed)
	s.want(1)
	s.wait(30 * time.Second)
	s.want(-1)
	if !s.calls(0, 1, Failed) {
		t.Error("the first failure after the return does not trip")
	}
	s.want(1)
	s.wait(59 * time.Second) // forgiven for none of the intervals while ejected
	s.want()
	s.wait(time.Second)
	s.want(-1)
	s.wait(time.Second)
	s.calls(0, 1, Success)
	if s.calls(0, 4, Failed) {
		t.Error("after a success it is still on probation")
	}
	s.want()
	if !s.calls(0, 1, Failed) {
		t.Error("the fifth does not trip")
	}
}

func TestEjectionGrowsAndIsForgiven(t *testing.T) {
	s := newStage(t, 3, func(c *EjectConfig) { c.MaxTime = 70 * time.Second })
	length := func() time.Duration {
		t.Helper()
		s.calls(0, 5, Failed)
		changes, _ := s.ej.Evaluate(s.now, s.nodes)
		if len(changes) != 1 {
			t.Fatalf("changes %v", changes)
		}
		d := changes[0].For
		s.wait(d)
		s.want(-1)
		return d
	}
	for _, want := range []time.Duration{30, 60, 70, 70} {
		if got := length(); got != want*time.Second {
			t.Errorf("ejected for %v, want %d s", got, want)
		}
	}
	for range 3 { // of the four
		s.wait(10 * time.Second)
		s.want()
	}
	s.nodes[0].streak.Store(0)
	if got := length(); got > 60*time.Second {
		t.Errorf("ejected for %v after three intervals without", got)
	}
}

func TestEjectCap(t *testing.T) {
	for _, c := range []struct{ nodes, percent, want int }{
		{1, 100, 0}, {2, 10, 1}, {2, 50, 1}, {3, 50, 1}, {4, 50, 2}, {10, 50, 5}, {10, 10, 1}, {10, 100, 10}, {10, 0, 0},
	} {
		s := newStage(t, c.nodes, func(cfg *EjectConfig) { cfg.MaxEjectedPercent = c.percent })
		for i := range s.nodes {
			s.calls(i, 5, Failed)
		}
		if got := len(s.look()); got != c.want {
			t.Errorf("%d nodes, %d%%: %d ejected, want %d", c.nodes, c.percent, got, c.want)
		}
	}
}

func TestEjectSwitchedOff(t *testing.T) {
	off := EjectConfig{Interval: 10 * time.Second, MaxEjectedPercent: 50}
	if off.Enabled() || !DefaultEjectConfig().Enabled() {
		t.Error("Enabled is wrong")
	}
	s := newStage(t, 10, func(c *EjectConfig) { *c = off })
	for range 3 {
		if s.calls(0, 200, Failed) || s.calls(1, 200, TimedOut) {
			t.Error("it trips")
		}
		for i := 2; i < 10; i++ {
			s.calls(i, 200, Success)
		}
		s.wait(10 * time.Second)
		s.want()
	}
}

func TestEjectSuccessRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*EjectConfig)
		rates []int // successes of 200 calls
		want  []int
	}{
		{name: "one far below", rates: []int{200, 200, 200, 200, 200, 200, 100}, want: []int{7}},
		{name: "all the same", rates: []int{150, 150, 150, 150, 150, 150, 150}},
		{name: "spread", rates: []int{200, 190, 180, 170, 160, 150, 140}},
		{name: "too few to compare", rates: []int{200, 200, 200, 100}},
		{name: "fewer are asked for", edit: func(c *EjectConfig) { c.SuccessRateHosts = 3; c.SuccessRateStdevs = 1 }, rates: []int{200, 200, 200, 100}, want: []int{4}},
		{name: "too few calls", edit: func(c *EjectConfig) { c.SuccessRateVolume = 201 }, rates: []int{200, 200, 200, 200, 200, 200, 100}},
		{name: "switched off", edit: func(c *EjectConfig) { c.SuccessRateStdevs = 0 }, rates: []int{200, 200, 200, 200, 200, 200, 100}},
		{name: "no volume asked for", edit: func(c *EjectConfig) { c.SuccessRateVolume = 0; c.SuccessRateHosts = 0 }, rates: nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, 7, func(cfg *EjectConfig) {
				cfg.ConsecutiveFailures = 0
				if c.edit != nil {
					c.edit(cfg)
				}
			})
			for i, good := range c.rates {
				s.calls(i, 200-good, Failed)
				s.calls(i, good, Success)
				s.calls(i, 500, Neutral) // no verdict
			}
			s.wait(9 * time.Second)
			s.want()
			s.wait(time.Second)
			s.want(c.want...)
			s.wait(10 * time.Second)
			s.want() // a new interval without calls
		})
	}
}

// The formula of gRFC A50 on numbers worked out by hand: rates 1 (9 times) and
// 0.5 have mean 0.95 and standard deviation 0.15, so the threshold is 0.5 at a
// factor of 3: what is not below it stays.
func TestSuccessRateThreshold(t *testing.T) {
	for factor, want := range map[float64]int{2.99: 1, 3.01: 0} {
		s := newStage(t, 10, func(c *EjectConfig) { c.ConsecutiveFailures, c.SuccessRateStdevs = 0, factor })
		for i := range 9 {
			s.calls(i, 100, Success)
		}
		s.calls(9, 50, Failed)
		s.calls(9, 50, Success)
		if got := s.ej.outliers(s.nodes); len(got) != want || want == 1 && (got[0].node != s.nodes[9] || !strings.Contains(got[0].reason, "50.0%")) {
			t.Errorf("factor %v: outliers %v", factor, got)
		}
	}
}

func TestPanic(t *testing.T) {
	s := newStage(t, 4)
	s.calls(0, 5, Failed)
	s.calls(1, 5, Failed)
	s.want(1, 2)
	if on, usable, size := s.ej.Panic(); on || usable != 2 || size != 4 {
		t.Errorf("half are usable: panic %v, %d of %d", on, usable, size)
	}
	s.nodes = s.nodes[:3] // one that is usable goes
	s.want()
	if on, usable, size := s.ej.Panic(); !on || usable != 1 || size != 3 {
		t.Errorf("a third is usable: panic %v, %d of %d", on, usable, size)
	}
	s.wait(30 * time.Second)
	s.want(-1, -2)
	if on, _, _ := s.ej.Panic(); on {
		t.Error("it does not end")
	}
	if on, _, _ := NewEjector(s.cfg).Panic(); on {
		t.Error("panic before the first look")
	}
}

// TestPanicOfAll: an outage that all share ejects as many as may be, and then
// nobody's ejection counts; who answers first returns first.
func TestPanicOfAll(t *testing.T) {
	for size := 2; size <= 10; size++ {
		s := newStage(t, size)
		for i := range size {
			s.calls(i, 5, Failed)
		}
		changes, _ := s.ej.Evaluate(s.now, s.nodes)
		on, usable, n := s.ej.Panic()
		if len(changes) != max(1, size/2) || !on || usable != 0 || n != size {
			t.Errorf("%d endpoints fail: %d ejected, panic %v, %d of %d usable", size, len(changes), on, usable, n)
		}
		s.calls(0, 1, Success)
		s.wait(time.Second)
		if changes, _ = s.ej.Evaluate(s.now, s.nodes); s.ej.Ejected(s.nodes[0]) || len(changes) == 0 || changes[0].Node != s.nodes[0] || changes[0].Ejected {
			t.Errorf("%d endpoints, one answers again: %+v", size, changes)
		}
		if on, _, _ := s.ej.Panic(); !on {
			continue // of two or three, one that answers is enough for the other's ejection to count
		}
		for i := range size {
			s.calls(i, 1, Success)
		}
		s.wait(time.Second)
		s.ej.Evaluate(s.now, s.nodes)
		if on, usable, _ := s.ej.Panic(); on || usable != size {
			t.Errorf("%d endpoints, all answer again: panic %v, %d usable", size, on, usable)
		}
	}
	s := newStage(t, 1)
	s.calls(0, 5, Failed)
	s.want()
	if on, _, _ := s.ej.Panic(); on {
		t.Error("a panic, and nobody is ejected")
	}
}

func TestEjectorForgets(t *testing.T) {
	s := newStage(t, 3)
	s.calls(0, 5, Failed)
	s.want(1)
	gone := s.nodes[0]
	s.nodes = s.nodes[1:]
	s.want()
	if s.ej.Ejected(gone) || len(s.ej.records) != 2 {
		t.Errorf("it remembers who is gone: %d records", len(s.ej.records))
	}
	s.nodes = append(s.nodes, gone, gone) // back, and twice
	s.nodes[2].streak.Store(0)
	s.want()
	s.ej.Configure(EjectConfig{})
	s.calls(0, 50, Failed)
	s.want()
	if s.ej.Ejected(NewNode(NodeConfig{})) {
		t.Error("a node that it never saw is ejected")
	}
}

// FuzzEjector lets anything happen to some nodes and looks at what always holds.
func FuzzEjector(f *testing.F) {
	f.Add(byte(4), byte(50), []byte("abcdefghijklmnop"))
	f.Add(byte(2), byte(100), []byte{1, 1, 1, 1, 1, 1, 7, 1, 1, 255, 255, 1, 1})
	f.Add(byte(9), byte(10), []byte{10, 10, 10, 10, 10, 250, 11, 11, 11, 11, 11, 0, 255})
	f.Fuzz(func(t *testing.T, count, percent byte, ops []byte) {
		s := newStage(t, int(count%12), func(c *EjectConfig) {
			c.MaxEjectedPercent, c.SuccessRateVolume = int(percent%101), 5
		})
		ejected := map[*Node]bool{}
		for _, op := range ops {
			switch {
			case op >= 240:
				s.wait(time.Duration(op-239) * time.Second)
			case len(s.nodes) > 0:
				s.calls(int(op)%len(s.nodes), 1+int(op)/64, Outcome(op/12%outcomes))
			}
			before := len(ejected)
			changes, next := s.ej.Evaluate(s.now, s.nodes)
			for _, c := range changes {
				if c.Ejected == ejected[c.Node] {
					t.Fatalf("%+v says nothing new", c)
				}
				if c.Ejected {
					ejected[c.Node] = true
				} else {
					delete(ejected, c.Node)
				}
				if c.For < 0 || c.For > s.cfg.MaxTime {
					t.Fatalf("ejected for %v", c.For)
				}
			}
			most := max(1, len(s.nodes)*s.cfg.MaxEjectedPercent/100)
			if len(s.nodes) < 2 || s.cfg.MaxEjectedPercent == 0 {
				most = 0
			}
			if len(ejected) > max(most, 0) && len(ejected) > before {
				t.Fatalf("%d of %d ejected, %d%% allowed", len(ejected), len(s.nodes), s.cfg.MaxEjectedPercent)
			}
			if next <= s.now || next > s.now.Add(s.cfg.Interval) {
				t.Fatalf("next look in %v", next.Sub(s.now))
			}
			on, usable, size := s.ej.Panic()
			if size != len(s.nodes) || usable < 0 || usable > size-len(ejected) || on != (len(ejected) > 0 && usable*2 < size) {
				t.Fatalf("panic %v: %d of %d usable, %d ejected", on, usable, size, len(ejected))
			}
			if again, _ := s.ej.Evaluate(s.now, s.nodes); on {
				for _, c := range again { // in a panic who answers returns, and makes room
					if c.Ejected == ejected[c.Node] {
						t.Fatalf("%+v says nothing new", c)
					}
					if delete(ejected, c.Node); c.Ejected {
						ejected[c.Node] = true
					}
				}
			} else if len(again) > 0 {
				t.Fatalf("a second look at the same moment: %+v", again)
			}
		}
		// Nobody is out for ever.
		s.wait(s.cfg.MaxTime + time.Second)
		changes, _ := s.ej.Evaluate(s.now, s.nodes)
		for _, c := range changes {
			if !c.Ejected {
				delete(ejected, c.Node)
			}
		}
		if len(ejected) > 0 {
			t.Fatalf("%d are ejected for longer than the maximum", len(ejected))
		}
	})
}

func TestMostTimesFits(t *testing.T) {
	if float64(mostTimes)*float64(maxEjectTime) > math.MaxInt64 {
		t.Error("the length of an ejection overflows")
	}
}
