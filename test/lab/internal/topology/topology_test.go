package topology

import (
	"net/netip"
	"testing"
)

func TestNodesHaveDistinctAddressesInsideTheirNetworks(t *testing.T) {
	nodes, err := Nodes(MaxNodes)
	if err != nil {
		t.Fatal(err)
	}
	network := netip.MustParsePrefix(ControlAddr()).Masked()
	pods := netip.MustParsePrefix(PodCIDR)
	seen := map[string]string{ControlIP: "the control plane"}
	for i, n := range nodes {
		for _, s := range []string{n.Name, n.IP, n.PodCIDR, n.Netns, n.Veth, n.Cgroup} {
			if by, dup := seen[s]; dup {
				t.Errorf("%s and %s share %s", n.Name, by, s)
			}
			seen[s] = n.Name
		}
		if ip := netip.MustParseAddr(n.IP); !network.Contains(ip) {
			t.Errorf("%s: %s is outside %s", n.Name, ip, network)
		}
		cidr := netip.MustParsePrefix(n.PodCIDR)
		if !pods.Overlaps(cidr) {
			t.Errorf("%s: %s is outside %s", n.Name, cidr, pods)
		}
		if addresses := 1<<(32-cidr.Bits()) - 3; addresses < MaxPods {
			t.Errorf("%s: %d addresses for %d pods", n.Name, addresses, MaxPods)
		}
		if want := string("ab"[i%2]); n.Zone != want {
			t.Errorf("%s is in zone %s, want %s", n.Name, n.Zone, want)
		}
	}
}

func TestNodesRefusesCountsThatCannotBe(t *testing.T) {
	for _, n := range []int{-1, 0, MaxNodes + 1} {
		if _, err := Nodes(n); err == nil {
			t.Errorf("Nodes(%d) gave no error", n)
		}
	}
}

func TestFind(t *testing.T) {
	nodes, err := Nodes(2)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := Find(nodes, "n2"); !ok || n.Index != 2 {
		t.Errorf("Find(n2) = %v, %v", n, ok)
	}
	if _, ok := Find(nodes, "n3"); ok {
		t.Error("Find(n3) found a node that is not there")
	}
}
