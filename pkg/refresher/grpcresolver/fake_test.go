package grpcresolver

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// fakeChannel is gRPC to a balancer: SubConns do what the test says. Real
// channels are in the other tests; this one is for time and for large sets.
type fakeChannel struct {
	balancer.ClientConn

	mu     sync.Mutex
	subs   []*fakeSub
	states []balancer.State
	closed bool
}

type fakeSub struct {
	balancer.SubConn
	addr     string
	listener func(balancer.SubConnState)

	mu       sync.Mutex
	health   func(balancer.SubConnState)
	connects int
	down     bool
}

func (f *fakeChannel) NewSubConn(addrs []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("closed")
	}
	s := &fakeSub{addr: addrs[0].Addr, listener: o.StateListener}
	f.subs = append(f.subs, s)
	return s, nil
}

func (f *fakeChannel) UpdateState(s balancer.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states = append(f.states, s)
}

func (f *fakeChannel) last() balancer.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.states) == 0 {
		return balancer.State{}
	}
	return f.states[len(f.states)-1]
}

func (f *fakeChannel) updates() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.states)
}

// sub is the newest SubConn to an address.
func (f *fakeChannel) sub(t testing.TB, addr string) *fakeSub {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.subs) - 1; i >= 0; i-- {
		if f.subs[i].addr == addr {
			return f.subs[i]
		}
	}
	t.Fatalf("no SubConn to %s", addr)
	return nil
}

// dialled counts SubConns that were told to connect and are not shut down.
func (f *fakeChannel) dialled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, s := range f.subs {
		if c, down := s.seen(); c > 0 && !down {
			n++
		}
	}
	return n
}

func (s *fakeSub) Connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connects++
}

func (s *fakeSub) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
}

func (s *fakeSub) RegisterHealthListener(l func(balancer.SubConnState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = l
}

func (s *fakeSub) seen() (connects int, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connects, s.down
}

func (s *fakeSub) say(state connectivity.State, err error) {
	s.listener(balancer.SubConnState{ConnectivityState: state, ConnectionError: err})
}

func (s *fakeSub) ready() {
	s.say(connectivity.Connecting, nil)
	s.say(connectivity.Ready, nil)
	s.mu.Lock()
	health := s.health
	s.mu.Unlock()
	health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

func (s *fakeSub) fail(err error) {
	s.say(connectivity.Connecting, nil)
	s.say(connectivity.TransientFailure, err)
}

// rig is a balancer over a fakeChannel with a hub of its own.
type rig struct {
	t  testing.TB
	b  *balance
	cc *fakeChannel
	h  *hub
	c  config.Config
}

func newRig(t testing.TB, edit ...func(*config.Config)) *rig {
	t.Helper()
	c := config.Default(config.RoundRobin)
	for _, f := range edit {
		f(&c)
	}
	cc := &fakeChannel{}
	b, ok := policyBuilder{c.Policy}.Build(cc, balancer.BuildOptions{}).(*balance)
	if !ok {
		t.Fatal("Build returned something else")
	}
	t.Cleanup(b.Close)
	return &rig{t: t, b: b, cc: cc, h: newHub(square, c, &queue{}), c: c}
}

// member n has the address 10.0.0.0 + n.
func addrOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 50051)
}

func believed(ids ...int) []*reconcile.Member {
	out := make([]*reconcile.Member, len(ids))
	for i, id := range ids {
		out[i] = &reconcile.Member{ID: uint64(id), Endpoint: endpoint.At(addrOf(id)), Since: time.Now()}
	}
	return out
}

// set hands over members as the resolver does.
func (r *rig) set(members []*reconcile.Member) error {
	r.h.mu.Lock()
	r.h.snapLocked(members)
	snap := r.h.snap
	r.h.mu.Unlock()
	return r.b.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: resolver.State{
			Endpoints: snap.endpoints, Addresses: snap.addresses(), Attributes: attributes.New(snapshotKey{}, snap),
		},
		BalancerConfig: &lbConfig{Config: r.c},
	})
}

func (r *rig) mustSet(members []*reconcile.Member) {
	r.t.Helper()
	if err := r.set(members); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sub(id int) *fakeSub { return r.cc.sub(r.t, addrOf(id).String()) }

// picks counts to which addresses n picks go.
func (r *rig) picks(n int) map[string]int {
	r.t.Helper()
	out := map[string]int{}
	p := r.cc.last().Picker
	for range n {
		res, err := p.Pick(balancer.PickInfo{})
		if err != nil {
			out[fmt.Sprint("error: ", err)]++
			continue
		}
		s, ok := res.SubConn.(*fakeSub)
		if !ok {
			r.t.Fatalf("picked a %T", res.SubConn)
		}
		out[s.addr]++
		res.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
	}
	return out
}

func (r *rig) state() connectivity.State { return r.cc.last().ConnectivityState }
