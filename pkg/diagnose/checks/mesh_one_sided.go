package checks

import (
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func meshOneSided() diagnose.Check {
	return diagnose.Check{
		ID:        "mesh-one-sided",
		Title:     "the servers are in a mesh, the clients are not",
		Severity:  diagnose.High,
		Doc:       page("mesh-one-sided"),
		Since:     "0.1.0",
		Needs:     []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactPods, diagnose.FactWorkloads},
		DependsOn: []string{"clusterip-pinned"}, // which names the mesh and the same clients then
		GRPCOnly:  true,
		Run:       runMeshOneSided,
	}
}

func runMeshOneSided(v *diagnose.View) []diagnose.Finding {
	n, kind := v.ServerMeshed()
	ready := withPorts(v)
	if n == 0 || len(ready) < 2 || v.Service.Headless() {
		return nil // on a headless Service a client outside of the mesh balances, or not, by itself
	}
	kind = meshName(kind)
	spread := v.Spread()
	var out []diagnose.Finding
	for _, c := range reaching(v, byItsName(v.Clients())) {
		if c.Workload.Mesh.In() || idle(c.Workload) || flowsOf(spread, c.Workload).pooled(ready) {
			continue
		}
		f := diagnose.Finding{
			Subject: c.Workload.Ref(), Severity: diagnose.High, Confidence: diagnose.Configured,
			Summary: fmt.Sprintf("the servers are in %s, this client is not: nobody balances its calls", kind),
			Evidence: []string{
				fmt.Sprintf("%d of %d ready pods of %s are in %s; %s, which dials %s, is in none.", n, len(v.Ready()), subject(v), kind,
					workload(v, c.Workload), dialsAll(c.Targets)),
				"It is the client's proxy that chooses a pod for each call; the servers' proxies only see what the connection brings them.",
			},
			Fixes: []diagnose.Fix{fixMesh(v, "bring "+c.Workload.Ref()+" into "+kind+" as well"), fixHeadless(v)},
		}
		out = append(out, doubt(f, c, spread))
	}
	return out
}
