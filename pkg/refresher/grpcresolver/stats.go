package grpcresolver

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// TargetStats is what is known of one target at a moment.
type TargetStats struct {
	// Target is as the channel was dialled, with its scheme.
	Target string
	// Channels is how many channels use it now; an idle channel does not.
	Channels int
	// Source names where the endpoints come from, "" before the first answer.
	Source string
	// Known is false before the first answer. LastGood is when the source answered
	// last, LastErr its error since then or nil.
	Known    bool
	LastGood time.Time
	LastErr  error
	// Endpoints are the members in the order in which they were seen.
	Endpoints []EndpointStats
	// Panic means that so many endpoints are ejected that ejections are set aside.
	Panic bool
	// Refreshes counts the source's looks by outcome, a word of the source's; what
	// failed without one is "error". Verdicts counts the guard's decisions.
	Refreshes map[string]uint64
	Verdicts  map[endpoint.Verdict]uint64
	// Changes is how often the endpoints changed.
	Changes uint64
	// RefreshTime is how long looks took, FirstCall the time from the moment that
	// an endpoint was seen to its first successful call, FirstCallSinceChange the
	// same from when the cluster says that it came.
	RefreshTime, FirstCall, FirstCallSinceChange Histogram
	// DroppedEvents is how many events of all of the Builder's targets found the
	// queue to the consumer full.
	DroppedEvents uint64
}

// EndpointStats is what is known of one endpoint at a moment.
type EndpointStats struct {
	endpoint.Endpoint
	// Held means that the guard keeps it although the source's answer lacks it.
	Held bool
	// Since is when it was seen first.
	Since time.Time
	// State is the best of its connections over all channels, Idle when no
	// balancer of ours is in use. Connections is how many are READY.
	State       connectivity.State
	Connections int
	// EjectedUntil is when its ejection ends, the zero time when it is not ejected.
	EjectedUntil time.Time
	// Calls are its calls, retries counted one by one.
	Calls policy.NodeStats
}

// Histogram counts durations. The zero value is empty.
type Histogram struct {
	// Counts[i] are those of at most Bounds()[i] and more than the bound before;
	// the last count has no bound.
	Counts [len(bounds) + 1]uint64
	// Sum is their sum, Count their number.
	Sum   time.Duration
	Count uint64
}

var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Bounds are the upper bounds of a [Histogram], ascending.
func Bounds() []time.Duration { return slices.Clone(bounds[:]) }

func (h *Histogram) add(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
	h.Count++
}

// counts are a hub's. Guarded by hub.mu.
type counts struct {
	refreshes          map[string]uint64
	verdicts           map[endpoint.Verdict]uint64
	changes            uint64
	took, first, since Histogram
}

func (c *counts) init() {
	c.refreshes, c.verdicts = map[string]uint64{}, map[endpoint.Verdict]uint64{}
}

// Stats tells what is known of every target, by name.
func (b *Builder) Stats() []TargetStats {
	hubs := b.all()
	out := make([]TargetStats, len(hubs))
	for i, h := range hubs {
		out[i] = h.stats()
		out[i].DroppedEvents = b.events.drops()
	}
	return out
}

// Has reports whether the target has an endpoint at addr, whether or not it is
// held. A target is written as the channel's.
func (b *Builder) Has(target string, addr netip.AddrPort) bool {
	b.mu.Lock()
	h := b.hubs[target]
	b.mu.Unlock()
	if h == nil {
		return false
	}
	h.mu.Lock()
	snap := h.snap
	h.mu.Unlock()
	if snap == nil {
		return false
	}
	for _, m := range snap.refs {
		if slices.Contains(m.Endpoint.Addrs, addr) {
			return true
		}
	}
	return false
}

func (h *hub) stats() TargetStats {
	h.mu.Lock()
	balancers := make([]*balance, 0, len(h.balancers))
	for b := range h.balancers {
		balancers = append(balancers, b)
	}
	h.mu.Unlock()
	states := map[uint64]connectivity.State{}
	for _, b := range balancers {
		b.states(states)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stateLocked()
	t := TargetStats{
		Target: h.name, Channels: len(h.channels), Source: s.Source(), Known: s.Known(), LastGood: s.LastGood(), LastErr: s.LastErr(),
		Panic: h.eject.panicked, Changes: h.counts.changes,
		Refreshes: make(map[string]uint64, len(h.counts.refreshes)), Verdicts: make(map[endpoint.Verdict]uint64, len(h.counts.verdicts)),
		RefreshTime: h.counts.took, FirstCall: h.counts.first, FirstCallSinceChange: h.counts.since,
	}
	for k, n := range h.counts.refreshes {
		t.Refreshes[k] = n
	}
	for k, n := range h.counts.verdicts {
		t.Verdicts[k] = n
	}
	if h.snap == nil {
		return t
	}
	t.Endpoints = make([]EndpointStats, 0, len(h.snap.views))
	for _, v := range h.snap.views {
		m := v.m
		t.Endpoints = append(t.Endpoints, EndpointStats{
			Endpoint: m.ep, Held: m.held, Since: m.since, State: states[m.id], Connections: m.ready,
			EjectedUntil: h.eject.until[m], Calls: m.node.Stats(),
		})
	}
	return t
}

// states adds the channel's states to the best of others.
func (b *balance) states(into map[uint64]connectivity.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.publishTimer != nil {
		b.publishLocked() // so that calls use what is told here
	}
	for _, p := range b.order {
		if old, ok := into[p.m.id]; !ok || rank(p.state) > rank(old) {
			into[p.m.id] = p.state
		}
	}
}

func rank(s connectivity.State) int {
	return slices.Index([]connectivity.State{connectivity.TransientFailure, connectivity.Connecting, connectivity.Ready}, s)
}

// observe takes what the loop and the source say. It runs on the loop's
// goroutine.
func (h *hub) observe(e endpoint.Event) {
	h.mu.Lock()
	switch e := e.(type) {
	case endpoint.Refreshed:
		h.counts.refreshes[e.Outcome]++
		if e.Took > 0 {
			h.counts.took.add(e.Took)
		}
	case endpoint.GuardDecision:
		h.counts.verdicts[e.Verdict]++
	case endpoint.SetChanged:
		h.counts.changes++
	}
	h.mu.Unlock()
	if failed, ok := e.(endpoint.RefreshFailed); ok {
		h.fail(failed.Err)
	}
	h.events.put(h.name, e)
}

// firstCall says that calls on a new endpoint succeed.
func (h *hub) firstCall(m *member) {
	e := endpoint.FirstCall{SinceSeen: time.Since(m.since)}
	if !m.changed.IsZero() {
		e.SinceChange = max(time.Since(m.changed), 0)
	}
	h.mu.Lock()
	e.Endpoint = m.ep
	h.counts.first.add(e.SinceSeen)
	if e.SinceChange > 0 {
		h.counts.since.add(e.SinceChange)
	}
	h.mu.Unlock()
	h.events.put(h.name, e)
}
