package sockdiag

import (
	"cmp"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// StateSet has bit n set for TCP state n.
type StateSet uint32

// AllStates is every state the kernel knows.
const AllStates StateSet = 0xffff

// States makes a set of the named states; names it does not know are left out.
func States(names ...string) StateSet {
	var set StateSet
	for n := uint8(1); n < 16; n++ {
		if slices.Contains(names, agentapi.TCPState(n)) {
			set |= 1 << n
		}
	}
	return set
}

// Table is what one dump gave.
type Table struct {
	At      time.Time
	Records []Record
}

// Filter keeps the sockets whose local port is one of ports; no ports keep all.
func (t Table) Filter(ports []uint16) Table {
	if len(ports) == 0 {
		return t
	}
	return Table{At: t.At, Records: slices.DeleteFunc(slices.Clone(t.Records), func(r Record) bool {
		return !slices.Contains(ports, r.Local.Port())
	})}
}

// Compare gives the sockets of the last table, with rates since the first table that has them, and the number of sockets
// that earlier tables have and the last has not. Sockets new in the last table have no rate, nor has one whose counters ran
// backwards. The sockets are sorted by local, then remote address. No tables give nothing.
func Compare(tables []Table) (sockets []agentapi.Socket, closed int) {
	if len(tables) == 0 {
		return nil, 0
	}
	type sighting struct {
		at time.Time
		r  Record
	}
	first := map[uint64]sighting{}
	for _, t := range tables[:len(tables)-1] {
		for _, r := range t.Records {
			if _, ok := first[r.Cookie]; !ok {
				first[r.Cookie] = sighting{t.At, r}
			}
		}
	}
	last := tables[len(tables)-1]
	for _, r := range last.Records {
		old, ok := first[r.Cookie]
		if ok {
			seconds := last.At.Sub(old.at).Seconds()
			r.RxRate = rate(old.r.RxBytes, r.RxBytes, seconds)
			r.TxRate = rate(old.r.TxBytes, r.TxBytes, seconds)
			delete(first, r.Cookie)
		}
		sockets = append(sockets, r.Socket)
	}
	slices.SortFunc(sockets, func(a, b agentapi.Socket) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote), cmp.Compare(a.Inode, b.Inode))
	})
	return sockets, len(first)
}

func rate(from, to *uint64, seconds float64) *float64 {
	if from == nil || to == nil || *to < *from || seconds <= 0 {
		return nil
	}
	v := float64(*to-*from) / seconds
	return &v
}
