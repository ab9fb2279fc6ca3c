package inject

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// Level says what a Remark means.
type Level int

// The levels.
const (
	Note    Level = iota // worth knowing
	Warning              // it works, and something is to be done or watched
	Refusal              // it would not work, or do harm
)

// Remark is something that looking at a workload before the change found.
type Remark struct {
	Level Level
	Code  string // a slug that stays the same when the words change
	Text  string // one sentence without the final dot; it begins with what it is about
	// Instead is what to do; empty where nothing is to be done.
	Instead string
}

// Facts are what is known of a workload's surroundings beyond its manifest. The zero value is what an unknown cluster tells.
type Facts struct {
	// Labels and Annotations are the namespace's; nil when it was not seen.
	Labels, Annotations map[string]string
	// Listening are the TCP addresses on which the workload's running pods were seen to listen, without those of a sidecar that is in them
	// already; nil when nobody looked.
	Listening []netip.AddrPort
	// Selected are the Services of the injection whose selectors match the workload's own pods.
	Selected []diagnose.Key
	// KeptBy names the tool that writes the object from elsewhere; empty when none is known.
	KeptBy string
}

// look is one look at a workload.
type look struct {
	w       Workload
	o       Options
	f       Facts
	remarks []Remark
	found   []foundTarget
}

// foundTarget is one place that names one of the Services.
type foundTarget struct {
	target.Found
	list      string // containers or initContainers
	container string
	service   int // index in Options.Services
}

func (l *look) say(level Level, code, instead, format string, args ...any) {
	r := Remark{level, code, fmt.Sprintf(format, args...), instead}
	if !slices.Contains(l.remarks, r) {
		l.remarks = append(l.remarks, r)
	}
}

const codeServer = "server"

const byEnv = "--mode env writes 127.0.0.1 into the variables and arguments instead of relying on names"

// Names reports whether a variable or an argument of the workload names one of the Services.
func Names(w Workload, services []Service, domain string) bool {
	l := &look{w: w, o: Options{Services: services, Domain: domain}}
	l.targets()
	return len(l.found) > 0
}

// Decide looks at a workload and says what it gets, with everything that was found on the way. The injection is nil when one of the
// remarks is a Refusal.
func Decide(w Workload, o Options, f Facts) (*Injection, []Remark) {
	if o.Mode == "" {
		o.Mode = ModeAliases
	}
	l := &look{w: w, o: o, f: f}
	l.services()
	l.pod()
	l.mesh()
	l.targets()
	l.clients()
	ls := o.listeners(l.loopback())
	l.ports(ls)
	in := &Injection{
		record:    record{Mode: o.Mode, Native: o.Native},
		container: o.containerOf(ls),
		ports:     []int32{o.adminPort(), diagnose.SidecarDebugPort},
	}
	for _, x := range ls {
		in.ports = append(in.ports, int32(x.listen.Port()))
	}
	slices.Sort(in.ports)
	in.ports = slices.Compact(in.ports)
	for _, s := range o.Services {
		in.record.Services = append(in.record.Services, s.Key.String())
	}
	if !o.Native {
		in.defaultTo = w.Template.Spec.Containers[0].Name
		l.plain()
	}
	if o.Mode == ModeEnv {
		in.record.Rewrites = l.rewrites(ls)
	} else {
		l.aliases(in, ls)
	}
	l.restricted()
	if f.KeptBy != "" {
		l.say(Warning, "kept-elsewhere", "inject the manifest that it writes from, too", "%s is kept by %s, which may undo the injection", w.Ref(), f.KeptBy)
	}
	if i := slices.IndexFunc(l.remarks, func(r Remark) bool { return r.Code == codeServer }); i >= 0 {
		l.remarks = []Remark{l.remarks[i]} // the wrong workload: nothing else about it matters, and no other advice helps
	}
	slices.SortStableFunc(l.remarks, func(a, b Remark) int { return int(b.Level) - int(a.Level) })
	if slices.ContainsFunc(l.remarks, func(r Remark) bool { return r.Level == Refusal }) {
		return nil, l.remarks
	}
	return in, l.remarks
}

// aliases gives each Service's names its address.
func (l *look) aliases(in *Injection, ls []listener) {
	for i, s := range l.o.Services {
		j := slices.IndexFunc(ls, func(x listener) bool { return x.service == i })
		if j < 0 {
			continue
		}
		ip := ls[j].listen.Addr().String()
		var names []any
		for _, n := range s.names(l.w.Namespace, l.o.Domain) {
			names = append(names, n)
			l.aliasTaken(n)
		}
		in.aliases = append(in.aliases, object{{"ip", ip}, {"hostnames", names}})
		in.record.IPs = append(in.record.IPs, ip)
	}
}

// aliasTaken: the first line of a hosts file that has a name wins.
func (l *look) aliasTaken(name string) {
	for _, a := range l.w.Template.Spec.HostAliases {
		if slices.Contains(a.Hostnames, name) {
			l.say(Refusal, "alias-taken", "take that name out of hostAliases, or "+byEnv, "%s maps %s to %s by hostAliases already", l.w.Ref(), name, a.IP)
		}
	}
}

// loopback are the addresses that hostAliases use for something else.
func (l *look) loopback() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range l.w.Template.Spec.HostAliases {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			out[ip] = true
		}
	}
	return out
}

func (l *look) services() {
	for _, k := range l.w.Services {
		if !slices.ContainsFunc(l.o.Services, func(s Service) bool { return s.Key == k }) {
			l.say(Warning, "service-dropped", "name it, too, to keep it",
				"%s was injected for svc/%s of %s as well: its calls there go to the Service again", l.w.Ref(), k.Name, k.Namespace)
		}
	}
	for _, s := range l.o.Services {
		if slices.Contains(l.f.Selected, s.Key) {
			l.say(Refusal, codeServer, "inject the workloads that call it", "%s runs the pods of svc/%s itself: its servers and the sidecar would want the same ports", l.w.Ref(), s.Name)
		}
		var other []string
		for _, p := range s.Ports {
			if p.Other {
				other = append(other, fmt.Sprint(p.Number))
			}
		}
		if other != nil {
			l.say(Note, "spliced", "", "port %s of svc/%s is not gRPC: its connections are passed on to one pod each, and counted", strings.Join(other, ", "), s.Name)
		}
	}
}

// pod looks at what the pod spec allows.
func (l *look) pod() {
	spec, ref := &l.w.Template.Spec, l.w.Ref()
	if spec.HostNetwork {
		l.say(Refusal, "host-network", "`kubectl grpclb fix --strategy headless` changes the client instead, or run the pods on the pod network",
			"%s uses the host's network: its listeners would be the node's, and hostAliases do nothing there", ref)
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == "windows" || spec.NodeSelector["beta.kubernetes.io/os"] == "windows" {
		l.say(Refusal, "windows", "`kubectl grpclb fix --strategy headless` changes the client instead", "%s runs on Windows nodes, for which there is no sidecar", ref)
	}
	switch spec.DNSPolicy {
	case corev1.DNSDefault, corev1.DNSNone:
		l.say(Warning, "own-dns", "let the pods' resolver know the cluster's names (dnsPolicy: ClusterFirst)",
			"%s has dnsPolicy %s: the sidecar looks up names of the cluster by the pod's resolver", ref, spec.DNSPolicy)
	}
	for _, cs := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range cs {
			if c.Name == diagnose.SidecarName {
				l.say(Refusal, "name-taken", "rename it", "%s has a container named %s that `inject` did not write", ref, c.Name)
			}
		}
	}
}

// plain says what a container lacks that is no native sidecar.
func (l *look) plain() {
	if l.w.Kind == "Job" || l.w.Kind == "CronJob" {
		l.say(Refusal, "job", "let the pods run on Kubernetes 1.29 or later, and use --native true",
			"%s runs to completion, and a sidecar that is a plain container would keep it from ending", l.w.Ref())
		return
	}
	l.say(Warning, "plain-container", "Kubernetes 1.29 has native sidecars: --native true",
		"%s gets a plain container: init containers cannot use it, and it stops at the same time as the others", l.w.Ref())
}

// ports finds what keeps the sidecar from listening: a port that a container declares, on whichever address, and a socket of a running
// pod on the same address or on all of them.
func (l *look) ports(ls []listener) {
	admin := l.o.adminPort()
	needed := []struct {
		at            netip.AddrPort
		what, instead string
	}{
		{netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(admin)), "for its health and metrics", "--admin-port takes another port"},
		{netip.AddrPortFrom(localhost, diagnose.SidecarDebugPort), "for its pools page", "let the container listen elsewhere"},
	}
	for _, x := range ls {
		n := needed[0]
		n.at, n.what, n.instead = x.listen, fmt.Sprintf("for svc/%s", l.o.Services[x.service].Name), byEnv
		if l.o.Mode == ModeEnv {
			n.instead = "let the container listen elsewhere"
		}
		if collide(needed[0].at, x.listen) {
			l.say(Refusal, "port-conflict", needed[0].instead, "the sidecar of %s needs port %d %s, and %s as well", l.w.Ref(), admin, n.what, needed[0].what)
		}
		needed = append(needed, n)
	}
	declared := map[uint16]bool{}
	spec := &l.w.Template.Spec
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, p := range c.Ports {
			if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
				continue
			}
			declared[uint16(p.ContainerPort)] = true
			for _, n := range needed {
				if int32(n.at.Port()) == p.ContainerPort {
					l.say(Refusal, "port-conflict", n.instead, "container %s of %s uses port %d, on which the sidecar listens %s", c.Name, l.w.Ref(), p.ContainerPort, n.what)
				}
			}
		}
	}
	for _, so := range l.f.Listening {
		for _, n := range needed {
			if !declared[so.Port()] && collide(so, n.at) {
				l.say(Refusal, "port-conflict", n.instead, "a running pod of %s listens on %s: the sidecar could not listen on %s, as it does %s", l.w.Ref(), so, n.at, n.what)
			}
		}
	}
}

// collide tells sockets of which the second could not be had: a server on all addresses has its port on every one of them (bind(2)).
func collide(a, b netip.AddrPort) bool {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}

// mesh refuses where a proxy balances calls already.
func (l *look) mesh() {
	kind, how, ambient := meshOf(l.w.Template, l.f)
	switch {
	case kind == "":
	case ambient:
		l.say(Warning, "ambient", "a waypoint would balance the calls, too", "%s is in Istio's ambient mode (%s): its node proxy forwards the sidecar's connections", l.w.Ref(), how)
	default:
		l.say(Refusal, "meshed", "let it dial the ClusterIP: the mesh's proxy balances its calls there (`kubectl grpclb diagnose` says so). To leave the mesh, opt the pod out first",
			"%s is in %s (%s), whose proxy and the sidecar would stand in each other's way", l.w.Ref(), kind, how)
	}
}

func meshOf(t corev1.PodTemplateSpec, f Facts) (kind, how string, ambient bool) {
	for _, c := range slices.Concat(t.Spec.InitContainers, t.Spec.Containers) {
		switch c.Name {
		case "istio-proxy":
			return "Istio", "container istio-proxy", false
		case "linkerd-proxy":
			return "Linkerd", "container linkerd-proxy", false
		}
	}
	own, ns := t.Annotations["linkerd.io/inject"], f.Annotations["linkerd.io/inject"]
	on := func(v string) bool { return v == "enabled" || v == "ingress" }
	switch {
	case on(own):
		return "Linkerd", "annotation linkerd.io/inject", false
	case own == "" && on(ns):
		return "Linkerd", "its namespace's annotation linkerd.io/inject", false
	}
	pod := t.Labels["sidecar.istio.io/inject"]
	if pod == "" {
		pod = t.Annotations["sidecar.istio.io/inject"]
	}
	switch {
	case pod == "true":
		return "Istio", "sidecar.istio.io/inject", false
	case pod == "false":
	case f.Labels["istio-injection"] == "enabled":
		return "Istio", "its namespace's label istio-injection", false
	case f.Labels["istio.io/rev"] != "":
		return "Istio", "its namespace's label istio.io/rev", false
	}
	mode := t.Labels["istio.io/dataplane-mode"]
	if mode == "" {
		mode = f.Labels["istio.io/dataplane-mode"]
	}
	if mode == "ambient" {
		return "Istio", "label istio.io/dataplane-mode", true
	}
	return "", "", false
}
