package checks

import (
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func podsOnOneNode() diagnose.Check {
	return diagnose.Check{
		ID:       "pods-on-one-node",
		Title:    "all ready pods run on one node",
		Severity: diagnose.Info,
		Doc:      page("pods-on-one-node"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactNodes},
		GRPCOnly: true,
		Run:      runPodsOnOneNode,
	}
}

func runPodsOnOneNode(v *diagnose.View) []diagnose.Finding {
	node, ok := common(v.Ready(), func(e diagnose.Endpoint) string { return e.Node })
	if !ok || len(v.Nodes.Value) < 2 {
		return nil
	}
	return []diagnose.Finding{together(v, "on node "+node, "kubernetes.io/hostname",
		fmt.Sprintf("The cluster has %d nodes; a spread of calls over pods does not help when their one node is busy or gone.", len(v.Nodes.Value)))}
}

// common returns what two endpoints or more have in common; false when they differ or one does not say.
func common(es []diagnose.Endpoint, of func(diagnose.Endpoint) string) (string, bool) {
	if len(es) < 2 || of(es[0]) == "" {
		return "", false
	}
	same := of(es[0])
	return same, !slices.ContainsFunc(es, func(e diagnose.Endpoint) bool { return of(e) != same })
}

// together words the finding that all ready pods share a place ("on node n1"), with a patch that spreads them over a topology key.
func together(v *diagnose.View, place, key, why string) diagnose.Finding {
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Info, Confidence: diagnose.Configured,
		Summary:  fmt.Sprintf("all %d ready pods run %s", len(v.Ready()), place),
		Evidence: []string{list(names(v.Ready())) + " run " + place + ".", why},
	}
	order, _ := owners(v.Selected())
	if len(order) != 1 || order[0].Kind != "Deployment" && order[0].Kind != "StatefulSet" {
		return f
	}
	f.Subject = ownerRef(order[0])
	constraint := map[string]any{
		"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
		"labelSelector": map[string]any{"matchLabels": v.Service.Selector},
	}
	spec := map[string]any{"topologySpreadConstraints": []any{constraint}}
	b, err := yaml.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": spec}}})
	if err != nil {
		return f // maps of strings and numbers always marshal
	}
	f.Fixes = []diagnose.Fix{{
		Title:   "spread the pods over " + key,
		Patches: []diagnose.Patch{{Namespace: v.Service.Namespace, Subject: f.Subject, YAML: string(b)}},
		Caveats: []string{"Pods that run already stay where they are until they are replaced; the patch replaces them."},
	}}
	return f
}
