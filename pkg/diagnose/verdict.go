package diagnose

import (
	"cmp"
	"fmt"
)

// verdict answers "is my load balanced?" from the strongest thing known: no pods, then traffic as seen, then the
// findings, then what could not be seen.
func verdict(v *View, r ServiceReport, failOn Severity) Verdict {
	if r.GRPC.Level == GRPCNo && len(r.Findings) == 0 {
		return Verdict{VerdictNotGRPC, "does not speak gRPC: " + first(r.GRPC.Because)}
	}
	if v.Slices.Known() && len(v.Ready()) == 0 && v.Service.Type != "ExternalName" {
		return Verdict{VerdictBroken, "no ready pod behind it: every call fails"}
	}
	if vd, ok := seen(r.Spread); ok {
		return vd
	}
	if vd, ok := probed(r.Spread); ok {
		return vd
	}
	return judged(v, r, failOn)
}

// seen words a spread of real traffic.
func seen(s Spread) (Verdict, bool) {
	st := s.Statistic
	if st == nil {
		return Verdict{}, false
	}
	switch {
	case s.Basis == "cpu" && s.State == SpreadOnePod:
		return Verdict{VerdictPinned, fmt.Sprintf("1 of %d ready pods uses %.0f%% of the CPU", st.Pods, 100*st.MaxShare)}, true
	case s.State == SpreadOnePod:
		return Verdict{VerdictPinned, fmt.Sprintf("all traffic lands on 1 of %d ready pods", st.Pods)}, true
	case s.State == SpreadUneven:
		return Verdict{VerdictUneven, fmt.Sprintf("traffic is uneven: the busiest of %d ready pods gets %.0f%%, an even share is %.0f%%",
			st.Pods, 100*st.MaxShare, 100/float64(st.Pods))}, true
	case s.State == SpreadEven:
		return Verdict{VerdictOK, fmt.Sprintf("traffic is spread evenly over %d ready pods", st.Pods)}, true
	}
	return Verdict{}, false
}

// probed words the probe's own calls, through the Service itself, when users' traffic says nothing.
func probed(s Spread) (Verdict, bool) {
	for _, p := range s.Probes {
		if p.Via == "pods" || p.Statistic == nil {
			continue
		}
		switch {
		case p.State == SpreadOnePod && p.Channels == 1:
			return Verdict{VerdictPinned, fmt.Sprintf("%d probe calls over one channel landed on 1 of %d ready pods", p.Calls, p.Statistic.Pods)}, true
		case p.State == SpreadUneven || p.State == SpreadOnePod:
			return Verdict{VerdictUneven, fmt.Sprintf("%d probe calls over %d channels reached %d of %d ready pods, the busiest with %.0f%% of them",
				p.Calls, p.Channels, p.Statistic.Active, p.Statistic.Pods, 100*p.Statistic.MaxShare)}, true
		}
	}
	return Verdict{}, false
}

func judged(v *View, r ServiceReport, failOn Severity) Verdict {
	if len(r.Findings) > 0 && r.Findings[0].Severity >= failOn {
		return Verdict{VerdictSuspect, r.Findings[0].Summary}
	}
	if v.Service.Type == "ExternalName" {
		return Verdict{VerdictUnknown, "an ExternalName Service: what balances its calls is outside of what was looked at"}
	}
	for _, s := range r.Skipped {
		if s.Kind == SkipNoFact && s.Severity >= failOn {
			return Verdict{VerdictUnknown, "cannot tell: " + s.Reason}
		}
	}
	if r.GRPC.Level == GRPCUnknown {
		return Verdict{VerdictUnknown, "cannot tell whether it speaks gRPC: " + first(r.GRPC.Because)}
	}
	if r.Spread.State == SpreadSingle {
		return Verdict{VerdictOK, "one ready pod: nothing to balance"}
	}
	if r.Spread.State == SpreadIdle {
		return Verdict{VerdictOK, fmt.Sprintf("nothing found; too little traffic in %.0f s to judge the spread", r.Spread.IntervalSeconds)}
	}
	if !v.Slices.Known() {
		return Verdict{VerdictUnknown, "cannot tell: " + cmp.Or(v.Slices.Reason, "the EndpointSlices were not asked for")}
	}
	if len(r.Findings) > 0 && r.Findings[0].Severity >= Medium {
		return Verdict{VerdictOK, fmt.Sprintf("nothing at or above %s; but %s", failOn, r.Findings[0].Summary)}
	}
	return Verdict{VerdictOK, fmt.Sprintf("nothing found in the way of an even spread over %d ready pods", len(v.Ready()))}
}

func first(xs []string) string {
	if len(xs) == 0 {
		return "no port says so"
	}
	return xs[0]
}
