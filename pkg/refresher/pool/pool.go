package pool

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Pool is a grpc.ClientConnInterface. Its methods may be called from any
// goroutine.
type Pool struct {
	conn      *grpc.ClientConn
	refresher *refresher.Refresher
	drain     time.Duration
	forced    atomic.Uint64

	mu     sync.RWMutex
	closed bool
	peers  map[netip.AddrPort]*peer
	gone   map[netip.AddrPort]*removal // endpoints that were removed
}

// removal is an endpoint's address after its removal.
type removal struct {
	timer *time.Timer
	// idle means that there was no call when the timer ran out last. An endpoint
	// that was removed may still get calls, while none that replaces it is
	// connected; so one look that finds nothing is not the end.
	idle bool
}

var _ grpc.ClientConnInterface = (*Pool)(nil)

// New returns a Pool for a target. Like grpc.NewClient it does no I/O before the
// first call or [Pool.Ready]. The error says which option is wrong.
func New(target string, opts ...Option) (*Pool, error) {
	o := options{drain: DefaultDrainTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	if o.drain < 0 {
		return nil, fmt.Errorf("pool: the drain timeout is %v: 0 means none", o.drain)
	}
	p := &Pool{drain: o.drain, peers: map[netip.AddrPort]*peer{}, gone: map[netip.AddrPort]*removal{}}
	own := append([]refresher.Option{refresher.WithConnectionsPerEndpoint(DefaultConnectionsPerEndpoint)}, o.refresher...)
	if o.connections != nil {
		own = append(own, o.connections)
	}
	var err error
	if p.refresher, err = refresher.New(append(own, refresher.WithEvents(p.event))...); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	dial := append(refresher.ExtraDialOptions(), p.refresher.DialOption())
	if p.drain > 0 {
		dial = append(dial, grpc.WithStatsHandler(watcher{p}))
	}
	if p.conn, err = grpc.NewClient(target, append(dial, o.dial...)...); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	return p, nil
}

// Invoke is part of grpc.ClientConnInterface.
func (p *Pool) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if p.drain == 0 {
		return p.conn.Invoke(ctx, method, args, reply, opts...)
	}
	ctx, c := begin(ctx)
	defer c.cancel()
	return c.result(p.conn.Invoke(ctx, method, args, reply, opts...))
}

// NewStream is part of grpc.ClientConnInterface.
func (p *Pool) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if p.drain == 0 {
		return p.conn.NewStream(ctx, desc, method, opts...)
	}
	ctx, c := begin(ctx)
	s, err := p.conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		c.cancel()
		return nil, c.result(err)
	}
	return &stream{ClientStream: s, call: c, one: !desc.ServerStreams}, nil
}

// Ready connects the pool, and returns nil once n endpoints are connected, or an
// error that says how many are when ctx ends.
func (p *Pool) Ready(ctx context.Context, n int) error {
	p.conn.Connect()
	return p.refresher.WaitTarget(ctx, p.conn.CanonicalTarget(), n)
}

// Conn is the channel of the pool, for its state and channelz. Calls on it are
// not ended when their endpoint is removed.
func (p *Pool) Conn() *grpc.ClientConn { return p.conn }

// Refresher is the pool's, for Refresh and Stats.
func (p *Pool) Refresher() *refresher.Refresher { return p.refresher }

// Close closes all connections; calls on them fail with Canceled, as on a
// channel. A second Close returns grpc.ErrClientConnClosing.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, r := range p.gone {
		r.timer.Stop()
	}
	clear(p.gone)
	p.mu.Unlock()
	return p.conn.Close()
}

// Stats is a pool at a moment.
type Stats struct {
	refresher.Stats
	// InFlight are the calls whose endpoint is known, Draining those of them on
	// endpoints that were removed. Both are 0 without a drain timeout.
	InFlight, Draining int
	// Forced is how many calls the drain timeout ended.
	Forced uint64
}

// Stats returns what the pool knows. It takes time linear in its endpoints.
func (p *Pool) Stats() Stats {
	s := Stats{Stats: p.refresher.Stats(), Forced: p.forced.Load()}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for addr, peer := range p.peers {
		n := peer.len()
		s.InFlight += n
		if _, removed := p.gone[addr]; removed {
			s.Draining += n
		}
	}
	return s
}

// settle puts a call on the endpoint that its attempt goes to.
func (p *Pool) settle(c *call, addr netip.AddrPort) {
	p.mu.RLock()
	at, ok := p.peers[addr]
	p.mu.RUnlock()
	if !ok {
		p.mu.Lock()
		if at, ok = p.peers[addr]; !ok {
			at = &peer{calls: map[*call]struct{}{}}
			p.peers[addr] = at
		}
		p.mu.Unlock()
	}
	c.leave()
	c.on.Store(at)
	if err := at.add(c); err != nil {
		p.forced.Add(1)
		c.end(err)
	}
}

// event begins and cancels the drain timeout of endpoints.
func (p *Pool) event(e refresher.Event) {
	change, ok := e.What.(endpoint.SetChanged)
	if !ok || p.drain == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, gone := range change.Diff.Removed {
		for _, addr := range gone.Addrs {
			if p.gone[addr] == nil {
				p.gone[addr] = &removal{timer: time.AfterFunc(p.drain, func() { p.expire(addr) })}
			}
		}
	}
	for _, there := range [][]endpoint.Endpoint{change.Diff.Added, change.Diff.Changed} {
		for _, e := range there {
			for _, addr := range e.Addrs {
				p.keepLocked(addr)
			}
		}
	}
}

// keepLocked cancels the end of an endpoint that is there after all.
func (p *Pool) keepLocked(addr netip.AddrPort) {
	if r := p.gone[addr]; r != nil {
		r.timer.Stop()
		delete(p.gone, addr)
	}
}

// expire ends the calls on an endpoint that was removed a drain timeout ago, and
// looks again after another one.
func (p *Pool) expire(addr netip.AddrPort) {
	held := p.member(addr) // the guard does not believe yet that it is gone
	p.mu.Lock()
	r, at := p.gone[addr], p.peers[addr]
	if r == nil { // it came back, or the pool was closed
		p.mu.Unlock()
		return
	}
	over := !held && at != nil && at.len() > 0
	if !held && !over && r.idle {
		delete(p.gone, addr)
		delete(p.peers, addr)
		p.mu.Unlock()
		return
	}
	r.idle = !held && !over
	if over {
		delete(p.peers, addr)
	}
	r.timer.Reset(p.drain)
	p.mu.Unlock()
	if !over {
		return
	}
	p.forced.Add(at.close(status.Errorf(codes.Unavailable,
		"pool: %s was removed from the endpoints and the drain timeout of %v is over: the call on it was ended", addr, p.drain)))
}

// member reports whether the guard still has an endpoint at addr.
func (p *Pool) member(addr netip.AddrPort) bool {
	return p.refresher.Has(p.conn.CanonicalTarget(), addr)
}
