package sidecar

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// codeUnavailable is gRPC's UNAVAILABLE.
const codeUnavailable = 14

// host is the Proxy as the engine sees it. The engine calls it under Proxy.mu.
type host struct{ p *Proxy }

// rebuildShare and rebuildMax bound what making pickers costs: with thousands of
// pods that come up at once there is a new one at most after so many times what
// one costs, and no later than that. An old one is of use meanwhile: a pod that has
// no usable connection is passed over.
const (
	rebuildShare = 20
	rebuildMax   = 20 * time.Millisecond
)

// Pick is part of relay.Host.
func (h host) Pick(now policy.Nanos, avoid *relay.Conn) (*relay.Conn, *relay.Status) {
	p := h.p
	if p.picker == nil {
		return nil, p.refusal
	}
	// A pod that is drawn may have no stream left; two further draws cost less than
	// a look at all.
	for range 3 {
		i := p.picker.Pick(now)
		if i < 0 {
			return nil, p.refusal
		}
		if c := p.choices[i].take(now, avoid); c != nil {
			return c, nil
		}
	}
	first := rand.IntN(len(p.choices))
	for i := range p.choices {
		if c := p.choices[(first+i)%len(p.choices)].take(now, avoid); c != nil {
			return c, nil
		}
	}
	if avoid != nil {
		// The only one that there is turned the call down. It may have room again.
		return h.Pick(now, nil)
	}
	for _, pd := range p.choices {
		pd.grow(now)
	}
	return nil, nil
}

// take gives the pod a call, when it has room.
func (pd *pod) take(now policy.Nanos, avoid *relay.Conn) *relay.Conn {
	c := pd.room(avoid)
	if c == nil {
		if avoid == nil {
			pd.grow(now)
		}
		return nil
	}
	pd.began()
	pd.node.Begin(now)
	if p := pd.p; p.pollAt == 0 {
		p.pollAt = now.Add(p.pollEvery())
		p.alarm(p.pollAt)
	}
	return c.rl
}

// Done is part of relay.Host.
func (h host) Done(call relay.Call) {
	c, ok := call.Backend.User.(*conn)
	if !ok || c.pod == nil {
		return
	}
	pd, p := c.pod, h.p
	pd.record.add(&call)
	if call.Outcome == policy.Success && !pd.called {
		pd.called = true
		p.firstCall(pd)
	}
	// What a stream lasts is its own affair. Until the first byte the pod is what
	// takes time; a call that is too long to say anything is handed on as such.
	end := call.End
	if call.FirstByte != 0 && end.Sub(call.Start) <= p.settings.Policy.LongCall {
		end = call.FirstByte
	}
	if pd.node.End(call.Start, end, call.Outcome) {
		p.evaluateSoon(call.End)
	}
}

// Changed is part of relay.Host.
func (h host) Changed(rc *relay.Conn) {
	if c, ok := rc.User.(*conn); ok {
		h.p.noteChange(c)
	}
}

// firstCall says that calls on a new pod succeed.
func (p *Proxy) firstCall(pd *pod) {
	e := endpoint.FirstCall{Endpoint: pd.ep, SinceSeen: time.Since(pd.since)}
	if !pd.changed.IsZero() {
		e.SinceChange = max(time.Since(pd.changed), 0)
	}
	p.looks.propagation.add(e.SinceSeen)
	p.events.put(e)
}

// settle acts on what changed in the engine, and on what follows from that. mu is
// held.
func (p *Proxy) settle(now policy.Nanos) {
	for {
		switch {
		case len(p.changes) > 0:
			n := len(p.changes) - 1
			c := p.changes[n]
			p.changes[n] = nil
			p.changes = p.changes[:n]
			c.changed = false
			if c.pod != nil {
				p.linkChanged(c, now)
			} else if c.rl.State() == relay.Closed {
				p.close(c)
			}
		case len(p.growing) > 0:
			n := len(p.growing) - 1
			pd := p.growing[n]
			p.growing = p.growing[:n]
			pd.connect(now)
		case p.stale && (p.rebuildAt == 0 || p.rebuildAt <= now || p.picker == nil):
			p.rebuild(now)
			p.engine.Retry(now)
		default:
			if p.stale {
				p.alarm(p.rebuildAt)
			}
			p.alarm(p.engine.NextTick())
			return
		}
	}
}

// rebuild makes the picker of the best pods that there are.
func (p *Proxy) rebuild(now policy.Nanos) {
	p.stale = false
	began := policy.Now()
	p.arrange(now)
	p.updateReady()
	if cost := policy.Now().Sub(began); cost > 50*time.Microsecond {
		p.rebuildAt = now.Add(min(rebuildShare*cost, rebuildMax))
	} else {
		p.rebuildAt = 0
	}
}

func (p *Proxy) arrange(now policy.Nanos) {
	p.picker, p.choices, p.refusal = nil, nil, nil
	ready, held, coming, believed := 0, 0, 0, 0
	for _, pd := range p.pods {
		switch has := len(pd.usable) > 0; {
		case pd.held && has:
			held++
		case !pd.held && has:
			ready++
		case pd.coming():
			coming++
		}
		if !pd.held {
			believed++
		}
	}
	switch {
	case ready > 0:
		p.endLingering(now)
		p.ramp(believed, now)
		p.choose(p.pods, func(pd *pod) bool { return !pd.held }, now)
		return
	case held > 0:
		p.choose(p.pods, func(pd *pod) bool { return pd.held }, now)
		return
	}
	p.choose(p.removed, func(pd *pod) bool { return pd.lingerUntil != 0 }, now)
	if p.picker == nil && coming == 0 {
		p.refusal = p.refuse(believed)
	}
}

// coming reports whether calls should wait for the pod: it is being connected for
// the first time or anew, or did not acknowledge for a moment.
func (pd *pod) coming() bool {
	for _, c := range pd.links {
		if !c.closing && (c.rl.State() == relay.Ready || c.rl.State() == relay.Opening && pd.failures == 0) {
			return true
		}
	}
	return pd.mayDial() && pd.failures == 0
}

// choose makes a picker of the pods that use takes, without those that are ejected
// unless that leaves nobody.
func (p *Proxy) choose(from []*pod, use func(*pod) bool, now policy.Nanos) {
	var candidates []policy.Candidate
	for _, healthy := range []bool{true, false} {
		for _, pd := range from {
			if len(pd.usable) == 0 || !use(pd) || healthy && pd.out {
				continue
			}
			c := policy.Candidate{Node: pd.node, Weight: float64(max(pd.ep.Weight, 1))}
			if !pd.full {
				c.Since = pd.up
			}
			candidates = append(candidates, c)
			p.choices = append(p.choices, pd)
		}
		if len(candidates) > 0 {
			p.picker = p.policy.NewPicker(candidates, now)
			return
		}
	}
}

// ramp skips the slow start while most of the pods are new: after a start or a full
// rollout there is nobody to take their share meanwhile.
func (p *Proxy) ramp(believed int, now policy.Nanos) {
	slow := p.settings.Policy.SlowStart
	fresh := 0
	for _, pd := range p.pods {
		if !pd.held && !pd.back && (pd.up == 0 || now.Sub(pd.up) < slow) {
			fresh++
		}
	}
	if fresh*2 <= believed {
		return
	}
	for _, pd := range p.pods {
		if !pd.held && !pd.back && len(pd.usable) > 0 {
			pd.full = true
		}
	}
}

// refuse says why no call can be served.
func (p *Proxy) refuse(believed int) *relay.Status {
	text := ""
	switch {
	case !p.known && p.sourceErr == nil:
		return nil // calls wait for the first answer
	case !p.known:
		text = fmt.Sprintf("the endpoints of %s are not known: %v", p.settings.Target, p.sourceErr)
	case len(p.pods) == 0:
		text = p.emptyReason()
	default:
		text = p.unreachableReason(believed)
	}
	return &relay.Status{Code: codeUnavailable, Message: "grpclb-refresher: " + text}
}

// unreachableReason says why none of the pods is connected.
func (p *Proxy) unreachableReason(believed int) string {
	if believed == 0 {
		return fmt.Sprintf("the last answer for %s has no endpoints, and none of the %d before it is connected any more", p.settings.Target, len(p.pods))
	}
	i := slices.IndexFunc(p.pods, func(pd *pod) bool { return !pd.held && pd.why != "" })
	if i < 0 {
		return fmt.Sprintf("no connection to any of the %d pods of %s", believed, p.settings.Target)
	}
	return fmt.Sprintf("no connection to any of the %d pods of %s; %s: %s", believed, p.settings.Target, p.pods[i].addr, p.pods[i].why)
}
