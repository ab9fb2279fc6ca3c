package checks

import (
	"cmp"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func readinessMissing() diagnose.Check {
	return diagnose.Check{
		ID:       "readiness-missing",
		Title:    "the servers have no readiness probe: pods get calls before they can answer",
		Severity: diagnose.High,
		Doc:      page("readiness-missing"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactPods},
		GRPCOnly: true,
		Run:      runReadinessMissing,
	}
}

func runReadinessMissing(v *diagnose.View) []diagnose.Finding {
	var nums []int32
	for _, p := range v.GRPCPorts() {
		nums = append(nums, v.PodPorts(p)...)
	}
	var out []diagnose.Finding
	live := slices.DeleteFunc(v.Selected(), func(p *diagnose.Pod) bool { return p.Terminating })
	order, byOwner := owners(live)
	for _, o := range order {
		pods := byOwner[o]
		newest := slices.MaxFunc(pods, func(a, b *diagnose.Pod) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
		})
		if c, sure, ok := unprobed(newest, nums); ok {
			out = append(out, noReadiness(v, o, newest, c, sure))
		}
	}
	return out
}

// unprobed returns the container that serves gRPC without a readiness probe. The one that declares the port is sure;
// a pod's only container, or all of several that declare nothing, are taken for it.
func unprobed(p *diagnose.Pod, nums []int32) (c diagnose.Container, sure, ok bool) {
	var mine, all []diagnose.Container
	for _, c := range p.Containers {
		if c.Init && !c.Sidecar || isProxy(c) {
			continue
		}
		if slices.ContainsFunc(c.Ports, func(cp diagnose.ContainerPort) bool { return slices.Contains(nums, cp.Port) }) {
			mine = append(mine, c)
		}
		if !c.Init {
			all = append(all, c)
		}
	}
	sure = len(mine) > 0
	if !sure {
		mine = all
	}
	if len(mine) == 0 || slices.ContainsFunc(mine, func(c diagnose.Container) bool { return c.Readiness != nil }) {
		return diagnose.Container{}, false, false
	}
	return mine[0], sure || len(mine) == 1, true
}

// isProxy recognises a mesh's container by the name that its injector gives it.
func isProxy(c diagnose.Container) bool { return c.Name == "linkerd-proxy" || c.Name == "istio-proxy" }

func noReadiness(v *diagnose.View, o diagnose.Owner, p *diagnose.Pod, c diagnose.Container, sure bool) diagnose.Finding {
	f := diagnose.Finding{
		Subject: ownerRef(o), Severity: diagnose.High, Confidence: diagnose.Configured,
		Summary:  fmt.Sprintf("container %s has no readiness probe: its pods get calls as soon as the process starts", c.Name),
		Evidence: []string{fmt.Sprintf("%s of pod %s declares no readinessProbe, so that the pod counts as ready before its server listens.", c.Name, p.Name)},
	}
	if !sure {
		f.Confidence = diagnose.Inferred
		f.Summary = "no container has a readiness probe: the pods get calls as soon as their processes start"
		f.Evidence = append(f.Evidence, "Which container serves the port is not known: none declares it.")
	}
	port, probe, caveats := probeFor(v, p)
	if port == 0 || !hasTemplate(o) {
		f.Fixes = []diagnose.Fix{{
			Title:    "add a readiness probe on the gRPC port",
			Commands: []diagnose.Command{kubectl(v.Service.Namespace, "explain", "pod.spec.containers.readinessProbe.grpc")},
		}}
		return f
	}
	b, err := yaml.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": c.Name, "readinessProbe": probe}},
	}}}})
	if err != nil {
		return f // maps of strings and numbers always marshal
	}
	f.Fixes = []diagnose.Fix{{
		Title:   fmt.Sprintf("add a readiness probe on port %d", port),
		Patches: []diagnose.Patch{{Namespace: v.Service.Namespace, Subject: f.Subject, YAML: string(b)}},
		Caveats: append(caveats, "The patch replaces the pods, by the workload's own rollout rules."),
	}}
	return f
}

// probeFor chooses the kind of probe by what was heard: the kubelet's gRPC probe needs the health service
// (grpc.health.v1) in plaintext (KEP-2727); without it, an open port is all that can be asked.
func probeFor(v *diagnose.View, p *diagnose.Pod) (int32, map[string]any, []string) {
	var port int32
	for _, sp := range v.GRPCPorts() {
		if nums := v.PodPorts(sp); len(nums) > 0 {
			port = nums[0]
			break
		}
	}
	if port == 0 {
		return 0, nil, nil
	}
	tcp := map[string]any{"tcpSocket": map[string]any{"port": port}}
	grpc := map[string]any{"grpc": map[string]any{"port": port}}
	for _, h := range v.Ports.Value {
		if h.Pod != p.Key || h.Port != port {
			continue
		}
		switch {
		case h.TLS != nil:
			return port, tcp, []string{"The port speaks TLS, which the kubelet's gRPC probe does not: an open port proves less than an answer."}
		case h.Health == "UNIMPLEMENTED":
			return port, tcp, []string{"The servers have no health service (grpc.health.v1): an open port proves less than an answer."}
		case h.Health != "":
			return port, grpc, []string{"The servers answered a health check with " + h.Health + "."}
		}
	}
	return port, grpc, []string{"The servers must offer the health service (grpc.health.v1) in plaintext; whether they do was not seen."}
}
