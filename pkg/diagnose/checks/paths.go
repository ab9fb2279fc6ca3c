package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// path says who chooses the pod for a client's calls to the Service.
type path int

const (
	// pathDirect has no proxy in it: the data plane of the cluster IP chooses, once for each connection.
	pathDirect path = iota
	// pathRequest goes through a proxy that chooses for each request.
	pathRequest
	// pathConnection goes through a proxy that does not see requests, and chooses once for each connection.
	pathConnection
	// pathUnsure goes through a proxy of which it is not known what it sees.
	pathUnsure
	// pathOwn needs nobody: the client knows the pods by its own resolver, and its policy chooses.
	pathOwn
	// pathOwnUnsure is pathOwn of a client whose policy uses one pod, or is not known.
	pathOwnUnsure
)

// relying leaves out the targets whose clients spread their calls by themselves: what the Service's name stands for, and what stands
// between, is nothing to them. Every check that reasons about how a client finds its pods starts from here.
func relying(cs []diagnose.Client) []diagnose.Client {
	return dialling(cs, func(t diagnose.Target) bool { return !t.Balances() })
}

// byItsName narrows clients down to the targets that lead to whatever the Service's name stands for.
func byItsName(cs []diagnose.Client) []diagnose.Client {
	return dialling(cs, func(t diagnose.Target) bool { return t.Resolver() == diagnose.ResolverName && !t.Sidecar })
}

// ownResolver judges a client none of whose targets goes by the Service's name.
func ownResolver(c diagnose.Client) (path, string) {
	left := relying([]diagnose.Client{c})
	if len(left) == 0 {
		return pathOwn, ""
	}
	t := left[0].Targets[0]
	if t.Policy != "" {
		return pathOwnUnsure, fmt.Sprintf("its resolver (%s) knows the pods, but %s keeps to one of them", t.Scheme, t.Policy)
	}
	return pathOwnUnsure, fmt.Sprintf("its resolver (%s) knows the pods, and how many of them it uses depends on its policy, which was not seen", t.Scheme)
}

// guessed reports whether a client is one only by lone words, of which it is not sure that they are dialled by gRPC.
func guessed(c diagnose.Client) bool {
	return !slices.ContainsFunc(c.Targets, func(t diagnose.Target) bool { return !t.LoneWord() })
}

// doubt makes a finding about a client milder when the client is guessed and was not seen connected.
func doubt(f diagnose.Finding, c diagnose.Client, s diagnose.Spread) diagnose.Finding {
	if guessed(c) && flowsOf(s, c.Workload).total == 0 {
		f.Severity, f.Confidence = min(f.Severity, diagnose.Medium), diagnose.Inferred
		f.Evidence = append(f.Evidence, "The target is "+guess+".")
	}
	return f
}

// guess is what is said of a client that is guessed.
const guess = "a lone word without port or scheme: that gRPC is dialled by it is a guess"

// pathOf judges the way of one client's calls, with the reason when it is not the plain one. The rules are those of
// the meshes' documentation: Linkerd and Istio sidecars balance requests on connections that they can read; ports
// that are skipped or opaque, and TLS that the application does itself, are bytes to them; Istio's ambient ztunnel
// works on connections only, and needs a waypoint for requests.
func pathOf(v *diagnose.View, c diagnose.Client) (path, string) {
	named := byItsName([]diagnose.Client{c})
	if len(named) == 0 {
		return ownResolver(c)
	}
	c = named[0]
	m := c.Workload.Mesh
	if !m.In() {
		return pathDirect, ""
	}
	if m.Mode == "ambient" {
		return pathUnsure, "in Istio's ambient mode only a waypoint balances requests, and whether one serves this Service is not known"
	}
	if port, ok := skipped(v, c); ok {
		return pathDirect, fmt.Sprintf("it is in %s, but port %d is set to skip its proxy", meshName(m.Kind), port)
	}
	if _, port, ok := opaque(v); ok {
		return pathConnection, fmt.Sprintf("it is in %s, but port %d is opaque to the proxy, which then balances connections only", meshName(m.Kind), port)
	}
	if pod, port, ok := ownTLS(v); ok {
		return pathConnection, fmt.Sprintf("it is in %s, but %s does its own TLS on port %d, so that the proxy sees bytes and balances connections only",
			meshName(m.Kind), pod.Name, port)
	}
	return pathRequest, "it is in " + meshName(m.Kind) + ", which balances requests"
}

// dialled lists the ports that a target may mean: the one written, else the Service's gRPC ports.
func dialled(v *diagnose.View, t diagnose.Target) []int32 {
	if t.Port != 0 {
		return []int32{t.Port}
	}
	var out []int32
	for _, p := range v.GRPCPorts() {
		out = append(out, p.Port)
	}
	return out
}

// skipped returns a port that a client dials past its own proxy.
func skipped(v *diagnose.View, c diagnose.Client) (int32, bool) {
	for _, t := range c.Targets {
		for _, port := range dialled(v, t) {
			if portListed(c.Workload.Mesh.SkipOutbound, port) {
				return port, true
			}
		}
	}
	return 0, false
}

// opaque returns a gRPC port that the mesh of a server pod was told not to look into.
func opaque(v *diagnose.View) (*diagnose.Pod, int32, bool) {
	for _, p := range v.GRPCPorts() {
		for _, n := range append(v.PodPorts(p), p.Port) {
			for _, e := range v.Ready() {
				if pod := v.Pod(e.Pod); pod != nil && portListed(pod.Mesh.Opaque, n) {
					return pod, n, true
				}
			}
		}
	}
	return nil, 0, false
}

// ownTLS returns a pod whose application answered with TLS of its own on a gRPC port.
func ownTLS(v *diagnose.View) (diagnose.Key, int32, bool) {
	for _, h := range heardOn(v) {
		if h.TLS != nil {
			return h.Pod, h.Port, true
		}
	}
	return diagnose.Key{}, 0, false
}

// heardOn returns what was heard on the gRPC ports of ready pods.
func heardOn(v *diagnose.View) []diagnose.PortProbe {
	var nums []int32
	for _, p := range v.GRPCPorts() {
		nums = append(nums, v.PodPorts(p)...)
	}
	ready := map[diagnose.Key]bool{}
	for _, e := range v.Ready() {
		ready[e.Pod] = true
	}
	var out []diagnose.PortProbe
	for _, h := range v.Ports.Value {
		if ready[h.Pod] && slices.Contains(nums, h.Port) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b diagnose.PortProbe) int { return cmp.Or(a.Pod.Compare(b.Pod), cmp.Compare(a.Port, b.Port)) })
	return out
}

// portListed reports whether a list of ports and ranges, as an annotation writes them, holds a port.
func portListed(ports []string, port int32) bool {
	for _, p := range ports {
		from, to, isRange := strings.Cut(strings.TrimSpace(p), "-")
		lo, err := strconv.ParseInt(from, 10, 32)
		if err != nil {
			if from == "*" {
				return true
			}
			continue
		}
		hi := lo
		if isRange {
			if hi, err = strconv.ParseInt(to, 10, 32); err != nil {
				continue
			}
		}
		if int64(port) >= lo && int64(port) <= hi {
			return true
		}
	}
	return false
}

// meshName writes a mesh's name as its project does.
func meshName(kind string) string {
	switch kind {
	case "linkerd":
		return "Linkerd"
	case "istio":
		return "Istio"
	}
	return kind
}
