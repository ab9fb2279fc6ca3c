package endpoint

import "net/netip"

// ByAddr finds endpoints in a slice by any of their addresses.
type ByAddr map[netip.AddrPort]int

// Index returns the positions of endpoints by address. Where two claim an
// address the first keeps it.
func Index(endpoints []Endpoint) ByAddr {
	ix := make(ByAddr, len(endpoints))
	for i, e := range endpoints {
		for _, a := range e.Addrs {
			if _, taken := ix[a]; !taken {
				ix[a] = i
			}
		}
	}
	return ix
}

// Find returns the position of the endpoint that is [Endpoint.Same] as e.
// endpoints must be the slice that ix was made from.
func (ix ByAddr) Find(endpoints []Endpoint, e Endpoint) (int, bool) {
	for _, a := range e.Addrs {
		if i, ok := ix[a]; ok && endpoints[i].Same(e) {
			return i, true
		}
	}
	return 0, false
}
