package grpcresolver

import (
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// peer is one member to one channel. Everything in it is guarded by balance.mu.
type peer struct {
	// Pickers are made of all peers whenever one changes: what that needs comes
	// first, so that it reads one or two cache lines of each.

	view
	node   *policy.Node       // m's
	state  connectivity.State // the best of the slots'
	chosen *choice            // not nil while it is READY
	// since is when it became READY after it was new or could not be reached, 0
	// before that. full means that it has its full share since then.
	since policy.Nanos
	full  bool
	// back means that since is when an ejection ended. It is not new: it makes no
	// majority of new ones, and no such majority gives it its share.
	back bool
	gone bool // removed: what ends is not made again
	// engaged means that the hub counts it: it has connections, or attempts.
	engaged bool

	b     *balance
	own   []resolver.Address // the member's
	addrs []resolver.Address // to dial, under HTTPS_PROXY the proxy's
	slots []*slot
	until time.Time // while it lingers: for how long
}

func newPeer(b *balance, m *member) *peer {
	return &peer{b: b, view: view{m: m}, node: m.node, state: connectivity.Connecting}
}

// update makes the connections fit view and addrs. A held member gets one attempt
// when nobody made any: a set that came and went before a balancer saw it is no
// reason to have nothing. What is never done is to dial a held member again.
func (p *peer) update() {
	if first := p.b.hub.dialling(p.m); p.held && !first {
		p.retire()
		return
	}
	n := max(p.b.cfg.ConnectionsPerEndpoint, 1)
	for len(p.slots) > n {
		last := len(p.slots) - 1
		p.slots[last].close()
		p.slots = slices.Delete(p.slots, last, last+1)
	}
	for _, s := range p.slots {
		s.revive()
		s.setAddrs(p.addrs)
	}
	for len(p.slots) < n {
		s := &slot{p: p, addrs: p.addrs, state: connectivity.Connecting}
		p.slots = append(p.slots, s)
		s.start()
	}
	p.engage()
	if p.held {
		p.retire()
		return
	}
	p.assess()
}

// retire closes what is not READY: the peer is not dialled any more. Attempts that
// a held member began while it was believed in may end: all members of a set can
// become held just after they came.
func (p *peer) retire() {
	p.slots = slices.DeleteFunc(p.slots, func(s *slot) bool {
		if s.ready != nil || !p.gone && s.retire() {
			return false
		}
		s.close()
		return true
	})
	p.engage()
	p.assess()
	if p.held && len(p.slots) == 0 {
		p.b.hub.settle(p.m)
	}
}

// engage tells the hub whether the peer may still have or get a connection.
func (p *peer) engage() {
	if now := len(p.slots) > 0; now != p.engaged {
		p.engaged = now
		p.b.hub.engage(p.m, now)
	}
}

// mayDial reports whether a connection that ended is made again.
func (p *peer) mayDial() bool { return !p.held && !p.gone }

// close gives all connections back. Calls in flight go on.
func (p *peer) close() {
	p.gone = true
	for _, s := range p.slots {
		s.close()
	}
	p.slots = nil
	p.engage()
	p.b.hub.settle(p.m) // it may be held, though nobody told this balancer yet
}

// assess works the state out again after a slot's changed.
func (p *peer) assess() {
	best := connectivity.TransientFailure
	if len(p.slots) == 0 && !p.held && !p.gone {
		best = connectivity.Connecting
	}
	for _, s := range p.slots {
		if s.state == connectivity.Ready {
			best = connectivity.Ready
			break
		}
		if s.state == connectivity.Connecting {
			best = connectivity.Connecting
		}
	}
	switch {
	case best == connectivity.Ready && p.since == 0:
		p.since = policy.Now()
	case best == connectivity.TransientFailure:
		p.since, p.full, p.back = 0, false, false // it was away: it begins slowly again
	}
	p.state, p.chosen = best, nil
	if best == connectivity.Ready {
		p.chosen = p.choice()
	}
}

// changed is called when a slot's state changed.
func (p *peer) changed() {
	p.assess()
	if !p.mayDial() {
		p.retire()
	}
	p.b.publishSoonLocked()
}
