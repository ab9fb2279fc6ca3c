package sidecar

import (
	"fmt"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// Ready reports whether clients can be served: a pod of the first Set is
// connected, or it is known that there are none, or all were tried. Once true it
// stays so until Drain: a client must not be taken out of service because its
// servers are. The text is the reason for false, or what is wrong nevertheless, or
// "".
func (p *Proxy) Ready() (bool, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readyLocked()
}

func (p *Proxy) readyLocked() (bool, string) {
	switch {
	case p.draining:
		return false, "draining"
	case p.loop == nil:
		return false, "not started"
	case p.picker != nil:
		return p.ready, ""
	case p.refusal != nil:
		return p.ready, p.refusal.Message
	case p.firstBy != 0:
		return p.ready, p.emptyReason()
	case !p.known:
		return p.ready, fmt.Sprintf("%s: no answer yet", p.settings.Target)
	}
	return p.ready, fmt.Sprintf("connecting to the pods of %s", p.settings.Target)
}

// updateReady follows a change of the pods.
func (p *Proxy) updateReady() {
	if p.ready || !p.known {
		return
	}
	select {
	case <-p.knownSoon:
	default:
		close(p.knownSoon)
	}
	tried := !slices.ContainsFunc(p.pods, func(pd *pod) bool { return !pd.held && !pd.tried })
	p.ready = tried || p.picker != nil
}

// Stats returns what is known. It may be called often: calls wait for it for some
// microseconds for each pod.
func (p *Proxy) Stats() Stats {
	now := policy.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	o := &p.settings
	s := Stats{
		Name: o.Name, Target: o.Target, Policy: o.Policy.Policy, Listen: slices.Clone(o.Listen), Draining: p.draining,
		Known: p.known, Panic: p.panicked, Clients: len(p.clients), RejectedClients: p.rejected, Passthrough: p.passthrough,
	}
	s.Ready, s.Reason = p.readyLocked()
	if p.loop != nil {
		state := p.loop.State()
		s.Source, s.LastGood = state.Source(), state.LastGood()
		if err := state.LastErr(); err != nil {
			s.LastError = err.Error()
		}
	}
	if p.sourceErr != nil && s.LastError == "" {
		s.LastError = p.sourceErr.Error()
	}
	counters := p.engine.Counters()
	s.ClientStreams, s.Waiting = counters.Streams, counters.Waiting
	s.Calls, s.Refused, s.Retried = counters.Calls, counters.Refused, counters.Retried
	s.Passthrough.Open, s.Passthrough.Bytes = len(p.splices), p.spliced.Load()
	s.Passthrough.Kinds = make(map[string]uint64, len(p.passthrough.Kinds))
	for k, n := range p.passthrough.Kinds {
		s.Passthrough.Kinds[k] = n
	}
	p.looks.report(&s)
	s.Pods = p.podStats(now)
	return s
}

// podStats tells of every pod, of those that are gone last.
func (p *Proxy) podStats(now policy.Nanos) []Pod {
	out := make([]Pod, 0, len(p.pods)+len(p.removed))
	total := uint64(0)
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			out = append(out, pd.stats(now))
			total += out[len(out)-1].Recent
		}
	}
	for i := range out {
		if total > 0 {
			out[i].Share = float64(out[i].Recent) / float64(total)
		}
	}
	return out
}

func (pd *pod) stats(now policy.Nanos) Pod {
	r := &pd.record
	recent := r.recent.sum(now)
	s := Pod{
		Addr: pd.addr, Name: pd.ep.Name, Node: pd.ep.Node, Zone: pd.ep.Zone, Since: pd.since,
		Calls: r.calls, Succeeded: r.outcomes[policy.Success], Failed: r.outcomes[policy.Failed], Overloaded: r.outcomes[policy.Overloaded],
		TimedOut: r.outcomes[policy.TimedOut], Erred: r.outcomes[policy.Erred], Neutral: r.outcomes[policy.Neutral], Codes: r.byCode(),
		EWMA: pd.node.Stats().EWMA, P50: recent.quantile(0.5), P95: recent.quantile(0.95), P99: recent.quantile(0.99),
		Recent: uint64(recent.calls), RecentErrors: uint64(recent.errors), Latency: r.latency.histogram(),
		BytesIn: r.in, BytesOut: r.out, EjectedUntil: pd.ejectedUntil, Ejections: pd.ejections,
		Passthrough: len(pd.splices), PassthroughBytes: pd.spliced.Load(),
	}
	for _, c := range pd.links {
		s.InFlight += c.rl.Streams()
		if c.rl.State() == relay.Ready && !c.link.spare {
			s.Connections++
		}
	}
	s.State, s.StateReason = pd.state(now)
	return s
}

// state says in a word and a sentence what becomes of calls to the pod.
func (pd *pod) state(now policy.Nanos) (state, reason string) {
	silent := slices.ContainsFunc(pd.links, func(c *conn) bool { return c.link.silence.silent })
	switch {
	case pd.goneAt != 0:
		return StateGone, "it was removed, and has no call left"
	case pd.lingerUntil != 0:
		return StateDraining, "it was removed; it gets calls until one of the other pods is connected"
	case pd.gone:
		return StateDraining, "it was removed; calls on it end by themselves"
	case pd.held:
		return StateHeld, "the last answer lacks it: it gets calls only while no other pod can"
	case len(pd.usable) > 0:
		return pd.stateInUse(now)
	case silent:
		return StateSilent, "it does not acknowledge what is sent to it"
	case pd.failures > 0:
		return StateUnreachable, pd.whyAgain(now)
	case pd.goAway:
		return StateConnecting, "its server said GOAWAY; another connection is made"
	}
	return StateConnecting, ""
}

func (pd *pod) stateInUse(now policy.Nanos) (state, reason string) {
	slow := pd.p.settings.Policy.SlowStart
	switch {
	case pd.out:
		return StateEjected, pd.ejectReason
	case !pd.ejectedUntil.IsZero():
		return StateReady, "ejected, but so few pods are usable that it gets calls (" + pd.ejectReason + ")"
	case pd.up != 0 && !pd.full && now.Sub(pd.up) < slow:
		return StateWarming, fmt.Sprintf("slow start, full share in %v", (slow - now.Sub(pd.up)).Round(time.Second))
	}
	return StateReady, ""
}

// whyAgain is why no connection could be made, and when the next attempt begins.
func (pd *pod) whyAgain(now policy.Nanos) string {
	if pd.retryAt > now {
		return fmt.Sprintf("%s (next attempt in %v)", pd.why, pd.retryAt.Sub(now).Round(time.Second))
	}
	return pd.why
}
