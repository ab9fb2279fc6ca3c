package grpcresolver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// dialled returns the addresses to dial for each member of the snapshot, none for
// members that the state leaves out. They are the state's own: under HTTPS_PROXY
// gRPC put the proxy's in their place, in which only the order still tells to
// whom they belong.
func dialled(snap *snapshot, s resolver.State) []resolver.Endpoint {
	if snap.hub.open == nil && s.Attributes.Value(snapshotKey{}) == nil {
		return snap.endpoints
	}
	if len(s.Endpoints) == len(snap.views) {
		return s.Endpoints
	}
	// A policy above this one gave it a part of the endpoints.
	at := make(map[string]int, len(s.Endpoints))
	for i, e := range s.Endpoints {
		for _, a := range e.Addresses {
			at[a.Addr] = i
		}
	}
	out := make([]resolver.Endpoint, len(snap.endpoints))
	for i, e := range snap.endpoints {
		for _, a := range e.Addresses {
			if j, ok := at[a.Addr]; ok {
				out[i] = s.Endpoints[j]
				break
			}
		}
	}
	return out
}

// applied is what the peers were made equal to last, position by position.
type applied struct {
	views []view
	own   []resolver.Endpoint // the members' addresses
	to    []resolver.Endpoint // those that are dialled
}

// run returns for how many peers, from position at on, nothing changes when next
// is applied from position from on.
func (a *applied) run(at int, next *applied, from int) int {
	n := min(len(a.views)-at, len(next.views)-from)
	for i := range n {
		if a.views[at+i] != next.views[from+i] || !sameSlice(a.own[at+i].Addresses, next.own[from+i].Addresses) ||
			!sameSlice(a.to[at+i].Addresses, next.to[from+i].Addresses) {
			return i
		}
	}
	return max(n, 0)
}

// applyLocked makes the peers equal to the members of a snapshot: new ones are
// dialled, removed ones keep their calls in flight, others are not touched.
// tuned means that the configuration changed for all of them.
func (b *balance) applyLocked(snap *snapshot, dialled []resolver.Endpoint, tuned bool) {
	old, was, now := b.order, b.applied, applied{snap.views, snap.endpoints, dialled}
	if tuned {
		was = applied{}
	}
	all := len(old)
	b.order = make([]*peer, 0, len(snap.views))
	var fresh, moved, gone []*peer
	for i := 0; ; i++ {
		n := was.run(all-len(old), &now, i)
		b.order = append(b.order, old[:n]...)
		i, old = i+n, old[n:]
		if i == len(snap.views) {
			break
		}
		v := &snap.views[i]
		for len(old) > 0 && old[0].m.id < v.m.id {
			gone = append(gone, old[0])
			old = old[1:]
		}
		to := dialled[i].Addresses
		if len(to) == 0 {
			continue
		}
		var p *peer
		switch {
		case len(old) == 0 || old[0].m != v.m:
			p = newPeer(b, v.m)
			fresh = append(fresh, p)
			b.warnProxy(snap.endpoints[i].Addresses, to)
		default:
			p, old = old[0], old[1:]
			if tuned || p.held != v.held || !sameSlice(p.addrs, to) {
				moved = append(moved, p)
			}
		}
		p.view, p.own, p.addrs = *v, snap.endpoints[i].Addresses, to
		b.order = append(b.order, p)
	}
	gone = append(gone, old...)
	if b.applied = now; len(b.order) != len(snap.views) {
		b.applied = applied{} // some have no peer: the positions are others
	}
	// Many clients that start together should not all begin with the same pod.
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	for _, p := range fresh {
		p.update()
	}
	for _, p := range moved {
		p.update()
	}
	b.removeLocked(gone, fresh)
}

func sameSlice(a, b []resolver.Address) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// warnProxy says once that connections go through a proxy, which rarely is what
// somebody wants who balances over pods.
func (b *balance) warnProxy(own, to []resolver.Address) {
	if len(own) == 0 || slices.ContainsFunc(own, func(a resolver.Address) bool { return a.Addr == to[0].Addr }) {
		return
	}
	b.hub.warn(fmt.Sprintf("connections to the endpoints of %s go through the proxy %s, which HTTPS_PROXY names: add the pods' addresses to NO_PROXY, or dial with grpc.WithNoProxy()",
		b.hub.name, to[0].Addr))
}

// lingerFor bounds how long a removed endpoint may keep its calls while none
// that replaces it is connected. It is longer than a connection takes and
// shorter than gRPC's time-out for one (20 s): an endpoint that is really gone
// must not hide for long that nothing replaces it.
const lingerFor = 10 * time.Second

// removeLocked drops peers. Calls in flight on them go on. When no endpoint that
// is left is READY yet, those that still are keep getting calls until one is:
// make before break. One that ended its connection (it said GOAWAY, or is gone)
// is not READY, one that terminates is on its way out, and one whose address a
// fresh peer has was replaced at that very address.
func (b *balance) removeLocked(gone, fresh []*peer) {
	isReady := func(p *peer) bool { return !p.held && p.state == connectivity.Ready }
	mayLinger := len(gone) > 0 && len(b.order) > 0 && !slices.ContainsFunc(b.order, isReady)
	taken := map[string]bool{}
	if mayLinger {
		for _, p := range fresh {
			for _, a := range p.own {
				taken[a.Addr] = true
			}
		}
	}
	var drop []*peer
	for _, p := range gone {
		p.gone = true
		if !mayLinger || p.state != connectivity.Ready || b.hub.terminates(p.m) ||
			slices.ContainsFunc(p.own, func(a resolver.Address) bool { return taken[a.Addr] }) {
			drop = append(drop, p)
			continue
		}
		p.retire()
		p.until = time.Now().Add(lingerFor)
		b.lingering = append(b.lingering, p)
	}
	if len(b.order) == 0 {
		drop = append(drop, b.lingering...)
		b.lingering = nil
	}
	b.lingerOnLocked()
	b.dropLocked(drop)
}

// dropLocked closes peers that are in no list any more: first gRPC must know
// that they are not to be chosen.
func (b *balance) dropLocked(peers []*peer) {
	b.publishLocked()
	for _, p := range peers {
		p.close()
	}
}

// lingerOnLocked sets the timer for the one that lingers longest.
func (b *balance) lingerOnLocked() {
	if b.lingerTimer != nil {
		b.lingerTimer.Stop()
		b.lingerTimer = nil
	}
	if len(b.lingering) > 0 {
		b.lingerTimer = time.AfterFunc(time.Until(b.lingering[0].until), b.lingered)
	}
}

// lingered ends the lingering of those for which it took too long.
func (b *balance) lingered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	n := 0
	for now := time.Now(); n < len(b.lingering) && !b.lingering[n].until.After(now); {
		n++
	}
	rest := b.lingering[:n]
	b.lingering = b.lingering[n:]
	b.lingerOnLocked()
	if n > 0 {
		b.dropLocked(rest)
	}
}

// replacedLocked ends all lingering once an endpoint is READY that may stay.
func (b *balance) replacedLocked() {
	if len(b.lingering) == 0 {
		return
	}
	rest := b.lingering
	b.lingering = nil
	b.lingerOnLocked()
	b.dropLocked(rest)
}
