package sidecar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// TestBackoff: attempts that fail are repeated after gRPC's pauses.
func TestBackoff(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		w.pod(1).refuse = true
		w.source.Set(endpoints(1)...)
		pass(10 * time.Minute)
		w.mu.Lock()
		dials := w.dials[at(1)]
		w.mu.Unlock()
		want := 1.0
		for i := 1; i < len(dials); i++ {
			if got := dials[i].Sub(dials[i-1]).Seconds(); got < want*0.79 || got > want*1.21 {
				t.Errorf("pause %d is %.2f s, want %.2f", i, got, want)
			}
			want = min(want*1.6, 120)
		}
		if len(dials) < 12 {
			t.Errorf("%d attempts", len(dials))
		}
		w.want(1, StateUnreachable, "refused by the test (next attempt in ")
		w.mu.Lock()
		w.pods[at(1)].refuse = false
		w.mu.Unlock()
		pass(3 * time.Minute)
		w.want(1, StateReady, "")
		n := w.dialled(1)
		// A connection that ends is made again at once, and with a pause when that
		// ends again.
		_ = w.conn(1).nc.Close()
		pass(time.Millisecond)
		if got := w.dialled(1); got != n+1 {
			t.Errorf("%d attempts after the first end", got-n)
		}
		_ = w.conn(1).nc.Close()
		pass(500 * time.Millisecond)
		if got := w.dialled(1); got != n+1 {
			t.Errorf("%d attempts after the second end", got-n)
		}
		pass(time.Second)
		w.want(1, StateReady, "")
	})
}

// TestMutePod: a pod that never sends SETTINGS is given up, and calls say why.
func TestMutePod(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		c := w.client()
		id := c.call()
		pass(4 * time.Second)
		w.want(1, StateConnecting, "")
		if s := w.Stats(); s.Waiting != 1 || s.Ready {
			t.Errorf("%+v", s)
		}
		pass(2 * time.Second)
		w.want(1, StateUnreachable, "sends no HTTP/2 SETTINGS within 5s")
		if code, text := c.ended(id); code != "14" || !strings.Contains(text, "SETTINGS") {
			t.Errorf("%s %q", code, text)
		}
	}, func(w *world) { w.pod(1).mute = true })
}

// TestDrainTimeout: a removed pod keeps its call until the time is over.
func TestDrainTimeout(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		c := w.client()
		a, b := c.call(), c.call()
		if w.calls(1) != 1 || w.calls(2) != 1 {
			t.Fatalf("%d and %d calls", w.calls(1), w.calls(2))
		}
		w.source.Set(endpoints(2)...)
		pass(5*time.Minute - time.Second)
		w.want(1, StateDraining, "")
		pass(2 * time.Second)
		ended := 0
		for _, id := range []uint32{a, b} {
			if code, text := c.ended(id); code != "" {
				ended++
				if code != "14" || !strings.Contains(text, "was removed 5m0s ago") {
					t.Errorf("%s %q", code, text)
				}
			}
		}
		if ended != 1 {
			t.Errorf("%d calls ended", ended)
		}
		w.want(1, StateGone, "")
		pass(2 * time.Minute)
		w.want(1, "none", "")
	})
}

// TestLinger: pods that are replaced all at once serve until one of the new ones
// can.
func TestLinger(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		c := w.client()
		w.pod(2).delay = 3 * time.Second
		w.source.Set(endpoints(2)...)
		pass(time.Second)
		w.want(1, StateDraining, "it gets calls until")
		c.call()
		if w.calls(1) != 1 {
			t.Error("the call waits")
		}
		pass(3 * time.Second)
		w.want(2, StateReady, "")
		w.want(1, StateDraining, "calls on it end by themselves")
		c.call()
		if w.calls(1) != 1 || w.calls(2) != 1 {
			t.Errorf("%d and %d calls", w.calls(1), w.calls(2))
		}
		w.conn(1).answer(1, "0")
		pass(time.Second)
		w.want(1, StateGone, "")
		w.pod(3).refuse = true
		w.source.Set(endpoints(3)...)
		pass(lingerMax + time.Second)
		w.want(2, StateDraining, "calls on it end by themselves")
		id := c.call()
		if code, text := c.ended(id); code != "14" || !strings.Contains(text, "refused by the test") {
			t.Errorf("%s %q", code, text)
		}
	})
}

// TestHeld: a pod that an answer lacks which is not believed is used only while no
// other one can be, and is not dialled again.
func TestHeld(t *testing.T) {
	inBubble(t, []int{1, 2}, func(o *Options) { o.Policy.Refresh.EmptyGrace = time.Minute }, func(w *world) {
		w.source.Tell(endpoint.Set{Endpoints: nil, Reason: "NXDOMAIN"})
		pass(time.Millisecond)
		w.want(1, StateHeld, "")
		c := w.client()
		c.call()
		c.call()
		if w.calls(1) != 1 || w.calls(2) != 1 {
			t.Errorf("%d and %d calls", w.calls(1), w.calls(2))
		}
		_ = w.conn(1).nc.Close()
		pass(5 * time.Second)
		if n := w.dialled(1); n != 1 {
			t.Errorf("a held pod was dialled %d times", n)
		}
		if s, _ := w.state(1); s == StateHeld {
			t.Error("it is still held")
		}
		w.source.Tell(endpoint.Set{Endpoints: endpoints(1, 2)})
		pass(time.Second)
		w.want(1, StateReady, "")
		w.want(2, StateReady, "")
		if n := w.dialled(2); n != 1 {
			t.Errorf("a pod that was never gone was dialled %d times", n)
		}
		if s := w.Stats(); s.GuardDecisions["held"] == 0 || s.GuardDecisions["restored"] == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestGoAwayOfHeld: one that said GOAWAY is not held at all, though somebody may be
// there again.
func TestGoAwayOfHeld(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		w.pod(1).delay = 3 * time.Second
		w.conn(1).sayGoAway()
		pass(10 * time.Millisecond)
		w.source.Tell(endpoint.Set{Endpoints: nil, Reason: "NXDOMAIN"})
		pass(time.Millisecond)
		w.want(2, StateHeld, "")
		if s, _ := w.state(1); s == StateHeld {
			t.Error("it is held")
		}
	})
}

// TestSilentPod: one that acknowledges nothing gets no calls, keeps those that it
// has, and is closed only much later.
func TestSilentPod(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		quiet := map[string]time.Time{}
		w.Proxy.mu.Lock()
		w.look = func(c *conn) (transport, bool) {
			if since, ok := quiet[c.pod.addr]; ok {
				return transport{unacked: true, acked: 100, lastAck: time.Since(since)}, true
			}
			return transport{}, true
		}
		w.Proxy.mu.Unlock()
		c := w.client()
		c.call()
		c.call()
		setQuiet := func(i int, on bool) {
			w.Proxy.mu.Lock()
			defer w.Proxy.mu.Unlock()
			delete(quiet, at(i).String())
			if on {
				quiet[at(i).String()] = time.Now()
			}
		}
		setQuiet(1, true)
		pass(2 * time.Second)
		w.want(1, StateSilent, "does not acknowledge")
		for range 4 {
			c.call()
		}
		if w.calls(1) != 1 || w.calls(2) != 5 {
			t.Errorf("%d and %d calls", w.calls(1), w.calls(2))
		}
		// It was only paused.
		pass(5 * time.Second)
		setQuiet(1, false)
		pass(time.Second)
		w.want(1, StateReady, "")
		c.call()
		c.call()
		if n := w.calls(1); n != 2 {
			t.Errorf("%d calls", n)
		}
		// All are silent: calls wait.
		setQuiet(1, true)
		setQuiet(2, true)
		pass(2 * time.Second)
		waits := c.call()
		if w.Stats().Waiting != 1 {
			t.Errorf("%+v", w.Stats())
		}
		setQuiet(2, false)
		pass(time.Second)
		if w.Stats().Waiting != 0 || w.calls(2) != 7 {
			t.Errorf("%d calls", w.calls(2))
		}
		// Now it is gone for good.
		pass(18 * time.Second)
		n := 0
		for id := uint32(1); id <= waits; id += 2 {
			if code, _ := c.ended(id); code == "14" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d calls ended", n)
		}
	})
}

func TestSilenceSees(t *testing.T) {
	s := silence{}
	second := policy.Nanos(time.Second)
	for i, step := range []struct {
		at   policy.Nanos
		in   transport
		want time.Duration
	}{
		{1, transport{}, 0},
		{2, transport{unacked: true, acked: 1, lastAck: time.Minute}, 0}, // was idle before
		{3, transport{unacked: true, acked: 1, lastAck: time.Minute}, time.Second},
		{4, transport{unacked: true, acked: 2, lastAck: 100 * time.Millisecond}, 0},                    // it goes on
		{6, transport{unacked: true, acked: 2, lastAck: 50 * time.Millisecond}, 50 * time.Millisecond}, // it has no room, and says so
		{9, transport{unacked: true, acked: 2, lastAck: 3 * time.Second}, 3 * time.Second},
		{9, transport{unacked: true, acked: 2, lastAck: 3 * time.Second, lastSent: 3*time.Second + 1}, 0}, // it answered that
		{10, transport{acked: 3}, 0},
		{11, transport{unacked: true, acked: 3, lastAck: time.Second}, 0},
	} {
		if got := s.see(step.in, step.at*second); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestSlowStart: a new pod begins with less than its share; most of them new get
// theirs at once.
func TestSlowStart(t *testing.T) {
	inBubble(t, []int{1, 2, 3}, nil, func(w *world) {
		pass(11 * time.Second)
		w.want(1, StateReady, "")
		w.source.Set(endpoints(1, 2, 3, 4)...)
		pass(time.Second)
		w.want(4, StateWarming, "full share in 9s")
		pass(10 * time.Second)
		w.want(4, StateReady, "")
		w.source.Set(endpoints(4, 5, 6, 7)...)
		pass(time.Second)
		w.want(5, StateReady, "")
	})
}

// TestConfigure: what may change does, and no connection ends.
func TestConfigure(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		o := w.settings.Options
		o.Policy = config.Default(config.LeastRequest)
		o.Policy.ConnectionsPerEndpoint = 3
		o.Policy.Ejection.Enabled = false
		o.Policy.Refresh.Interval = 2 * time.Second
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if s := w.Stats(); s.Policy != config.LeastRequest || s.Pods[0].Connections != 3 || s.Pods[1].Connections != 3 {
			t.Errorf("%+v", s)
		}
		o.Policy = config.Default(config.PeakEWMA)
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if s := w.Stats(); s.Policy != config.PeakEWMA || s.Pods[0].Connections != 1 || w.dialled(1) != 3 {
			t.Errorf("%d attempts, %+v", w.dialled(1), s)
		}
		if err := w.Configure(o); err != nil { // nothing is new
			t.Error(err)
		}
		for name, change := range map[string]func(*Options){
			"listen":  func(o *Options) { o.Listen = []string{"127.0.0.1:1"} },
			"more":    func(o *Options) { o.Listen = append([]string{"127.0.0.1:1"}, o.Listen...) },
			"target":  func(o *Options) { o.Target = "other:1" },
			"invalid": func(o *Options) { o.Limits.MaxClients = -1 },
		} {
			bad := o
			change(&bad)
			if err := w.Configure(bad); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		w.Refresh()
		w.source.Set(endpoints(2, 3)...)
		pass(time.Second)
		w.want(3, StateReady, "")
	})
}

// TestManyPods: attempts go in turns, and end when their pods do.
func TestManyPods(t *testing.T) {
	n := make([]int, 200)
	for i := range n {
		n[i] = i + 1
	}
	inBubble(t, nil, nil, func(w *world) {
		for _, i := range n {
			w.pod(i).delay = time.Second
		}
		w.source.Set(endpoints(n...)...)
		pass(500 * time.Millisecond)
		begun := 0
		for _, i := range n {
			begun += w.dialled(i)
		}
		if begun != maxDials {
			t.Errorf("%d attempts at a time", begun)
		}
		pass(2 * time.Second)
		ready := 0
		for _, pod := range w.Stats().Pods {
			if pod.State == StateReady {
				ready++
			}
		}
		if ready != len(n) {
			t.Errorf("%d are ready", ready)
		}
	})
}

// TestRemovedWhileDialled: an attempt ends with its pod.
func TestRemovedWhileDialled(t *testing.T) {
	inBubble(t, []int{2}, nil, func(w *world) {
		w.pod(1).delay = 4 * time.Second
		w.source.Set(endpoints(1, 2)...)
		pass(time.Second)
		w.source.Set(endpoints(2)...)
		pass(time.Second)
		w.want(1, StateGone, "")
		if w.dialling != 0 {
			t.Errorf("%d attempts go on", w.dialling)
		}
	})
}

// TestDualStack: the other address of a pod is tried when one takes its time.
func TestDualStack(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:6565")
	e := endpoint.Endpoint{Addrs: []netip.AddrPort{six, at(1)}, Ready: true, Serving: true}
	for name, prepare := range map[string]func(w *world){
		"slow":    func(w *world) { w.pods[six] = &fakePod{w: w, delay: 4 * time.Second} },
		"refused": func(w *world) { w.pods[six] = &fakePod{w: w, refuse: true} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, nil, func(w *world) {
				w.mu.Lock()
				prepare(w)
				w.mu.Unlock()
				w.source.Set(e)
				pass(time.Second)
				if s := w.Stats().Pods[0]; s.State != StateReady || w.dialled(1) != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	t.Run("both refused", func(t *testing.T) {
		inBubble(t, nil, nil, func(w *world) {
			w.mu.Lock()
			w.pods[six] = &fakePod{w: w, refuse: true}
			w.mu.Unlock()
			w.pod(1).refuse = true
			w.source.Set(e)
			pass(700 * time.Millisecond)
			if s := w.Stats().Pods[0]; s.State != StateUnreachable || w.dialled(1) != 1 {
				t.Errorf("%+v", s)
			}
		})
	})
}

// TestLongStreams: what a stream lasts is not its pod's latency.
func TestLongStreams(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		c := w.client()
		id := c.call()
		pass(time.Minute)
		w.conn(1).answer(id, "0")
		synctest.Wait()
		pod := w.Stats().Pods[0]
		if pod.EWMA != 0 || pod.Calls != 1 || pod.P50 < 50*time.Second {
			t.Errorf("%+v", pod)
		}
	})
}

// TestEjectedReturns: a pod is left out for a while, and begins slowly afterwards;
// when all fail, ejections are set aside.
func TestEjectedReturns(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		pass(time.Minute)
		c := w.client()
		fail := func(pods ...int) {
			for range 12 {
				c.call()
				for _, i := range pods {
					w.answerPods("14", i)
				}
				w.answerPods("0", 1, 2)
			}
		}
		fail() // all is well
		fail(1)
		pass(time.Second)
		w.want(1, StateEjected, "in a row")
		if pod := w.Stats().Pods[0]; pod.EjectedUntil.Before(time.Now()) || pod.Ejections != 1 || pod.RecentErrors == 0 {
			t.Errorf("%+v", pod)
		}
		pass(time.Minute)
		w.want(1, StateReady, "")
		if pod := w.Stats().Pods[0]; !pod.EjectedUntil.IsZero() {
			t.Errorf("%+v", pod)
		}
		fail(1, 2)
		pass(time.Second)
		fail(1, 2)
		pass(time.Second)
		if s := w.Stats(); !s.Panic {
			t.Errorf("%+v", s.Pods)
		}
		if s1, why := w.state(1); s1 != StateReady || !strings.Contains(why, "so few pods are usable") {
			if s2, why2 := w.state(2); s2 != StateReady || !strings.Contains(why2, "so few pods are usable") {
				t.Errorf("%s %q, %s %q", s1, why, s2, why2)
			}
		}
		// Without ejection they are what they were.
		o := w.settings.Options
		o.Policy.Ejection.Enabled = false
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		pass(time.Millisecond)
		w.want(1, StateReady, "")
		w.want(2, StateReady, "")
	})
}

// answerPods ends what is open on these pods.
func (w *world) answerPods(code string, pods ...int) {
	for _, i := range pods {
		c := w.conn(i)
		c.mu.Lock()
		ids := c.calls
		c.calls = nil
		c.mu.Unlock()
		for _, id := range ids {
			c.answer(id, code)
		}
	}
	synctest.Wait()
}

// TestConfigureWithoutSource: a source that cannot be opened changes nothing.
func TestConfigureWithoutSource(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		w.mu.Lock()
		w.Proxy.mu.Lock()
		w.settings.Opener = endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) { return nil, errTest })
		o := w.settings.Options
		w.Proxy.mu.Unlock()
		w.mu.Unlock()
		o.Policy = config.Default(config.LeastRequest)
		o.Policy.Refresh.Interval = 2 * time.Second
		if err := w.Configure(o); !errors.Is(err, errTest) {
			t.Errorf("%v", err)
		}
		if s := w.Stats(); s.Policy != config.RoundRobin {
			t.Errorf("%s", s.Policy)
		}
		w.source.Set(endpoints(1, 2)...)
		pass(time.Second)
		w.want(2, StateReady, "")
	})
}

// asker is a source that counts how often it was asked to look.
type asker struct {
	endpoint.Source
	n *atomic.Int32
}

func (a asker) Ask(endpoint.Question) { a.n.Add(1) }

// TestFirstIsEmpty: the name of a Service that was just made is unknown to DNS for
// some seconds. Calls wait meanwhile, and so does the application's start.
func TestFirstIsEmpty(t *testing.T) {
	for _, comes := range []bool{true, false} {
		var asked atomic.Int32
		nothing := func(w *world) { w.source.Tell(endpoint.Set{Reason: "NXDOMAIN"}) }
		inBubble(t, nil, counting(&asked), func(w *world) {
			c := w.client()
			id := c.call()
			pass(firstGrace - 500*time.Millisecond)
			if s := w.Stats(); s.Waiting != 1 || s.Known || s.Ready || !strings.Contains(s.Reason, "has no endpoints: NXDOMAIN") {
				t.Errorf("%+v", s)
			}
			if n := asked.Load(); n < 5 {
				t.Errorf("asked %d times", n)
			}
			if comes {
				w.source.Tell(endpoint.Set{Endpoints: endpoints(1)})
				pass(time.Millisecond)
				if ok, why := w.Ready(); !ok || w.calls(1) != 1 {
					t.Errorf("%v %s, %d calls", ok, why, w.calls(1))
				}
			}
			pass(time.Second)
			if !comes {
				if code, text := c.ended(id); code != "14" || !strings.Contains(text, "has no endpoints: NXDOMAIN") {
					t.Errorf("%s %q", code, text)
				}
			}
			n := asked.Load()
			if ok, why := w.Ready(); !ok {
				t.Error(why)
			}
			pass(time.Minute)
			if asked.Load() != n {
				t.Errorf("asked %d times more", asked.Load()-n)
			}
		}, nothing)
	}
}

// lateWrite is a connection whose writes reach the other end before they return:
// while hold is set they wait for it.
type lateWrite struct {
	net.Conn
	hold *atomic.Pointer[chan struct{}]
}

func (c lateWrite) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if hold := c.hold.Load(); hold != nil {
		<-*hold
	}
	return n, err
}

// TestLostWhileItWrites: a call that a pod has already is not given to another one
// because its connection fails before the write of it has returned.
func TestLostWhileItWrites(t *testing.T) {
	var held atomic.Pointer[chan struct{}]
	inBubble(t, []int{1}, nil, func(w *world) {
		c := w.client()
		hold := make(chan struct{})
		held.Store(&hold)
		id := c.call()
		if w.calls(1) != 1 {
			t.Fatalf("%d calls", w.calls(1))
		}
		held.Store(nil)
		w.source.Set(endpoints(1, 2)...)
		pass(time.Second)
		w.want(2, StateReady, "")
		p := w.Proxy
		p.mu.Lock()
		p.loseLocked(p.pods[0].links[0], errSilent, policy.Now())
		p.release(policy.Now())
		pass(time.Second)
		close(hold)
		pass(time.Second)
		if code, text := c.ended(id); code != "14" || w.calls(2) != 0 {
			t.Errorf("%s %q, and the other pod has %d calls", code, text, w.calls(2))
		}
	}, func(w *world) {
		w.Proxy.dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			nc, err := w.dial(ctx, a)
			return lateWrite{nc, &held}, err
		}
	})
}
