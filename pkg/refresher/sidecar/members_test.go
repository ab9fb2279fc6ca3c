package sidecar

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// nxdomain is an answer without endpoints that the guard does not believe at once.
var nxdomain = endpoint.Set{Reason: "NXDOMAIN"}

// holding has the guard not believe empty answers for longer than a test takes.
func holding(o *Options) { o.Policy.Refresh.EmptyGrace = 10 * time.Minute }

// meet changes what a pod's address does from now on.
func (w *world) meet(i int, change func(*fakePod)) {
	pod := w.pod(i)
	w.mu.Lock()
	defer w.mu.Unlock()
	change(pod)
}

// failing waits until a pod was dialled n times. The next pause is ten seconds and more
// when most of them failed.
func (w *world) failing(i, n int) {
	w.t.Helper()
	for range 300 {
		if w.dialled(i) == n {
			return
		}
		pass(time.Second)
	}
	w.t.Fatalf("%d attempts", w.dialled(i))
}

// cut ends the newest connection to a pod.
func (w *world) cut(i int) {
	_ = w.conn(i).nc.Close()
	pass(time.Millisecond)
}

// refuse says that the pod never looked at a call.
func (c *fakeConn) refuse(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
}

// got are the calls that came by this connection.
func (c *fakeConn) got() []uint32 {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]uint32(nil), c.calls...)
}

// TestReplacedAtTheSameAddress: who has a removed pod's address has taken its place.
// No call goes to the old connection, though nothing else is connected yet.
func TestReplacedAtTheSameAddress(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		e := endpoint.At(at(1))
		e.UID = "first"
		w.source.Set(e)
		pass(time.Second)
		w.want(1, StateReady, "")
		old := w.conn(1)
		w.meet(1, func(pod *fakePod) { pod.delay = 3 * time.Second })
		e.UID = "second"
		w.source.Set(e)
		pass(time.Second)
		w.client().call()
		if s := w.Stats(); s.Waiting != 1 || len(old.got()) != 0 {
			t.Errorf("%d calls wait, %d go to the pod that was replaced", s.Waiting, len(old.got()))
		}
		pass(3 * time.Second)
		if n := len(w.conn(1).got()); n != 1 || w.conn(1) == old {
			t.Errorf("%d calls on the new pod", n)
		}
	})
}

// TestTerminatingDoesNotLinger: one that is known to end is not used for want of
// others that are connected.
func TestTerminatingDoesNotLinger(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		e := endpoint.At(at(1))
		e.Ready, e.Terminating = false, true
		w.source.Set(e)
		pass(time.Millisecond)
		w.want(1, StateReady, "") // nothing better is known
		w.meet(2, func(pod *fakePod) { pod.delay = 3 * time.Second })
		w.source.Set(endpoints(2)...)
		pass(time.Millisecond)
		w.client().call()
		if s := w.Stats(); s.Waiting != 1 || w.calls(1) != 0 {
			t.Errorf("%d calls wait, %d go to the pod that ends", s.Waiting, w.calls(1))
		}
	})
}

// TestNothingLingersForNothing: where no pod is wanted none that was removed is used.
func TestNothingLingersForNothing(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		w.meet(2, func(pod *fakePod) { pod.delay = 3 * time.Second })
		w.source.Set(endpoints(2)...)
		pass(time.Millisecond)
		w.want(1, StateDraining, "it gets calls until")
		w.source.Set()
		pass(time.Millisecond)
		c := w.client()
		if code, text := c.ended(c.call()); code != "14" || !strings.Contains(text, "has no endpoints") || w.calls(1) != 0 {
			t.Errorf("%s %q, %d calls", code, text, w.calls(1))
		}
	})
}

// TestLingerEnds: also when nothing else happens in that moment, whether or not
// something did before.
func TestLingerEnds(t *testing.T) {
	const slow = 4900 * time.Millisecond // the attempts end at other times
	for _, first := range []time.Duration{slow, 0} {
		inBubble(t, []int{1}, nil, func(w *world) {
			pass(time.Minute) // the handshake's time is over
			w.meet(2, func(pod *fakePod) { pod.delay, pod.refuse = first, true })
			w.source.Set(endpoints(2)...)
			pass(time.Millisecond)
			w.meet(2, func(pod *fakePod) { pod.delay = slow })
			pass(lingerMax - 2*time.Millisecond)
			w.want(1, StateDraining, "it gets calls until")
			pass(2 * time.Millisecond)
			w.want(1, StateGone, "")
		})
	}
}

// TestGoneAreBounded: of many pods that go at once not all are shown.
func TestGoneAreBounded(t *testing.T) {
	var n []int
	for i := 1; i <= maxGone+40; i++ {
		n = append(n, i)
	}
	inBubble(t, n, nil, func(w *world) {
		pass(time.Second)
		w.source.Set(endpoints(255)...)
		pass(time.Second)
		w.client().call() // time is looked at while there are calls
		pass(time.Second)
		if got := len(w.Stats().Pods); got != 1+maxGone {
			t.Errorf("%d pods are shown", got)
		}
	})
}

// TestFirstGraceIsOne: neither a reload nor the same answer again makes calls wait
// longer for a first pod.
func TestFirstGraceIsOne(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		pass(firstGrace / 2)
		o := w.settings.Options
		o.Policy.Refresh.Interval *= 2
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		w.source.Tell(nxdomain)
		pass(firstGrace/2 - time.Second)
		if w.Stats().Known {
			t.Error("it was believed too soon")
		}
		pass(2 * time.Second)
		if !w.Stats().Known {
			t.Error("calls still wait")
		}
	}, func(w *world) { w.source.Tell(nxdomain) })
}

// TestNothingIsBelieved: a source that knows the whole truth need not repeat it.
func TestNothingIsBelieved(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		if s := w.Stats(); !s.Known || !s.Ready {
			t.Errorf("%+v", s)
		}
	})
}

// TestErrorIsForgotten: what a source failed with is told until it does not.
func TestErrorIsForgotten(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		w.source.Fail(errTest)
		pass(time.Millisecond)
		if got := w.Stats().LastError; got != errTest.Error() {
			t.Errorf("%q", got)
		}
		w.source.Set(endpoints(1)...)
		pass(time.Millisecond)
		if got := w.Stats().LastError; got != "" {
			t.Errorf("%q", got)
		}
	})
}

// TestBelievedAgain: an address that is in the answer again is tried at once,
// however often it failed before.
func TestBelievedAgain(t *testing.T) {
	inBubble(t, []int{1, 2}, func(o *Options) { holding(o); o.Policy.ConnectionsPerEndpoint = 2 }, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.refuse = true })
		w.cut(1)
		w.failing(1, 10)
		w.source.Tell(nxdomain)
		pass(time.Millisecond)
		w.want(1, StateHeld, "")
		w.meet(1, func(pod *fakePod) { pod.refuse = false })
		w.source.Tell(endpoint.Set{Endpoints: endpoints(1, 2)})
		pass(time.Millisecond)
		if n := w.Stats().Pods[0].Connections; n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestNotHeldWithoutConnection: what the source does not list and nobody can reach
// is not kept.
func TestNotHeldWithoutConnection(t *testing.T) {
	inBubble(t, []int{1, 2}, holding, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.refuse = true })
		w.cut(1)
		w.want(1, StateUnreachable, "")
		w.source.Tell(nxdomain)
		pass(time.Millisecond)
		w.want(1, StateGone, "")
		w.want(2, StateHeld, "")
	})
}

// TestHeldWhileConnected: one whose server only limits the age of connections has
// not said that it ends, and an attempt that is under way is waited for.
func TestHeldWhileConnected(t *testing.T) {
	inBubble(t, []int{1}, holding, func(w *world) {
		w.conn(1).sayGoAway()
		pass(2 * time.Second)
		w.want(1, StateReady, "")
		w.meet(1, func(pod *fakePod) { pod.delay = 3 * time.Second })
		w.cut(1)
		w.want(1, StateConnecting, "")
		w.source.Tell(nxdomain)
		pass(time.Millisecond)
		w.want(1, StateHeld, "")
		pass(4 * time.Second)
		w.want(1, StateHeld, "")
		w.client().call()
		if n := len(w.conn(1).got()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// TestShutDownIsBelieved: an answer without pods whose servers end, with calls still
// open, is no wrong one.
func TestShutDownIsBelieved(t *testing.T) {
	inBubble(t, []int{1, 2}, holding, func(w *world) {
		w.client().calling(2)
		for _, i := range []int{1, 2} {
			w.meet(i, func(pod *fakePod) { pod.refuse = true })
			w.conn(i).sayGoAway()
		}
		pass(time.Millisecond)
		w.source.Tell(nxdomain)
		pass(time.Millisecond)
		w.want(1, StateDraining, "")
		if s := w.Stats(); s.GuardDecisions["held"] != 0 {
			t.Errorf("%v", s.GuardDecisions)
		}
	})
}

// TestReachedTooLate: an attempt that succeeds when its pod was removed is of no use.
func TestReachedTooLate(t *testing.T) {
	inBubble(t, []int{2}, nil, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.delay = 2 * time.Second })
		w.source.Set(endpoints(1, 2)...)
		pass(time.Second)
		w.source.Set(endpoints(2)...)
		pass(2 * time.Second)
		w.want(1, StateGone, "")
		if n := w.open(1); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	}, func(w *world) {
		w.Proxy.dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			return w.dial(context.WithoutCancel(ctx), a) // it was too late to end it
		}
	})
}

// TestSlowStartOfHalf: as many new pods as there are old ones begin slowly. Who
// returns from an ejection does so whatever the others are.
func TestSlowStartOfHalf(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		pass(time.Minute)
		w.source.Set(endpoints(1, 2, 3, 4)...)
		pass(time.Millisecond)
		w.want(3, StateWarming, "")
		w.want(4, StateWarming, "")
		pass(time.Minute)
		c := w.client()
		for range 30 {
			c.call()
			w.answerPods("14", 1)
			w.answerPods("0", 2, 3, 4)
		}
		pass(time.Second)
		w.want(1, StateEjected, "")
		for s := StateEjected; s == StateEjected; s, _ = w.state(1) {
			pass(time.Second)
		}
		w.want(1, StateWarming, "")
		w.source.Set(endpoints(1, 2, 3, 4, 5, 6, 7, 8, 9)...)
		pass(time.Millisecond)
		w.want(1, StateWarming, "")
		w.want(9, StateReady, "")
	})
}

// TestPauseBeginsWithTheAttempt: back-off is counted from the beginning of the
// attempt that failed (gRPC's connection-backoff.md), so that a slow failure
// costs no pause on top.
func TestPauseBeginsWithTheAttempt(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.delay, pod.refuse = 3*time.Second, true })
		w.source.Set(endpoints(1)...)
		pass(3500 * time.Millisecond)
		if n := w.dialled(1); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}

// TestEndsShortenNoPause: where attempts fail for long, connections that end are no
// reason for more of them.
func TestEndsShortenNoPause(t *testing.T) {
	inBubble(t, []int{1}, func(o *Options) { o.Policy.ConnectionsPerEndpoint = 3 }, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.refuse = true })
		w.cut(1)
		w.failing(1, 11)
		for _, c := range w.pod(1).conns[:2] {
			_ = c.nc.Close()
			pass(time.Millisecond)
		}
		pass(5 * time.Second)
		if n := w.dialled(1); n != 11 {
			t.Errorf("%d attempts more", n-11)
		}
	})
}

// TestGoAwayAsksNothing: a server that limits the age of connections is no sign that
// the pods are others.
func TestGoAwayAsksNothing(t *testing.T) {
	var asked atomic.Int32
	inBubble(t, []int{1}, counting(&asked), func(w *world) {
		c := w.client()
		c.call()
		old := w.conn(1)
		old.sayGoAway()
		pass(time.Millisecond)
		if n := w.dialled(1); n != 2 {
			t.Errorf("%d attempts", n)
		}
		w.answerAll(false)
		pass(time.Second)
		if got := asked.Load(); got != 0 || !old.isDone() {
			t.Errorf("asked %d times", got)
		}
		w.cut(1)
		if got := asked.Load(); got != 1 {
			t.Errorf("asked %d times when a connection ended", got)
		}
	})
}

// counting has the questions to the source counted.
func counting(asked *atomic.Int32) func(*Options) {
	return func(o *Options) {
		opener := o.Opener
		o.Opener = endpoint.OpenerFunc(func(target endpoint.Target) (endpoint.Source, error) {
			s, err := opener.Open(target)
			return asker{s, asked}, err
		})
	}
}

// isDone reports whether the connection is over.
func (c *fakeConn) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// TestSlowStartAfterAway: a pod that could not be reached has started anew perhaps,
// one whose connection only was replaced has not. And slow means fewer calls.
func TestSlowStartAfterAway(t *testing.T) {
	inBubble(t, []int{1, 2, 3}, nil, func(w *world) {
		pass(time.Minute)
		w.cut(1)
		w.want(1, StateReady, "")
		if n := w.dialled(1); n != 2 {
			t.Errorf("%d attempts", n)
		}
		pass(time.Minute)
		w.meet(1, func(pod *fakePod) { pod.refuse = true })
		w.cut(1)
		w.want(1, StateUnreachable, "")
		w.meet(1, func(pod *fakePod) { pod.refuse = false })
		pass(1300 * time.Millisecond)
		w.want(1, StateWarming, "full share in")
		c := w.client()
		c.calling(300)
		if n := w.calls(1); n > 80 {
			t.Errorf("%d of 300 calls", n)
		}
	})
}
