package fix

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// enrolment is how a mesh takes in the pods of a template.
type enrolment struct {
	kind, mode string
	title      string // the mesh's name as people write it
	field      string // labels or annotations
	key, value string
}

var enrolments = []enrolment{
	{"linkerd", "", "Linkerd", "annotations", "linkerd.io/inject", "enabled"},
	{"istio", "", "Istio", "labels", "sidecar.istio.io/inject", "true"},
	{"istio", "ambient", "Istio", "labels", "istio.io/dataplane-mode", "ambient"},
}

// mesh puts a proxy that balances calls beside each client, and lets the clients dial the ClusterIP.
func (b *builder) mesh() error {
	e, err := b.enrolment()
	if err != nil {
		return err
	}
	b.plan.Title = fmt.Sprintf("bring the clients into %s and let them dial the ClusterIP", e.title)
	service, ok := b.withClusterIP()
	if !ok {
		b.note("svc/%s has no cluster IP and no sibling that has one: make one with the same selector, and let the clients dial it.", b.v.Service.Name)
	}
	b.enrolClients(e)
	if ok {
		b.moveClients(func(t diagnose.Target) (moved, error) { return b.clusterIPTarget(t, service) }, b.fqdn(service.Name))
		b.siblingsBack(service)
	}
	b.meshCaveats(e, service)
	return nil
}

// enrolment chooses the mesh: the one asked for, else the one seen, the servers' before others.
func (b *builder) enrolment() (enrolment, error) {
	kind := b.o.Mesh
	if kind != "" && !slices.ContainsFunc(enrolments, func(e enrolment) bool { return e.kind == kind }) {
		return enrolment{}, b.refuse(CodeBadOption, "linkerd or istio", "unknown mesh %q", kind)
	}
	seen := b.meshesSeen(kind)
	if kind == "" && len(seen) == 0 {
		reason := "no pod in reach is in a mesh"
		if !b.v.Pods.Known() {
			reason = "whether there is a mesh could not be seen: " + b.v.Pods.Reason
		}
		return enrolment{}, b.refuse(CodeNoMesh, "if one is installed, name it: --mesh linkerd or --mesh istio", "%s", reason)
	}
	mode := ""
	if len(seen) > 0 {
		kind, mode = seen[0].Kind, seen[0].Mode
	} else {
		b.caveat("No pod of %s was seen: without its control plane in the cluster the change does nothing.", kind)
	}
	out := enrolments[0]
	for _, e := range enrolments {
		if e.kind == kind && (e.mode == "" || e.mode == mode) {
			out = e // the list has the special mode last
		}
	}
	return out, nil
}

func (b *builder) meshesSeen(kind string) []diagnose.Mesh {
	var out []diagnose.Mesh
	see := func(m diagnose.Mesh) {
		if m.In() && (kind == "" || m.Kind == kind) {
			out = append(out, m)
		}
	}
	for _, e := range b.v.Ready() {
		if p := b.v.Pod(e.Pod); p != nil {
			see(p.Mesh)
		}
	}
	for _, p := range b.v.Pods.Value {
		see(p.Mesh)
	}
	for _, w := range b.v.Workloads.Value {
		see(w.Mesh)
	}
	return out
}

// withClusterIP is the Service that the clients' proxies balance over: this one, or a sibling of a headless one.
func (b *builder) withClusterIP() (diagnose.Service, bool) {
	for _, s := range append([]diagnose.Service{b.v.Service}, b.v.Siblings()...) {
		if !s.Headless() && s.Type != "ExternalName" && len(s.ClusterIPs) > 0 {
			return s, true
		}
	}
	return diagnose.Service{}, false
}

func (b *builder) enrolClients(e enrolment) {
	done := map[diagnose.Key]bool{}
	for _, c := range append(b.v.Clients(), b.v.SiblingClients()...) {
		w := c.Workload
		switch {
		case done[w.Key]:
		case w.Mesh.In():
			b.note("%s is in %s already.", w.Ref(), w.Mesh.Kind)
		case !changeable(w.Kind):
			b.note("%s: a %s cannot be changed in place. Make it anew with the %s %s: %s on its pod template.",
				w.Ref(), w.Kind, strings.TrimSuffix(e.field, "s"), e.key, e.value)
		default:
			b.enrol(w, e)
		}
		done[w.Key] = true
	}
}

func (b *builder) enrol(w diagnose.Workload, e enrolment) {
	o, err := b.read(w.Kind, w.Namespace, w.Name)
	if err != nil {
		b.note("%s could not be read (%v): its part is a command.", w.Ref(), err)
	}
	if o == nil {
		b.enrolOffline(w, e)
		return
	}
	if owner := o.controller(); owner != "" {
		b.note("%s belongs to %s, which would undo a change: set the %s %s: %s there.", w.Ref(), owner, strings.TrimSuffix(e.field, "s"), e.key, e.value)
		return
	}
	o.setTemplate(e.field, e.key, e.value)
}

func (b *builder) enrolOffline(w diagnose.Workload, e enrolment) {
	one := &liveObject{kind: w.Kind, ref: w.Ref(), namespace: w.Namespace, patch: map[string]any{}}
	one.setTemplate(e.field, e.key, e.value)
	b.patchCommand(one)
	b.offline(w).setTemplate(e.field, e.key, e.value)
}

// siblingsBack moves clients of headless siblings to the Service with the cluster IP.
func (b *builder) siblingsBack(to diagnose.Service) {
	for _, c := range b.v.SiblingClients() {
		for _, t := range c.Targets {
			s, ok := b.service(t.Service.Name)
			if !ok || !s.Headless() {
				continue
			}
			target, err := b.clusterIPTarget(t, to)
			if err != nil {
				b.note("%s is left as it is: %v.", c.Workload.Ref(), err)
				continue
			}
			b.move(c.Workload, t, target)
		}
	}
}

// clusterIPTarget writes a target anew with the name and port of the Service that has a cluster IP, in the scheme that
// the client uses. A target that names that Service already stays.
func (b *builder) clusterIPTarget(t diagnose.Target, to diagnose.Service) (moved, error) {
	if t.Kind == diagnose.TargetService && t.Service == to.Key {
		return moved{t.Token, t.Port}, nil
	}
	i := strings.LastIndex(t.Token, t.Host)
	if i < 0 || t.Host == "" {
		return moved{}, fmt.Errorf("its target %s is written in a way that cannot be changed safely", t.Token)
	}
	host := strings.TrimSuffix(t.Token[:i], "[") + b.fqdn(to.Name)
	if t.Port == 0 {
		return moved{token: host}, nil
	}
	for _, p := range to.Ports {
		if !tcp(p) || p.Port != t.Port && !slices.Contains(b.numbers(p), t.Port) {
			continue
		}
		if bareHost(t) {
			return moved{host, p.Port}, nil
		}
		return moved{token: fmt.Sprintf("%s:%d", host, p.Port)}, nil
	}
	return moved{}, fmt.Errorf("its target %s has a port to which no port of svc/%s leads", t.Token, to.Name)
}

func (b *builder) meshCaveats(e enrolment, s diagnose.Service) {
	b.caveat("The clients have to speak plaintext to their proxy: it balances only requests that it can read.")
	b.caveat("The clients' pods are started anew, with a proxy each.")
	if e.mode == "ambient" {
		b.caveat("Ambient mode balances connections only; calls are balanced by a waypoint (istioctl waypoint apply --namespace %s --enroll-namespace).", b.v.Service.Namespace)
	}
	if e.kind != "istio" {
		return
	}
	for _, p := range s.Ports {
		name := strings.ToLower(p.AppProtocol + p.Name)
		if tcp(p) && !strings.HasPrefix(name, "grpc") && !strings.HasPrefix(name, "http2") && !strings.HasPrefix(name, "kubernetes.io/h2c") {
			b.note("Istio takes port %s of svc/%s for gRPC only when it detects it: name it grpc-… or set appProtocol: grpc.", portName(p), s.Name)
		}
	}
}
