package grpcresolver

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// choice is an endpoint that calls may go to: what a call needs of it, in one
// cache line.
type choice struct {
	m    *member
	node *policy.Node // m's
	// sc is its connection; with several of them, all are in more.
	sc   balancer.SubConn
	more []*conn
	// called means that a call on it succeeded.
	called atomic.Bool
}

// picker chooses for calls. It is made anew whenever an endpoint comes or goes;
// all that is learned is in the members' Nodes.
type picker struct {
	policy  policy.Picker
	choices []*choice
	stream  policy.Nanos // a call of this length tells nothing about latency
}

// Pick is part of balancer.Picker. It takes no lock and allocates nothing but a
// record for each call that is in flight at the same time.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	now := policy.Now()
	i := p.policy.Pick(now)
	if i < 0 {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	to := p.choices[i]
	c, ok := calls.Get().(*call)
	if !ok {
		c = newCall()
	}
	sc := to.sc
	if to.more != nil {
		c.on = leastBusy(to.more)
		sc = c.on.sc
	}
	c.to, c.start, c.least = to, now, 0
	if isStream(info.Ctx) {
		c.least = p.stream
	}
	c.live = true
	to.node.Begin(now)
	return balancer.PickResult{SubConn: sc, Done: c.finish}, nil
}

// leastBusy spreads an endpoint's calls over its connections: servers allow each
// so many streams at a time (often 100, RFC 9113 section 6.5.2). The call is
// counted in the same step in which it is placed: two calls that saw the same
// place free would otherwise both take it, and one wait for a stream while
// another connection has some.
func leastBusy(conns []*conn) *conn {
	for {
		best, least := conns[0], conns[0].inFlight.Load()
		for _, c := range conns[1:] {
			if n := c.inFlight.Load(); n < least {
				best, least = c, n
			}
		}
		if best.inFlight.CompareAndSwap(least, least+1) {
			return best
		}
	}
}

// call is the record of a call in flight. Records are used again.
type call struct {
	// finish is done, bound once.
	finish func(balancer.DoneInfo)
	to     *choice
	on     *conn // nil where an endpoint has one connection
	start  policy.Nanos
	least  policy.Nanos // the length that the call counts with at least
	live   bool         // between Pick and Done
}

var calls sync.Pool // of *call

func newCall() *call {
	c := &call{}
	c.finish = c.done
	return c
}

// done takes the end of the call. gRPC says it once for each pick, under a lock of
// the call; a policy above this one that says it again must not count it twice.
func (c *call) done(info balancer.DoneInfo) {
	if !c.live {
		return
	}
	c.live = false
	to, start, least := c.to, c.start, c.least
	if c.on != nil {
		c.on.inFlight.Add(-1)
	}
	c.to, c.on = nil, nil
	calls.Put(c)
	now := policy.Now()
	o := outcome(info)
	if o == policy.Success {
		now = max(now, start+least)
		if !to.called.Load() {
			to.succeeded()
		}
	}
	if to.node.End(start, now, o) {
		to.m.hub.trip()
	}
}

// succeeded notes the first call that succeeds. Each channel, and each picker
// after a reconnect, has a choice of its own.
func (c *choice) succeeded() {
	c.called.Store(true)
	if c.m.called.CompareAndSwap(false, true) {
		c.m.hub.firstCall(c.m)
	}
}

// waitPicker lets calls wait until a connection is there.
type waitPicker struct{}

func (waitPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// errPicker fails calls, but for those that wait for ready.
type errPicker struct{ why func() error }

func (p errPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, opaque(p.why())
}

// Making a picker takes time in the number of endpoints. While many connections
// come up at once, gRPC gets a new one at most after so many times what making it
// costs, and not later than maxWait.
const (
	publishShare = 20
	maxWait      = 20 * time.Millisecond
)

// publishSoonLocked tells gRPC what changed, at once when the last time is long
// enough ago.
func (b *balance) publishSoonLocked() {
	if b.publishTimer != nil {
		return
	}
	wait := min(publishShare*b.cost, maxWait) - time.Since(b.published)
	if wait <= 0 {
		b.publishLocked()
		return
	}
	b.publishTimer = time.AfterFunc(wait, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed && b.publishTimer != nil {
			b.publishLocked()
		}
	})
}

// publishLocked tells gRPC what the state is and how to choose.
func (b *balance) publishLocked() {
	if b.publishTimer != nil {
		b.publishTimer.Stop()
		b.publishTimer = nil
	}
	if b.closed {
		return
	}
	began := time.Now()
	state, p := b.pickLocked()
	b.published = time.Now()
	b.cost = b.published.Sub(began)
	if state == connectivity.Connecting && b.told == state && b.waiting {
		return // calls wait already
	}
	b.told, b.waiting = state, state == connectivity.Connecting
	b.cc.UpdateState(balancer.State{ConnectivityState: state, Picker: p})
	if b.hub != nil {
		b.hub.published()
	}
}

// pickLocked makes the picker of the best endpoints that there are.
func (b *balance) pickLocked() (connectivity.State, balancer.Picker) {
	var count [connectivity.Shutdown + 1]int
	believed, held, coming, fresh := 0, 0, 0, 0
	now := policy.Now()
	for _, p := range b.order {
		if p.held {
			switch p.state {
			case connectivity.Ready:
				held++
			case connectivity.Connecting:
				coming++
			}
			continue
		}
		believed++
		count[p.state]++
		// Those that just came count, whether or not they have their full share.
		if !p.back && (p.since == 0 || now.Sub(p.since) < b.cfg.SlowStart) {
			fresh++
		}
	}
	isHeld := func(p *peer) bool { return p.held }
	isBelieved := func(p *peer) bool { return !p.held }
	switch {
	case count[connectivity.Ready] > 0:
		// After a start or a full rollout there is nobody to take the share of those
		// that start slowly.
		if fresh*2 > believed {
			b.skipRampLocked(now)
		}
		return connectivity.Ready, b.healthyLocked(isBelieved, now)
	case held > 0:
		return connectivity.Ready, b.healthyLocked(isHeld, now)
	case len(b.lingering) > 0:
		if picker := b.pickerLocked(b.lingering, func(*peer) bool { return true }, now); len(picker.choices) > 0 {
			return connectivity.Ready, picker
		}
	}
	if count[connectivity.Connecting]+coming > 0 {
		return connectivity.Connecting, waitPicker{}
	}
	return connectivity.TransientFailure, errPicker{b.unreachableLocked(believed)}
}

// healthyLocked makes a picker of the READY peers that use takes, without those
// that are ejected unless that leaves nobody.
func (b *balance) healthyLocked(use func(*peer) bool, now policy.Nanos) *picker {
	if out := b.hub.ejected(); len(out) > 0 {
		healthy := func(p *peer) bool { _, is := out[p.m]; return !is && use(p) }
		if picker := b.pickerLocked(b.order, healthy, now); len(picker.choices) > 0 {
			return picker
		}
	}
	return b.pickerLocked(b.order, use, now)
}

// skipRampLocked gives their full share to those that are READY and new.
func (b *balance) skipRampLocked(now policy.Nanos) {
	for _, p := range b.order {
		if p.state == connectivity.Ready && !p.held && !p.back && (p.since == 0 || now.Sub(p.since) < b.cfg.SlowStart) {
			p.full = true
		}
	}
}

// pickerLocked makes a picker of the READY peers that use takes.
func (b *balance) pickerLocked(peers []*peer, use func(*peer) bool, now policy.Nanos) *picker {
	candidates := b.candidates[:0]
	choices := make([]*choice, 0, len(peers))
	for _, p := range peers {
		if p.state != connectivity.Ready || !use(p) {
			continue
		}
		c := policy.Candidate{Node: p.node, Weight: float64(p.weight)}
		if !p.full {
			c.Since = p.since
		}
		candidates = append(candidates, c)
		choices = append(choices, p.chosen)
	}
	made := &picker{
		policy: b.policy.NewPicker(candidates, now), choices: choices,
		stream: policy.Nanos(b.cfg.LongCall + time.Second),
	}
	clear(candidates) // Nodes of endpoints that go
	b.candidates = candidates
	return made
}

// choice is the peer's connections as the picker needs them.
func (p *peer) choice() *choice {
	c := &choice{m: p.m, node: p.node}
	c.called.Store(p.m.called.Load())
	for _, s := range p.slots {
		switch {
		case s.ready == nil:
			continue
		case len(p.slots) == 1:
			c.sc = s.ready.sc
		default:
			c.more = append(c.more, s.ready)
		}
	}
	return c
}
