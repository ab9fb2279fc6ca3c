package reconcile

import (
	"net/netip"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// byAddr finds members by address. No two members have an address in common.
type byAddr map[netip.AddrPort]int

func indexMembers(members []Member) byAddr {
	ix := make(byAddr, len(members))
	for i, m := range members {
		for _, a := range m.Endpoint.Addrs {
			ix[a] = i
		}
	}
	return ix
}

// find returns the position of the member that is the same as e.
func (ix byAddr) find(members []Member, e endpoint.Endpoint) (int, bool) {
	for _, a := range e.Addrs {
		if i, ok := ix[a]; ok && members[i].Endpoint.Same(e) {
			return i, true
		}
	}
	return 0, false
}

// joined says which endpoints of an answer are which members.
type joined struct {
	// ids are the members' IDs by position in the answer, 0 for new ones.
	ids []uint64
	// edits are what changes of the members: new forms and those whose address
	// another pod has now.
	edits []edit
	// missing are the positions of the members that the answer lacks, restored is
	// the number of Held ones that it has.
	missing  []int
	restored int
}

// join matches the endpoints of an answer, sorted by address, with the members.
// It compares the answer with the one before, so that it looks closer only at
// what changed.
func (w *step) join(wanted []endpoint.Endpoint, authoritative bool) joined {
	s := &w.s
	j := joined{ids: make([]uint64, len(wanted))}
	open, changed, loose := w.mergeJoin(wanted, authoritative, j.ids)
	for pos, m := range s.members {
		if s.held > 0 && m.Standing == Held {
			loose = append(loose, pos)
		}
	}
	if len(open) == 0 && len(changed) == 0 {
		j.missing = loose
		return j
	}
	// Known by another address than before, or held?
	byLoose := make(byAddr, len(loose))
	for i, pos := range loose {
		for _, a := range s.members[pos].Endpoint.Addrs {
			byLoose[a] = i
		}
	}
	for _, at := range open {
		for _, a := range wanted[at].Addrs {
			i, ok := byLoose[a]
			if !ok || loose[i] < 0 || !s.members[loose[i]].Endpoint.Same(wanted[at]) {
				continue
			}
			m := s.members[loose[i]]
			j.ids[at], loose[i] = m.ID, -1
			if m.Standing == Held {
				j.restored++
			}
			changed = append(changed, at)
			break
		}
	}
	claims := make(map[netip.AddrPort]int, len(open)+len(changed))
	for _, list := range [][]int{open, changed} {
		for _, at := range list {
			for _, a := range wanted[at].Addrs {
				claims[a] = at
			}
		}
	}
	for _, at := range changed {
		pos, _ := s.at(j.ids[at])
		m := s.members[pos]
		ep := wanted[at]
		if !authoritative {
			ep = merge(m.Endpoint, ep, claims, at)
		}
		if m.Standing == Held || !ep.Equal(m.Endpoint) {
			j.edits = append(j.edits, edit{id: m.ID, kind: believe, endpoint: ep})
		}
	}
	for _, pos := range loose {
		switch {
		case pos < 0:
		case slices.ContainsFunc(s.members[pos].Endpoint.Addrs, func(a netip.AddrPort) bool { _, taken := claims[a]; return taken }):
			// Another pod has its address: the answer does not lack it, it says
			// that it is gone.
			j.edits = append(j.edits, edit{id: s.members[pos].ID, kind: drop})
		default:
			j.missing = append(j.missing, pos)
		}
	}
	return j
}

// mergeJoin compares the answer with the last one side by side, both sorted by
// address, and writes the IDs of those that stay. It returns the positions in
// the answer that matched nothing (open) or something in another form (changed),
// and the positions of believed members that matched nothing (loose).
func (w *step) mergeJoin(wanted []endpoint.Endpoint, authoritative bool, ids []uint64) (open, changed, loose []int) {
	s := &w.s
	sameKind := authoritative == s.authoritative
	i := 0
	miss := func() {
		pos, _ := s.at(s.ids[i])
		loose = append(loose, pos)
		i++
	}
	for at, e := range wanted {
		for i < len(s.listed) && s.listed[i].Addr().Compare(e.Addr()) < 0 {
			miss()
		}
		if i == len(s.listed) || s.listed[i].Addr() != e.Addr() {
			open = append(open, at)
			continue
		}
		if sameKind && s.listed[i].Equal(e) {
			ids[at] = s.ids[i]
			i++
			continue
		}
		// The member may know more than the last answer told: its UID.
		if pos, _ := s.at(s.ids[i]); !s.members[pos].Endpoint.Same(e) {
			open = append(open, at)
			miss()
			continue
		}
		ids[at] = s.ids[i]
		changed = append(changed, at)
		i++
	}
	for i < len(s.listed) {
		miss()
	}
	return open, changed, loose
}

// merge is e, told by a source that is not authoritative, with what is known of
// the same pod from before: a pod keeps its addresses, node and zone for life,
// so what such a source does not tell is still true. Addresses that the answer
// gives to another endpoint are left out; at is e's position in it.
func merge(old, e endpoint.Endpoint, claims map[netip.AddrPort]int, at int) endpoint.Endpoint {
	if e.UID == "" && old.UID != "" {
		e.UID, e.Name, e.Node, e.Zone, e.ForZones = old.UID, old.Name, old.Node, old.Zone, old.ForZones
	}
	var all []netip.AddrPort
	extra := false
	for _, a := range old.Addrs {
		switch by, claimed := claims[a]; {
		case claimed && by == at:
			all = append(all, a)
		case !claimed && !hasFamily(e.Addrs, a):
			all = append(all, a)
			extra = true
		}
	}
	if !extra {
		return e
	}
	for _, a := range e.Addrs {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	e.Addrs = all
	return e
}

func hasFamily(addrs []netip.AddrPort, a netip.AddrPort) bool {
	return slices.ContainsFunc(addrs, func(b netip.AddrPort) bool { return a.Addr().Is4() == b.Addr().Is4() })
}
