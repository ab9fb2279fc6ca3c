package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func projectAll(in ...sliceBuilder) map[string]slice {
	out := map[string]slice{}
	for i, b := range in {
		out[b.Name] = project(b.EndpointSlice, uint64(i+1))
	}
	return out
}

func (b sliceBuilder) version(v int) sliceBuilder {
	b.ResourceVersion = fmt.Sprint(v)
	return b
}

func TestMerge(t *testing.T) {
	unnamed := func(b sliceBuilder) sliceBuilder {
		for i := range b.Endpoints {
			b.Endpoints[i].TargetRef.UID = ""
		}
		return b
	}
	at := func(b sliceBuilder, addrs ...string) sliceBuilder {
		for i := range b.Endpoints {
			b.Endpoints[i].Addresses = addrs
		}
		return b
	}
	for _, c := range []struct {
		name    string
		slices  []sliceBuilder
		prefer6 bool
		want    []string
	}{
		{name: "several", slices: []sliceBuilder{es("a", 1, 2), es("b", 3)}, want: []string{"10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565"}},
		{name: "both families", slices: []sliceBuilder{es("a", 1, 2), es("b", 1, 2).v6()},
			want: []string{"10.0.0.1:6565,[fd00::0:1]:6565", "10.0.0.2:6565,[fd00::0:2]:6565"}},
		{name: "both families, IPv6 first", prefer6: true, slices: []sliceBuilder{es("a", 1), es("b", 1).v6()},
			want: []string{"[fd00::0:1]:6565,10.0.0.1:6565"}},
		{name: "one family of a pod only", slices: []sliceBuilder{es("a", 1), es("b", 2).v6()}, want: []string{"10.0.0.1:6565", "[fd00::0:2]:6565"}},
		{name: "one pod in two slices, the later says ready", slices: []sliceBuilder{es("a", 1).is(false, false, false).version(7), es("b", 1).version(8)},
			want: []string{"10.0.0.1:6565"}},
		{name: "one pod in two slices, the later says terminating", slices: []sliceBuilder{es("a", 1).version(7), es("b", 1).is(false, true, true).version(10)},
			want: []string{"10.0.0.1:6565 unready terminating"}},
		{name: "versions that are no numbers: the later arrived", slices: []sliceBuilder{es("a", 1), es("b", 1).is(false, true, true)},
			want: []string{"10.0.0.1:6565 unready terminating"}},
		{name: "the families disagree: the later knows", slices: []sliceBuilder{es("a", 1).version(7), es("b", 1).v6().is(false, true, true).version(8)},
			want: []string{"10.0.0.1:6565,[fd00::0:1]:6565 unready terminating"}},
		{name: "a pod with a new address", slices: []sliceBuilder{es("a", 1).version(1), at(es("b", 1), "10.0.0.9").version(2)}, want: []string{"10.0.0.9:6565"}},
		{name: "hand-made", slices: []sliceBuilder{es("a", 1, 2).nobody()}, want: []string{"10.0.0.1:6565", "10.0.0.2:6565"}},
		{name: "hand-made beside the controller's", slices: []sliceBuilder{es("a", 1).nobody(), es("b", 1, 2)}, want: []string{"10.0.0.1:6565", "10.0.0.2:6565"}},
		{name: "pods without a UID", slices: []sliceBuilder{unnamed(es("a", 1, 2))}, want: []string{"10.0.0.1:6565", "10.0.0.2:6565"}},
		{name: "an address was given to another pod", slices: []sliceBuilder{es("a", 1).is(false, false, true), at(es("b", 2), "10.0.0.1")}, want: []string{"10.0.0.1:6565"}},
		{name: "only the first address counts", slices: []sliceBuilder{at(es("a", 1), "10.0.0.1", "10.0.0.2")}, want: []string{"10.0.0.1:6565"}},
		{name: "no addresses", slices: []sliceBuilder{at(es("a", 1))}},
		{name: "not addresses", slices: []sliceBuilder{at(es("a", 1), "db.example.com"), at(es("b", 2), "fe80::1%eth0"), at(es("c", 3), "0.0.0.0")}},
		{name: "host names", slices: []sliceBuilder{func() sliceBuilder { b := es("a", 1); b.AddressType = "FQDN"; return b }(), es("b", 2)}, want: []string{"10.0.0.2:6565"}},
		{name: "mapped", slices: []sliceBuilder{at(es("a", 1), "::ffff:10.0.0.1")}, want: []string{"10.0.0.1:6565"}},
		{name: "another number of the port", slices: []sliceBuilder{es("a", 1), es("b", 2).port("grpc", 7000)}, want: []string{"10.0.0.1:6565", "10.0.0.2:7000"}},
		{name: "without the port", slices: []sliceBuilder{es("a", 1), es("b", 2).port("http", 80)}, want: []string{"10.0.0.1:6565"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := merge(projectAll(c.slices...), choice{name: "grpc"}, c.prefer6)
			for i, w := range c.want {
				c.want[i] = strings.ReplaceAll(w, "fd00::0:", "fd00::")
			}
			if !slices.Equal(spell(got), c.want) {
				t.Errorf("got %q, want %q", spell(got), c.want)
			}
		})
	}
}

// TestConditions: what is absent means ready, serving, not terminating
// (discovery.k8s.io/v1).
func TestConditions(t *testing.T) {
	yes, no := new(true), new(false)
	for _, c := range []struct {
		in   discoveryv1.EndpointConditions
		want [3]bool
	}{
		{discoveryv1.EndpointConditions{}, [3]bool{true, true, false}},
		{discoveryv1.EndpointConditions{Ready: yes, Serving: yes, Terminating: no}, [3]bool{true, true, false}},
		{discoveryv1.EndpointConditions{Ready: no}, [3]bool{false, true, false}},
		{discoveryv1.EndpointConditions{Ready: no, Serving: no}, [3]bool{false, false, false}},
		{discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}, [3]bool{false, true, true}},
		// publishNotReadyAddresses: ready whatever else is true.
		{discoveryv1.EndpointConditions{Ready: yes, Serving: no, Terminating: yes}, [3]bool{true, false, true}},
	} {
		b := es("a", 1)
		b.Endpoints[0].Conditions = c.in
		e := project(b.EndpointSlice, 1).entries[0]
		if got := [3]bool{e.Ready, e.Serving, e.Terminating}; got != c.want {
			t.Errorf("%v: ready, serving, terminating = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestProjectKeepsPlace(t *testing.T) {
	b := es("a", 1, 2)
	b.Endpoints[0].NodeName, b.Endpoints[0].Zone = new("n1"), new("zone-a")
	b.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-b"}, {Name: "zone-a"}, {Name: "zone-b"}}}
	b.Endpoints[1].TargetRef = &corev1.ObjectReference{Kind: "Node", Name: "n1", UID: "node-uid"}
	b.Ports = append(b.Ports, discoveryv1.EndpointPort{Name: new("dns"), Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)})
	s := project(b.EndpointSlice, 1)
	if e := s.entries[0]; e.Node != "n1" || e.Zone != "zone-a" || !slices.Equal(e.ForZones, []string{"zone-a", "zone-b"}) {
		t.Errorf("endpoint %+v", e)
	}
	if e := s.entries[1]; e.UID != "" || e.Name != "default/n1" {
		t.Errorf("endpoint of a node: %+v", e)
	}
	if !slices.Equal(s.ports, []port{{"grpc", 6565}}) {
		t.Errorf("ports %v", s.ports)
	}
}

// FuzzMerge: whatever slices come in whatever order, the Set is normal, has no
// address twice and no pod twice, and nothing that no slice has; and a pod's last
// state counts.
func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(10))
	f.Add(uint64(2), uint8(8), uint8(3))
	f.Add(uint64(99), uint8(1), uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, count, pods uint8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var in []sliceBuilder
		newest := map[string]int{}
		for i := range int(count%12) + 1 {
			b := es(fmt.Sprintf("s%d", i)).version(i + 1)
			for range rng.IntN(8) {
				one := es("", rng.IntN(int(pods)+1)).is(rng.IntN(2) == 0, rng.IntN(2) == 0, rng.IntN(2) == 0)
				switch rng.IntN(4) {
				case 0:
					one.nobody()
				case 1:
					one.v6()
				case 2:
					one.Endpoints[0].Addresses[0] = fmt.Sprintf("10.0.9.%d", rng.IntN(4))
				}
				b.Endpoints = append(b.Endpoints, one.Endpoints...)
				if ref := one.Endpoints[0].TargetRef; ref != nil {
					newest[string(ref.UID)] = i
				}
			}
			in = append(in, b)
		}
		all := projectAll(in...)
		got := merge(all, choice{name: "grpc"}, seed%2 == 0)
		seen, uids := map[netip.AddrPort]bool{}, map[string]bool{}
		for _, e := range got {
			if len(e.Addrs) == 0 || len(e.Addrs) > 2 || seen[e.Addr()] || e.UID != "" && uids[e.UID] {
				t.Fatalf("%+v comes twice, or without an address, in %v", e, spell(got))
			}
			seen[e.Addr()], uids[e.UID] = true, true
			if e.UID == "" {
				continue
			}
			last := all[fmt.Sprintf("s%d", newest[e.UID])]
			if !slices.ContainsFunc(last.entries, func(o entry) bool {
				return o.UID == e.UID && o.Ready == e.Ready && o.Serving == e.Serving && o.Terminating == e.Terminating
			}) {
				t.Fatalf("%+v is not what the last slice says", e)
			}
		}
		again := merge(all, choice{name: "grpc"}, seed%2 == 0)
		if !slices.EqualFunc(got, again, endpoint.Endpoint.Equal) {
			t.Fatalf("merged twice: %v and %v", spell(got), spell(again))
		}
		normal := endpoint.Set{Endpoints: got}.Normalize().Endpoints
		if !slices.EqualFunc(got, normal, endpoint.Endpoint.Equal) {
			t.Fatalf("not normal: %v, %v", spell(got), spell(normal))
		}
	})
}
