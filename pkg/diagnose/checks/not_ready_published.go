package checks

import (
	"fmt"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func notReadyPublished() diagnose.Check {
	return diagnose.Check{
		ID:       "not-ready-published",
		Title:    "pods that are not ready are published to clients",
		Severity: diagnose.High,
		Doc:      page("not-ready-published"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices},
		GRPCOnly: true,
		Run:      runNotReadyPublished,
	}
}

func runNotReadyPublished(v *diagnose.View) []diagnose.Finding {
	if !v.Service.PublishNotReady {
		return nil
	}
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Low, Confidence: diagnose.Configured,
		Summary:  "pods that are not ready would get calls: publishNotReadyAddresses is set",
		Evidence: []string{"All pods behind the Service are ready now, so nothing is lost at the moment."},
	}
	bad := v.NotReadyPublished()
	if len(bad) > 0 {
		f.Severity = diagnose.High
		f.Summary = fmt.Sprintf("%s not ready and %s calls all the same: publishNotReadyAddresses is set",
			countOf(len(bad), len(v.Ready()), "pod"), either(len(bad), "gets", "get"))
		f.Evidence = []string{fmt.Sprintf("Published though not ready: %s.", list(names(bad)))}
	}
	if seen := published(v, bad); len(seen) > 0 {
		f.Confidence = diagnose.Observed
		f.Evidence = append(f.Evidence, "DNS hands out "+list(seen)+" among the addresses.")
	}
	if sets := statefulSets(v); len(sets) > 0 && v.Service.Headless() {
		f.Evidence = append(f.Evidence, fmt.Sprintf("The pods belong to %s: a Service for peers that find each other before they are ready needs the flag, one for callers does not.", list(sets)))
	}
	f.Fixes = []diagnose.Fix{{
		Title:    "publish only ready pods",
		Commands: []diagnose.Command{patchService(v, map[string]any{"publishNotReadyAddresses": false})},
		Caveats:  []string{"If the pods find each other through this Service while they start, keep it and give callers a second Service without the flag."},
	}}
	return []diagnose.Finding{f}
}

// countOf words a part of a whole with its verb: "1 of 3 pods is", "2 of 3 pods are".
func countOf(n, of int, one string) string {
	return fmt.Sprintf("%d of %s %s", n, count(of, one), either(n, "is", "are"))
}

// published returns the addresses of endpoints that a DNS pod was seen to answer with.
func published(v *diagnose.View, es []diagnose.Endpoint) []string {
	var out []string
	for _, e := range es {
		for _, ip := range e.IPs {
			if slices.ContainsFunc(v.DNS.Value, func(a diagnose.DNSAnswer) bool { return slices.Contains(a.Addresses, ip) }) {
				out = append(out, ip)
			}
		}
	}
	return out
}

func statefulSets(v *diagnose.View) []string {
	var out []string
	order, _ := owners(v.Selected())
	for _, o := range order {
		if o.Kind == "StatefulSet" {
			out = append(out, ownerRef(o))
		}
	}
	return out
}
