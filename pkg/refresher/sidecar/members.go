package sidecar

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

const (
	// lingerMax bounds how long a removed pod may keep getting calls while none that
	// replaces it is connected: longer than a connection takes, short enough that it
	// is not hidden for long that nothing replaces it.
	lingerMax = 10 * time.Second
	// showGoneFor is how long a removed pod is shown after its last call.
	showGoneFor = time.Minute
	// maxGone bounds how many of them are kept.
	maxGone = 200
	// firstGrace is how long a first answer without endpoints is not believed: a
	// client and the headless Service that is made for it come together, and DNS
	// knows the name seconds later. askAgain is the time between two looks meanwhile.
	firstGrace = 10 * time.Second
	askAgain   = time.Second
)

// publish takes a new state of the guard, on its loop's goroutine.
func (p *Proxy) publish(s reconcile.State) {
	now := policy.Now()
	p.mu.Lock()
	if p.closed || !s.Known() {
		p.mu.Unlock()
		return
	}
	if members := s.Refs(); p.known || len(members) > 0 || s.Authoritative() {
		p.know()
		p.apply(members, now)
	} else {
		p.awaitFirst(s.Reason(), now)
	}
	if p.ejector != nil && p.ejectedCount > 0 {
		p.evaluateSoon(now) // how many may be ejected depends on how many there are
	}
	p.release(now)
}

// know notes that the endpoints are known, be they none.
func (p *Proxy) know() {
	p.known, p.sourceErr, p.firstBy, p.askAt = true, nil, 0, 0
	p.stale = true
}

// awaitFirst follows a first answer without endpoints: calls wait, and the
// application does not start yet, until there are some or firstGrace is over.
func (p *Proxy) awaitFirst(why string, now policy.Nanos) {
	if p.firstBy != 0 {
		return
	}
	p.firstBy, p.askAt = now.Add(firstGrace), now.Add(askAgain)
	p.alarm(p.askAt)
	p.events.put(endpoint.Warning{Text: fmt.Sprintf("%s has no endpoints yet (%s): calls wait up to %v for the first", p.settings.Target, why, firstGrace)})
}

// lookForFirst is what time does meanwhile.
func (p *Proxy) lookForFirst(now policy.Nanos) {
	switch {
	case p.firstBy == 0:
	case p.firstBy <= now:
		p.know()
	case p.askAt <= now:
		p.askAt = now.Add(askAgain)
		p.ask()
	}
}

// apply makes the pods equal to the guard's members: new ones are connected,
// removed ones keep their calls, others are not touched. Both lists are sorted by
// ID.
func (p *Proxy) apply(members []*reconcile.Member, now policy.Nanos) {
	old := p.pods
	p.pods = make([]*pod, 0, len(members))
	var fresh, gone []*pod
	for _, m := range members {
		for len(old) > 0 && old[0].id < m.ID {
			gone = append(gone, old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].id == m.ID {
			pd := old[0]
			old = old[1:]
			was := pd.held
			pd.update(m)
			p.pods = append(p.pods, pd)
			if was != pd.held {
				// Whoever is held from now on and has no connection is told of again,
				// whoever is believed again is dialled at once.
				pd.ended, pd.retryAt = false, 0
			}
			continue
		}
		pd := newPod(p, m, len(members))
		p.pods = append(p.pods, pd)
		fresh = append(fresh, pd)
	}
	gone = append(gone, old...)
	// Many clients that start together should not all begin with the same pod.
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	p.remove(gone, fresh, now)
	for _, pd := range fresh {
		pd.connect(now)
	}
	for _, pd := range p.pods {
		pd.connect(now)
		pd.settle(now)
	}
}

// remove takes pods out of use. When none that is left is ready yet, those that
// still are keep getting calls until one is: make before break. One that
// terminates is on its way out, and one whose address a new pod has was replaced at
// that very address.
func (p *Proxy) remove(gone, fresh []*pod, now policy.Nanos) {
	if len(gone) == 0 {
		return
	}
	ready := slices.ContainsFunc(p.pods, func(pd *pod) bool { return !pd.held && len(pd.usable) > 0 })
	may := len(p.pods) > 0 && !ready
	taken := map[netip.AddrPort]bool{}
	for _, pd := range fresh {
		for _, a := range pd.ep.Addrs {
			taken[a] = true
		}
	}
	for _, pd := range gone {
		pd.gone = true
		pd.drainBy = now.Add(p.settings.Limits.DrainTimeout)
		p.alarm(pd.drainBy)
		p.removed = append(p.removed, pd)
		replaced := slices.ContainsFunc(pd.ep.Addrs, func(a netip.AddrPort) bool { return taken[a] })
		if !may || len(pd.usable) == 0 || pd.ep.Terminating || replaced {
			pd.drain(now)
			continue
		}
		pd.lingerUntil = now.Add(lingerMax)
		p.alarm(pd.lingerUntil)
	}
	if len(p.pods) == 0 {
		p.endLingering(now)
	}
}

// endLingering takes the pods out of use that lingered until another one was
// ready.
func (p *Proxy) endLingering(now policy.Nanos) {
	for _, pd := range p.removed {
		if pd.lingerUntil != 0 {
			pd.drain(now)
		}
	}
}

// sweep is what time does to removed pods. It returns when to look again.
func (p *Proxy) sweep(now policy.Nanos) {
	for _, pd := range p.removed {
		if pd.lingerUntil != 0 && pd.lingerUntil <= now {
			pd.drain(now)
			p.stale = true
		}
		if pd.drainBy != 0 && pd.drainBy <= now {
			pd.abort(now)
		}
	}
	left := len(p.removed)
	p.removed = slices.DeleteFunc(p.removed, func(pd *pod) bool {
		old := pd.goneAt != 0 && (pd.goneAt.Add(showGoneFor) <= now || left > maxGone)
		if old {
			left--
		}
		return old
	})
}

// ask has the source look again, as gRPC's ResolveNow: a connection that ended may
// mean that the pods are others. The source bounds how often it really looks.
func (p *Proxy) ask() {
	if p.loop != nil {
		p.loop.Ask(endpoint.Question{})
	}
}

// observe takes what the guard and the source say, on the loop's goroutine.
func (p *Proxy) observe(e endpoint.Event) {
	now := policy.Now()
	p.mu.Lock()
	p.looks.take(e)
	if failed, ok := e.(endpoint.RefreshFailed); ok {
		p.sourceFailed(failed.Err)
	}
	p.release(now)
	p.events.put(e)
}

// sourceFailed notes why nothing is known; what is known stays as it is.
func (p *Proxy) sourceFailed(err error) {
	if !p.known {
		p.sourceErr = err
		p.stale = true
	}
}

// emptyReason says why there is no pod, and what to do.
func (p *Proxy) emptyReason() string {
	text := fmt.Sprintf("%s has no endpoints", p.settings.Target)
	if p.loop == nil {
		return text
	}
	s := p.loop.State()
	if r := s.Reason(); r != "" {
		text += ": " + r
	}
	if err := s.LastErr(); err != nil {
		text += fmt.Sprintf(" (since then: %v)", err)
	}
	return text + "; look whether the Service exists, is headless, and has ready pods"
}
