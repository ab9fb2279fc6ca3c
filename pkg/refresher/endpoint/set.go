package endpoint

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// Set is all endpoints of a target at a moment, as one source saw them.
type Set struct {
	// Endpoints are the members. [Set.Normalize] sorts them and removes
	// duplicates; an empty list is a statement, see Authoritative.
	Endpoints []Endpoint
	// Source names where it comes from: "static", "dns", "kube".
	Source string
	// Authoritative means that the source knows the whole truth, so that an
	// empty Set is zero endpoints and not a blip. A watch of EndpointSlices is
	// authoritative, an answer of a DNS server is not: CoreDNS says NXDOMAIN for
	// a headless Service none of whose pods is ready at the moment.
	Authoritative bool
	// Verified means that it answers a [Question] with Verify set: every name
	// server was asked, over a transport that does not truncate, and an endpoint
	// that any of them knows is in the Set.
	Verified bool
	// Reason says why Endpoints is empty in a word for people: "NXDOMAIN",
	// "NODATA", "no EndpointSlice". "" when it is not empty.
	Reason string
	// At is when the source learned it, with Go's monotonic reading.
	At time.Time
	// Changed is when the cluster changed to this state according to the source
	// (the annotation endpoints.kubernetes.io/last-change-trigger-time), zero
	// when unknown. It is another machine's wall clock.
	Changed time.Time
	// TTL is the smallest TTL of the DNS records, 0 elsewhere.
	TTL time.Duration
	// Bytes is the size of the DNS answer on the wire, 0 elsewhere.
	Bytes int
}

// Normalize returns the Set in canonical form: IPv4-mapped addresses as IPv4,
// endpoints without an address left out, sorted by [Compare], no address and no
// pod twice. Of several endpoints that claim one, the best keeps it: ready before
// serving before neither, not terminating before terminating, with a UID before
// without. The order that the endpoints come in does not matter. The receiver
// stays as it is; a Set that is canonical already is returned as it is, and
// shares its endpoints.
func (s Set) Normalize() Set {
	if canonical(s.Endpoints) {
		return s
	}
	eps := make([]Endpoint, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		if e, ok := e.normal(); ok {
			eps = append(eps, e)
		}
	}
	slices.SortFunc(eps, better)
	seen := newClaims(len(eps))
	out := eps[:0]
	for _, e := range eps {
		if e, ok := seen.take(e); ok {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, Compare)
	s.Endpoints = slices.Clip(out)
	return s
}

// canonical reports whether Normalize has nothing to do. It may err on the side
// of no.
func canonical(eps []Endpoint) bool {
	addrs, uids := 0, 0
	for i := range eps {
		e := &eps[i]
		if !e.isNormal() || i > 0 && eps[i-1].Addrs[0].Compare(e.Addrs[0]) >= 0 {
			return false
		}
		addrs += len(e.Addrs)
		uids += min(len(e.UID), 1)
	}
	if addrs == len(eps) {
		addrs = 0 // one each and ascending: none twice
	}
	if addrs+uids == 0 {
		return true
	}
	seen := newHashes(addrs + uids)
	for i := range eps {
		e := &eps[i]
		if addrs > 0 {
			for _, a := range e.Addrs {
				if seen.again(maphash.Comparable(seed, a)) {
					return false
				}
			}
		}
		if e.UID != "" && seen.again(maphash.String(seed, e.UID)+uint64(e.Addr().Port())) {
			return false
		}
	}
	return true
}

// hashes is a set of hash values: a table with open addressing. Two things with
// one hash are taken for one, which happens once in 10^11 Sets of 10,000
// endpoints and costs some time then. It exists because a watch of 10,000
// endpoints looks for twins at every change, and maps take ten times as long.
type hashes []uint64

var seed = maphash.MakeSeed()

func newHashes(n int) hashes {
	return make(hashes, 1<<bits.Len(uint(2*n)))
}

// again adds h and reports whether it was there already.
func (t hashes) again(h uint64) bool {
	h = max(h, 1) // 0 is a free place
	for i := h; ; i++ {
		switch at := &t[i&uint64(len(t)-1)]; *at {
		case 0:
			*at = h
			return false
		case h:
			return true
		}
	}
}

// claims are the addresses and pods that are taken.
type claims struct {
	addrs map[netip.AddrPort]string // to the UID
	pods  map[pod]struct{}
}

// pod is one port of a pod.
type pod struct {
	uid  string
	port uint16
}

func newClaims(n int) claims {
	return claims{make(map[netip.AddrPort]string, n), make(map[pod]struct{}, n)}
}

// take claims what e is; ok is false when nothing of e is left to claim. Of two
// pods at one address one is already gone, and the EndpointSlice controller
// removes it in its next write; an address of the other family is still its own.
func (c claims) take(e Endpoint) (_ Endpoint, ok bool) {
	key := pod{e.UID, e.Addr().Port()}
	if e.UID != "" {
		if _, again := c.pods[key]; again {
			return e, false
		}
	}
	free := 0
	for _, a := range e.Addrs {
		switch uid, taken := c.addrs[a]; {
		case !taken:
			free++
		case uid == "" || e.UID == "" || uid == e.UID:
			return e, false // the same endpoint again
		}
	}
	if free == 0 {
		return e, false
	}
	if free < len(e.Addrs) {
		e.Addrs = slices.DeleteFunc(slices.Clone(e.Addrs), func(a netip.AddrPort) bool { _, taken := c.addrs[a]; return taken })
	}
	for _, a := range e.Addrs {
		c.addrs[a] = e.UID
	}
	if e.UID != "" {
		c.pods[key] = struct{}{}
	}
	return e, true
}

// Diff is what changed between two Sets; endpoints are matched by
// [Endpoint.Same].
type Diff struct {
	Added, Removed []Endpoint
	// Changed holds the new form of endpoints whose other fields differ.
	Changed []Endpoint
}

// Empty reports whether nothing changed.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Diff returns what changed from s to next. Both must be normalised. It takes
// time linear in the sizes.
func (s Set) Diff(next Set) Diff {
	var d Diff
	old := Index(s.Endpoints)
	kept := make([]bool, len(s.Endpoints))
	for _, e := range next.Endpoints {
		i, ok := old.Find(s.Endpoints, e)
		switch {
		case !ok || kept[i]: // the second when one endpoint became two
			d.Added = append(d.Added, e)
			continue
		case !s.Endpoints[i].Equal(e):
			d.Changed = append(d.Changed, e)
		}
		kept[i] = true
	}
	for i, e := range s.Endpoints {
		if !kept[i] {
			d.Removed = append(d.Removed, e)
		}
	}
	return d
}

// Eligible returns the endpoints that may get calls by the rule kube-proxy
// follows (KEP-1669): those that are ready; when there is none, those that serve
// although they terminate. The slice is s.Endpoints itself when all are ready.
func (s Set) Eligible() []Endpoint {
	all := true
	for i := range s.Endpoints {
		all = all && s.Endpoints[i].Ready
	}
	if all {
		return s.Endpoints
	}
	var ready, serving []Endpoint
	for _, e := range s.Endpoints {
		switch {
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			serving = append(serving, e)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return serving
}

// isNormal reports whether normal has nothing to do.
func (e *Endpoint) isNormal() bool {
	for i, a := range e.Addrs {
		if !a.IsValid() || a.Port() == 0 || a.Addr().Is4In6() || i > 0 && slices.Contains(e.Addrs[:i], a) {
			return false
		}
	}
	return len(e.Addrs) > 0 && slices.IsSorted(e.ForZones)
}

// normal returns e with one spelling per address and its zones sorted; ok is
// false without a usable address.
func (e Endpoint) normal() (_ Endpoint, ok bool) {
	if e.isNormal() {
		return e, true
	}
	addrs := e.Addrs
	e.Addrs = nil
	for _, a := range addrs {
		if a = unmap(a); a.IsValid() && a.Port() != 0 && !slices.Contains(e.Addrs, a) {
			e.Addrs = append(e.Addrs, a)
		}
	}
	if !slices.IsSorted(e.ForZones) {
		e.ForZones = slices.Sorted(slices.Values(e.ForZones))
	}
	return e, len(e.Addrs) > 0
}

// better orders endpoints so that the one to keep comes first. It is a total
// order, so that no order of the input shows.
func better(a, b Endpoint) int {
	known := func(e Endpoint) int { return min(len(e.UID), 1) }
	return cmp.Or(
		b.rank()-a.rank(),
		known(b)-known(a),
		len(b.Addrs)-len(a.Addrs),
		slices.CompareFunc(a.Addrs, b.Addrs, netip.AddrPort.Compare),
		cmp.Compare(a.UID, b.UID),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Node, b.Node),
		cmp.Compare(a.Zone, b.Zone),
		cmp.Compare(b.Weight, a.Weight),
		slices.Compare(a.ForZones, b.ForZones),
	)
}

// rank is higher for what may rather get calls.
func (e Endpoint) rank() int {
	n := 0
	if e.Ready {
		n += 4
	}
	if e.Serving {
		n += 2
	}
	if !e.Terminating {
		n++
	}
	return n
}
