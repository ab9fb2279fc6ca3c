package grpcresolver

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// foreign makes members of the endpoints of another resolver. It has no guard:
// what that resolver says is so. A channel's balancer has one at most.
type foreign struct {
	hub   *hub
	last  uint64
	known map[string]*member
}

func newForeign(target string, cfg config.Config) *foreign {
	return &foreign{hub: newHub(target, cfg, &queue{}), known: map[string]*member{}}
}

func (f *foreign) snapshot(endpoints []resolver.Endpoint) *snapshot {
	snap := &snapshot{hub: f.hub}
	known := make(map[string]*member, len(endpoints))
	for _, e := range endpoints {
		key := addressKey(e.Addresses)
		if _, again := known[key]; again || key == "" {
			continue
		}
		m := f.known[key]
		if m == nil {
			f.last++
			m = &member{hub: f.hub, id: f.last, node: policy.NewNodeAmong(f.hub.nodes, len(endpoints)), since: time.Now(), ep: parsed(e.Addresses)}
		}
		m.addrs = e.Addresses // of this goroutine alone, here
		known[key] = m
	}
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	for key, m := range f.known {
		m.gone = known[key] != m
	}
	f.known = known
	f.hub.members = slices.SortedFunc(maps.Values(known), func(a, b *member) int { return cmp.Compare(a.id, b.id) })
	for _, m := range f.hub.members {
		snap.add(m)
	}
	f.hub.snap = snap
	return snap
}

// addressKey is what an endpoint of another resolver is known by.
func addressKey(addrs []resolver.Address) string {
	keys := make([]string, len(addrs))
	for i, a := range addrs {
		keys[i] = a.Addr
	}
	return strings.Join(keys, " ")
}

// parsed is an endpoint for people.
func parsed(addrs []resolver.Address) endpoint.Endpoint {
	e := endpoint.Endpoint{Ready: true, Serving: true}
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a.Addr); err == nil {
			e.Addrs = append(e.Addrs, ap)
		} else if e.Name == "" {
			e.Name = a.Addr
		}
	}
	return e
}
