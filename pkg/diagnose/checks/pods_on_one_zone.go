package checks

import (
	"cmp"
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func podsOnOneZone() diagnose.Check {
	return diagnose.Check{
		ID:        "pods-on-one-zone",
		Title:     "all ready pods run in one zone",
		Severity:  diagnose.Info,
		Doc:       page("pods-on-one-zone"),
		Since:     "0.1.0",
		Needs:     []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactNodes},
		DependsOn: []string{"pods-on-one-node"},
		GRPCOnly:  true,
		Run:       runPodsOnOneZone,
	}
}

func runPodsOnOneZone(v *diagnose.View) []diagnose.Finding {
	zones := map[string]bool{}
	for _, n := range v.Nodes.Value {
		if n.Zone != "" {
			zones[n.Zone] = true
		}
	}
	zone, ok := common(v.Ready(), func(e diagnose.Endpoint) string { return cmp.Or(e.Zone, v.Zone(e.Node)) })
	if !ok || len(zones) < 2 {
		return nil
	}
	return []diagnose.Finding{together(v, "in zone "+zone, "topology.kubernetes.io/zone",
		fmt.Sprintf("The cluster has nodes in %d zones; clients in the others pay for every call with a longer way, and the zone is a single point of failure.", len(zones)))}
}
