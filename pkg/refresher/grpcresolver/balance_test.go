package grpcresolver

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

var errRefused = errors.New("connection refused")

// The channel's state follows gRFC A61 and A62: READY while one endpoint is,
// CONNECTING while one may still become so, TRANSIENT_FAILURE once all failed,
// and from there only READY leads away.
func TestChannelState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		want := func(s connectivity.State) {
			t.Helper()
			time.Sleep(maxWait) // the picker may be late by this
			if r.state() != s {
				t.Fatalf("the channel is %v, want %v", r.state(), s)
			}
		}
		r.mustSet(believed(1, 2))
		want(connectivity.Connecting)
		r.sub(1).fail(errRefused)
		want(connectivity.Connecting)
		r.sub(2).fail(errRefused)
		want(connectivity.TransientFailure)
		r.sub(1).say(connectivity.Idle, nil) // the back-off is over
		if n, _ := r.sub(1).seen(); n != 2 {
			t.Errorf("dialled %d times, want again after the back-off", n)
		}
		r.sub(1).say(connectivity.Connecting, nil)
		want(connectivity.TransientFailure)
		r.sub(1).ready()
		want(connectivity.Ready)
		r.sub(1).say(connectivity.Idle, nil)
		want(connectivity.Connecting)
		if n, _ := r.sub(1).seen(); n != 3 {
			t.Errorf("dialled %d times, want again after the connection ended", n)
		}
		r.sub(1).fail(errRefused)
		want(connectivity.TransientFailure)
	})
}

func TestErrorNamesTheLastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1, 2, 3))
		for id := 1; id <= 3; id++ {
			r.sub(id).fail(errRefused)
		}
		time.Sleep(maxWait)
		for text := range r.picks(1) {
			for _, part := range []string{"no connection to any of 3 endpoints", "10.0.0.3:50051", "refused"} {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
		}
		r.sub(2).say(connectivity.Idle, nil)
		r.sub(2).fail(errors.New("no route to host"))
		time.Sleep(maxWait)
		for text := range r.picks(1) {
			if !strings.Contains(text, "10.0.0.2:50051") || !strings.Contains(text, "no route") {
				t.Errorf("%q is not about the newest failure", text)
			}
		}
	})
}

// What is removed before its replacement is READY keeps its calls for a while,
// and not for ever.
func TestLingeringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1, 2))
		r.sub(1).ready()
		time.Sleep(maxWait)
		one, two := r.sub(1), r.sub(2)
		r.mustSet(believed(3))
		if got := r.picks(2); got[one.addr] != 2 {
			t.Fatalf("picks went to %v", got)
		}
		if _, down := two.seen(); !down {
			t.Error("a removed endpoint that was not READY is still dialled")
		}
		time.Sleep(lingerFor - time.Second)
		if got := r.picks(2); got[one.addr] != 2 {
			t.Fatalf("picks went to %v", got)
		}
		time.Sleep(2 * time.Second)
		if _, down := one.seen(); !down || r.state() != connectivity.Connecting {
			t.Errorf("shut down: %v, the channel is %v", down, r.state())
		}
		r.sub(3).ready()
		time.Sleep(maxWait)
		if got := r.picks(2); got[r.sub(3).addr] != 2 {
			t.Errorf("picks went to %v", got)
		}
	})
}

// One that lingers and ends its connection is not dialled again.
func TestLingeringEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		r.sub(1).ready()
		r.mustSet(believed(2))
		one := r.sub(1)
		one.say(connectivity.Idle, nil)
		time.Sleep(maxWait)
		if n, down := one.seen(); n != 1 || !down {
			t.Errorf("dialled %d times, shut down: %v", n, down)
		}
		if r.state() != connectivity.Connecting {
			t.Errorf("the channel is %v", r.state())
		}
	})
}

// With no endpoints at all nothing lingers, and the policy says so to gRPC.
func TestEmptyEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		r.sub(1).ready()
		r.mustSet(believed(2)) // 1 lingers
		if err := r.set(nil); !errors.Is(err, balancer.ErrBadResolverState) {
			t.Errorf("error %v", err)
		}
		if n := r.cc.dialled(); n != 0 || r.state() != connectivity.TransientFailure {
			t.Errorf("%d connections, the channel is %v", n, r.state())
		}
	})
}

// A new pod with the address of a removed one is another connection, and the old
// one does not linger.
func TestSameAddressNewPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		r.sub(1).ready()
		old := r.sub(1)
		again := believed(1)
		again[0].ID = 7
		r.mustSet(again)
		if _, down := old.seen(); !down || r.sub(1) == old {
			t.Error("the old pod's connection is in use")
		}
	})
}

// The addresses of an endpoint race (RFC 8305): the second begins 250 ms after
// the first, and the first that is READY wins.
func TestAddressesRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := believed(1)
		m[0].Endpoint.Addrs = append(m[0].Endpoint.Addrs, addrOf(2), addrOf(3))
		r.mustSet(m)
		time.Sleep(raceDelay - time.Millisecond)
		if n := r.cc.dialled(); n != 1 {
			t.Fatalf("%d addresses are dialled at first", n)
		}
		time.Sleep(2 * time.Millisecond)
		if n := r.cc.dialled(); n != 2 {
			t.Fatalf("%d addresses are dialled after %v", n, raceDelay)
		}
		r.sub(2).fail(errRefused) // the one tried last: the next at once
		if n := r.cc.dialled(); n != 3 {
			t.Fatalf("%d addresses are dialled after a failure", n)
		}
		one, two := r.sub(1), r.sub(2)
		r.sub(3).ready()
		time.Sleep(time.Second)
		for _, s := range []*fakeSub{one, two} {
			if _, down := s.seen(); !down {
				t.Errorf("the loser %s is up", s.addr)
			}
		}
		if got := r.picks(1); got[r.sub(3).addr] != 1 {
			t.Errorf("picks went to %v", got)
		}
		// When the winner is lost the race begins anew, with the first address.
		r.sub(3).say(connectivity.Idle, nil)
		if r.sub(1) == one {
			t.Error("the first address is not tried again")
		}
	})
}

// All addresses fail: the endpoint has failed, and each address is tried again
// when its own back-off is over.
func TestAllAddressesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := believed(1)
		m[0].Endpoint.Addrs = append(m[0].Endpoint.Addrs, addrOf(2))
		r.mustSet(m)
		r.sub(1).fail(errRefused)
		time.Sleep(maxWait)
		if r.state() != connectivity.Connecting {
			t.Fatalf("the channel is %v after one of two failed", r.state())
		}
		r.sub(1).say(connectivity.Idle, nil) // back-off over while the race goes on
		if n, _ := r.sub(1).seen(); n != 1 {
			t.Errorf("dialled %d times within one race", n)
		}
		r.sub(2).fail(errRefused)
		time.Sleep(maxWait)
		if n, _ := r.sub(1).seen(); n != 2 || r.state() != connectivity.TransientFailure {
			t.Errorf("dialled %d times, the channel is %v", n, r.state())
		}
		r.sub(2).say(connectivity.Idle, nil)
		r.sub(2).ready()
		time.Sleep(maxWait)
		if got := r.picks(1); got[r.sub(2).addr] != 1 {
			t.Errorf("picks went to %v", got)
		}
	})
}

// An address that an endpoint gains or loses does not touch the connection to
// another.
func TestAddressesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		r.sub(1).ready()
		one := r.sub(1)
		both := believed(1)
		both[0].Endpoint.Addrs = append(both[0].Endpoint.Addrs, addrOf(2))
		r.mustSet(both)
		if _, down := one.seen(); down || len(r.cc.subs) != 1 {
			t.Fatal("a second address ended the connection to the first")
		}
		other := believed(1)
		other[0].Endpoint.Addrs[0] = addrOf(2)
		r.mustSet(other)
		if _, down := one.seen(); !down {
			t.Error("the connection to an address that is gone is up")
		}
		r.sub(2).ready()
		time.Sleep(maxWait)
		if got := r.picks(1); got[r.sub(2).addr] != 1 {
			t.Errorf("picks went to %v", got)
		}
	})
}

// A server that accepts connections and closes them is dialled once a second.
func TestFlappingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		begin := time.Now()
		for range 10 {
			s := r.sub(1)
			n, _ := s.seen()
			s.ready()
			s.say(connectivity.Idle, nil)
			for m := n; m == n; m, _ = s.seen() {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if took := time.Since(begin); took < 8*time.Second || took > 12*time.Second {
			t.Errorf("10 reconnects took %v", took)
		}
	})
}

// A large set is not dialled in one instant, and addresses that do not answer do
// not hold the others up.
func TestDialsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ids := make([]int, 1000)
		for i := range ids {
			ids[i] = i + 1
		}
		r.mustSet(believed(ids...))
		if n := r.cc.dialled(); n != maxDials {
			t.Fatalf("%d are dialled at first, want %d", n, maxDials)
		}
		dialled := func() (out []*fakeSub) {
			for _, s := range r.cc.subs {
				if n, _ := s.seen(); n > 0 {
					out = append(out, s)
				}
			}
			return out
		}
		for _, s := range dialled()[:10] {
			s.ready()
		}
		if n := r.cc.dialled(); n != maxDials+10 {
			t.Fatalf("%d are dialled after 10 are READY", n)
		}
		// The others say nothing. Each turn lets as many begin.
		time.Sleep(dialTurn + time.Millisecond)
		if n := r.cc.dialled(); n != 2*maxDials+10 {
			t.Fatalf("%d are dialled after a turn", n)
		}
		time.Sleep(3 * dialTurn)
		if n := r.cc.dialled(); n != len(ids) {
			t.Fatalf("%d are dialled in the end", n)
		}
		// A late answer of an earlier turn gives no place back twice.
		for _, s := range dialled() {
			s.fail(errRefused)
		}
		if n := r.b.dials.active; n != 0 {
			t.Errorf("%d places are taken by nobody", n)
		}
	})
}

// Those that wait for their turn and are removed meanwhile are not dialled.
func TestRemovedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ids := make([]int, maxDials+50)
		for i := range ids {
			ids[i] = i + 1
		}
		r.mustSet(believed(ids...))
		r.mustSet(believed(5000))
		time.Sleep(10 * dialTurn)
		if n := r.cc.dialled(); n != 1 {
			t.Errorf("%d are dialled", n)
		}
	})
}

// Ten thousand connections that come up do not make ten thousand pickers.
func TestPickersAreNotMadeForEach(t *testing.T) {
	const n = 3000
	r := newRig(t)
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
	}
	r.mustSet(believed(ids...))
	for i := 0; i < len(r.cc.subs); i++ {
		r.cc.subs[i].ready()
	}
	eventually(t, "all are in use", func() bool {
		p, ok := r.cc.last().Picker.(*picker)
		return ok && len(p.choices) == n
	})
	if u := r.cc.updates(); u > n/4 {
		t.Errorf("%d pickers for %d connections", u, n)
	}
}

// A new endpoint begins with a small share, unless most of them are new.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1, 2, 3))
		for id := 1; id <= 3; id++ {
			r.sub(id).ready()
		}
		time.Sleep(maxWait)
		for addr, n := range r.picks(3000) {
			if n < 800 {
				t.Errorf("cold start: %s got %d of 3000", addr, n)
			}
		}
		time.Sleep(time.Minute)
		r.mustSet(believed(1, 2, 3, 4))
		r.sub(4).ready()
		time.Sleep(maxWait)
		if n := r.picks(4000)[r.sub(4).addr]; n < 20 || n > 300 {
			t.Errorf("a new one got %d of 4000 at first", n)
		}
		time.Sleep(11 * time.Second)
		if n := r.picks(4000)[r.sub(4).addr]; n < 800 {
			t.Errorf("a new one got %d of 4000 after the slow start", n)
		}
		// A connection that ends and comes back is not new; one that could not be
		// made for a while is.
		r.sub(1).say(connectivity.Idle, nil)
		r.sub(1).ready()
		time.Sleep(maxWait)
		if n := r.picks(4000)[r.sub(1).addr]; n < 800 {
			t.Errorf("one that reconnected got %d of 4000", n)
		}
		r.sub(1).say(connectivity.Idle, nil)
		time.Sleep(time.Second)
		r.sub(1).fail(errRefused)
		r.sub(1).say(connectivity.Idle, nil)
		r.sub(1).ready()
		time.Sleep(maxWait)
		if n := r.picks(4000)[r.sub(1).addr]; n > 300 {
			t.Errorf("one that was away got %d of 4000", n)
		}
	})
}

// The pods of a dead node come back from an ejection together: few calls find
// out that nothing has changed.
func TestReturnsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1, 2, 3, 4))
		for id := 1; id <= 4; id++ {
			r.sub(id).ready()
		}
		time.Sleep(time.Minute)
		var back []*member
		for _, p := range r.b.order {
			if a := p.m.ep.Addr().String(); a == r.sub(3).addr || a == r.sub(4).addr {
				back = append(back, p.m)
			}
		}
		r.b.ejectionsChanged(back)
		time.Sleep(maxWait)
		got := r.picks(4000)
		if n := got[r.sub(3).addr] + got[r.sub(4).addr]; len(back) != 2 || n < 40 || n > 800 {
			t.Errorf("%d that returned got %d of 4000 at first", len(back), n)
		}
		time.Sleep(11 * time.Second)
		got = r.picks(4000)
		if n := got[r.sub(3).addr] + got[r.sub(4).addr]; n < 1600 {
			t.Errorf("they got %d of 4000 after the slow start", n)
		}
	})
}

// Held members: in use only while no believed one is READY, never dialled.
func TestHeldMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1, 2, 3))
		r.sub(1).ready()
		r.sub(2).ready()
		hold := func(ids ...int) []*reconcile.Member {
			m := believed(1, 2, 3)
			for _, id := range ids {
				m[id-1].Standing = reconcile.Held
			}
			return m
		}
		r.mustSet(hold(2, 3))
		if got := r.picks(4); got[r.sub(1).addr] != 4 {
			t.Errorf("picks went to %v", got)
		}
		if _, down := r.sub(3).seen(); down {
			t.Error("an attempt that was under way was ended")
		}
		r.sub(3).fail(errRefused)
		if n, down := r.sub(3).seen(); n != 1 || !down {
			t.Errorf("a held endpoint was dialled %d times, given up: %v", n, down)
		}
		r.sub(1).say(connectivity.Idle, nil)
		time.Sleep(maxWait)
		if got := r.picks(4); got[r.sub(2).addr] != 4 {
			t.Errorf("with no believed one READY picks went to %v", got)
		}
		r.sub(2).say(connectivity.Idle, nil)
		time.Sleep(maxWait)
		if n, _ := r.sub(2).seen(); n != 1 || r.state() != connectivity.Connecting {
			t.Errorf("a held one was dialled %d times, the channel is %v", n, r.state())
		}
		r.mustSet(hold(1, 2, 3))
		r.sub(1).fail(errRefused)
		time.Sleep(maxWait)
		if r.state() != connectivity.TransientFailure {
			t.Errorf("the channel is %v with held ones alone", r.state())
		}
		r.mustSet(hold())
		if n := r.cc.dialled(); n != 3 {
			t.Errorf("%d are dialled after they are believed again", n)
		}
	})
}

// A member that is held while it is dialled for the first time may still become
// READY; one that is believed again goes on with its race.
func TestHeldWhileDialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := believed(1)
		m[0].Endpoint.Addrs = append(m[0].Endpoint.Addrs, addrOf(2))
		one := *m[0]
		one.Standing = reconcile.Held
		h := []*reconcile.Member{&one}
		r.mustSet(m)
		r.sub(1).say(connectivity.Connecting, nil)
		r.mustSet(h)
		time.Sleep(time.Second)
		if n := r.cc.dialled(); n != 1 {
			t.Fatalf("%d addresses of a held member are dialled", n)
		}
		if r.state() != connectivity.Connecting {
			t.Errorf("the channel is %v", r.state())
		}
		r.mustSet(m)
		time.Sleep(raceDelay + time.Millisecond)
		if n := r.cc.dialled(); n != 2 {
			t.Fatalf("%d addresses are dialled when it is believed again", n)
		}
		r.mustSet(h)
		r.sub(1).ready()
		time.Sleep(maxWait)
		if got := r.picks(2); got[r.sub(1).addr] != 2 {
			t.Errorf("picks went to %v", got)
		}
		r.mustSet(m)
		if n := r.cc.dialled(); n != 1 {
			t.Errorf("%d connections to a member that is READY", n)
		}
	})
}

// One that was held before anybody dialled it gets one attempt, no second.
func TestHeldBeforeDialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustSet(believed(1))
		r.sub(1).ready()
		m := believed(2)
		m[0].Standing = reconcile.Held
		r.mustSet(m)
		if got := r.picks(2); got[r.sub(1).addr] != 2 {
			t.Errorf("picks went to %v while nothing else is connected", got)
		}
		r.sub(2).ready()
		time.Sleep(maxWait)
		if got := r.picks(2); got[r.sub(2).addr] != 2 {
			t.Errorf("picks went to %v", got)
		}
		r.sub(2).say(connectivity.Idle, nil)
		if n, down := r.sub(2).seen(); n != 1 || !down {
			t.Errorf("dialled %d times, given up: %v", n, down)
		}
	})
}

func TestWrongConfig(t *testing.T) {
	r := newRig(t)
	if err := r.b.UpdateClientConnState(balancer.ClientConnState{}); !errors.Is(err, balancer.ErrBadResolverState) {
		t.Errorf("error %v", err)
	}
	if _, err := (policyBuilder{config.PeakEWMA}).ParseConfig([]byte(`{"x":1}`)); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("error %v", err)
	}
}

// A resolver's error counts only while there is nothing to use.
func TestResolverError(t *testing.T) {
	r := newRig(t)
	r.b.ResolverError(errors.New("SERVFAIL"))
	if got := r.picks(1); got["error: SERVFAIL"] != 1 || r.state() != connectivity.TransientFailure {
		t.Errorf("picks %v, the channel is %v", got, r.state())
	}
	r.mustSet(believed(1))
	r.sub(1).ready()
	eventually(t, "READY", func() bool { return r.state() == connectivity.Ready })
	r.b.ResolverError(errors.New("SERVFAIL"))
	if r.state() != connectivity.Ready {
		t.Error("an error of the resolver took endpoints away")
	}
}

// Nothing happens after Close, whatever timers and gRPC still say.
func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := believed(1, 2)
		m[1].Endpoint.Addrs = append(m[1].Endpoint.Addrs, addrOf(3))
		r.mustSet(m)
		r.sub(1).ready()
		r.b.Close()
		before := r.cc.updates()
		for _, s := range r.cc.subs {
			if _, down := s.seen(); !down {
				t.Errorf("%s is up", s.addr)
			}
			s.say(connectivity.Shutdown, nil)
			s.say(connectivity.Idle, nil)
			s.health = nil
		}
		r.b.ExitIdle()
		r.b.UpdateSubConnState(nil, balancer.SubConnState{})
		r.b.ResolverError(errRefused)
		r.b.ejectionsChanged(nil)
		if err := r.set(believed(4)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if r.cc.updates() != before || r.cc.dialled() != 0 {
			t.Error("a closed balancer goes on")
		}
	})
}

// A channel that closes gives no SubConns.
func TestChannelCloses(t *testing.T) {
	r := newRig(t)
	r.cc.closed = true
	r.mustSet(believed(1))
	if r.state() != connectivity.Connecting {
		t.Errorf("the channel is %v", r.state())
	}
}

// A policy above ours may hand it a part of the endpoints: they are found by
// address.
func TestPartOfTheEndpoints(t *testing.T) {
	r := newRig(t)
	r.h.mu.Lock()
	r.h.snapLocked(believed(1, 2, 3))
	snap := r.h.snap
	r.h.mu.Unlock()
	s := resolver.State{
		Endpoints:  []resolver.Endpoint{snap.endpoints[2], {Addresses: []resolver.Address{{Addr: "192.0.2.1:1"}}}},
		Attributes: attributes.New(snapshotKey{}, snap),
	}
	if err := r.b.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: &lbConfig{Config: r.c}}); err != nil {
		t.Fatal(err)
	}
	if n := len(r.cc.subs); n != 1 || r.cc.subs[0].addr != addrOf(3).String() {
		t.Errorf("%d connections", n)
	}
	if snap.String() != square {
		t.Errorf("in channelz it is %q", snap)
	}
}

// The policies work over other resolvers.
func TestForeignResolver(t *testing.T) {
	r := newRig(t)
	set := func(addrs ...string) error {
		var s resolver.State
		for _, a := range addrs {
			s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
		}
		return r.b.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: &lbConfig{Config: r.c}})
	}
	if err := set("192.0.2.1:1", "square:1", "192.0.2.1:1"); err != nil {
		t.Fatal(err)
	}
	if n := len(r.cc.subs); n != 2 {
		t.Fatalf("%d connections for two endpoints, one of them twice", n)
	}
	one := r.cc.sub(t, "192.0.2.1:1")
	one.ready()
	if err := set("square:1", "192.0.2.1:1"); err != nil {
		t.Fatal(err)
	}
	if r.cc.sub(t, "192.0.2.1:1") != one {
		t.Error("the order of endpoints made a new connection")
	}
	if err := set(); !errors.Is(err, balancer.ErrBadResolverState) {
		t.Errorf("error %v", err)
	}
	for text := range r.picks(1) {
		if !strings.Contains(text, "no endpoints") {
			t.Errorf("calls are told %q", text)
		}
	}
	r.b.ResolverError(errors.New("NXDOMAIN"))
	if got := r.picks(1); got["error: NXDOMAIN"] != 1 {
		t.Errorf("calls are told %v", got)
	}
	e := parsed([]resolver.Address{{Addr: "square:1"}, {Addr: "192.0.2.1:1"}})
	if e.Name != "square:1" || e.Addr() != endpoint.At(e.Addrs[0]).Addr() {
		t.Errorf("an endpoint of another resolver is %+v", e)
	}
}
