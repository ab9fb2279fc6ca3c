package checks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clusterIPPinned() diagnose.Check {
	return diagnose.Check{
		ID:       "clusterip-pinned",
		Title:    "each gRPC connection through the ClusterIP stays on one pod",
		Severity: diagnose.Critical,
		Doc:      page("clusterip-pinned"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices},
		GRPCOnly: true,
		Run:      runClusterIPPinned,
	}
}

// evenConns is how many connections for each ready pod make an even spread more than the luck of the draw: below it
// one restart of a client deals the load anew.
const evenConns = 3

func runClusterIPPinned(v *diagnose.View) []diagnose.Finding {
	ready := withPorts(v)
	if v.Service.Headless() || v.Service.Type == "ExternalName" || len(ready) < 2 || provedOther(v) {
		return nil
	}
	p := &pinned{view: v, ready: ready, spread: v.Spread()}
	if p.even() && connections(p.spread) >= evenConns*len(ready) {
		return nil
	}
	clients := v.Clients()
	for _, c := range reaching(v, relying(clients)) {
		p.add(c)
	}
	if len(p.cases) > 0 {
		return p.known()
	}
	if len(clients) > 0 {
		return nil // all of them are balanced by something on their own side, or reach nothing at all
	}
	if len(sidecars(v)) > 0 {
		return nil // clients whose targets name their sidecar
	}
	return p.unknown()
}

// reaching narrows clients down to the targets that a cluster IP answers: it has no port but those declared. A client that finds the pods
// by itself may dial their ports.
func reaching(v *diagnose.View, cs []diagnose.Client) []diagnose.Client {
	return dialling(cs, func(t diagnose.Target) bool {
		return t.Port == 0 || declares(v.Service, t.Port) || t.Resolver() == diagnose.ResolverPods && slices.Contains(v.TargetPorts(), t.Port)
	})
}

// pinned gathers what is known of one Service's clients.
type pinned struct {
	view   *diagnose.View
	ready  []diagnose.Endpoint
	spread diagnose.Spread
	cases  []pinnedClient
}

// pinnedClient is one client whose connections stay where they were dealt.
type pinnedClient struct {
	client     diagnose.Client
	ref        string
	sentence   string
	unsure     bool // whether a proxy balances its requests is not known
	own        bool // it does not go by the cluster IP, and its policy is not known
	severity   diagnose.Severity
	confidence diagnose.Confidence
}

func (p *pinned) even() bool {
	return p.spread.Basis == "bytes" && (p.spread.State == diagnose.SpreadEven || p.spread.State == diagnose.SpreadRough)
}

func (p *pinned) add(c diagnose.Client) {
	how, why := pathOf(p.view, c)
	seen := flowsOf(p.spread, c.Workload)
	if p.dialsHeadless(c.Workload) {
		seen = flows{} // which of its connections came through the cluster IP cannot be told
	}
	if how == pathRequest || how == pathOwn || seen.pooled(p.ready) {
		return
	}
	out := pinnedClient{client: c, ref: workload(p.view, c.Workload), severity: diagnose.Critical, confidence: diagnose.Configured}
	out.sentence = out.ref + " dials " + dialsAll(c.Targets)
	switch {
	case how == pathUnsure, how == pathOwnUnsure:
		out.unsure, out.own, out.severity, out.confidence = true, how == pathOwnUnsure, diagnose.Medium, diagnose.Inferred
	case c.Workload.Kind == "CronJob" || c.Workload.Kind == "Job":
		out.severity, out.confidence = diagnose.Medium, diagnose.Inferred
		why = "it runs to completion: each run is dealt a pod anew, and stays on it"
	case idle(c.Workload) && seen.total == 0:
		out.severity = diagnose.Low
		why = "it is scaled to 0 now"
	case guessed(c) && seen.total == 0:
		out.unsure, out.severity, out.confidence = true, diagnose.Medium, diagnose.Inferred
		why = guess
	}
	if why != "" {
		out.sentence += "; " + why
	}
	if seen.total > 0 {
		out.sentence += "; " + seen.where(len(p.ready))
		if len(seen.pods) < len(p.ready) {
			out.confidence = diagnose.Observed
		}
	}
	out.sentence += "."
	p.cases = append(p.cases, out)
}

// dialsHeadless reports whether a workload reaches the same pods by a headless name as well.
func (p *pinned) dialsHeadless(w diagnose.Workload) bool {
	siblings := p.view.Siblings()
	return slices.ContainsFunc(p.view.SiblingClients(), func(c diagnose.Client) bool {
		return c.Workload.Kind == w.Kind && c.Workload.Key == w.Key && slices.ContainsFunc(c.Targets, func(t diagnose.Target) bool {
			return slices.ContainsFunc(siblings, func(s diagnose.Service) bool { return s.Key == t.Service && s.Headless() })
		})
	})
}

// idle reports whether a workload that is meant to run was scaled to nothing.
func idle(w diagnose.Workload) bool {
	return w.Replicas == 0 && slices.Contains([]string{"Deployment", "StatefulSet", "ReplicaSet"}, w.Kind)
}

// known words the finding about clients that were found.
func (p *pinned) known() []diagnose.Finding {
	slices.SortStableFunc(p.cases, func(a, b pinnedClient) int { return int(b.severity) - int(a.severity) })
	f := diagnose.Finding{Subject: subject(p.view), Severity: p.cases[0].severity, Confidence: diagnose.Inferred}
	own := !slices.ContainsFunc(p.cases, func(c pinnedClient) bool { return !c.own })
	var who []string
	for _, c := range p.cases {
		f.Evidence = append(f.Evidence, c.sentence)
		if c.own == own && c.unsure == p.cases[0].unsure {
			who = append(who, c.ref)
		}
		if c.severity == f.Severity && (c.confidence == diagnose.Observed || f.Confidence == diagnose.Inferred) {
			f.Confidence = c.confidence
		}
	}
	if own {
		return p.ownResolvers(f, who)
	}
	stays := "stays"
	if p.cases[0].unsure {
		stays = "may stay"
	}
	f.Summary = fmt.Sprintf("each connection of %s %s on 1 of %d ready pods: a ClusterIP balances connections, not calls", list(who), stays, len(p.ready))
	p.oneSided(&f)
	proved := p.prove(&f)
	if skewed(p.spread) && !p.meshedPeers() {
		f.Severity = diagnose.Critical
	}
	if proved && f.Severity == diagnose.Critical {
		f.Confidence = diagnose.Observed
	}
	if p.even() {
		f.Severity, f.Confidence = diagnose.Low, diagnose.Configured
		f.Evidence = append(f.Evidence, fmt.Sprintf("Traffic is even at the moment (%s over %d pods in %.0f s); so few connections are dealt anew, and maybe unevenly, whenever clients restart.",
			count(connections(p.spread), "connection"), len(p.ready), p.spread.IntervalSeconds))
	}
	f.Fixes = p.fixes()
	return []diagnose.Finding{f}
}

// oneSided says why a mesh that only the servers are in does not help.
func (p *pinned) oneSided(f *diagnose.Finding) {
	n, kind := p.view.ServerMeshed()
	var outside []string
	for _, c := range p.cases {
		if !c.client.Workload.Mesh.In() && !c.own {
			outside = append(outside, c.ref)
		}
	}
	if n > 0 && len(outside) > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%d of %s %s in %s, %s %s not: it is the client's proxy that chooses a pod for each call.",
			n, count(len(p.view.Ready()), "ready pod"), either(n, "is", "are"), meshName(kind), list(outside), either(len(outside), "is", "are")))
	}
}

// ownResolvers words the finding when every client concerned knows the pods: what it lacks is a policy.
func (p *pinned) ownResolvers(f diagnose.Finding, who []string) []diagnose.Finding {
	if p.even() {
		return nil
	}
	f.Summary = fmt.Sprintf("the calls of %s may stay on 1 of %d ready pods: its resolver knows them, and no policy that uses them all was seen", list(who), len(p.ready))
	if len(who) > 1 {
		f.Summary = strings.Replace(f.Summary, "its resolver", "their resolvers", 1)
		f.Summary = strings.Replace(f.Summary, "knows them", "know them", 1)
	}
	f.Evidence = append(f.Evidence, "Without a policy by its side a gRPC client takes pick_first, which uses one address of those that it is given.")
	for _, c := range p.cases {
		fix := lookAt(c.client.Workload)
		fix.Title = "let " + c.ref + " choose round_robin, by its configuration or in its code"
		f.Fixes = append(f.Fixes, fix)
	}
	return []diagnose.Finding{f}
}

// unknown words what can be said when no client was found: traffic seen on the wire speaks for itself, else the
// finding is only about whoever may dial this Service.
func (p *pinned) unknown() []diagnose.Finding {
	twin, hasTwin := p.view.Twin()
	if hasTwin && p.view.Workloads.Known() && len(p.view.SiblingClients()) > 0 {
		return nil // its clients went over to the twin
	}
	f := diagnose.Finding{
		Subject: subject(p.view), Severity: diagnose.Medium, Confidence: diagnose.Inferred,
		Summary: fmt.Sprintf("a gRPC connection through the ClusterIP stays on 1 of %d ready pods", len(p.ready)),
	}
	switch {
	case p.even():
		return nil // nobody known is at risk, and those unknown are balanced
	case skewed(p.spread) && p.meshedPeers():
		return nil
	case skewed(p.spread) && !hasTwin:
		f.Severity, f.Confidence = diagnose.Critical, diagnose.Observed
	case hasTwin:
		f.Severity = diagnose.Low
		f.Evidence = append(f.Evidence, "svc/"+twin.Name+" is headless and selects the same pods: clients that dial it are not concerned.")
	default:
		if _, ok := probedOnePod(p.spread); ok {
			f.Severity, f.Confidence = diagnose.High, diagnose.Observed
		}
	}
	p.prove(&f)
	if why := p.view.ClientsUnseen(); why == "" {
		f.Evidence = append(f.Evidence, "No client in reach names this Service; clients elsewhere that are not in a mesh are concerned.")
	} else {
		f.Evidence = append(f.Evidence, "Which clients there are is not known"+because(why)+"; those that are not in a mesh are concerned.")
	}
	f.Fixes = p.fixes()
	return []diagnose.Finding{f}
}

// meshedPeers reports whether every connection seen comes from a pod inside a mesh: the proxies chose the pods.
func (p *pinned) meshedPeers() bool {
	if len(p.spread.Flows) == 0 {
		return false
	}
	return !slices.ContainsFunc(p.spread.Flows, func(fl diagnose.Flow) bool {
		pod := clientPod(p.view, fl)
		return pod == nil || !pod.Mesh.In() || pod.Mesh.Mode == "ambient"
	})
}

// prove adds what was seen on the wire, and reports whether it shows the skew.
func (p *pinned) prove(f *diagnose.Finding) bool {
	proved := false
	if st := p.spread.Statistic; skewed(p.spread) {
		proved = true
		f.Evidence = append(f.Evidence, fmt.Sprintf("Of %.0f bytes/s over %.0f s, the busiest of %d ready pods got %.0f %% (Jain's index %.2f; 1 is even, %.2f is one pod).",
			st.N, p.spread.IntervalSeconds, st.Pods, 100*st.MaxShare, st.Value, 1/float64(st.Pods)))
	}
	if st := p.spread.Statistic; p.spread.Basis == "cpu" && p.spread.State == diagnose.SpreadOnePod {
		f.Evidence = append(f.Evidence, fmt.Sprintf("1 of %d ready pods uses %.0f %% of their CPU time, which fits but does not prove it.", st.Pods, 100*st.MaxShare))
	}
	if run, ok := probedOnePod(p.spread); ok {
		proved = true
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s of a probe from %s, over one channel to %s, all landed on one pod.", count(run.Calls, "call"), run.From, run.Target))
	}
	f.Evidence = append(f.Evidence, fmt.Sprintf("%s has the cluster IP %s: the node picks a pod once for each TCP connection, and gRPC keeps its connections.",
		subject(p.view), list(p.view.Service.ClusterIPs)))
	return proved
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// fixes puts the mesh first where there is one already.
func (p *pinned) fixes() []diagnose.Fix {
	maxAge := fixMaxAge(p.view)
	var out []diagnose.Fix
	outside := len(p.cases) == 0
	for _, c := range p.cases {
		if !c.client.Workload.Mesh.In() {
			outside = true
			continue
		}
		if f, ok := fixOwnMesh(p.view, c.client); ok && !slices.ContainsFunc(out, func(o diagnose.Fix) bool { return o.Title == f.Title }) {
			out = append(out, f)
		}
	}
	n, kind := p.view.ServerMeshed()
	switch {
	case !outside:
		return append(out, fixHeadless(p.view), maxAge)
	case n > 0:
		return append(out, fixMesh(p.view, "bring the clients into "+meshName(kind)+" as well"), fixHeadless(p.view), maxAge)
	}
	return append(out, fixHeadless(p.view), fixSidecar(p.view), fixMesh(p.view, "bring the clients into a mesh"), maxAge)
}
