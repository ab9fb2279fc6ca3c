package policy

import (
	"math"
	"testing"
	"time"
)

// latency lets n have that latency as of the moment at: one call says nothing yet.
func latency(n *Node, at Nanos, took time.Duration) {
	for range 2 {
		call(n, at.Add(-took), took, Success)
	}
}

// ewmaOf is the moving average in ms.
func ewmaOf(n *Node) float64 { return n.Stats().EWMA.Seconds() * 1e3 }

func TestLatencyClimbsWithCallsAndFallsWithTime(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	near := func(want float64) {
		t.Helper()
		if got := ewmaOf(n); math.Abs(got-want) > want/50 {
			t.Fatalf("EWMA = %.3f ms, want %.3f", got, want)
		}
	}
	now := second
	latency(n, now, 10*time.Millisecond)
	near(10)
	call(n, now, 330*time.Millisecond, Success) // soon after: a 32nd of the way
	near(20)
	now += 330 * second / 1000
	call(n, now-second/100, 10*time.Millisecond, Success) // the same moment, not slower: no weight
	near(20)
	for range 100 {
		call(n, now-second/10, 100*time.Millisecond, Success)
	}
	near(100 - 80*math.Pow(31.0/32, 100))
	now += 10 * second
	call(n, now-second/5, 200*time.Millisecond, Success) // one Decay later a slower one has the weight of that time
	near(200 - (200-96.7)/math.E)
	now += 10 * second
	call(n, now-second/100, 10*time.Millisecond, Success) // and so has a faster one
	near(10 + (162-10)/math.E)
	call(n, now, -time.Second, Success) // a clock that others read later
	if got := ewmaOf(n); got <= 0 || math.IsNaN(got) {
		t.Fatalf("EWMA = %v ms", got)
	}
}

// The first call of an endpoint pays for what only it needs.
func TestFirstCallCountsForNothing(t *testing.T) {
	for _, c := range []struct{ first, second, want time.Duration }{
		{300 * time.Millisecond, time.Millisecond, time.Millisecond},
		{time.Millisecond, 300 * time.Millisecond, time.Millisecond},
		{200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond},
	} {
		n := NewNode(DefaultNodeConfig())
		call(n, second, c.first, Success)
		if got := n.Stats().EWMA.Round(time.Millisecond); got != c.first {
			t.Errorf("after a call of %v EWMA = %v", c.first, got)
		}
		call(n, second, time.Microsecond, Failed)
		if l, _ := n.load(n.latency.Load(), 2*second, 1); l != 0 {
			t.Errorf("after a call of %v it counts as %v", c.first, time.Duration(l))
		}
		call(n, second, c.second, Success)
		if got := n.Stats().EWMA.Round(time.Millisecond); got != c.want {
			t.Errorf("after calls of %v and %v EWMA = %v, want %v", c.first, c.second, got, c.want)
		}
		if l, _ := n.load(n.latency.Load(), 2*second, 1); l < float32(c.want)*0.9+noise {
			t.Errorf("after calls of %v and %v it counts as %v", c.first, c.second, time.Duration(l))
		}
	}
}

func TestHowOftenDoesNotMatter(t *testing.T) {
	for _, every := range []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		n := NewNode(DefaultNodeConfig())
		latency(n, second, 100*time.Millisecond)
		for at := second + second/10; at < 6*second; at = at.Add(every) {
			call(n, at, 1, Success)
		}
		want := 100 * math.Exp(-0.5)
		if got := ewmaOf(n); math.Abs(got-want) > 8 {
			t.Errorf("a call every %v: after 5 s %.1f ms are left, want %.1f", every, got, want)
		}
	}
}

func TestFailuresRaiseOnly(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  time.Duration // 0: no call yet
		took    time.Duration
		outcome Outcome
		want    time.Duration
	}{
		{"a fast failure is no latency", 10 * time.Millisecond, time.Microsecond, Failed, 10 * time.Millisecond},
		{"a slow one is", 10 * time.Millisecond, time.Second, Failed, time.Second},
		{"a stream that broke is not", 10 * time.Millisecond, time.Minute, Failed, 10 * time.Millisecond},
		{"overload is a failure", 10 * time.Millisecond, time.Second, Overloaded, time.Second},
		{"nothing is known yet", 0, time.Second, Failed, 0},
		{"a time-out is known", 0, time.Second, TimedOut, time.Second},
		{"a long time-out counts", 10 * time.Millisecond, time.Minute, TimedOut, time.Minute},
		{"a short time-out does not lower", time.Second, time.Millisecond, TimedOut, time.Second},
		{"neutral says nothing", 10 * time.Millisecond, time.Second, Neutral, 10 * time.Millisecond},
		{"a long call is a stream", 10 * time.Millisecond, time.Minute, Success, 10 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := NewNode(DefaultNodeConfig())
			if c.before > 0 {
				latency(n, second, c.before)
			}
			call(n, 2*second, c.took, c.outcome)
			if got := n.Stats().EWMA; got.Round(time.Millisecond) != c.want.Round(time.Millisecond) {
				t.Errorf("EWMA = %v, want %v", got, c.want)
			}
		})
	}
}

// loadOf is what a pick would compare.
func loadOf(n *Node, now Nanos) float64 {
	latency, factor := n.load(n.latency.Load(), now, 1)
	return float64(max(latency, 1) * factor)
}

func TestFailuresWeighAndPass(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	now := second
	latency(n, now, 10*time.Millisecond)
	healthy := loadOf(n, now)
	before := healthy
	for i := range 5 {
		call(n, now, time.Microsecond, Failed)
		if got := loadOf(n, now); got < before*3.9 {
			t.Errorf("failure %d makes it %.1f times as heavy, want 4", i+1, got/before)
		} else {
			before = got
		}
	}
	call(n, now, time.Microsecond, Failed)
	if got := loadOf(n, now) / healthy; got < 1000 || got > 1050 {
		t.Errorf("a long row makes it %.0f times as heavy, want 1024", got)
	}
	if got := loadOf(n, now+20*second); got > healthy {
		t.Errorf("after two Decays it counts as %.2f times as heavy", got/healthy)
	}
	// Calls that succeed end it at once, whatever the clock says.
	for range 7 {
		call(n, now, 10*time.Millisecond, Success)
	}
	if got := loadOf(n, now) / healthy; got > 1.1 || n.Stats().Faults != 0 {
		t.Errorf("after seven successes it is %.2f times as heavy", got)
	}
}

// An endpoint that never succeeds must not look better with every failure.
func TestFailingForEver(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	latency(n, second, 10*time.Millisecond)
	healthy := loadOf(n, second)
	for now := 2 * second; now < 1000*second; now += 10 * second {
		call(n, now, time.Microsecond, Failed)
		if got := loadOf(n, now+second); got < healthy {
			t.Fatalf("at %v s it counts as %.3f of a healthy one", now/second, got/healthy)
		}
	}
}

// The longer an endpoint is silent on a call, the better it must not look.
func TestSilence(t *testing.T) {
	n := NewNode(DefaultNodeConfig())
	latency(n, second, 10*time.Millisecond)
	idle := loadOf(n, 21*second)
	n.Begin(20 * second)
	if got := loadOf(n, 21*second); got < 2*idle {
		t.Errorf("with an unanswered call it counts as %.2f of the idle one", got/idle)
	}
}

// While a call is in flight a latency falls from its beginning on, however long
// nobody called before: only the lowest bits of that moment are kept.
func TestLatencyFallsFromTheBeginning(t *testing.T) {
	for gap := 70 * time.Millisecond; gap < 15*time.Minute; gap += 7 * time.Second {
		n := NewNode(DefaultNodeConfig())
		for range 2 {
			n.sample(Nanos(time.Second), ticks(second))
		}
		began := second.Add(gap)
		n.Begin(began)
		for _, age := range []time.Duration{-10 * time.Millisecond, 0, time.Second, 4 * time.Second} {
			want := math.Exp(-max(age, 0).Seconds()/10)*1e9 + noise
			if got, _ := n.load(n.latency.Load(), began.Add(age), 1); float64(got) < want*0.98 || float64(got) > want*1.02 {
				t.Fatalf("called again after %v, as of %v later: %.4g ns, want %.4g", gap, age, got, want)
			}
		}
	}
}
