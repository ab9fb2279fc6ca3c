package reconcile

import (
	"net/netip"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// byAddr finds members by address. No two members have an address in common.
type byAddr map[netip.AddrPort]int

func indexMembers(members []*Member) byAddr {
	ix := make(byAddr, len(members))
	for i, m := range members {
		for _, a := range m.Endpoint.Addrs {
			ix[a] = i
		}
	}
	return ix
}

// find returns the position of the member that is the same as e.
func (ix byAddr) find(members []*Member, e endpoint.Endpoint) (int, bool) {
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
	// edits are what changes of members: those in a new form, and those whose
	// address another pod has now.
	edits []edit
	// missing are the positions of the members that the answer lacks, restored is
	// the number of Held ones that it has.
	missing  []int
	restored int
}

// join matches the endpoints of an answer with the members; wanted are those of
// the Set that are to be members. It compares the answer with the one before, so
// that it looks closer only at what changed.
func (w *step) join(set endpoint.Set, wanted []endpoint.Endpoint) joined {
	s := &w.s
	if set.Authoritative {
		s.extras = false
	}
	j := joined{ids: make([]uint64, len(wanted))}
	open, changed, loose := w.mergeJoin(wanted, set, j.ids)
	if s.held > 0 {
		for pos, m := range s.members {
			if m.Standing == Held {
				loose = append(loose, pos)
			}
		}
	}
	c := newClaims(set.Endpoints, wanted, open, changed)
	if len(c.by) == 0 {
		j.missing = loose
		return j
	}
	changed = append(changed, w.deprived(c, wanted, j.ids, changed)...)
	changed = append(changed, w.rematch(&j, wanted, open, loose)...)
	members := finder{members: s.members}
	for _, at := range changed {
		pos, _ := members.at(j.ids[at])
		m := s.members[pos]
		ep := wanted[at]
		if !set.Authoritative {
			ep = w.merge(m.Endpoint, ep, c, at)
		}
		if m.Standing == Held || !ep.Equal(m.Endpoint) {
			j.edits = append(j.edits, edit{id: m.ID, kind: believe, endpoint: ep})
		}
	}
	for _, pos := range loose {
		switch {
		case pos < 0: // rematched
		case c.taken(s.members[pos].Endpoint):
			// The answer does not lack it, it says that it is gone.
			j.edits = append(j.edits, edit{id: s.members[pos].ID, kind: drop})
		default:
			j.missing = append(j.missing, pos)
		}
	}
	return j
}

// rematch finds endpoints that are known by another address than before, or
// held. It writes their IDs, sets their place in loose to -1 and returns their
// positions in the answer.
func (w *step) rematch(j *joined, wanted []endpoint.Endpoint, open, loose []int) (found []int) {
	if len(open) == 0 || len(loose) == 0 {
		return nil
	}
	members := w.s.members
	byLoose := make(byAddr, len(loose))
	for i, pos := range loose {
		for _, a := range members[pos].Endpoint.Addrs {
			byLoose[a] = i
		}
	}
	for _, at := range open {
		for _, a := range wanted[at].Addrs {
			i, ok := byLoose[a]
			if !ok || loose[i] < 0 || !members[loose[i]].Endpoint.Same(wanted[at]) {
				continue
			}
			m := members[loose[i]]
			j.ids[at], loose[i] = m.ID, -1
			if m.Standing == Held {
				j.restored++
			}
			found = append(found, at)
			break
		}
	}
	return found
}

// deprived returns the positions of endpoints that are as in the last answer,
// but whose members keep an address from before that the answer now gives to
// another; changed is sorted.
func (w *step) deprived(c claims, wanted []endpoint.Endpoint, ids []uint64, changed []int) (found []int) {
	s := &w.s
	if !s.extras {
		return nil
	}
	members := finder{members: s.members}
	for at, id := range ids {
		if id == 0 {
			continue
		}
		pos, _ := members.at(id)
		known := s.members[pos].Endpoint
		if len(known.Addrs) == len(wanted[at].Addrs) || !c.others(known, at) {
			continue
		}
		if _, already := slices.BinarySearch(changed, at); !already {
			found = append(found, at)
		}
	}
	return found
}

// claims are the addresses that an answer gives to endpoints that are not as in
// the one before, and to those that are not wanted.
type claims struct {
	set []endpoint.Endpoint
	// by holds positions: in wanted, or below 0 the complement (^i) of those in set.
	by map[netip.AddrPort]int
}

func newClaims(set, wanted []endpoint.Endpoint, open, changed []int) claims {
	c := claims{set: set, by: make(map[netip.AddrPort]int, len(open)+len(changed)+len(set)-len(wanted))}
	for _, list := range [][]int{open, changed} {
		for _, at := range list {
			for _, a := range wanted[at].Addrs {
				c.by[a] = at
			}
		}
	}
	if len(set) == len(wanted) {
		return c
	}
	next := 0 // of wanted, which is a part of set in the same order
	for i, e := range set {
		if next < len(wanted) && wanted[next].Addr() == e.Addr() {
			next++
			continue
		}
		for _, a := range e.Addrs {
			c.by[a] = ^i
		}
	}
	return c
}

// others reports whether an address of e is another's than the wanted one's at
// that position.
func (c claims) others(e endpoint.Endpoint, at int) bool {
	return slices.ContainsFunc(e.Addrs, func(a netip.AddrPort) bool {
		by, claimed := c.by[a]
		return claimed && by != at
	})
}

// taken reports whether another pod has an address of e. One that is listed but
// not wanted may be e itself.
func (c claims) taken(e endpoint.Endpoint) bool {
	return slices.ContainsFunc(e.Addrs, func(a netip.AddrPort) bool {
		by, claimed := c.by[a]
		return claimed && (by >= 0 || !c.set[^by].Same(e))
	})
}

// mergeJoin compares the answer with the last one side by side, both sorted by
// address, and writes the IDs of those that stay. It returns the positions in
// the answer that matched nothing (open) or something in another form (changed),
// and the positions of believed members that matched nothing (loose).
func (w *step) mergeJoin(wanted []endpoint.Endpoint, set endpoint.Set, ids []uint64) (open, changed, loose []int) {
	s := &w.s
	sameKind := set.Authoritative == s.authoritative
	members := finder{members: s.members}
	i, end, last := 0, len(s.listed), len(wanted)
	if sameKind && len(s.listed) == len(s.set) && len(wanted) == len(set.Endpoints) {
		// All of both answers are wanted: what was equal needs no second look.
		i = copy(ids, s.ids[:w.head])
		end, last = end-w.tail, last-w.tail
		copy(ids[last:], s.ids[end:])
	}
	miss := func() {
		pos, _ := members.at(s.ids[i])
		loose = append(loose, pos)
		i++
	}
	for at := i; at < last; at++ {
		e := &wanted[at]
		for i < end && s.listed[i].Addr().Compare(e.Addr()) < 0 {
			miss()
		}
		if i == end || s.listed[i].Addr() != e.Addr() {
			open = append(open, at)
			continue
		}
		if sameKind && s.listed[i].Equal(*e) {
			ids[at] = s.ids[i]
			i++
			continue
		}
		// The member may know more than the last answer told: its UID.
		if pos, _ := members.at(s.ids[i]); !s.members[pos].Endpoint.Same(*e) {
			open = append(open, at)
			miss()
			continue
		}
		ids[at] = s.ids[i]
		changed = append(changed, at)
		i++
	}
	for i < end {
		miss()
	}
	return open, changed, loose
}

// merge is e, told by a source that is not authoritative, with what is known of
// the same pod from before: a pod keeps its addresses, node and zone for life,
// so what such a source does not tell is still true. Addresses that the answer
// gives to another endpoint are left out; at is e's position in it.
func (w *step) merge(old, e endpoint.Endpoint, c claims, at int) endpoint.Endpoint {
	if e.UID == "" && old.UID != "" {
		e.UID, e.Name, e.Node, e.Zone, e.ForZones = old.UID, old.Name, old.Node, old.Zone, old.ForZones
	}
	var all []netip.AddrPort
	extra := false
	for _, a := range old.Addrs {
		if slices.Contains(e.Addrs, a) {
			all = append(all, a)
		} else if _, claimed := c.by[a]; !claimed && !hasFamily(e.Addrs, a) {
			all = append(all, a)
			extra = true
		}
	}
	if !extra {
		return e
	}
	w.s.extras = true
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
