package checks

import (
	"fmt"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clientSidecar() diagnose.Check {
	return diagnose.Check{
		ID:       "client-sidecar",
		Title:    "a client's calls go through its refresher sidecar",
		Severity: diagnose.Info,
		Doc:      page("client-sidecar"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactWorkloads},
		Run:      runClientSidecar,
	}
}

func runClientSidecar(v *diagnose.View) []diagnose.Finding {
	spread := v.Spread()
	ready := withPorts(v)
	var out []diagnose.Finding
	for _, s := range sidecars(v) {
		if len(s.wrong()) > 0 {
			continue // sidecar-broken tells
		}
		f := diagnose.Finding{
			Subject: s.w.Ref(), Severity: diagnose.Info, Confidence: diagnose.Configured,
			Summary: "its calls go through the refresher sidecar, which chooses a pod for each of them",
		}
		if seen := flowsOf(spread, s.w); seen.total > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("Its %s %s %d of %s.", count(seen.total, "connection"), either(seen.total, "ends on", "end on"),
				len(seen.pods), count(len(ready), "ready pod")))
			if seen.pooled(ready) {
				f.Confidence = diagnose.Observed
			}
		}
		f.Evidence = append(f.Evidence, s.how()...)
		if d := s.dialled(); d != "" {
			f.Evidence = append(f.Evidence, d)
		}
		out = append(out, f)
	}
	return out
}

// how names the parts of the injection.
func (s sidecar) how() []string {
	var out []string
	for _, r := range s.routes {
		where := fmt.Sprintf("Container %s listens on %s and sends each call to port %d of a pod behind svc/%s", diagnose.SidecarName, r.Listen, r.Port, r.Service.Name)
		if s.ip != "" {
			where = fmt.Sprintf("hostAliases lead %s to %s, where container %s listens on port %d and sends each call to port %d of a pod behind svc/%s",
				s.v.Service.Name, s.ip, diagnose.SidecarName, r.Listen.Port(), r.Port, r.Service.Name)
		}
		if !slices.Contains(out, where+".") {
			out = append(out, where+".")
		}
	}
	if s.w.Sidecar.Annotated {
		out = append(out, "The annotation "+diagnose.InjectedAnnotation+" of its pod template records the injection.")
	}
	return out
}
