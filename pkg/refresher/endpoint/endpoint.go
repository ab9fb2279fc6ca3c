package endpoint

import (
	"cmp"
	"net/netip"
	"slices"
)

// Endpoint is one pod as a target of calls. The zero value is no endpoint: it
// has no address. An Endpoint is a value: nobody changes its slices once it was
// handed over.
type Endpoint struct {
	// Addrs are where the pod takes calls: one address per IP family, the
	// preferred family first, at least one. All are the same pod.
	Addrs []netip.AddrPort
	// UID is the pod's UID, "" where the source knows none (DNS, hand-made
	// EndpointSlices).
	UID string
	// Name is for people: "namespace/pod", an SRV target, or "".
	Name string
	// Node and Zone are the pod's node and its topology.kubernetes.io/zone, ""
	// when unknown.
	Node, Zone string
	// ForZones are the zones that the EndpointSlice's topology hints (KEP-2433)
	// give this endpoint to, sorted; nil when there are no hints.
	ForZones []string
	// Ready, Serving and Terminating are an EndpointSlice's conditions with
	// their defaults applied: nil ready and nil serving mean true, nil
	// terminating means false. A source without conditions sets Ready and
	// Serving.
	Ready, Serving, Terminating bool
	// Weight is the endpoint's share relative to the others; 0 means 1.
	Weight uint32
}

// At returns a ready endpoint at one address, with nothing else known about it.
func At(addr netip.AddrPort) Endpoint {
	return Endpoint{Addrs: []netip.AddrPort{unmap(addr)}, Ready: true, Serving: true}
}

// Addr is the preferred address, the zero AddrPort when there is none.
func (e Endpoint) Addr() netip.AddrPort {
	if len(e.Addrs) == 0 {
		return netip.AddrPort{}
	}
	return e.Addrs[0]
}

// Same reports whether both mean the same pod: they share an address, and their
// UIDs do not contradict it. Two different UIDs at one address are two pods of
// which the later got the earlier one's IP.
func (e Endpoint) Same(o Endpoint) bool {
	if e.UID != "" && o.UID != "" && e.UID != o.UID {
		return false
	}
	for _, a := range e.Addrs {
		if slices.Contains(o.Addrs, a) {
			return true
		}
	}
	return false
}

// Equal reports whether every field is equal; the order of Addrs counts.
func (e Endpoint) Equal(o Endpoint) bool { return equal(&e, &o) }

// equal is Equal for loops over thousands of endpoints, in which copying them
// takes longer than comparing them. Most of the time both hold the very same
// slice, which nobody writes to.
func equal(a, b *Endpoint) bool {
	return len(a.Addrs) == len(b.Addrs) && len(a.ForZones) == len(b.ForZones) &&
		(len(a.Addrs) == 0 || &a.Addrs[0] == &b.Addrs[0] || slices.Equal(a.Addrs, b.Addrs)) &&
		a.Ready == b.Ready && a.Serving == b.Serving && a.Terminating == b.Terminating && a.Weight == b.Weight &&
		a.UID == b.UID && a.Name == b.Name && a.Node == b.Node && a.Zone == b.Zone &&
		(len(a.ForZones) == 0 || slices.Equal(a.ForZones, b.ForZones))
}

// Shared returns how many endpoints of a and b are [Endpoint.Equal] one by one
// from the first on (head), and how many of the others are from the last on back
// (tail): between two looks at a large target nearly all are.
func Shared(a, b []Endpoint) (head, tail int) {
	n := min(len(a), len(b))
	for head < n && equal(&a[head], &b[head]) {
		head++
	}
	for tail < n-head && equal(&a[len(a)-1-tail], &b[len(b)-1-tail]) {
		tail++
	}
	return head, tail
}

// String is the preferred address.
func (e Endpoint) String() string { return e.Addr().String() }

// Compare orders endpoints by preferred address, then UID.
func Compare(a, b Endpoint) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.UID, b.UID))
}

// unmap turns an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) into the
// IPv4 address that it stands for, so that one pod has one spelling.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
