package grpcresolver

import (
	"errors"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// channel is the resolver of one channel: it hands on what the hub publishes.
type channel struct {
	hub    *hub
	cc     resolver.ClientConn
	config *serviceconfig.ParseResult

	news chan struct{} // holds one token when there is something to hand on
	quit chan struct{}
	done chan struct{}

	// Of the goroutine: what was handed on last.
	snap *snapshot
	err  error
}

func newChannel(h *hub, cc resolver.ClientConn, config *serviceconfig.ParseResult) *channel {
	return &channel{
		hub: h, cc: cc, config: config,
		news: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// start begins to hand on. What is known already goes first.
func (c *channel) start() {
	c.wake()
	go c.run()
}

// wake says that there may be something new. It never blocks.
func (c *channel) wake() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// run exists because gRPC takes an update only when it has no other to do, and
// what publishes must not wait for that. Of several updates it hands on the
// last.
func (c *channel) run() {
	defer close(c.done)
	for {
		select {
		case <-c.quit:
			return
		case <-c.news:
			c.push()
		}
	}
}

func (c *channel) push() {
	snap, err := c.hub.current()
	switch {
	case snap == nil && err == nil:
		return
	case snap == nil:
		if c.err != err { //nolint:errorlint // the same value again is not news
			c.err = err
			c.cc.ReportError(opaque(err))
		}
		return
	case snap == c.snap:
		return
	}
	c.snap = snap
	// The error says that the policy cannot use the endpoints; it has told the
	// calls why, and asking again would not change the answer.
	_ = c.cc.UpdateState(resolver.State{
		Endpoints:     snap.endpoints,
		Addresses:     snap.addresses(),
		ServiceConfig: c.config,
		Attributes:    attributes.New(snapshotKey{}, snap),
	})
	if len(snap.views) == 0 {
		// Stock policies say "produced zero addresses". Those that tell the
		// resolver's error say why.
		c.cc.ReportError(opaque(c.hub.emptyError()))
	}
}

// opaque is an error of the same words. gRPC looks for a status in what a picker
// or a resolver returns, and ends calls with it that should wait for ready; a
// source that speaks gRPC itself wraps one.
func opaque(err error) error { return errors.New(err.Error()) }

// ResolveNow is part of resolver.Resolver. gRPC calls it when a connection ended
// or could not be made.
func (c *channel) ResolveNow(resolver.ResolveNowOptions) { c.hub.ask(endpoint.Question{}) }

// Close is part of resolver.Resolver.
func (c *channel) Close() {
	close(c.quit)
	<-c.done
	c.hub.detach(c)
}

// snapshotKey is the key of a *snapshot in resolver.State.Attributes.
type snapshotKey struct{}

// snapshot is a target's members at a moment. Nobody changes it.
type snapshot struct {
	hub *hub
	// refs are the guard's members, nil for those of another resolver; views are
	// ours and endpoints what gRPC gets, views[i] and endpoints[i] for refs[i]. All
	// are sorted by ID.
	refs      []*reconcile.Member
	views     []view
	endpoints []resolver.Endpoint
}

// addresses are those of all endpoints in one list, for policies that have not
// learned of endpoints (gRFC A61; those made of grpc-go's balancer/base). Ours
// have, and a list of thousands for each of them that comes or goes would be
// made for nothing.
func (s *snapshot) addresses() []resolver.Address {
	if s.hub.ours {
		return nil
	}
	out := make([]resolver.Address, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		out = append(out, e.Addresses...)
	}
	return out
}

// view is one member in a snapshot.
type view struct {
	m      *member
	held   bool
	weight uint32
}

// String keeps channelz and logs, which print attributes, short.
func (s *snapshot) String() string { return s.hub.name }
