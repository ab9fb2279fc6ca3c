//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clientFaults() []fault {
	const caller = "deploy/caller"

	return []fault{
		{
			check: "client-ip-target", args: static,
			objects: []any{server("backend"), service("backend")},
			then: func(s *space, _ *fault) {
				s.apply(client("caller", fmt.Sprintf("static://%s:6565", s.pods("backend")[0].Status.PodIP)))
				s.rollout("caller")
			},
			want: finding{diagnose.Critical, diagnose.Configured, caller, []string{"the address of one pod", "that is the address of pod backend-"}, ""},
		},
		{
			// The client need not run for it: it is what its manifest says.
			check: "client-passthrough", args: static,
			objects: []any{server("backend"), service("backend", headless), client("caller", "passthrough:///backend:6565")}, broken: []string{"caller"},
			want: finding{diagnose.High, diagnose.Configured, caller, []string{"the scheme passthrough", "passthrough:///backend:6565"}, "write the scheme: dns:///"},
		},
		{
			check: "client-target-unknown-service", args: static,
			objects: []any{server("backend"), service("backend", headless), client("caller", "dns:///bakend:6565")},
			want: finding{diagnose.High, diagnose.Configured, caller,
				[]string{"dns:///bakend:6565 names no Service that exists; the nearest is backend", "backend differs by 1 letter"}, "dial backend"},
		},
		{
			check: "scale-out-blind", args: []string{"--sockets", "--interval", "1s"},
			objects: []any{server("backend"), service("backend", headless)}, then: scaleOut,
			want: finding{diagnose.Critical, diagnose.Observed, "svc/backend",
				[]string{"2 of 4 ready pods, the newest, get no calls from clients that were there before", "holds 2 connections to 2 pods", "and has no connection"}, "end connections"},
		},
		{
			check: "linkerd-headless", args: static,
			objects: []any{server("backend"), service("backend", headless), client("caller", "dns:///backend:6565", sidecar("linkerd-proxy"))},
			want:    finding{diagnose.Medium, diagnose.Inferred, caller, []string{"Linkerd does not balance calls to a headless Service"}, "cluster IP"},
		},
		{
			check: "mesh-one-sided", name: "mesh-one-sided istio", args: oneSided,
			within:  time.Minute, // until the slices have both pods
			objects: []any{server("backend", sidecar("istio-proxy")), service("backend"), client("caller", "static://backend:6565")},
			want:    finding{diagnose.High, diagnose.Configured, caller, []string{"the servers are in Istio, this client is not", "2 of 2 ready pods"}, "Istio"},
		},
		{
			check: "mesh-one-sided", name: "mesh-one-sided linkerd", args: oneSided,
			within:  time.Minute, // until the slices have both pods
			objects: []any{server("backend", sidecar("linkerd-proxy")), service("backend"), client("caller", "static://backend:6565")},
			want:    finding{diagnose.High, diagnose.Configured, caller, []string{"the servers are in Linkerd, this client is not"}, "Linkerd"},
		},
	}
}

// oneSided leaves out clusterip-pinned, which says of the same clients that they are outside of the mesh; mesh-one-sided is silent then.
var oneSided = append(slices.Clone(static), "--skip", "clusterip-pinned")

// scaleOut starts a client, adds two pods once it is connected to those that there are,
// and waits until the new ones are old enough for their idleness to mean
// something: stock gRPC asks DNS again at most every 30 s.
func scaleOut(s *space, _ *fault) {
	s.Helper()
	s.endpoints("backend", 2)
	s.apply(client("caller", "dns:///backend:6565")) // now that DNS has both pods: it will not ask again
	s.rollout("caller")
	s.eventually("calls on both pods", time.Minute, func() (bool, string) {
		r, o := s.diagnose("backend", "--sockets", "--interval", "1s")
		return r.Spread.State == diagnose.SpreadEven, o.String()
	})
	s.kubectl("scale", "deploy/backend", "--replicas=4")
	s.rollout("backend")
	const settled = 32 * time.Second
	s.eventually("the new pods to be known for long", settled+time.Minute, func() (bool, string) {
		youngest := time.Duration(1 << 62)
		for _, p := range s.pods("backend") {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					youngest = min(youngest, time.Since(c.LastTransitionTime.Time))
				}
			}
		}
		return youngest > settled, "ready for " + youngest.String()
	})
}
