package dnsprobe

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// Endpoint is an address, with a port where an SRV record gave one.
type Endpoint struct {
	Address netip.Addr `json:"address"`
	// Port is 0 for endpoints from A and AAAA records, which know none.
	Port uint16 `json:"port,omitempty"`
}

func compareEndpoints(a, b Endpoint) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port))
}

// Addresses returns the addresses of the final A or AAAA records in the order of the wire, repetitions included.
func (a *Answer) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, r := range a.Final() {
		if r.Address.IsValid() {
			out = append(out, r.Address)
		}
	}
	return out
}

// Endpoints returns where the answer leads, in the order of the wire and without repetitions: the addresses of A and AAAA records, or
// for SRV the addresses that the same message has for each target (RFC 2782 lets servers add them), with the record's port.
// unresolved holds the SRV targets for which it has none; a target of "." is left out, since it says that there is no such service.
func (a *Answer) Endpoints() (endpoints []Endpoint, unresolved []string) {
	if a.Question.Type != TypeSRV {
		for _, addr := range a.Addresses() {
			endpoints = append(endpoints, Endpoint{Address: addr.Unmap()})
		}
		return distinct(endpoints), nil
	}
	known := make(map[string][]netip.Addr)
	for _, section := range [][]Record{a.Records, a.Additional} {
		for _, r := range section {
			if r.Address.IsValid() && r.Class == 0 {
				owner := dns.CanonicalName(r.Name)
				known[owner] = append(known[owner], r.Address.Unmap())
			}
		}
	}
	for _, r := range a.Final() {
		addrs := known[dns.CanonicalName(r.Target)]
		if len(addrs) == 0 && r.Target != "." {
			unresolved = append(unresolved, r.Target)
		}
		for _, addr := range addrs {
			endpoints = append(endpoints, Endpoint{Address: addr, Port: r.Port})
		}
	}
	return distinct(endpoints), distinct(unresolved)
}

// Comparison is how an answer differs from what should be in it. Its lists are sorted and without repetitions.
type Comparison struct {
	// Matched counts the endpoints on both sides.
	Matched int `json:"matched"`
	// Missing are wanted but not in the answer.
	Missing []Endpoint `json:"missing,omitempty"`
	// Extra are in the answer but not wanted.
	Extra []Endpoint `json:"extra,omitempty"`
	// Unresolved are SRV targets without an address in the answer: for these nothing can be said, and what they stand for
	// shows up as Missing too.
	Unresolved []string `json:"unresolved,omitempty"`
}

// Equal is true when nothing is missing, extra or unresolved.
func (c Comparison) Equal() bool { return len(c.Missing)+len(c.Extra)+len(c.Unresolved) == 0 }

// Compare holds an answer against the endpoints wanted, as sets: neither order nor repetition matters (RFC 2181 section 5). An
// answer to A is held against the IPv4 addresses of want only, one to AAAA against the IPv6 ones, both without regard to ports; an
// answer to SRV against addresses of both families and their ports. IPv4-mapped IPv6 addresses count as IPv4 on either side.
func Compare(a *Answer, want []Endpoint) Comparison {
	got, unresolved := a.Endpoints()
	wanted := make(map[Endpoint]bool)
	for _, e := range want {
		e.Address = e.Address.Unmap()
		switch a.Question.Type {
		case TypeA, TypeAAAA:
			if e.Address.Is4() != (a.Question.Type == TypeA) {
				continue
			}
			e.Port = 0
		}
		wanted[e] = true
	}
	out := Comparison{Unresolved: unresolved}
	slices.Sort(out.Unresolved)
	for _, e := range got {
		if !wanted[e] {
			out.Extra = append(out.Extra, e)
			continue
		}
		out.Matched++
		delete(wanted, e)
	}
	for e := range wanted {
		out.Missing = append(out.Missing, e)
	}
	slices.SortFunc(out.Missing, compareEndpoints)
	slices.SortFunc(out.Extra, compareEndpoints)
	return out
}

// distinct drops repetitions and keeps the order.
func distinct[T comparable](in []T) []T {
	seen := make(map[T]bool, len(in))
	return slices.DeleteFunc(in, func(v T) bool {
		if seen[v] {
			return true
		}
		seen[v] = true
		return false
	})
}
