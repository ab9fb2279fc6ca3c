package grpcresolver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // without it a healthCheckConfig is ignored but for a line in gRPC's log
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

func init() {
	for _, name := range config.Names() {
		balancer.Register(policyBuilder{name})
	}
}

// policyBuilder makes the balancers of one policy.
type policyBuilder struct{ name string }

// lbConfig is a policy's part of the service config as gRPC hands it around.
type lbConfig struct {
	serviceconfig.LoadBalancingConfig
	config.Config
}

// Name is part of balancer.Builder.
func (p policyBuilder) Name() string { return p.name }

// ParseConfig is part of balancer.ConfigParser. Unlike gRPC's own policies it
// refuses fields that do not exist: a mistyped one would change nothing, and
// nobody would know.
func (p policyBuilder) ParseConfig(data json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c, err := config.Parse(p.name, data)
	if err != nil {
		return nil, err
	}
	return &lbConfig{Config: c}, nil
}

// Build is part of balancer.Builder.
func (p policyBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	b := &balance{name: p.name, target: opts.Target.String(), cc: cc, peers: map[uint64]*peer{}}
	return b
}

// balance is the balancer of one channel: it keeps the connections equal to the
// hub's members and tells gRPC how to choose among them.
//
// gRPC calls it from one goroutine at a time, timers from others; mu makes that
// one after the other. SubConns are shut down under mu as well: that only
// schedules what follows from it.
type balance struct {
	name   string
	target string
	cc     balancer.ClientConn

	mu     sync.Mutex
	closed bool
	hub    *hub // nil before the first update
	other  *foreign
	cfg    config.Config
	policy policy.Policy

	peers map[uint64]*peer
	order []*peer // as in the snapshot
	// lingering are peers that were removed and keep their calls, see linger.
	lingering   []*peer
	lingerTimer *time.Timer

	dials dials

	// resolverErr is the resolver's last error while it has not given endpoints,
	// connErr and connAddr the last connection that failed.
	resolverErr error
	connErr     error
	connAddr    string

	publishTimer *time.Timer
	published    time.Time // when gRPC was told last
	cost         time.Duration
	told         connectivity.State
	waiting      bool // gRPC has a picker with which calls wait
}

// UpdateClientConnState is part of balancer.Balancer.
func (b *balance) UpdateClientConnState(s balancer.ClientConnState) error {
	cfg, ok := s.BalancerConfig.(*lbConfig)
	if !ok {
		return fmt.Errorf("%s: its configuration is a %T: %w", b.name, s.BalancerConfig, balancer.ErrBadResolverState)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	if b.policy == nil || b.cfg != cfg.Config {
		b.cfg, b.policy = cfg.Config, newPolicy(cfg.Config)
	}
	snap := b.snapshotLocked(s.ResolverState)
	b.useLocked(snap.hub)
	b.resolverErr = nil
	b.applyLocked(snap, alignedAddresses(snap, s.ResolverState))
	if len(snap.views) == 0 {
		return balancer.ErrBadResolverState
	}
	return nil
}

// snapshotLocked is what our resolver hands over, or what can be made of
// another's endpoints.
func (b *balance) snapshotLocked(s resolver.State) *snapshot {
	if snap, ok := s.Attributes.Value(snapshotKey{}).(*snapshot); ok {
		return snap
	}
	if b.other == nil {
		b.other = newForeign(b.target, b.cfg)
	}
	return b.other.snapshot(s.Endpoints)
}

func (b *balance) useLocked(h *hub) {
	if b.hub == h {
		return
	}
	// The resolver of a channel stays the same, and so does the hub. Should that
	// ever change, the members are others, whatever their numbers.
	b.shutdownLocked()
	b.hub = h
	h.join(b)
}

// ResolverError is part of balancer.Balancer. What is known stays in use.
func (b *balance) ResolverError(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.order) > 0 {
		return
	}
	b.resolverErr = err
	b.publishLocked()
}

// UpdateSubConnState is part of balancer.Balancer and not used: every SubConn
// has a listener.
func (b *balance) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle is part of balancer.Balancer. Connections that can be made are made
// without being asked for.
func (b *balance) ExitIdle() {}

// Close is part of balancer.Balancer.
func (b *balance) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.shutdownLocked()
}

// shutdownLocked gives everything back.
func (b *balance) shutdownLocked() {
	for _, t := range []*time.Timer{b.publishTimer, b.lingerTimer} {
		if t != nil {
			t.Stop()
		}
	}
	b.publishTimer, b.lingerTimer = nil, nil
	b.dials.stop()
	for _, p := range slices.Concat(b.order, b.lingering) {
		p.close()
	}
	b.order, b.lingering = nil, nil
	clear(b.peers)
	if b.hub != nil {
		b.hub.leave(b)
	}
}

// alignedAddresses returns the addresses to dial for each member of the
// snapshot, nil for members that the state leaves out. They are the state's
// own: under HTTPS_PROXY gRPC put the proxy's in their place, in which only the
// order still tells to whom they belong.
func alignedAddresses(snap *snapshot, s resolver.State) [][]resolver.Address {
	out := make([][]resolver.Address, len(snap.views))
	if len(s.Endpoints) == len(snap.views) {
		for i, e := range s.Endpoints {
			out[i] = e.Addresses
		}
		return out
	}
	// A policy above this one gave it a part of the endpoints.
	at := make(map[string]int, len(snap.views))
	for i, v := range snap.views {
		for _, a := range v.addrs {
			at[a.Addr] = i
		}
	}
	for _, e := range s.Endpoints {
		for _, a := range e.Addresses {
			if i, ok := at[a.Addr]; ok {
				out[i] = e.Addresses
				break
			}
		}
	}
	return out
}

// applyLocked makes the peers equal to the members of a snapshot: new ones are
// dialled, removed ones keep their calls in flight.
func (b *balance) applyLocked(snap *snapshot, addrs [][]resolver.Address) {
	old := b.order
	b.order = make([]*peer, 0, len(snap.views))
	peers := make(map[uint64]*peer, len(snap.views))
	taken := make(map[string]bool)
	var fresh []*peer
	for i := range snap.views {
		v := &snap.views[i]
		if len(addrs[i]) == 0 {
			continue
		}
		p := b.peers[v.m.id]
		if p == nil {
			p = newPeer(b, v.m)
			fresh = append(fresh, p)
			for _, a := range v.addrs {
				taken[a.Addr] = true
			}
		}
		p.view, p.addrs = *v, addrs[i]
		peers[v.m.id] = p
		b.order = append(b.order, p)
	}
	b.peers = peers
	b.warnProxyLocked(addrs, snap)
	// Many clients that start together should not all begin with the same pod.
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	for _, p := range fresh {
		p.update()
	}
	var gone []*peer
	for _, p := range old {
		if peers[p.m.id] == p {
			p.update()
		} else {
			gone = append(gone, p)
		}
	}
	b.removeLocked(gone, taken)
}

// warnProxyLocked says once that connections go through a proxy, which rarely
// is what somebody wants who balances over pods.
func (b *balance) warnProxyLocked(addrs [][]resolver.Address, snap *snapshot) {
	for i, v := range snap.views {
		if len(addrs[i]) > 0 && len(v.addrs) > 0 && !slices.ContainsFunc(v.addrs, func(a resolver.Address) bool { return a.Addr == addrs[i][0].Addr }) {
			snap.hub.warn(fmt.Sprintf("connections to the endpoints of %s go through the proxy %s, which HTTPS_PROXY names: add the pods' addresses to NO_PROXY, or dial with grpc.WithNoProxy()",
				snap.hub.name, addrs[i][0].Addr))
			return
		}
	}
}

// lingerFor bounds how long a removed endpoint may keep its calls while none
// that replaces it is connected. It is longer than a connection takes and
// shorter than gRPC's time-out for one (20 s): an endpoint that is really gone
// must not hide for long that nothing replaces it.
const lingerFor = 10 * time.Second

// removeLocked drops peers. Calls in flight on them go on. When no endpoint that
// is left is READY yet, those that still are keep getting calls until one is:
// make before break. One that ended its connection (it said GOAWAY, or is gone)
// is not READY, one that terminates is on its way out, and one whose address
// another pod has now was never found again at it.
func (b *balance) removeLocked(gone []*peer, taken map[string]bool) {
	var keep []*peer
	if len(b.order) > 0 && !slices.ContainsFunc(b.order, func(p *peer) bool { return !p.held && p.state == connectivity.Ready }) {
		keep = slices.DeleteFunc(slices.Clone(gone), func(p *peer) bool {
			return p.state != connectivity.Ready || p.terminating || slices.ContainsFunc(p.view.addrs, func(a resolver.Address) bool { return taken[a.Addr] })
		})
	}
	for _, p := range keep {
		p.gone = true
		p.retire()
	}
	if len(b.order) == 0 {
		gone = append(gone, b.lingering...)
		b.lingering = nil
	}
	b.lingering = append(b.lingering, keep...)
	if len(b.lingering) > 0 && b.lingerTimer == nil {
		b.lingerTimer = time.AfterFunc(lingerFor, b.lingered)
	}
	// First gRPC must know that they are not to be chosen, then they go.
	b.publishLocked()
	for _, p := range gone {
		if !slices.Contains(keep, p) {
			p.close()
		}
	}
}

// lingered ends the lingering when it took too long.
func (b *balance) lingered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.lingerTimer == nil {
		return
	}
	rest := b.lingering
	b.lingering, b.lingerTimer = nil, nil
	b.publishLocked()
	for _, p := range rest {
		p.close()
	}
}

// replacedLocked ends the lingering once an endpoint is READY that may stay.
func (b *balance) replacedLocked() {
	if len(b.lingering) == 0 {
		return
	}
	rest := b.lingering
	b.lingering = nil
	b.publishLocked()
	for _, p := range rest {
		p.close()
	}
}

// unreachableLocked makes the error of calls while no endpoint is connected.
func (b *balance) unreachableLocked(believed int) func() error {
	switch {
	case len(b.order) == 0 && b.hub != nil && (b.hub.open != nil || b.resolverErr == nil):
		return b.hub.emptyError
	case len(b.order) == 0:
		return always(b.resolverErr)
	case believed == 0:
		return always(fmt.Errorf("%s: the last answer has no endpoints, and none of the %d before it is connected any more", b.target, len(b.order)))
	case b.connErr == nil:
		return always(fmt.Errorf("%s: no connection to any of %d endpoints", b.target, believed))
	}
	return always(fmt.Errorf("%s: no connection to any of %d endpoints; last error (%s): %w", b.target, believed, b.connAddr, b.connErr))
}

func always(err error) func() error { return func() error { return err } }
