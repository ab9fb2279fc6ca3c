package checks

import (
	"cmp"
	"encoding/json"
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
			out = append(out, noReadiness(v, o, pods, newest, c, sure))
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

func noReadiness(v *diagnose.View, o diagnose.Owner, pods []*diagnose.Pod, p *diagnose.Pod, c diagnose.Container, sure bool) diagnose.Finding {
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
	port := firstPort(v)
	s := soundOf(v, pods, port)
	if s.words != "" {
		f.Evidence = append(f.Evidence, fmt.Sprintf("Port %d of the pods asked %s; they count as ready all the same.", port, s.words))
		f.Severity = min(f.Severity, s.severity)
	}
	if port == 0 || s.words != "" || !hasTemplate(o) {
		title := "add a readiness probe on the gRPC port"
		if s.words != "" {
			title = "let the servers answer on the port first, then add a readiness probe"
		}
		f.Fixes = []diagnose.Fix{{
			Title:    title,
			Commands: []diagnose.Command{kubectl(v.Service.Namespace, "explain", "pod.spec.containers.readinessProbe")},
		}}
		return f
	}
	f.Fixes = []diagnose.Fix{addProbe(v, f.Subject, c, port, s)}
	return f
}

// addProbe is the patch that gives a container its probe, as YAML to keep and as a command to run.
func addProbe(v *diagnose.View, subject string, c diagnose.Container, port int32, s sound) diagnose.Fix {
	list := "containers"
	if c.Init {
		list = "initContainers"
	}
	patch := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		list: []any{map[string]any{"name": c.Name, "readinessProbe": map[string]any{s.probe: map[string]any{"port": port}}}},
	}}}}
	fix := diagnose.Fix{
		Title:   fmt.Sprintf("add a readiness probe on port %d", port),
		Caveats: []string{s.caveat, "The patch replaces the pods, by the workload's own rollout rules."},
	}
	y, err := yaml.Marshal(patch)
	if err != nil {
		return fix // maps of strings and numbers always marshal
	}
	j, err := json.Marshal(patch)
	if err != nil {
		return fix
	}
	fix.Patches = []diagnose.Patch{{Namespace: v.Service.Namespace, Subject: subject, YAML: string(y)}}
	fix.Commands = []diagnose.Command{kubectl(v.Service.Namespace, "patch", subject, "--type", "strategic", "-p", string(j))}
	return fix
}

// firstPort returns a number on which the pods serve gRPC; 0 when none is known.
func firstPort(v *diagnose.View) int32 {
	for _, sp := range v.GRPCPorts() {
		if nums := v.PodPorts(sp); len(nums) > 0 {
			return nums[0]
		}
	}
	return 0
}

// sound is what was heard on a workload's port, and what a probe can ask of it.
type sound struct {
	probe  string // grpc or tcpSocket
	caveat string
	// words say that nothing answers as gRPC: no probe would help before that is mended.
	words    string
	severity diagnose.Severity // at most, when words are said
}

// soundOf chooses the kind of probe by what was heard. The kubelet's gRPC probe takes SERVING from the health service (grpc.health.v1), in
// plaintext, for an answer and nothing else (KEP-2727); a probe that can never pass would keep every new pod out. Without proof an open
// port is what is asked for.
func soundOf(v *diagnose.View, pods []*diagnose.Pod, port int32) sound {
	best := sound{probe: "tcpSocket", caveat: fmt.Sprintf("An open port proves less than an answer: where the servers offer the health service (grpc.health.v1) in plaintext, which was not looked at, write grpc: {port: %d}.", port)}
	rank, silent := 0, true
	for _, p := range pods {
		i := slices.IndexFunc(v.Ports.Value, func(h diagnose.PortProbe) bool { return h.Pod == p.Key && h.Port == port && h.Proto != "" })
		if i < 0 {
			continue
		}
		h := v.Ports.Value[i]
		silent = silent && (h.Proto == "silent" || h.Proto == "closed")
		if s, r := probeFor(h); r > rank {
			best, rank = s, r
		}
	}
	if best.words != "" && silent {
		best.severity = diagnose.High
	}
	return best
}

// probeFor judges one answer; of several, the one with the highest rank says what the servers can do.
func probeFor(h diagnose.PortProbe) (sound, int) {
	tcp := func(why string) sound {
		return sound{probe: "tcpSocket", caveat: why + ": an open port proves less than an answer."}
	}
	a, wrong := answers[h.Proto]
	switch {
	case wrong && h.Proto != "h2c":
		return sound{words: a.words, severity: diagnose.Low}, 1
	case h.TLS != nil || h.Proto == "tls":
		return tcp("The port speaks TLS, which the kubelet's gRPC probe does not"), 6
	case h.Proto == "grpc" && h.Health == "SERVING":
		return sound{probe: "grpc", caveat: "The servers answered a health check with SERVING."}, 5
	case h.Proto == "grpc" && h.Health == "NOT_SERVING":
		return sound{probe: "grpc", caveat: "The servers answered a health check with NOT_SERVING: new pods stay unready until they answer SERVING."}, 4
	case h.Proto == "grpc" && h.Health == "UNIMPLEMENTED":
		return tcp("The servers have no health service (grpc.health.v1), which a gRPC probe needs"), 3
	case h.Proto == "grpc" && h.Health != "":
		return tcp("The servers answered a health check with " + h.Health + ", and the kubelet's gRPC probe takes SERVING only"), 3
	case h.Proto == "grpc":
		return tcp("The servers did not answer a health check"), 3
	case h.Proto == "h2c":
		return tcp("The port speaks HTTP/2, and did not answer as gRPC"), 2
	}
	return sound{}, 0
}
