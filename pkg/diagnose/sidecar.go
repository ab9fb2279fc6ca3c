package diagnose

import (
	"net/netip"
	"slices"
)

// What `inject` writes into a pod template, and what tells it there again.
const (
	// InjectedAnnotation on a pod template holds the record of an injection as JSON; on a headless Service, TwinMark.
	InjectedAnnotation = "grpclb.dev/injected"
	// TwinMark is the value on a headless Service that came with an injection.
	TwinMark = "twin"
	// SidecarName is the name of the injected container.
	SidecarName = "grpclb-refresher"
	// SidecarFirstIP is the loopback address of the first Service of a pod; the others follow.
	SidecarFirstIP = "127.0.0.10"
	// SidecarFirstPort is the first port on 127.0.0.1 in mode env.
	SidecarFirstPort = 15661
	// SidecarAdminPort serves /healthz, /readyz and /metrics on the pod's address.
	SidecarAdminPort = 15650
	// SidecarDebugPort serves the pools page on 127.0.0.1.
	SidecarDebugPort = 15651
)

// Sidecar is what a workload's pod template has of an injected refresher. A template may have parts of it only: then it is broken.
type Sidecar struct {
	// Annotated is true when the record of the injection is there.
	Annotated bool `json:"annotated,omitempty"`
	// Container is true when the container is there; Native when it is an init container that keeps running (KEP-753).
	Container bool `json:"container,omitempty"`
	Native    bool `json:"native,omitempty"`
	// Routes are the pairs of --listen and --target, as far as the target names a Service of the cluster.
	Routes []SidecarRoute `json:"routes,omitempty"`
	// Aliases are the hostAliases to loopback addresses, as far as they hold names of Services.
	Aliases []SidecarAlias `json:"aliases,omitempty"`
}

// SidecarRoute is one listener of a sidecar and the pods that it gives the calls to.
type SidecarRoute struct {
	Listen  netip.AddrPort `json:"listen"`
	Service Key            `json:"service"` // whose pods are meant: the headless twin, as a rule
	Port    int32          `json:"port"`    // in the pods
}

// SidecarAlias leads the names of one Service to a loopback address.
type SidecarAlias struct {
	IP      string `json:"ip"`
	Service Key    `json:"service"`
}

// Leads reports where the template's aliases lead the name of a Service; false when it resolves as everywhere.
func (s *Sidecar) Leads(service Key) (ip string, ok bool) {
	if s == nil {
		return "", false
	}
	i := slices.IndexFunc(s.Aliases, func(a SidecarAlias) bool { return a.Service == service })
	if i < 0 {
		return "", false
	}
	return s.Aliases[i].IP, true
}

// To returns the routes to a Service.
func (s *Sidecar) To(service Key) []SidecarRoute {
	if s == nil {
		return nil
	}
	var out []SidecarRoute
	for _, r := range s.Routes {
		if r.Service == service {
			out = append(out, r)
		}
	}
	return out
}

// At returns the routes that listen on an address.
func (s *Sidecar) At(ip string) []SidecarRoute {
	if s == nil {
		return nil
	}
	var out []SidecarRoute
	for _, r := range s.Routes {
		if r.Listen.Addr().String() == ip {
			out = append(out, r)
		}
	}
	return out
}
