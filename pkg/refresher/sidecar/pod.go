package sidecar

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// gRPC's connection back-off
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md), and its
// least time between a connection that ended and the one after the next.
const (
	backoffBase   = time.Second
	backoffFactor = 1.6
	backoffMax    = 120 * time.Second
	backoffJitter = 0.2
)

// pod is one member of the target, as long as the guard knows it and as long
// after that as it has calls. Guarded by Proxy.mu, but for node.
type pod struct {
	p    *Proxy
	id   uint64
	node *policy.Node
	// since is when it was seen first, changed when the cluster says that it came.
	since, changed time.Time
	ep             endpoint.Endpoint
	addr           string
	held, gone     bool

	// links are its connections, in the order in which they were made. extra is how
	// many more there should be than it has in any case: see extra.go.
	links []*conn
	extra extra
	// usable are those of links that calls may go to.
	usable []*conn
	// dialling means that a connection is being made, queued that it waits for its
	// turn; cancel ends it.
	dialling, queued bool
	cancel           context.CancelFunc
	// tried means that an attempt ended, of whatever end; failures counts those in
	// a row that failed, why is the last reason.
	tried    bool
	answered bool // the last attempt reached something that takes connections
	failures int
	why      string
	retryAt  policy.Nanos // 0: at once
	revived  policy.Nanos // when a connection that ended was last made again
	replaced int          // how often that was

	// up is when it became usable after it was new or unreachable, 0 before. full
	// means that it has its full share since then; back that up is when an ejection
	// ended: such a pod is not new.
	up         policy.Nanos
	full, back bool
	// ended means that the guard was told that no connection is left, goAway that
	// the pod's server said GOAWAY on the last one.
	ended, goAway bool

	lingerUntil policy.Nanos // while it was removed, but nothing replaces it yet
	drainBy     policy.Nanos // when calls on it are ended by force
	goneAt      policy.Nanos // when the last one ended
	splices     map[*splice]struct{}
	spliced     atomic.Uint64 // their bytes, of all times; not guarded

	ejectedUntil time.Time
	ejectReason  string
	ejections    uint64
	out          bool // ejected, and ejections are not set aside
	called       bool // a call succeeded
	record       record
}

// link is what only a pod's connection has.
type link struct {
	begun    policy.Nanos // the attempt
	readyAt  policy.Nanos // when SETTINGS came
	state    relay.State  // as seen last
	ours     bool         // we drain it
	spare    bool         // it gets no new calls, and ends when it has none
	silence  silence
	first    [16]byte // of what the pod sent
	firstLen int
}

// heard keeps the first bytes, for people: they say what a pod speaks that does
// not speak HTTP/2.
func (l *link) heard(b []byte) {
	if l.firstLen == 0 {
		l.firstLen = copy(l.first[:], b)
	}
}

// newPod makes the pod of one of n members.
func newPod(p *Proxy, m *reconcile.Member, n int) *pod {
	pd := &pod{
		p: p, id: m.ID, node: policy.NewNodeAmong(p.nodes, n), since: m.Since, changed: m.Changed,
	}
	pd.update(m)
	return pd
}

// update takes a member's newest form.
func (pd *pod) update(m *reconcile.Member) {
	pd.ep, pd.held = m.Endpoint, m.Standing == reconcile.Held
	pd.addr = m.Endpoint.Addr().String()
}

// mayDial reports whether a connection that ended is made again. A held pod's
// address may be a stranger's by now.
func (pd *pod) mayDial() bool { return !pd.held && !pd.gone && !pd.p.closed }

// active counts the connections that calls can go to, or soon can.
func (pd *pod) active() int {
	n := 0
	for _, c := range pd.links {
		if s := c.rl.State(); !c.closing && !c.link.spare && (s == relay.Opening || s == relay.Ready) {
			n++
		}
	}
	return n
}

// connect begins to make a connection when one is missing and it is time.
func (pd *pod) connect(now policy.Nanos) {
	p := pd.p
	if pd.dialling || pd.queued || pd.active() >= pd.want() {
		return
	}
	if pd.useSpare(now) || !pd.mayDial() {
		return
	}
	if pd.retryAt != 0 && now < pd.retryAt {
		p.alarm(pd.retryAt)
		return
	}
	if p.dialling >= maxDials {
		pd.queued = true
		p.dialQueue = append(p.dialQueue, pd)
		return
	}
	p.beginDial(pd, now)
}

// attach takes a connection that was made. It reports false when it is not wanted
// any more.
func (pd *pod) attach(c *conn, begun, now policy.Nanos) bool {
	p := pd.p
	if pd.gone || p.closed {
		return false
	}
	pd.answered = true
	c.rl = p.engine.Backend(now)
	c.rl.User = c
	c.link.begun = begun
	pd.links = append(pd.links, c)
	p.alarm(begun.Add(p.settings.Limits.ConnectTimeout))
	return true
}

// linkChanged follows a change that the engine saw on a pod's connection.
func (p *Proxy) linkChanged(c *conn, now policy.Nanos) {
	pd, was, is := c.pod, c.link.state, c.rl.State()
	c.link.state = is
	if was == is {
		return
	}
	switch is {
	case relay.Ready:
		pd.succeeded(c, now)
	case relay.Draining:
		pd.assess(now)
		if !c.link.ours {
			pd.goAway = true
			pd.again(now)
		}
	case relay.Closed:
		if was == relay.Ready && !c.link.ours && c.lostErr == nil && c.rl.Err() == nil {
			pd.goAway = true // it was idle, and so closed in good order
		}
		p.close(c)
		pd.links = slices.DeleteFunc(pd.links, func(o *conn) bool { return o == c })
		pd.linkEnded(c, was, now)
	}
}

// succeeded follows a pod's SETTINGS.
func (pd *pod) succeeded(c *conn, now policy.Nanos) {
	c.link.readyAt = now
	pd.tried, pd.failures, pd.retryAt, pd.why = true, 0, 0, ""
	pd.goAway = false
	if pd.ended {
		pd.ended = false
		pd.p.loop.Connected(pd.id)
	}
	pd.assess(now)
	pd.connect(now)
}

// linkEnded follows the end of a connection.
func (pd *pod) linkEnded(c *conn, was relay.State, now policy.Nanos) {
	pd.assess(now)
	switch {
	case c.link.readyAt == 0:
		pd.failed(pd.p.unlike(c), c.link.begun, now)
	case was != relay.Draining && !c.link.ours:
		pd.again(now)
		pd.p.ask()
	}
	pd.settle(now)
}

// failed follows an attempt that failed. It is made again after a pause.
func (pd *pod) failed(why string, begun, now policy.Nanos) {
	pd.tried, pd.why = true, why
	pause := float64(backoffBase)
	for range pd.failures {
		pause = min(pause*backoffFactor, float64(backoffMax))
	}
	pd.failures++
	pause *= 1 + backoffJitter*(2*rand.Float64()-1)
	pd.retryAt = max(begun.Add(time.Duration(pause)), now)
	pd.assess(now)
	pd.p.ask()
	pd.connect(now)
	pd.settle(now)
}

// again replaces a connection that ended, or will: at once the first time. A pod
// that takes connections and ends them would be dialled without a pause otherwise.
func (pd *pod) again(now policy.Nanos) {
	if at := pd.revived.Add(backoffBase); pd.revived != 0 && now < at {
		pd.retryAt = max(pd.retryAt, at)
	} else {
		pd.revived = now
	}
	pd.replaced++
	pd.connect(now)
}

// settle tells the guard when no connection is left, and forgets a pod that was
// removed.
func (pd *pod) settle(now policy.Nanos) {
	left := slices.ContainsFunc(pd.links, func(c *conn) bool { return c.rl.State() == relay.Ready && !c.closing })
	coming := pd.dialling || slices.ContainsFunc(pd.links, func(c *conn) bool { return c.rl.State() == relay.Opening })
	if !pd.gone && !left && !pd.ended && (pd.up != 0 || pd.goAway || pd.held) && (!pd.held || !coming) {
		pd.ended = true
		pd.p.loop.Ended(pd.id, pd.goAway)
	}
	if pd.gone && len(pd.links) == 0 && len(pd.splices) == 0 && pd.goneAt == 0 {
		pd.goneAt = now
		pd.p.alarm(now.Add(showGoneFor))
	}
}

// assess works out anew what calls may go to.
func (pd *pod) assess(now policy.Nanos) {
	had := len(pd.usable)
	pd.usable = pd.usable[:0]
	for _, c := range pd.links {
		if c.rl.State() == relay.Ready && !c.closing && !c.link.spare && !c.link.silence.silent {
			pd.usable = append(pd.usable, c)
		}
	}
	switch has := len(pd.usable) > 0; {
	case has && pd.up == 0:
		pd.up = now
	case !has && pd.failures > 0 && pd.active() == 0:
		pd.up, pd.full, pd.back = 0, false, false // it was away: it begins slowly again
	case has && len(pd.usable) <= had:
		return
	}
	pd.p.stale = true
}

// room returns the connection with the fewest calls that takes another one, nil
// when none does. avoid is taken last.
func (pd *pod) room(avoid *relay.Conn) *conn {
	var best *conn
	least := 0
	for _, c := range pd.usable {
		if c.rl == avoid || !c.rl.Room() {
			continue
		}
		if n := c.rl.Streams(); best == nil || n < least {
			best, least = c, n
		}
	}
	return best
}

// drain ends the pod's part: calls on it go on, no new ones begin.
func (pd *pod) drain(now policy.Nanos) {
	pd.lingerUntil = 0
	if pd.cancel != nil {
		pd.cancel()
	}
	for _, c := range slices.Clone(pd.links) {
		c.link.ours = true
		c.rl.Drain(now)
	}
	pd.settle(now)
}

// abort ends what is left on a pod that drains for too long.
func (pd *pod) abort(now policy.Nanos) {
	pd.drainBy = 0
	s := relay.Status{Code: codeUnavailable, Message: fmt.Sprintf(
		"grpclb-refresher: the pod %s was removed %s ago and the call has not ended since", pd.addr, pd.p.settings.Limits.DrainTimeout)}
	for _, c := range slices.Clone(pd.links) {
		c.rl.Abort(now, s)
	}
	for s := range pd.splices {
		s.stop()
	}
}
