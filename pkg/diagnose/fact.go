package diagnose

// State says how much is known about a [Fact].
type State string

// The states of a fact. The zero value is [NotAsked].
const (
	NotAsked State = ""       // nobody asked for it (a shallower depth, a flag not given)
	Known    State = "known"  // asked and answered; an empty value means "there is none"
	Denied   State = "denied" // the cluster refused: authentication, RBAC, admission
	Failed   State = "failed" // asked, and no usable answer came: time-out, 404, 5xx, garbage
)

// FactName names a group of facts, as printed in reports and in Check.Needs.
type FactName string

// The groups of facts of a snapshot.
const (
	FactServices   FactName = "services"
	FactSlices     FactName = "endpointslices"
	FactPods       FactName = "pods"
	FactNodes      FactName = "nodes"
	FactWorkloads  FactName = "workloads"
	FactConfigMaps FactName = "configmaps"
	FactMetrics    FactName = "metrics"
	FactDNS        FactName = "dns"
	FactPorts      FactName = "ports"
	FactSockets    FactName = "sockets"
	FactProbes     FactName = "probes"
)

// FactNames lists the groups in the order in which they are collected.
var FactNames = []FactName{
	FactServices, FactSlices, FactPods, FactNodes, FactWorkloads, FactConfigMaps, FactMetrics, FactDNS, FactPorts, FactSockets, FactProbes,
}

// Status is the part of a fact that does not depend on the type of its value.
type Status struct {
	State State `json:"state,omitempty"`
	// Reason is one lower-case clause for State Denied, Failed or NotAsked: "may not list pods in default".
	Reason string `json:"reason,omitempty"`
	// Hint is what the reader can do about it, one clause; empty when nothing is known to help.
	Hint string `json:"hint,omitempty"`
}

// Fact is a value together with how it came about. Read Value only when State is Known.
type Fact[T any] struct {
	Status
	Value T `json:"value,omitzero"`
}

// Know returns a known fact.
func Know[T any](v T) Fact[T] { return Fact[T]{Status: Status{State: Known}, Value: v} }

// Unknown returns a fact that was asked for and not obtained (s is Denied or Failed) or never asked for.
func Unknown[T any](s State, reason, hint string) Fact[T] {
	return Fact[T]{Status: Status{State: s, Reason: reason, Hint: hint}}
}

// Known reports whether the value may be used.
func (s Status) Known() bool { return s.State == Known }

// Status returns the status of the named group of facts; an unknown name counts as not asked.
func (s *Snapshot) Status(n FactName) Status {
	switch n {
	case FactServices:
		return s.Services.Status
	case FactSlices:
		return s.Slices.Status
	case FactPods:
		return s.Pods.Status
	case FactNodes:
		return s.Nodes.Status
	case FactWorkloads:
		return s.Workloads.Status
	case FactConfigMaps:
		return s.ConfigMaps.Status
	case FactMetrics:
		return s.Metrics.Status
	case FactDNS:
		return s.DNS.Status
	case FactPorts:
		return s.Ports.Status
	case FactSockets:
		return s.Sockets.Status
	case FactProbes:
		return s.Probes.Status
	}
	return Status{Reason: "no such fact: " + string(n)}
}
