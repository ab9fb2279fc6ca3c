package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func clientTargetUnknownService() diagnose.Check {
	return diagnose.Check{
		ID:       "client-target-unknown-service",
		Title:    "a client names a Service or a port that does not exist",
		Severity: diagnose.High,
		Doc:      page("client-target-unknown-service"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactWorkloads},
		Run:      runClientTargetUnknownService,
	}
}

func runClientTargetUnknownService(v *diagnose.View) []diagnose.Finding {
	grpc := v.GRPC().Yes()
	var out []diagnose.Finding
	for _, w := range v.Workloads.Value {
		for _, t := range w.Targets {
			if !grpc && !t.GRPC || t.Resolver() == diagnose.ResolverXDS {
				continue
			}
			switch t.Kind {
			case diagnose.TargetMissing:
				out = append(out, unknownName(v, w, t)...)
			case diagnose.TargetService:
				out = append(out, unknownPort(v, w, t)...)
			}
		}
	}
	return out
}

// unknownName reports a name without a Service in the report of the one Service that was most likely meant, so that a
// run over many Services says it once.
func unknownName(v *diagnose.View, w diagnose.Workload, t diagnose.Target) []diagnose.Finding {
	meant, why, ok := likely(v, w, t)
	if !ok || meant != v.Service.Key {
		return nil
	}
	want := v.Service.Name
	if w.Namespace != v.Service.Namespace {
		want += "." + v.Service.Namespace
	}
	f := diagnose.Finding{
		Subject: w.Ref(), Severity: diagnose.High, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("the target %s names no Service that exists; the nearest is %s", t.Token, want),
		Evidence: []string{
			workload(v, w) + " dials " + dials(t) + ".",
			why,
			"A name that some other DNS server or cluster answers would look the same.",
		},
	}
	fix, ok := retargetAll([]diagnose.Client{{Workload: w, Targets: []diagnose.Target{t}}}, "dial "+want,
		func(diagnose.Target) aim { return aim{host: want} })
	if !ok {
		fix = lookAt(w)
	}
	f.Fixes = []diagnose.Fix{fix}
	return []diagnose.Finding{f}
}

// likely returns the Service that a dangling name most probably means: the same name in another namespace, else the
// fewest edits in the namespace that the name points to.
func likely(v *diagnose.View, w diagnose.Workload, t diagnose.Target) (diagnose.Key, string, bool) {
	name, ns := t.Service.Name, cmp.Or(t.Service.Namespace, w.Namespace)
	if name == "" {
		name, _, _ = strings.Cut(strings.ToLower(t.Host), ".")
	}
	type candidate struct {
		key   diagnose.Key
		edits int
		near  bool
	}
	var cs []candidate
	for _, s := range v.Services.Value {
		d := distance(name, s.Name)
		switch {
		case s.Name == name && s.Namespace != ns:
			cs = append(cs, candidate{s.Key, 0, true})
		case s.Namespace == ns && similar(name, s.Name, d):
			cs = append(cs, candidate{s.Key, d, true})
		}
	}
	if len(cs) == 0 {
		return diagnose.Key{}, "", false
	}
	slices.SortFunc(cs, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.edits, b.edits), a.key.Compare(b.key)) })
	best := cs[0]
	if best.edits == 0 {
		return best.key, fmt.Sprintf("There is no Service %s in %s, but one in %s.", name, ns, best.key.Namespace), true
	}
	return best.key, fmt.Sprintf("There is no Service %s in %s; %s differs by %s.", name, ns, best.key.Name, count(best.edits, "letter")), true
}

// unknownPort reports a port that the Service does not have. A pods' port dialled on a cluster IP, and a Service's
// port dialled on a headless one, are headless-port-mismatch's.
func unknownPort(v *diagnose.View, w diagnose.Workload, t diagnose.Target) []diagnose.Finding {
	if t.Service != v.Service.Key || t.Port == 0 || declares(v.Service, t.Port) || len(v.Service.Ports) == 0 {
		return nil
	}
	if slices.Contains(v.TargetPorts(), t.Port) {
		return nil
	}
	var have []string
	for _, p := range v.Service.Ports {
		s := fmt.Sprint(p.Port)
		if p.Name != "" {
			s = p.Name + "=" + s
		}
		have = append(have, s)
	}
	f := diagnose.Finding{
		Subject: w.Ref(), Severity: diagnose.High, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("the target %s names port %d, which the Service does not have", t.Token, t.Port),
		Evidence: []string{
			workload(v, w) + " dials " + dials(t) + ".",
			fmt.Sprintf("%s has %s.", subject(v), list(have)),
		},
	}
	fix := lookAt(w)
	if grpc := v.GRPCPorts(); len(grpc) == 1 {
		port := grpc[0].Port
		if nums := v.PodPorts(grpc[0]); v.Service.Headless() && len(nums) > 0 {
			port = nums[0]
		}
		if r, ok := retargetAll([]diagnose.Client{{Workload: w, Targets: []diagnose.Target{t}}}, fmt.Sprintf("dial port %d", port), toPort(port)); ok {
			fix = r
		}
	}
	f.Fixes = []diagnose.Fix{fix}
	return []diagnose.Finding{f}
}

func lookAt(w diagnose.Workload) diagnose.Fix {
	return diagnose.Fix{
		Title:    "mend the target where the workload comes from",
		Commands: []diagnose.Command{kubectl(w.Namespace, "get", w.Ref(), "-o", "yaml")},
	}
}
