package sidecar

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// evaluateSoon has the pods judged, as soon as that was not done just before.
func (p *Proxy) evaluateSoon(now policy.Nanos) {
	if p.ejector == nil {
		return
	}
	at := max(now, p.evaluateNotBefore)
	if p.evaluateAt == 0 || at < p.evaluateAt {
		p.evaluateAt = at
		p.alarm(at)
	}
}

// evaluate ejects and returns pods.
func (p *Proxy) evaluate(now policy.Nanos) {
	began := policy.Now()
	nodes := make([]*policy.Node, len(p.pods))
	for i, pd := range p.pods {
		nodes[i] = pd.node
	}
	changes, next := p.ejector.Evaluate(now, nodes)
	for _, c := range changes {
		for _, pd := range p.pods {
			if pd.node == c.Node {
				p.ejection(pd, c, now)
				break
			}
		}
	}
	on, usable, size := p.ejector.Panic()
	if on != p.panicked {
		p.panicked = on
		p.events.put(endpoint.Panicked{On: on, Usable: usable, Size: size})
	}
	p.ejectedCount = 0
	for _, pd := range p.pods {
		ejected := p.ejector.Ejected(pd.node)
		if ejected {
			p.ejectedCount++
		} else {
			pd.ejectedUntil = time.Time{}
		}
		if out := ejected && !on; out != pd.out {
			pd.out = out
			p.stale = true
		}
	}
	p.evaluateNotBefore = now.Add(min(rebuildShare*policy.Now().Sub(began), rebuildMax))
	p.evaluateAt = max(next, now.Add(time.Millisecond))
	p.alarm(p.evaluateAt)
}

// ejection follows one change. A pod that returns begins slowly: where it is dead,
// a second passes before the first call says so, and with its full share that
// second's calls are lost.
func (p *Proxy) ejection(pd *pod, c policy.EjectChange, now policy.Nanos) {
	p.stale = true
	if c.Ejected {
		pd.ejectedUntil = time.Now().Add(c.For)
		pd.ejectReason = c.Reason
		pd.ejections++
		p.events.put(endpoint.Ejected{Endpoint: pd.ep, Reason: c.Reason, For: c.For})
		return
	}
	if pd.up != 0 {
		pd.up, pd.full, pd.back = now, false, true
	}
	p.events.put(endpoint.Returned{Endpoint: pd.ep, Reason: c.Reason})
}
