package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// slice is what is kept of an EndpointSlice.
type slice struct {
	name string
	// version orders the states of all slices where the server's versions are
	// numbers, which KEP-5504 makes a promise; 0 where they are none. arrived
	// orders the rest.
	version, arrived uint64
	fqdn             bool
	ports            []port
	entries          []entry
	// listed is how many endpoints the slice has; entries lack those whose
	// address cannot be used.
	listed  int
	changed time.Time // the controller's last-change-trigger-time, or zero
}

// entry is one endpoint of a slice: an endpoint without its port.
type entry struct {
	addr netip.Addr
	endpoint.Endpoint
}

// port is a TCP port of a slice's endpoints; number 0 stands for every port.
type port struct {
	name   string
	number uint16
}

// project keeps of an EndpointSlice what matters.
func project(es *discoveryv1.EndpointSlice, arrived uint64) slice {
	s := slice{name: es.Name, arrived: arrived, fqdn: es.AddressType == discoveryv1.AddressTypeFQDN, listed: len(es.Endpoints)}
	if v, err := strconv.ParseUint(es.ResourceVersion, 10, 64); err == nil {
		s.version = v
	}
	if t, err := time.Parse(time.RFC3339Nano, es.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		s.changed = t
	}
	for _, p := range es.Ports {
		if value(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
			continue
		}
		if n := value(p.Port, 0); n >= 0 && n <= 65535 {
			s.ports = append(s.ports, port{value(p.Name, ""), uint16(n)})
		}
	}
	if len(es.Ports) == 0 { // a headless Service without ports, or a hand-made slice
		s.ports = []port{{}}
	}
	if s.fqdn {
		return s
	}
	s.entries = make([]entry, 0, len(es.Endpoints))
	for i := range es.Endpoints {
		if e, ok := projectEndpoint(&es.Endpoints[i], es.Namespace); ok {
			s.entries = append(s.entries, e)
		}
	}
	return s
}

func projectEndpoint(e *discoveryv1.Endpoint, namespace string) (entry, bool) {
	if len(e.Addresses) == 0 {
		return entry{}, false
	}
	// "No semantics are defined for additional addresses beyond the first, and
	// kube-proxy does not look at them."
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() {
		return entry{}, false
	}
	out := entry{addr.Unmap(), endpoint.Endpoint{
		Node: shared(e.NodeName), Zone: shared(e.Zone),
		Ready: value(e.Conditions.Ready, true), Serving: value(e.Conditions.Serving, true), Terminating: value(e.Conditions.Terminating, false),
	}}
	if ref := e.TargetRef; ref != nil {
		out.Name = cmp.Or(ref.Namespace, namespace) + "/" + ref.Name
		// Another kind's UID, a Node's say, does not make its addresses one.
		if ref.Kind == "Pod" {
			out.UID = string(ref.UID)
		}
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, unique.Make(z.Name).Value())
		}
		slices.Sort(out.ForZones)
		out.ForZones = slices.Compact(out.ForZones)
	}
	return out, true
}

// shared is a string that many endpoints have; it is kept once.
func shared(s *string) string {
	if s == nil {
		return ""
	}
	return unique.Make(*s).Value()
}

func value[T any](p *T, unset T) T {
	if p == nil {
		return unset
	}
	return *p
}

// addresses are those of the slice's entries.
func (s slice) addresses() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(s.entries))
	for _, e := range s.entries {
		out[e.addr] = true
	}
	return out
}

// loses reports whether an address of s is not in next.
func (s slice) loses(next slice) bool {
	has := next.addresses()
	return slices.ContainsFunc(s.entries, func(e entry) bool { return !has[e.addr] })
}

// merge makes endpoints of the slices, with the port that c chooses for each.
//
// A pod's addresses are found in one slice per IP family, and in two of a family
// while the controller moves it. What was written last knows best; so slices are
// taken in that order, and the first word about a pod and family counts.
func merge(all map[string]slice, c choice, prefer6 bool) []endpoint.Endpoint {
	total := 0
	for _, s := range all {
		total += len(s.entries)
	}
	out := make([]endpoint.Endpoint, 0, total)
	addrs := make([]netip.AddrPort, 0, total) // one allocation for all
	pods := make(map[string]int, total)       // UID -> position in out
	for _, s := range newestFirst(all) {
		number, ok := c.of(s)
		if !ok {
			continue
		}
		for _, e := range s.entries {
			addr := netip.AddrPortFrom(e.addr, number)
			if i, again := pods[e.UID]; again {
				out[i].Addrs = withFamily(out[i].Addrs, addr, prefer6)
				continue
			}
			if e.UID != "" {
				pods[e.UID] = len(out)
			}
			addrs = append(addrs, addr)
			ep := e.Endpoint
			ep.Addrs = addrs[len(addrs)-1 : len(addrs) : len(addrs)]
			out = append(out, ep)
		}
	}
	return endpoint.Set{Endpoints: sorted(out)}.Normalize().Endpoints
}

// sorted sorts by address; of two that claim one and are equally fit, the one
// that is known by its pod comes first, and so stays. Normalize then has nothing
// to move, which for 10,000 endpoints is most of its work.
func sorted(in []endpoint.Endpoint) []endpoint.Endpoint {
	order := make([]int, len(in))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(in[a].Addr().Compare(in[b].Addr()), -cmp.Compare(known(in[a]), known(in[b])), cmp.Compare(a, b))
	})
	out := make([]endpoint.Endpoint, len(in))
	for i, from := range order {
		out[i] = in[from]
	}
	return out
}

func known(e endpoint.Endpoint) int {
	if e.UID == "" {
		return 0
	}
	return 1
}

// withFamily adds an address of another IP family, in the order of preference.
func withFamily(have []netip.AddrPort, a netip.AddrPort, prefer6 bool) []netip.AddrPort {
	if len(have) != 1 || have[0].Addr().Is4() == a.Addr().Is4() {
		return have
	}
	if a.Addr().Is4() != prefer6 {
		return []netip.AddrPort{a, have[0]}
	}
	return append(have, a)
}

func newestFirst(all map[string]slice) []slice {
	out := make([]slice, 0, len(all))
	for _, s := range all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b slice) int {
		return cmp.Or(-cmp.Compare(a.version, b.version), -cmp.Compare(a.arrived, b.arrived), cmp.Compare(a.name, b.name))
	})
	return out
}
