package grpcresolver

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// member is one endpoint as long as the guard knows it. What calls write is in
// node.
type member struct {
	hub  *hub
	id   uint64
	node *policy.Node
	// since is when it was seen, changed when the cluster says that it came.
	since, changed time.Time
	// called is set by the first call that succeeded.
	called atomic.Bool

	// Guarded by hub.mu.
	ep    endpoint.Endpoint
	held  bool
	gone  bool
	tried bool               // somebody dialled it
	addrs []resolver.Address // never written to
	ready int                // READY connections, of all balancers
	// engaged is how many balancers have a connection to it, or make one.
	engaged int
}

// newMember makes one of so many members.
func (h *hub) newMember(in *reconcile.Member, among int) *member {
	return &member{
		hub: h, id: in.ID, node: policy.NewNodeAmong(h.nodes, among), since: in.Since, changed: in.Changed,
		ep: in.Endpoint, addrs: addresses(in.Endpoint), held: in.Standing == reconcile.Held,
	}
}

// renewLocked gives a member its newest form.
func (h *hub) renewLocked(m *member, in *reconcile.Member) {
	h.connected -= m.connected()
	if !m.ep.Equal(in.Endpoint) {
		m.ep, m.addrs = in.Endpoint, addresses(in.Endpoint)
	}
	m.held = in.Standing == reconcile.Held
	h.connected += m.connected()
}

// forgetLocked says that the guard knows m no more.
func (h *hub) forgetLocked(m *member) {
	h.connected -= m.connected()
	m.gone = true
}

// connected is what m adds to the hub's connected.
func (m *member) connected() int {
	if m.ready > 0 && !m.held && !m.gone {
		return 1
	}
	return 0
}

// engage counts a balancer that has connections to m or attempts, or has them no
// more.
func (h *hub) engage(m *member, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		m.engaged++
	} else {
		m.engaged--
	}
}

// addresses are an endpoint's in gRPC's form.
func addresses(e endpoint.Endpoint) []resolver.Address {
	out := make([]resolver.Address, len(e.Addrs))
	for i, a := range e.Addrs {
		out[i].Addr = a.String()
	}
	return out
}
