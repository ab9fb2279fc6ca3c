package grpcresolver

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // without it a healthCheckConfig is ignored but for a line in gRPC's log
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/tuning"
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
	b := &balance{name: p.name, target: opts.Target.String(), cc: cc}
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

	order   []*peer // by ID, as in the snapshot
	applied applied // to order
	// lingering are peers that were removed and keep their calls: see apply.go.
	lingering   []*peer
	lingerTimer *time.Timer
	candidates  []policy.Candidate // of one picker after the other

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
	tuned := b.policy == nil || b.cfg != cfg.Config
	if tuned {
		b.cfg, b.policy = cfg.Config, tuning.Policy(cfg.Config)
	}
	snap := b.snapshotLocked(s.ResolverState)
	b.useLocked(snap.hub)
	b.resolverErr = nil
	b.applyLocked(snap, dialled(snap, s.ResolverState), tuned)
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
	b.order, b.applied, b.lingering = nil, applied{}, nil
	if b.hub != nil {
		b.hub.leave(b)
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
