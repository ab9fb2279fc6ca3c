package checks

import (
	"fmt"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func sessionAffinity() diagnose.Check {
	return diagnose.Check{
		ID:       "session-affinity",
		Title:    "session affinity sends all connections of a client to one pod",
		Severity: diagnose.High,
		Doc:      page("session-affinity"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices},
		GRPCOnly: true,
		Run:      runSessionAffinity,
	}
}

// defaultAffinity is how long the API keeps a client on its pod when the Service does not say (core/v1
// DefaultClientIPServiceAffinitySeconds).
const defaultAffinity = 10800

func runSessionAffinity(v *diagnose.View) []diagnose.Finding {
	svc := v.Service
	if svc.SessionAffinity != "ClientIP" || svc.Headless() || svc.Type == "ExternalName" {
		return nil
	}
	seconds := svc.AffinitySeconds
	if seconds == 0 {
		seconds = defaultAffinity
	}
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.High, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("every client address is kept on one pod: sessionAffinity is ClientIP for %s", age(time.Duration(seconds)*time.Second)),
		Evidence: []string{fmt.Sprintf("%s has sessionAffinity: ClientIP with a time-out of %d s; a new connection of the same pod lands where the last one did.",
			subject(v), seconds)},
	}
	clients := v.Clients()
	named := byItsName(clients)
	exposed := slices.ContainsFunc(named, func(c diagnose.Client) bool {
		how, _ := pathOf(v, c)
		return how != pathRequest
	})
	switch {
	case len(clients) > 0 && len(named) == 0:
		f.Severity = diagnose.Low
		f.Evidence = append(f.Evidence, "The clients in reach find the pods by resolvers or sidecars of their own and do not meet it; others would be kept on one pod.")
	case len(clients) > 0 && !exposed:
		f.Severity = diagnose.Low
		f.Evidence = append(f.Evidence, "The clients in reach are in a mesh, whose proxies choose pods themselves and do not look at it; others would be kept on one pod.")
	case v.Slices.Known() && len(v.Ready()) < 2:
		f.Severity = diagnose.Low
		f.Evidence = append(f.Evidence, fmt.Sprintf("There is %s now, so it changes nothing yet.", count(len(v.Ready()), "ready pod")))
	}
	f.Fixes = []diagnose.Fix{{
		Title:    "turn the affinity off",
		Commands: []diagnose.Command{patchService(v, map[string]any{"sessionAffinity": "None", "sessionAffinityConfig": nil})},
		Caveats:  []string{"Open connections stay where they are; the servers must not rely on seeing the same client again."},
	}}
	return []diagnose.Finding{f}
}
