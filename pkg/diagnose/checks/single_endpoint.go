package checks

import (
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func singleEndpoint() diagnose.Check {
	return diagnose.Check{
		ID:       "single-endpoint",
		Title:    "one ready pod: there is nothing to balance",
		Severity: diagnose.Info,
		Doc:      page("single-endpoint"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices},
		GRPCOnly: true,
		Run:      runSingleEndpoint,
	}
}

func runSingleEndpoint(v *diagnose.View) []diagnose.Finding {
	ready := v.Ready()
	if v.Service.Type == "ExternalName" || len(ready) != 1 {
		return nil
	}
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Info, Confidence: diagnose.Configured,
		Summary:  "one pod is ready: it gets every call, whatever balances them",
		Evidence: []string{fmt.Sprintf("%s is the only ready endpoint of %d.", nameOf(ready[0]), len(v.Endpoints()))},
	}
	if p := v.Pod(ready[0].Pod); p != nil && (p.Owner.Kind == "Deployment" || p.Owner.Kind == "StatefulSet") {
		f.Subject = ownerRef(p.Owner)
		f.Fixes = []diagnose.Fix{{
			Title:    "run more than one pod",
			Commands: []diagnose.Command{kubectl(v.Service.Namespace, "scale", ownerRef(p.Owner), "--replicas=3")},
		}}
	}
	return []diagnose.Finding{f}
}
