package diagnose

import "strings"

// Resolver says whom a client asks for the addresses behind a target.
type Resolver string

// The resolvers, by what the scheme of a target says.
const (
	// ResolverName is asked for what the name stands for: DNS, a static name, the dialler. A Service with a cluster IP answers with that one
	// address, a headless one with its pods'. dnssrv belongs here too: the SRV record of a Service with a cluster IP names that address.
	ResolverName Resolver = "name"
	// ResolverPods reads the Service's endpoints from the API (kubernetes, k8s): the client knows the pods, and dials their ports, whatever
	// kind of Service it is. Its policy decides how many of them it uses.
	ResolverPods Resolver = "pods"
	// ResolverXDS is a control plane (xds, google-c2p; gRFC A27), which says where the pods are and how to balance over them. The target is the
	// name of a resource there, and its host and port are no address.
	ResolverXDS Resolver = "xds"
)

// Resolver returns whom a client that dials this target asks for addresses.
func (t Target) Resolver() Resolver {
	switch t.Scheme {
	case "kubernetes", "k8s":
		return ResolverPods
	case "xds", "google-c2p":
		return ResolverXDS
	}
	return ResolverName
}

// Balances reports whether a client that dials this target is known to spread its calls over the pods by itself, whatever kind of Service
// it names: a control plane tells it to, it knows the pods and names a policy that uses them all, or the refresher beside it does so.
func (t Target) Balances() bool {
	return t.Sidecar || t.Resolver() == ResolverXDS || t.Resolver() == ResolverPods && t.SpreadingPolicy()
}

// SpreadingPolicy reports whether the policy seen beside the target uses every address that it is given. False also when none was seen:
// the default of all gRPC libraries, pick_first, uses one.
func (t Target) SpreadingPolicy() bool {
	return t.Policy != "" && t.Policy != "pick_first"
}

// LoneWord reports whether the target is one word without scheme, port or any sign of gRPC: that it is dialled at all, and by gRPC, is
// a guess from the name of what holds it.
func (t Target) LoneWord() bool {
	return t.Scheme == "" && t.Port == 0 && !t.GRPC && !strings.ContainsAny(t.Host, ".:") && !strings.Contains(strings.ToLower(t.Name), "grpc")
}
