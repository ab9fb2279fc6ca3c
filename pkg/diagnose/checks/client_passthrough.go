package checks

import (
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clientPassthrough() diagnose.Check {
	return diagnose.Check{
		ID:       "client-passthrough",
		Title:    "a client's target is not resolved by gRPC, so that its policy sees one address",
		Severity: diagnose.High,
		Doc:      page("client-passthrough"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactWorkloads},
		GRPCOnly: true,
		Run:      runClientPassthrough,
	}
}

func runClientPassthrough(v *diagnose.View) []diagnose.Finding {
	if !v.Service.Headless() {
		return nil // one address is all that a cluster IP has to offer
	}
	spread := v.Spread()
	var out []diagnose.Finding
	for _, c := range v.Clients() {
		explicit := dialling([]diagnose.Client{c}, func(t diagnose.Target) bool { return t.Scheme == "passthrough" && !t.Sidecar })
		bare := dialling([]diagnose.Client{c}, func(t diagnose.Target) bool { return t.Scheme == "" && t.Policy == "round_robin" && !t.Sidecar })
		seen := flowsOf(spread, c.Workload)
		if c.Workload.Mesh.In() || seen.several() {
			continue
		}
		switch {
		case len(explicit) > 0:
			f := diagnose.Finding{
				Subject: c.Workload.Ref(), Severity: diagnose.High, Confidence: diagnose.Configured,
				Summary: "the scheme passthrough hands the name to the dialler: the channel gets one connection, whatever its policy",
			}
			out = append(out, finishPassthrough(v, f, explicit, seen))
		case len(bare) > 0:
			f := diagnose.Finding{
				Subject: c.Workload.Ref(), Severity: diagnose.Medium, Confidence: diagnose.Inferred,
				Summary: "round_robin is asked for, but the target has no scheme: if grpc-go's Dial takes it, it is never resolved to the pods",
			}
			f = finishPassthrough(v, f, bare, seen)
			f.Evidence = append(f.Evidence, "Which library the client uses is not known: grpc-go's Dial and DialContext take a bare name as passthrough; its NewClient (1.63 and later) and the other languages take it as dns.")
			out = append(out, f)
		}
	}
	return out
}

// several reports whether some client pod is connected to two server pods or more: it does have their addresses.
func (f flows) several() bool {
	for _, reached := range f.reach {
		if len(reached) > 1 {
			return true
		}
	}
	return false
}

func finishPassthrough(v *diagnose.View, f diagnose.Finding, bad []diagnose.Client, seen flows) diagnose.Finding {
	line := workload(v, bad[0].Workload) + " dials " + dialsAll(bad[0].Targets)
	if p := bad[0].Targets[0].Policy; p != "" {
		line += " and names the policy " + p
	}
	ready := len(v.Ready())
	if seen.total > 0 && ready > 1 {
		line += "; " + seen.where(ready)
		f.Severity, f.Confidence = diagnose.High, diagnose.Observed
	}
	f.Evidence = append(f.Evidence, line+".")
	if fix, ok := retargetAll(bad, "write the scheme: dns:///", func(t diagnose.Target) aim {
		a := byName(v, t)
		a.scheme = "dns"
		return a
	}); ok {
		f.Fixes = append(f.Fixes, fix)
		return f
	}
	fix := lookAt(bad[0].Workload)
	fix.Title = "write the scheme, dns:///, before the target, where the workload or its program puts it together"
	f.Fixes = append(f.Fixes, fix)
	return f
}
