package grpcresolver

import (
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// ejection is a hub's ejector and its clock. Guarded by hub.mu.
type ejection struct {
	ejector *policy.Ejector // nil when nothing is ever ejected
	timer   *time.Timer     // set while a channel uses the hub and something is left to watch
	// out are the ejected members, empty while ejections are set aside. It is
	// replaced, not written to.
	out      map[*member]struct{}
	until    map[*member]time.Time
	panicked bool
}

func (e *ejection) init(h *hub) {
	if c := h.nodes.Eject; c.Enabled() {
		e.ejector = policy.NewEjector(c)
		e.until = map[*member]time.Time{}
	}
}

// ejected are the members that get no calls for now.
func (h *hub) ejected() map[*member]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.eject.out
}

// trip has the endpoints evaluated soon. A call that ended badly says so on its
// own path, where there is no time for more.
func (h *hub) trip() {
	if h.nodes.Eject.Enabled() && h.tripped.CompareAndSwap(false, true) {
		time.AfterFunc(policy.Nanos(h.notBefore.Load()).Sub(policy.Now()), h.evaluate)
	}
}

// evaluate ejects and returns endpoints, and says so to balancers and people.
func (h *hub) evaluate() {
	h.tripped.Store(false)
	h.mu.Lock()
	if len(h.balancers) == 0 {
		// Nobody calls. What is ejected stays so until somebody does again.
		h.eject.stop()
		h.mu.Unlock()
		return
	}
	began := policy.Now()
	changed, returned, events := h.evaluateLocked(began)
	done := policy.Now()
	h.notBefore.Store(int64(done.Add(min(publishShare*done.Sub(began), maxWait))))
	balancers := make([]*balance, 0, len(h.balancers))
	for b := range h.balancers {
		balancers = append(balancers, b)
	}
	h.mu.Unlock()
	for _, e := range events {
		h.events.put(h.name, e)
	}
	if !changed {
		return
	}
	for _, b := range balancers {
		b.ejectionsChanged(returned)
	}
}

func (h *hub) evaluateLocked(now policy.Nanos) (changed bool, returned []*member, events []endpoint.Event) {
	nodes := make([]*policy.Node, 0, len(h.members))
	for _, m := range h.members {
		nodes = append(nodes, m.node)
	}
	changes, next := h.eject.ejector.Evaluate(now, nodes)
	at := make(map[*policy.Node]*member, len(changes))
	if len(changes) > 0 {
		for _, m := range h.members {
			at[m.node] = m
		}
	}
	for _, c := range changes {
		m := at[c.Node]
		if c.Ejected {
			h.eject.until[m] = time.Now().Add(c.For)
			events = append(events, endpoint.Ejected{Endpoint: m.ep, Reason: c.Reason, For: c.For})
		} else {
			returned = append(returned, m)
			events = append(events, endpoint.Returned{Endpoint: m.ep, Reason: c.Reason})
		}
	}
	on, usable, size := h.eject.ejector.Panic()
	if on != h.eject.panicked {
		h.eject.panicked = on
		events = append(events, endpoint.Panicked{On: on, Usable: usable, Size: size})
	}
	out := make(map[*member]struct{}, len(h.eject.until))
	for m := range h.eject.until {
		switch {
		case !h.eject.ejector.Ejected(m.node):
			delete(h.eject.until, m)
		case !on:
			out[m] = struct{}{}
		}
	}
	changed = len(changes) > 0 || len(out) != len(h.eject.out)
	h.eject.out = out
	h.eject.watch(h, next.Sub(now))
	return changed, returned, events
}

// watch calls evaluate again in time.
func (e *ejection) watch(h *hub, in time.Duration) {
	in = max(in, time.Millisecond)
	if e.timer == nil {
		e.timer = time.AfterFunc(in, h.evaluate)
		return
	}
	e.timer.Reset(in)
}

func (e *ejection) stop() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// ejectionsChanged makes a picker with, or without, those that were ejected. Who
// returns starts slowly: where its node is dead, a second passes before the first
// call says so, and with its full share that second's calls are lost.
func (b *balance) ejectionsChanged(returned []*member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	for _, p := range b.order {
		if p.since != 0 && slices.Contains(returned, p.m) {
			p.since, p.full, p.back = policy.Now(), false, true
		}
	}
	b.publishSoonLocked()
}
