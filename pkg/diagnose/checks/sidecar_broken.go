package checks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func sidecarBroken() diagnose.Check {
	return diagnose.Check{
		ID:       "sidecar-broken",
		Title:    "the refresher sidecar of a client is incomplete, out of date or not ready",
		Severity: diagnose.Critical,
		Doc:      page("sidecar-broken"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactWorkloads},
		Run:      runSidecarBroken,
	}
}

func runSidecarBroken(v *diagnose.View) []diagnose.Finding {
	var out []diagnose.Finding
	for _, s := range sidecars(v) {
		wrong := s.wrong()
		if len(wrong) == 0 {
			continue
		}
		slices.SortStableFunc(wrong, func(a, b fault) int { return int(b.severity) - int(a.severity) })
		f := diagnose.Finding{Subject: s.w.Ref(), Severity: wrong[0].severity, Confidence: diagnose.Configured, Summary: wrong[0].summary}
		for _, x := range wrong {
			f.Evidence = append(f.Evidence, x.evidence)
		}
		if d := s.dialled(); d != "" {
			f.Evidence = append(f.Evidence, d)
		}
		f.Fixes = s.mend()
		if f.Severity == diagnose.Medium && hasTemplate(diagnose.Owner{Kind: s.w.Kind}) {
			f.Fixes = []diagnose.Fix{{Title: "see how the roll-out goes", Commands: []diagnose.Command{kubectl(s.w.Namespace, "rollout", "status", s.w.Ref())}}}
		}
		out = append(out, f)
	}
	return out
}

// sidecar is an injected workload, seen from one Service.
type sidecar struct {
	v      *diagnose.View
	w      diagnose.Workload
	ip     string                  // where its hostAliases lead the Service's name; empty in mode env
	routes []diagnose.SidecarRoute // those that stand for the Service
	client diagnose.Client         // its targets that name the Service; those of mode env name none
}

// sidecars returns the workloads with an injection, or parts of one, that concerns the Service.
func sidecars(v *diagnose.View) []sidecar {
	clients := map[string]diagnose.Client{}
	for _, c := range v.Clients() {
		clients[c.Workload.Kind+c.Workload.Key.String()] = c
	}
	var out []sidecar
	for _, w := range v.Workloads.Value {
		if w.Sidecar == nil {
			continue
		}
		s := sidecar{v: v, w: w, client: clients[w.Kind+w.Key.String()]}
		ip, led := w.Sidecar.Leads(v.Service.Key)
		switch {
		case led:
			s.ip, s.routes = ip, w.Sidecar.At(ip)
		case len(w.Sidecar.Aliases) == 0 && !v.Service.Headless():
			s.routes = w.Sidecar.To(v.Service.Key)
			for _, o := range v.Siblings() {
				s.routes = append(s.routes, w.Sidecar.To(o.Key)...)
			}
		}
		leftover := w.Sidecar.Annotated && !w.Sidecar.Container && len(s.client.Targets) > 0
		if led || len(s.routes) > 0 || leftover {
			out = append(out, s)
		}
	}
	return out
}

// fault is one thing that is wrong with a sidecar.
type fault struct {
	severity          diagnose.Severity
	summary, evidence string
}

func (s sidecar) wrong() []fault {
	if !s.w.Sidecar.Container {
		if s.ip == "" {
			return []fault{{
				diagnose.Low, "the record of an injection is left, and nothing else of it: its calls go as before it",
				fmt.Sprintf("%s has the annotation %s, and neither the container nor hostAliases for %s.", s.w.Ref(), diagnose.InjectedAnnotation, s.v.Service.Name),
			}}
		}
		return []fault{{
			diagnose.Critical, "its pods lead the Service's name to a sidecar that is not there: every connection is refused",
			fmt.Sprintf("hostAliases lead %s to %s, and there is no container %s that listens there.", s.v.Service.Name, s.ip, diagnose.SidecarName),
		}}
	}
	return slices.Concat(s.stale(), s.twin(), s.pods())
}

// stale compares the listeners with the Service's ports as they are now.
func (s sidecar) stale() []fault {
	var out []fault
	if s.ip == "" {
		return s.targets() // mode env listens for what was rewritten
	}
	for _, p := range s.v.Service.Ports {
		if p.Protocol != "" && p.Protocol != "TCP" {
			continue
		}
		for _, number := range s.numbers(p) {
			if slices.ContainsFunc(s.routes, func(r diagnose.SidecarRoute) bool { return int32(r.Listen.Port()) == number }) {
				continue
			}
			f := fault{diagnose.High, fmt.Sprintf("its sidecar does not listen on port %d, which the Service has", number),
				fmt.Sprintf("%s has port %d; the sidecar listens on %s: connections to any other port of that name are refused.", subject(s.v), number, s.listens())}
			if slices.ContainsFunc(s.client.Targets, func(t diagnose.Target) bool { return t.EffectivePort() == number }) {
				f.severity = diagnose.Critical
			}
			out = append(out, f)
		}
	}
	return append(out, s.targets()...)
}

// numbers are what clients of a port dial: a headless Service translates nothing.
func (s sidecar) numbers(p diagnose.ServicePort) []int32 {
	if s.v.Service.Headless() {
		return s.v.PodPorts(p)
	}
	return []int32{p.Port}
}

func (s sidecar) listens() string {
	var ns []int32
	for _, r := range s.routes {
		ns = append(ns, int32(r.Listen.Port()))
	}
	if ns == nil {
		return "none"
	}
	return numbers(ns)
}

// targets compares where calls are sent with the ports of the pods.
func (s sidecar) targets() []fault {
	served := s.v.TargetPorts()
	var out []fault
	for _, r := range s.routes {
		if len(served) > 0 && !slices.Contains(served, r.Port) {
			out = append(out, fault{diagnose.Critical, fmt.Sprintf("its sidecar dials port %d of the pods, on which they do not serve", r.Port),
				fmt.Sprintf("What comes in on %s goes to port %d of the pods, which serve %s.", r.Listen, r.Port, numbers(served))})
		}
	}
	return out
}

// twin looks at the headless Service that the sidecar looks up.
func (s sidecar) twin() []fault {
	var out []fault
	done := map[diagnose.Key]bool{}
	for _, r := range s.routes {
		if done[r.Service] || r.Service.Namespace != s.v.Service.Namespace {
			continue
		}
		done[r.Service] = true
		i := slices.IndexFunc(s.v.Services.Value, func(o diagnose.Service) bool { return o.Key == r.Service })
		switch {
		case i < 0 && len(s.v.Services.Value) > 1:
			out = append(out, fault{diagnose.Critical, fmt.Sprintf("the headless Service that its sidecar looks up, %s, does not exist", r.Service.Name),
				fmt.Sprintf("The sidecar finds the pods by the name %s, and there is no such Service in %s.", r.Service.Name, r.Service.Namespace)})
		case i < 0: // only the Service itself could be read
		case !s.v.Services.Value[i].Headless():
			out = append(out, fault{diagnose.High, fmt.Sprintf("the Service that its sidecar looks up, %s, is not headless: it knows one address and no pods", r.Service.Name),
				fmt.Sprintf("svc/%s has the cluster IP %s: each connection of the sidecar stays on one pod.", r.Service.Name, list(s.v.Services.Value[i].ClusterIPs))})
		case len(s.v.Service.Selector) > 0 && !maps.Equal(s.v.Service.Selector, s.v.Services.Value[i].Selector):
			out = append(out, fault{diagnose.High, fmt.Sprintf("the headless Service that its sidecar looks up, %s, selects other pods", r.Service.Name),
				fmt.Sprintf("The selectors of svc/%s and %s differ: calls go to pods that the Service does not have.", r.Service.Name, subject(s.v))})
		}
	}
	return out
}

// pods looks at the container in the pods that run now.
func (s sidecar) pods() []fault {
	var without, unready []string
	total := 0
	for _, p := range s.v.Pods.Value {
		own := p.Owner == diagnose.Owner{Kind: s.w.Kind, Name: s.w.Name} || s.w.Kind == "Pod" && p.Name == s.w.Name
		if p.Namespace != s.w.Namespace || !own || p.Phase != "Running" || p.Terminating {
			continue
		}
		total++
		i := slices.IndexFunc(p.Containers, func(c diagnose.Container) bool { return c.Name == diagnose.SidecarName })
		switch {
		case len(p.Containers) == 0: // not known
		case i < 0:
			without = append(without, p.Name)
		case !p.Containers[i].Ready:
			unready = append(unready, p.Name)
		}
	}
	slices.Sort(without)
	slices.Sort(unready)
	var out []fault
	if n := len(unready); n > 0 {
		out = append(out, fault{diagnose.High, fmt.Sprintf("the sidecar is not ready in %d of %s", n, count(total, "running pod")),
			fmt.Sprintf("Container %s is not ready in %s: calls from there fail, and there is no way past it.", diagnose.SidecarName, list(unready))})
	}
	if n := len(without); n > 0 {
		out = append(out, fault{diagnose.Medium, fmt.Sprintf("%d of %s %s without the sidecar that the template has", n, count(total, "running pod"), either(n, "runs", "run")),
			fmt.Sprintf("%s %s from before the injection: a roll-out is under way, or is held up.", list(without), either(n, "is", "are"))})
	}
	return out
}

// dialled says by which target the workload is a client; empty when none names the Service.
func (s sidecar) dialled() string {
	if len(s.client.Targets) == 0 {
		return ""
	}
	return workload(s.v, s.w) + " dials " + dialsAll(s.client.Targets) + "."
}

// mend injects again, which makes everything as it should be, or takes the injection out.
func (s sidecar) mend() []diagnose.Fix {
	var services []string
	add := func(k diagnose.Key) {
		name := k.Name
		if s.w.Namespace != k.Namespace {
			name += "." + k.Namespace
		}
		if !slices.Contains(services, name) {
			services = append(services, name)
		}
	}
	add(s.v.Service.Key)
	for _, a := range s.w.Sidecar.Aliases {
		add(a.Service)
	}
	again := kubectl(s.w.Namespace, "grpclb", "inject", s.w.Ref(), "--service", strings.Join(services, ","), "--apply")
	out := kubectl(s.w.Namespace, "grpclb", "uninject", s.w.Ref(), "--apply")
	return []diagnose.Fix{
		{Title: "inject it again, with all of its Services", Commands: []diagnose.Command{again}},
		{Title: "take the injection out", Commands: []diagnose.Command{out}},
	}
}
