package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// verdict answers "is my load balanced?" from the strongest thing known: no pods, then traffic as seen, then the
// findings, then what could not be seen.
func verdict(v *View, r ServiceReport, failOn Severity) Verdict {
	if r.GRPC.Level == GRPCNo && len(r.Findings) == 0 {
		return Verdict{VerdictNotGRPC, "does not speak gRPC: " + first(r.GRPC.Because)}
	}
	if v.Slices.Known() && len(v.Ready()) == 0 && v.Service.Type != "ExternalName" {
		if len(r.Findings) == 0 {
			return Verdict{VerdictUnknown, "no pod runs behind it now: nothing to balance"}
		}
		return Verdict{VerdictBroken, "no ready pod behind it: every call fails"}
	}
	if vd, ok := weighed(v, r.Spread); ok && (len(r.Findings) == 0 || r.Findings[0].Severity < failOn) {
		return vd
	}
	if vd, ok := skewed(r.Spread); ok {
		return vd
	}
	if len(r.Findings) > 0 && r.Findings[0].Severity >= failOn {
		return suspect(r)
	}
	if vd, ok := balanced(r.Spread); ok {
		return vd
	}
	return judged(v, r, failOn)
}

// weighed words traffic whose shares differ on purpose: every connection belongs to a client with a sidecar that reaches all ready pods, and
// a sidecar gives more calls to the pods that answer faster.
func weighed(v *View, s Spread) (Verdict, bool) {
	st := s.Statistic
	if st == nil || s.Basis != "bytes" || s.State != SpreadUneven || len(s.Flows) == 0 || st.MinShare < 0.01 {
		return Verdict{}, false
	}
	sidecars := map[string]bool{}
	for _, w := range v.Workloads.Value {
		if w.Sidecar != nil && w.Sidecar.Container {
			sidecars[w.Namespace+"/"+w.Ref()] = true
		}
	}
	reached := map[string]map[Key]bool{}
	for _, f := range s.Flows {
		ns, _, _ := strings.Cut(f.Client, "/")
		if f.Hidden || !sidecars[ns+"/"+f.Workload] {
			return Verdict{}, false
		}
		if reached[f.Client] == nil {
			reached[f.Client] = map[Key]bool{}
		}
		reached[f.Client][f.Pod] = true
	}
	for _, pods := range reached {
		if len(pods) < len(v.Ready()) {
			return Verdict{}, false
		}
	}
	return Verdict{VerdictOK, fmt.Sprintf("calls go to all %d ready pods, which the clients' sidecars weigh by latency: between %.0f%% and %.0f%% each",
		st.Pods, 100*st.MinShare, 100*st.MaxShare)}, true
}

// skewed words traffic that was seen to be wrong.
func skewed(s Spread) (Verdict, bool) {
	st := s.Statistic
	switch {
	case st == nil:
	case s.Basis == "cpu" && s.State == SpreadOnePod:
		return Verdict{VerdictSuspect, fmt.Sprintf("1 of %d ready pods uses %.0f%% of their CPU time; --sockets shows whether it gets the calls too", st.Pods, 100*st.MaxShare)}, true
	case s.State == SpreadOnePod:
		return Verdict{VerdictPinned, fmt.Sprintf("all traffic lands on 1 of %d ready pods", st.Pods)}, true
	case s.State == SpreadUneven:
		return Verdict{VerdictUneven, fmt.Sprintf("traffic is uneven: of %d ready pods the busiest gets %.0f%%, the quietest %.0f%%, an even share is %.0f%%",
			st.Pods, 100*st.MaxShare, 100*st.MinShare, 100/float64(st.Pods))}, true
	}
	return Verdict{}, false
}

// suspect words the worst finding; for a pinned Service the probe's own calls say it best when users' traffic is too little to.
func suspect(r ServiceReport) Verdict {
	pinned := slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == "clusterip-pinned" })
	for _, p := range r.Spread.Probes {
		if pinned && p.Via == "clusterip" && p.Conns == 1 && p.State == SpreadOnePod {
			return Verdict{VerdictPinned, fmt.Sprintf("%d probe calls over one channel landed on 1 of %d ready pods", p.Calls, len(p.Rows))}
		}
	}
	return Verdict{VerdictSuspect, r.Findings[0].Summary}
}

// balanced words traffic that was seen to be right, or the probe's calls over a headless Service when there was too little of it.
func balanced(s Spread) (Verdict, bool) {
	if st := s.Statistic; st != nil && s.Basis == "bytes" {
		switch s.State {
		case SpreadEven:
			return Verdict{VerdictOK, fmt.Sprintf("traffic is spread evenly over %d ready pods", st.Pods)}, true
		case SpreadRough:
			return Verdict{VerdictOK, fmt.Sprintf("traffic is spread roughly evenly over %d ready pods: between %.0f%% and %.0f%% each",
				st.Pods, 100*st.MinShare, 100*st.MaxShare)}, true
		}
	}
	for _, p := range s.Probes {
		if p.Via == "headless" && p.State == SpreadEven {
			return Verdict{VerdictOK, fmt.Sprintf("probe calls over the headless Service are spread evenly over %d ready pods; users' traffic was too little to judge", len(p.Rows))}, true
		}
	}
	return Verdict{}, false
}

// judged words what was read when no traffic was measured. It never says "even".
func judged(v *View, r ServiceReport, failOn Severity) Verdict {
	if v.Service.Type == "ExternalName" {
		return Verdict{VerdictUnknown, "an ExternalName Service: what balances its calls is outside of what was looked at"}
	}
	for _, s := range r.Skipped {
		if s.Kind == SkipNoFact && s.Severity >= failOn {
			return Verdict{VerdictUnknown, "cannot tell: " + s.Reason}
		}
	}
	switch {
	case r.GRPC.Level == GRPCUnknown:
		return Verdict{VerdictUnknown, "cannot tell whether it speaks gRPC: " + first(r.GRPC.Because)}
	case r.Spread.State == SpreadSingle:
		return Verdict{VerdictOK, "one ready pod: nothing to balance"}
	case !v.Slices.Known():
		return Verdict{VerdictUnknown, "cannot tell: " + cmp.Or(v.Slices.Reason, "the EndpointSlices were not asked for")}
	case len(r.Findings) > 0 && r.Findings[0].Severity >= Medium:
		return Verdict{VerdictOK, fmt.Sprintf("nothing at or above %s; worth a look: %s", failOn, r.Findings[0].Summary)}
	case r.Spread.State == SpreadUnknown && r.Spread.Note != "":
		return Verdict{VerdictOK, "no cause found in what was read; the spread cannot be measured: " + r.Spread.Note}
	case r.Spread.State == SpreadIdle:
		return Verdict{VerdictOK, fmt.Sprintf("no cause found; too little traffic in %.0f s to judge the spread", r.Spread.IntervalSeconds)}
	}
	if words := v.policyUnknown(); words != "" {
		return Verdict{VerdictUnknown, words}
	}
	return Verdict{VerdictOK, "no cause found in what was read; the spread itself was not measured (--sockets does)"}
}

// policyUnknown words what depends on a policy that was not seen; empty when nothing does. A policy matters only to those who dial a
// headless name: behind a cluster IP each connection stays on one pod whatever the client chose.
func (v *View) policyUnknown() string {
	n := len(v.Ready()) - len(v.NotReadyPublished())
	if v.Service.Headless() {
		if clients := v.Clients(); len(clients) > 0 && !slices.ContainsFunc(clients, unknownPolicy) {
			return ""
		}
		return fmt.Sprintf("no cause found, but whether the clients use all %d ready pods depends on their policy (the default, pick_first, does not); --sockets measures it", n)
	}
	for _, s := range v.siblings {
		if s.Headless() && slices.ContainsFunc(v.clientsOf(func(t Target) bool { return t.Service == s.Key }), unknownPolicy) {
			return fmt.Sprintf("no cause found here; clients found dial the headless svc/%s, and use all %d ready pods only with round_robin, which was not seen; --sockets measures it",
				s.Name, n)
		}
	}
	return ""
}

// unknownPolicy reports whether a client balances by itself, without a policy that was seen to do it.
func unknownPolicy(c Client) bool {
	return !c.Workload.Mesh.In() && slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Policy == "" && t.Scheme != "xds" && !t.Sidecar })
}

func first(xs []string) string {
	if len(xs) == 0 {
		return "no port says so"
	}
	return xs[0]
}
