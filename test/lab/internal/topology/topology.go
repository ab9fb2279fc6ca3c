// Package topology holds the lab's fixed names and addresses: which namespace
// is whose, and what lives at which address.
//
// It is data only. Every address is private to the lab's own network
// namespaces, none of which has a link to the machine's network, so they can
// collide with nothing outside.
package topology

import (
	"fmt"
	"net/netip"
)

const (
	// MaxNodes is the most nodes a cluster may have.
	MaxNodes = 8
	// DefaultNodes is how many it has unless told otherwise.
	DefaultNodes = 2

	// NetnsPrefix starts the name of every network namespace of the lab.
	NetnsPrefix = "grpclb-"
	// ControlNetns is the namespace of the control plane; its bridge joins the nodes.
	ControlNetns = NetnsPrefix + "cp"
	// Bridge is the name of that bridge.
	Bridge = "br0"
	// CgroupBase is the cgroup, from the hierarchy's root, that holds all others of the lab.
	CgroupBase = "grpclb-lab"
	// ControlCgroup holds the processes of the control plane.
	ControlCgroup = CgroupBase + "/cp"

	// ControlIP is where the API server listens, with the prefix of the node network.
	ControlIP   = "10.66.0.1"
	nodePrefix  = 24
	firstNodeIP = 10

	// PodCIDR holds every node's range of pod addresses.
	PodCIDR = "10.244.0.0/16"
	// ServiceCIDR is the range of ClusterIPs.
	ServiceCIDR = "10.96.0.0/16"
	// APIServiceIP is the ClusterIP of default/kubernetes: the first of ServiceCIDR.
	APIServiceIP = "10.96.0.1"
	// DNSIP is the ClusterIP of kube-system/kube-dns.
	DNSIP = "10.96.0.10"
	// ClusterDomain is the DNS suffix of the cluster.
	ClusterDomain = "cluster.local"

	// MaxPods is a node's limit. A /24 gives 253 pod addresses beside the gateway's.
	MaxPods = 250
)

// APIURL is the API server's address inside the lab.
const APIURL = "https://" + ControlIP + ":6443"

// Node is one node of the cluster.
type Node struct {
	// Index counts from 1.
	Index int
	// Name is the Kubernetes node's name and the host name seen inside it.
	Name string
	// Zone is its topology.kubernetes.io/zone: a, b, a, b, ...
	Zone string
	// Netns is its network namespace; Veth its interface on the control plane's bridge.
	Netns, Veth string
	// IP is its address on the bridge; Addr the same with the prefix length.
	IP, Addr string
	// PodCIDR is its range of pod addresses, the first one being its gateway.
	PodCIDR string
	// Cgroup holds everything of the node, below [CgroupBase].
	Cgroup string
}

// ControlAddr is [ControlIP] with the prefix length of the node network.
func ControlAddr() string {
	return fmt.Sprintf("%s/%d", ControlIP, nodePrefix)
}

// Nodes returns the first n nodes. It reports an error when n is not between 1 and [MaxNodes].
func Nodes(n int) ([]Node, error) {
	if n < 1 || n > MaxNodes {
		return nil, fmt.Errorf("a lab has 1 to %d nodes, not %d", MaxNodes, n)
	}
	base := netip.MustParseAddr(ControlIP).As4()
	nodes := make([]Node, n)
	for i := range nodes {
		index := i + 1
		ip := base
		ip[3] = byte(firstNodeIP + index)
		name := fmt.Sprintf("n%d", index)
		addr := netip.AddrFrom4(ip)
		nodes[i] = Node{
			Index:   index,
			Name:    name,
			Zone:    string("ab"[i%2]),
			Netns:   NetnsPrefix + name,
			Veth:    fmt.Sprintf("v%d", index),
			IP:      addr.String(),
			Addr:    netip.PrefixFrom(addr, nodePrefix).String(),
			PodCIDR: fmt.Sprintf("10.244.%d.0/24", index),
			Cgroup:  CgroupBase + "/" + name,
		}
	}
	return nodes, nil
}

// Find returns the node called name among nodes.
func Find(nodes []Node, name string) (Node, bool) {
	for _, n := range nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}
