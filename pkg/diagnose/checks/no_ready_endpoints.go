package checks

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func noReadyEndpoints() diagnose.Check {
	return diagnose.Check{
		ID:        "no-ready-endpoints",
		Title:     "no pod behind the Service is ready",
		Severity:  diagnose.Critical,
		Doc:       page("no-ready-endpoints"),
		Since:     "0.1.0",
		Needs:     []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices},
		DependsOn: []string{"selector-matches-nothing"},
		Run:       runNoReadyEndpoints,
	}
}

// startUp is how long pods may take before "not ready" counts as more than starting.
const startUp = time.Minute

func runNoReadyEndpoints(v *diagnose.View) []diagnose.Finding {
	if v.Service.Type == "ExternalName" || len(v.Ready()) > 0 {
		return nil
	}
	all := v.Endpoints()
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Critical, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("none of the %s behind the Service is ready: calls have nowhere to go", count(len(all), "pod")),
	}
	switch len(all) {
	case 1:
		f.Summary = "the only pod behind the Service is not ready: calls have nowhere to go"
	case 0:
		f.Summary = "no EndpointSlice of the Service names an address: calls have nowhere to go"
	}
	pods := v.Selected()
	for _, p := range pods[:min(len(pods), shown)] {
		f.Evidence = append(f.Evidence, unready(v, p))
	}
	if len(pods) > shown {
		f.Evidence = append(f.Evidence, fmt.Sprintf("The same goes for %d more.", len(pods)-shown))
	}
	switch {
	case !v.Pods.Known():
		f.Evidence = append(f.Evidence, "Why is not known"+because(v.Pods.Reason)+".")
	case len(v.Service.Selector) == 0:
		f.Evidence = append(f.Evidence, "The Service has no selector: somebody has to write its EndpointSlices by hand.")
	case starting(v, pods):
		f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
		f.Evidence = append(f.Evidence, fmt.Sprintf("All of them are younger than %s: they may just be starting.", age(startUp)))
	}
	f.Fixes = whyUnready(v, pods)
	return []diagnose.Finding{f}
}

// unready says what is known of why one pod gets no traffic.
func unready(v *diagnose.View, p *diagnose.Pod) string {
	s := p.Name + " is " + cmp.Or(p.Phase, "in an unknown phase") + " and not ready"
	if p.Ready {
		s = p.Name + " is ready, but no EndpointSlice says so yet"
	}
	if p.Terminating {
		s = p.Name + " is being deleted"
	}
	if p.Trouble != "" {
		s += ": " + p.Trouble
	}
	for _, c := range p.Containers {
		if !c.Init && c.Restarts > 0 {
			s += fmt.Sprintf("; container %s was restarted %s", c.Name, count(int(c.Restarts), "time"))
		}
		if !c.Init && !c.Ready && c.Readiness != nil {
			s += fmt.Sprintf("; container %s has a readiness probe of kind %s", c.Name, c.Readiness.Kind)
		}
	}
	if !p.ReadySince.IsZero() && !p.Ready && v.TakenAt.After(p.ReadySince) {
		s += "; so for " + age(v.TakenAt.Sub(p.ReadySince))
	}
	return s + "."
}

func starting(v *diagnose.View, pods []*diagnose.Pod) bool {
	return len(pods) > 0 && !slices.ContainsFunc(pods, func(p *diagnose.Pod) bool {
		return p.Created.IsZero() || v.TakenAt.Sub(p.Created) >= startUp || p.Terminating
	})
}

// whyUnready lists the commands that tell more, for one pod that stands for the others.
func whyUnready(v *diagnose.View, pods []*diagnose.Pod) []diagnose.Fix {
	ns := v.Service.Namespace
	if len(pods) == 0 {
		return []diagnose.Fix{{
			Title:    "look at what the Service should lead to",
			Commands: []diagnose.Command{kubectl(ns, "describe", subject(v)), kubectl(ns, "get", "endpointslices", "-l", "kubernetes.io/service-name="+v.Service.Name)},
		}}
	}
	p := pods[0]
	f := diagnose.Fix{Title: "see why " + p.Name + " is not ready", Commands: []diagnose.Command{kubectl(ns, "describe", "pod/"+p.Name)}}
	for _, c := range p.Containers {
		if c.Init || c.Ready {
			continue
		}
		args := []string{"logs", p.Name, "-c", c.Name}
		if c.Restarts > 0 {
			args = append(args, "--previous")
		}
		f.Commands = append(f.Commands, kubectl(ns, args...))
	}
	return []diagnose.Fix{f}
}
