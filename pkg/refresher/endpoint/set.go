package endpoint

import (
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
// endpoints without an address left out, sorted by [Compare], and of several
// endpoints that are [Endpoint.Same] only the best one: ready before serving
// before neither, then the first. The receiver stays as it is.
func (s Set) Normalize() Set {
	eps := make([]Endpoint, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		if e, ok := e.normal(); ok {
			eps = append(eps, e)
		}
	}
	slices.SortStableFunc(eps, func(a, b Endpoint) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return b.rank() - a.rank()
	})
	// One address is one endpoint: of two pods that claim it one is already
	// gone, and the EndpointSlice controller removes it in its next write.
	seen := make(map[string]struct{}, len(eps))
	out := eps[:0]
	for _, e := range eps {
		if len(out) > 0 && out[len(out)-1].Addr() == e.Addr() {
			continue
		}
		if e.UID != "" {
			key := e.UID + "/" + e.portKey()
			if _, again := seen[key]; again {
				continue
			}
			seen[key] = struct{}{}
		}
		out = append(out, e)
	}
	s.Endpoints = slices.Clip(out)
	return s
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
		case !ok:
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
	if !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return !e.Ready }) {
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

// normal returns e with one spelling per address; ok is false without a usable
// address.
func (e Endpoint) normal() (Endpoint, bool) {
	clean := true
	for _, a := range e.Addrs {
		if !a.IsValid() || a.Port() == 0 || a.Addr().Is4In6() {
			clean = false
		}
	}
	if clean {
		return e, len(e.Addrs) > 0
	}
	addrs := e.Addrs
	e.Addrs = nil
	for _, a := range addrs {
		if a = unmap(a); a.IsValid() && a.Port() != 0 && !slices.Contains(e.Addrs, a) {
			e.Addrs = append(e.Addrs, a)
		}
	}
	return e, len(e.Addrs) > 0
}

func (e Endpoint) rank() int {
	switch {
	case e.Ready:
		return 2
	case e.Serving:
		return 1
	}
	return 0
}

// portKey tells two endpoints of one pod apart that differ by port.
func (e Endpoint) portKey() string {
	p := e.Addr().Port()
	return string([]byte{byte(p >> 8), byte(p)})
}
