package checks

import (
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clientIPTarget() diagnose.Check {
	return diagnose.Check{
		ID:       "client-ip-target",
		Title:    "a client dials a fixed address that never follows the pods",
		Severity: diagnose.Critical,
		Doc:      page("client-ip-target"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactWorkloads},
		GRPCOnly: true,
		Run:      runClientIPTarget,
	}
}

func runClientIPTarget(v *diagnose.View) []diagnose.Finding {
	var out []diagnose.Finding
	for _, w := range v.Workloads.Value {
		f := diagnose.Finding{Subject: w.Ref(), Confidence: diagnose.Configured}
		var bad []diagnose.Target
		for _, t := range w.Targets {
			sev, conf, summary, evidence := fixedTarget(v, w, t)
			if sev == 0 {
				continue
			}
			bad = append(bad, t)
			f.Evidence = append(f.Evidence, workload(v, w)+" dials "+dials(t)+": "+evidence+".")
			if sev > f.Severity {
				f.Severity, f.Confidence, f.Summary = sev, conf, summary
			}
		}
		if len(bad) == 0 {
			continue
		}
		if fix, ok := retargetAll([]diagnose.Client{{Workload: w, Targets: bad}}, "dial the Service by its name",
			func(t diagnose.Target) aim { return byName(v, t) }); ok {
			f.Fixes = append(f.Fixes, fix)
		}
		if len(f.Fixes) == 0 || !v.Service.Headless() {
			f.Fixes = append(f.Fixes, fixHeadless(v))
		}
		out = append(out, f)
	}
	return out
}

// fixedTarget judges one target; a zero severity means that it is none of this check's business.
func fixedTarget(v *diagnose.View, w diagnose.Workload, t diagnose.Target) (sev diagnose.Severity, conf diagnose.Confidence, summary, evidence string) {
	if !onGRPCPort(v, t) || t.Resolver() == diagnose.ResolverXDS {
		return 0, "", "", ""
	}
	switch {
	case t.Kind == diagnose.TargetIP && t.Pod != (diagnose.Key{}):
		if !slices.ContainsFunc(v.Endpoints(), func(e diagnose.Endpoint) bool { return e.Pod == t.Pod }) {
			return 0, "", "", ""
		}
		return diagnose.Critical, diagnose.Configured, "the target is the address of one pod: all calls go there, and end when the pod is replaced",
			"that is the address of pod " + t.Pod.Name
	case t.Kind == diagnose.TargetIP && t.Service == v.Service.Key && !w.Mesh.In():
		return diagnose.Medium, diagnose.Configured, "the target is the Service's cluster IP as a number: it cannot follow the pods, nor a Service made anew",
			"that is the cluster IP of " + subject(v)
	case t.Kind == diagnose.TargetService && t.Service == v.Service.Key && t.Scheme == "static" && v.Service.Headless() && !t.Sidecar:
		return diagnose.Critical, diagnose.Inferred, "the scheme static looks the name up once: pods that come later are never found",
			"clients that know this scheme (gRPC-Spring) take one of the headless Service's addresses when the channel is made, and keep it"
	}
	return 0, "", "", ""
}

// onGRPCPort reports whether a target means a port on which this Service speaks gRPC, by its own number or the pods'.
func onGRPCPort(v *diagnose.View, t diagnose.Target) bool {
	if t.Port == 0 {
		return true
	}
	return slices.ContainsFunc(v.GRPCPorts(), func(p diagnose.ServicePort) bool {
		return p.Port == t.Port || slices.Contains(v.PodPorts(p), t.Port)
	})
}

// byName aims at the Service's name, at the port that its kind of Service answers on. Schemes that keep an address give way to dns.
func byName(v *diagnose.View, t diagnose.Target) aim {
	a := aim{host: fqdn(v, v.Service.Key), port: t.Port}
	for _, p := range v.GRPCPorts() {
		nums := v.PodPorts(p)
		if p.Port != t.Port && !slices.Contains(nums, t.Port) {
			continue
		}
		a.port = p.Port
		if v.Service.Headless() && len(nums) > 0 {
			a.port = nums[0]
		}
		break
	}
	if slices.Contains([]string{"static", "passthrough", "ipv4", "ipv6"}, t.Scheme) {
		a.scheme = "dns"
	}
	return a
}
