package policy

import (
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

const second = Nanos(time.Second)

// call is one call on n that took so long.
func call(n *Node, start Nanos, took time.Duration, o Outcome) (trip bool) {
	n.Begin(start)
	return n.End(start, start.Add(took), o)
}

func TestNodeLiesInOneCacheLine(t *testing.T) {
	if size := unsafe.Sizeof(Node{}); size != nodeSize {
		t.Errorf("a Node has %d bytes", size)
	}
	for _, among := range []int{1, 255, 256, 10_000} {
		nodes := make([]*Node, 1000) // on the heap, where Nodes live
		lines := map[uintptr]int{}
		for i := range nodes {
			nodes[i] = NewNodeAmong(DefaultNodeConfig(), among)
			at := uintptr(unsafe.Pointer(nodes[i]))
			if at/cacheLine != (at+nodeSize-1)/cacheLine {
				t.Fatalf("a Node lies at %#x, across two cache lines", at)
			}
			lines[at/cacheLine]++
		}
		if among < 256 && len(lines) != len(nodes) || among >= 256 && len(lines) > len(nodes)*3/4 {
			t.Errorf("among %d: %d Nodes lie in %d cache lines", among, len(nodes), len(lines))
		}
		runtime.KeepAlive(nodes)
	}
	if size := unsafe.Sizeof(seldom{}); size > 128 {
		t.Errorf("the rest has %d bytes", size)
	}
}

func TestNodeCounts(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	for o := range Outcome(outcomes) {
		for range int(o) + 1 {
			call(n, second, time.Millisecond, o)
		}
	}
	call(n, second, time.Millisecond, 77) // of a later version
	n.Begin(second)
	got := n.Stats()
	got.EWMA, got.Faults = 0, 0
	want := NodeStats{InFlight: 1, Started: 23, Succeeded: 1, Failed: 2, Overloaded: 3, TimedOut: 4, Erred: 5, Neutral: 7, Failures: 5, Timeouts: 4}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestGenerations(t *testing.T) {
	const g = Nanos(1) << generationBits
	n := NewNode(DefaultNodeConfig())
	check := func(at Nanos, young, older int32) {
		t.Helper()
		y, o := n.busy(at, n.turned.Load())
		if y != young || o != older {
			t.Errorf("in generation %d: %d young and %d older, want %d and %d", at/g, y, o, young, older)
		}
	}
	n.Begin(10 * g)
	n.Begin(10*g + 1)
	check(10*g+2, 2, 0)
	check(11*g, 2, 0)
	check(12*g, 0, 2) // although nobody has called since
	n.Begin(11 * g)
	check(11*g, 3, 0)
	check(12*g, 1, 2)
	n.Begin(12 * g) // takes the slot of the tenth over
	check(12*g, 2, 2)
	n.End(10*g, 12*g, Success)
	check(12*g, 2, 1)
	n.End(11*g, 12*g, Success)
	check(12*g, 1, 1)
	n.Begin(20 * g) // takes both over
	check(20*g, 1, 2)
	n.Begin(3 * g) // a goroutine that slept since then
	check(20*g, 1, 3)
	for _, start := range []Nanos{10*g + 1, 12 * g, 20 * g, 3 * g} {
		n.End(start, 20*g, Success)
	}
	check(20*g, 0, 0)
	if s := n.Stats(); s.InFlight != 0 || s.Started != 6 || s.Succeeded != 6 {
		t.Errorf("in the end: %+v", s)
	}
}

// What goroutines do that sleep between looking at the generation and counting.
func TestSlotChangesHandsInBetween(t *testing.T) {
	const g = Nanos(1) << generationBits
	n := NewNode(DefaultNodeConfig())
	n.Begin(10 * g)
	n.Begin(12 * g)                 // the slot is the twelfth's now
	n.calls.Add(oneEnded - one(10)) // the end of the first call, which found the tenth's
	n.calls.Add(one(10))            // a call of the tenth that wakes up only now
	n.End(10*g, 12*g+1, Success)    // and ends as it should
	n.End(12*g, 12*g+10, Success)   // the second
	if s := n.Stats(); s.InFlight != 0 || s.Started != 3 {
		t.Errorf("the sum: %+v", s)
	}
	if y, o := n.busy(12*g+20, n.turned.Load()); y != 0 || o != 0 {
		t.Errorf("%d young, %d older", y, o)
	}
	call(n, 14*g, 1, Success)
	if y, o := n.busy(14*g+20, n.turned.Load()); y != 0 || o != 0 {
		t.Errorf("a turn later: %d young, %d older", y, o)
	}
}

// The word of calls is taken apart as it was put together, below zero too.
func TestPlaces(t *testing.T) {
	const most = 1<<(placeBits-1) - 1
	for _, its := range []int32{0, 1, -1, 7, most, -most} {
		for _, others := range []int32{0, 1, -1, 9, most - 7, 7 - most} {
			if sum := its + others; sum > most || sum < -most {
				continue
			}
			for _, ended := range []uint64{0, 1, 1 << 20, 1<<22 - 1} {
				for g := range uint32(2) {
					w := uint64(its)*one(g) + uint64(others)*one(g+1) + ended*oneEnded
					a, b, e := places(w, g)
					if a != its || b != others || e != ended || openOf(w) != its+others {
						t.Fatalf("%d, %d, %d came back as %d, %d, %d, the sum as %d", its, others, ended, a, b, e, openOf(w))
					}
					if a, b, e := places(joint(others, g), g); a != 0 || b != others || e != 0 {
						t.Fatalf("%d others came back as %d, %d, %d", others, a, b, e)
					}
				}
			}
		}
	}
}

// An endpoint may have more calls in a generation than the word of calls can
// count.
func TestManyCallsInOneGeneration(t *testing.T) {
	const early, workers, each = 100, 8, 5000
	n := NewNode(DefaultNodeConfig())
	n.Begin(second)
	n.calls.Add(manyEnded - early*oneEnded)
	before := n.Stats()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				call(n, second, time.Millisecond, Success)
			}
		})
	}
	wg.Wait()
	after := n.Stats()
	if got := after.Succeeded - before.Succeeded; got != workers*each || after.InFlight != 1 {
		t.Errorf("%d of %d calls were counted, %d are in flight", got, workers*each, after.InFlight)
	}
	if n.ended.Load() == 0 {
		t.Error("nothing was moved")
	}
}

// A node that had long calls or failures is read in full, and not for ever.
func TestNotable(t *testing.T) {
	const g = Nanos(1) << generationBits
	noted := func(n *Node) bool { return n.turned.Load()&more != 0 }
	n := NewNode(DefaultNodeConfig())
	n.Begin(10 * g)
	call(n, 12*g, 1, Success)
	if !noted(n) {
		t.Error("a long call is not noted")
	}
	n.End(10*g, 12*g, Success)
	call(n, 13*g, 1, Success)
	if noted(n) {
		t.Error("a long call that ended is noted in the next generation")
	}
	call(n, 13*g, 1, Failed)
	if !noted(n) {
		t.Error("a failure is not noted")
	}
	for range 10 {
		call(n, 13*g+1, 1, Success)
	}
	call(n, 14*g, 1, Success)
	if noted(n) {
		t.Error("a failure that is forgiven is noted in the next generation")
	}
	n.reset(ticks(14 * g))
	if !noted(n) {
		t.Error("a probation is not noted")
	}
}

func TestLongCallsCountLittle(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	for range 1000 {
		n.Begin(second)
	}
	now := 60 * second
	latency(n, now, 10*time.Millisecond)
	alone := NewNode(DefaultNodeConfig())
	latency(alone, now, 10*time.Millisecond)
	if got := loadOf(n, now) / loadOf(alone, now); got < 1.9 || got > 2.1 {
		t.Errorf("1000 old streams make it count %.2f times, want 2", got)
	}
	if s := n.Stats(); s.Long != 1000 || s.InFlight != 1000 {
		t.Errorf("%+v", s)
	}
}

func TestConfigure(t *testing.T) {
	n := NewNode(NodeConfig{}) // all defaults, no ejection
	for i := range 100 {
		if call(n, Nanos(i)*second, time.Second, Outcome(1+i%3)) {
			t.Fatal("it trips without a limit")
		}
	}
	before := n.Stats()
	cfg := DefaultNodeConfig()
	cfg.LongCall, cfg.Eject.ConsecutiveFailures = 100*time.Millisecond, 1
	n.Configure(cfg)
	if after := n.Stats(); !reflect.DeepEqual(before, after) {
		t.Errorf("Configure changed %+v to %+v", before, after)
	}
	if !call(n, 200*second, time.Millisecond, Failed) {
		t.Error("the new limit does not count")
	}
	if call(n, 300*second, time.Hour, Success); n.Stats().EWMA >= time.Hour {
		t.Error("the new LongCall does not count")
	}
}

func TestNodeConfigValidate(t *testing.T) {
	if err := DefaultNodeConfig().Validate(); err != nil {
		t.Error(err)
	}
	for field, edit := range map[string]func(*NodeConfig){
		"Decay":               func(c *NodeConfig) { c.Decay = time.Millisecond },
		"LongCall":            func(c *NodeConfig) { c.LongCall = 2 * time.Hour },
		"ConsecutiveFailures": func(c *NodeConfig) { c.Eject.ConsecutiveFailures = -1 },
		"ConsecutiveTimeouts": func(c *NodeConfig) { c.Eject.ConsecutiveTimeouts = 1 << 20 },
		"SilentFor":           func(c *NodeConfig) { c.Eject.SilentFor = -1 },
		"SuccessRateStdevs":   func(c *NodeConfig) { c.Eject.SuccessRateStdevs = math.NaN() },
		"SuccessRateHosts":    func(c *NodeConfig) { c.Eject.SuccessRateHosts = -1 },
		"SuccessRateVolume":   func(c *NodeConfig) { c.Eject.SuccessRateVolume = -1 },
		"Interval":            func(c *NodeConfig) { c.Eject.Interval = 0 },
		"BaseTime":            func(c *NodeConfig) { c.Eject.BaseTime = 0 },
		"TimeoutBaseTime":     func(c *NodeConfig) { c.Eject.TimeoutBaseTime = 48 * time.Hour },
		"MaxTime":             func(c *NodeConfig) { c.Eject.MaxTime = -1 },
		"MaxEjectedPercent":   func(c *NodeConfig) { c.Eject.MaxEjectedPercent = 101 },
		"PanicPercent":        func(c *NodeConfig) { c.Eject.PanicPercent = -1 },
	} {
		cfg := DefaultNodeConfig()
		edit(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+" is ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, choices := range []int{-1, 1, 11} {
		if err := (LeastRequestConfig{Choices: choices}).Validate(); err == nil {
			t.Errorf("Choices = %d is allowed", choices)
		}
	}
	if err := DefaultLeastRequestConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestOutcomeString(t *testing.T) {
	seen := map[string]bool{}
	for o := range Outcome(outcomes + 1) {
		seen[o.String()] = true
	}
	if len(seen) != int(outcomes)+1 || !seen["unknown"] {
		t.Errorf("names: %v", seen)
	}
}

// Many goroutines over the turns of generations: what was begun and ended is
// exact whenever nobody is at it, and no counter goes backwards meanwhile.
func TestNodeConcurrent(t *testing.T) {
	const g = Nanos(1) << generationBits
	n := NewNode(DefaultNodeConfig())
	var all sync.WaitGroup
	const goroutines, calls = 4, 5000
	for i := range goroutines {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for k := range calls {
				start := Nanos(k) * g / 500
				n.Begin(start)
				n.End(start, start+Nanos(rnd.Int64N(int64(4*g))), Outcome(rnd.IntN(outcomes)))
			}
		})
	}
	all.Go(func() {
		var last NodeStats
		for range calls {
			s := n.Stats()
			if s.Failed < last.Failed || s.Started+goroutines < last.Started {
				t.Errorf("%+v after %+v", s, last)
				return
			}
			last = s
		}
	})
	all.Wait()
	if s := n.Stats(); s.InFlight != 0 || s.Started != goroutines*calls {
		t.Errorf("in the end: %+v", s)
	}
}

// FuzzNode lets calls begin and end in any order at any moments.
func FuzzNode(f *testing.F) {
	f.Add(int64(1), []byte("\x00\x10\x81\x00\x20\x82\x00"))
	f.Add(int64(-5), []byte{0, 255, 255, 1, 0, 0, 130, 40, 131})
	f.Fuzz(func(t *testing.T, at int64, ops []byte) {
		n := NewNode(DefaultNodeConfig())
		now := Nanos(at % (1 << 60))
		var open []Nanos
		begun, longest := 0, time.Duration(1)
		for _, op := range ops {
			now += Nanos(op>>3) * second / 8
			if op&1 == 0 || len(open) == 0 {
				n.Begin(now)
				open = append(open, now)
				begun++
			} else {
				i := int(op>>1) % len(open)
				longest = max(longest, now.Sub(open[i]))
				n.End(open[i], now, Outcome(op>>1&7))
				open = append(open[:i], open[i+1:]...)
			}
			s := n.Stats()
			if s.InFlight != len(open) || s.Started != uint64(begun) || s.Long < 0 || s.Long > s.InFlight {
				t.Fatalf("%d in flight of %d: %+v", len(open), begun, s)
			}
			if s.EWMA < 0 || float64(s.EWMA) > float64(longest)*1.001 || !(s.Faults >= 0 && s.Faults <= mostFaults) {
				t.Fatalf("the longest call took %v: %+v", longest, s)
			}
			if l := loadOf(n, now); !(l > 0) || math.IsInf(l, 0) {
				t.Fatalf("the load is %v: %+v", l, s)
			}
		}
	})
}
