package checks

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func namedPortMissing() diagnose.Check {
	return diagnose.Check{
		ID:       "named-port-missing",
		Title:    "selected pods do not declare the named target port",
		Severity: diagnose.Critical,
		Doc:      page("named-port-missing"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactPods},
		Run:      runNamedPortMissing,
	}
}

func runNamedPortMissing(v *diagnose.View) []diagnose.Finding {
	var out []diagnose.Finding
	for _, p := range v.Service.Ports {
		if _, err := strconv.Atoi(p.TargetPort); err == nil || p.TargetPort == "" {
			continue
		}
		if f, ok := missingPort(v, p); ok {
			out = append(out, f)
		}
	}
	return out
}

func missingPort(v *diagnose.View, p diagnose.ServicePort) (diagnose.Finding, bool) {
	var have, lack []*diagnose.Pod
	var nums []int32
	for _, pod := range v.Selected() {
		if pod.Terminating {
			continue
		}
		if n, ok := findPort(pod, p); ok {
			have, nums = append(have, pod), append(nums, n)
		} else {
			lack = append(lack, pod)
		}
	}
	if len(lack) == 0 {
		return diagnose.Finding{}, false
	}
	all := len(have) + len(lack)
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Critical, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("none of the %s declares a port named %s: port %d of the Service leads nowhere", count(all, "selected pod"), p.TargetPort, p.Port),
	}
	switch {
	case len(have) > 0:
		f.Severity = diagnose.High
		f.Summary = fmt.Sprintf("%d of %d selected pods %s no port named %s: no traffic there on port %d",
			len(lack), all, either(len(lack), "declares", "declare"), p.TargetPort, p.Port)
	case all == 1:
		f.Summary = fmt.Sprintf("the only selected pod declares no port named %s: port %d of the Service leads nowhere", p.TargetPort, p.Port)
	}
	order, byOwner := owners(lack)
	for _, o := range order {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s of %s %s %s, not %s.",
			count(len(byOwner[o]), "pod"), ownerRef(o), either(len(byOwner[o]), "declares", "declare"), declaredPorts(byOwner[o][0]), p.TargetPort))
	}
	f.Fixes = portFixes(v, p, order, byOwner, slices.Compact(slices.Sorted(slices.Values(nums))))
	return f, true
}

// findPort looks a named port up as the EndpointSlice controller does: by name and protocol, in containers and in
// init containers that keep running.
func findPort(pod *diagnose.Pod, p diagnose.ServicePort) (int32, bool) {
	for _, c := range pod.Containers {
		if c.Init && !c.Sidecar {
			continue
		}
		for _, cp := range c.Ports {
			if cp.Name == p.TargetPort && protocol(cp.Protocol) == protocol(p.Protocol) {
				return cp.Port, true
			}
		}
	}
	return 0, false
}

func protocol(p string) string {
	if p == "" {
		return "TCP"
	}
	return p
}

func declaredPorts(pod *diagnose.Pod) string {
	var out []string
	for _, c := range pod.Containers {
		for _, cp := range c.Ports {
			s := strconv.Itoa(int(cp.Port))
			if cp.Name != "" {
				s = cp.Name + "=" + s
			}
			if protocol(cp.Protocol) != "TCP" {
				s += "/" + cp.Protocol
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "no port at all"
	}
	return list(out)
}

// portFixes names the port in the pods' templates; when the pods leave no doubt about the number, pointing the
// Service at the number is the smaller change.
func portFixes(v *diagnose.View, p diagnose.ServicePort, order []diagnose.Owner, lack map[diagnose.Owner][]*diagnose.Pod, nums []int32) []diagnose.Fix {
	var out []diagnose.Fix
	if n, ok := certainPort(lack, nums); ok {
		spec := map[string]any{"ports": []map[string]any{{"port": p.Port, "protocol": protocol(p.Protocol), "targetPort": n}}}
		out = append(out, diagnose.Fix{
			Title:    fmt.Sprintf("target the number, %d, instead of the name", n),
			Commands: []diagnose.Command{patchService(v, spec)},
		})
	}
	name := diagnose.Fix{Title: "name the container port " + p.TargetPort + " in the pod template"}
	for _, o := range order {
		if hasTemplate(o) {
			c := kubectl(v.Service.Namespace, "edit", ownerRef(o))
			c.Note = "under containers[].ports: name: " + p.TargetPort
			name.Commands = append(name.Commands, c)
		}
	}
	if len(name.Commands) == 0 {
		c := kubectl(v.Service.Namespace, "edit", subject(v))
		c.Note = "under ports[].targetPort: a name or number that the pods declare"
		name = diagnose.Fix{Title: "target a port that the pods declare", Commands: []diagnose.Command{c}}
	}
	name.Caveats = []string{"Pods that are no servers (workers, jobs) should not be selected at all: narrow the selector instead."}
	return append(out, name)
}

// certainPort returns the one number on which all pods agree: those that have the name use it, and each of the others
// declares it under another name or none; without any pod that has the name, it must be their only port.
func certainPort(lack map[diagnose.Owner][]*diagnose.Pod, nums []int32) (int32, bool) {
	for _, pods := range lack {
		for _, pod := range pods {
			mine := tcpPorts(pod)
			if len(nums) == 0 && len(mine) == 1 {
				nums = mine
			}
			if len(nums) == 0 || !slices.Contains(mine, nums[0]) {
				return 0, false
			}
		}
	}
	return nums[0], len(nums) == 1
}

func tcpPorts(pod *diagnose.Pod) []int32 {
	var out []int32
	for _, c := range pod.Containers {
		for _, cp := range c.Ports {
			if (!c.Init || c.Sidecar) && protocol(cp.Protocol) == "TCP" {
				out = append(out, cp.Port)
			}
		}
	}
	return out
}
