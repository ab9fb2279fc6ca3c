package reconcile

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// many returns n endpoints as EndpointSlices know them, or DNS.
func many(n int, kube bool) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, n)
	for i := range out {
		e := endpoint.At(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 6565))
		if kube {
			e.UID = fmt.Sprintf("4c1f3d5e-0000-4000-8000-%012d", i)
			e.Name = fmt.Sprintf("default/square-%d", i)
			e.Node = fmt.Sprintf("node-%d", i%500)
			e.Zone = fmt.Sprintf("zone-%d", i%3)
		}
		out[i] = e
	}
	return out
}

func BenchmarkStep(b *testing.B) {
	cfg := DefaultConfig()
	now := time.Unix(1_000_000, 0)
	for _, kind := range []string{"dns", "kube"} {
		for _, n := range []int{3, 100, 1_000, 10_000} {
			all := many(n+1, kind == "kube")
			answer := func(eps []endpoint.Endpoint) Input {
				return Answer{endpoint.Set{Source: kind, Authoritative: kind == "kube", Endpoints: eps}}
			}
			state, _ := Step(cfg, State{}, now, answer(all[:n]))
			name := func(what string) string { return fmt.Sprintf("%s/%s/%d", what, kind, n) }
			b.Run(name("first"), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Step(cfg, State{}, now, answer(all[:n]))
				}
			})
			b.Run(name("same"), func(b *testing.B) {
				again := answer(append([]endpoint.Endpoint(nil), all[:n]...))
				b.ReportAllocs()
				for b.Loop() {
					if _, out := Step(cfg, state, now, again); out.Changed {
						b.Fatal("the same Set changed something")
					}
				}
			})
			b.Run(name("one"), func(b *testing.B) {
				// One pod is replaced by another, one answer later.
				next := append([]endpoint.Endpoint(nil), all[:n+1]...)
				next = append(next[:n/2], next[n/2+1:]...)
				b.ReportAllocs()
				for b.Loop() {
					if _, out := Step(cfg, state, now, answer(next)); !out.Changed {
						b.Fatal("nothing changed")
					}
				}
			})
		}
	}
}

// BenchmarkStepFallback is DNS after EndpointSlices: the switch itself, and one
// pod for another while members know more than the answers tell.
func BenchmarkStepFallback(b *testing.B) {
	const n = 10_000
	cfg := DefaultConfig()
	now := time.Unix(1_000_000, 0)
	kube, dns := many(n, true), many(n+1, false)
	for i := range kube {
		v6 := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
		kube[i].Addrs = append(kube[i].Addrs, netip.AddrPortFrom(v6, 6565))
	}
	before, _ := Step(cfg, State{}, now, Answer{endpoint.Set{Authoritative: true, Endpoints: kube}})
	b.Run("switch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, out := Step(cfg, before, now, Answer{endpoint.Set{Endpoints: dns[:n]}}); out.Changed {
				b.Fatal("the switch changed members")
			}
		}
	})
	after, _ := Step(cfg, before, now, Answer{endpoint.Set{Endpoints: dns[:n]}})
	b.Run("one", func(b *testing.B) {
		next := append(append([]endpoint.Endpoint(nil), dns[:n/2]...), dns[n/2+1:]...)
		b.ReportAllocs()
		for b.Loop() {
			if next, _ := Step(cfg, after, now, Answer{endpoint.Set{Endpoints: next}}); len(next.Members()) != n {
				b.Fatalf("%d members", len(next.Members()))
			}
		}
	})
}

// BenchmarkStepEnded is the end of all connections that are held.
func BenchmarkStepEnded(b *testing.B) {
	cfg := DefaultConfig()
	now := time.Unix(1_000_000, 0)
	state, _ := Step(cfg, State{}, now, Answer{endpoint.Set{Endpoints: many(10_000, false)}})
	state, _ = Step(cfg, state, now, Answer{endpoint.Set{}})
	in := make(reports, 0, 10_000)
	for _, m := range state.Members() {
		in = append(in, Ended{ID: m.ID})
	}
	b.ReportAllocs()
	for b.Loop() {
		if next, _ := Step(cfg, state, now, in); len(next.Members()) != 0 {
			b.Fatal("members are left")
		}
	}
}
