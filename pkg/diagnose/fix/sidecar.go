package fix

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// SidecarPlan is what the sidecar needs to know of a Service.
type SidecarPlan struct {
	Service inject.Service
	// Twin is the headless Service that the sidecar looks up, as it is to be applied; nil when another's is used, or none is needed.
	Twin *Object
	// There is true when the twin exists already as it has to be.
	There bool
	// Notes are sentences.
	Notes []string
}

// Sidecar plans how the calls to the Service of v go through a sidecar. The error is a *Refusal.
func Sidecar(v *diagnose.View, o Options) (SidecarPlan, error) {
	b := &builder{v: v, o: o, plan: Plan{Strategy: diagnose.StrategySidecar, Service: v.Service.Key}}
	if err := b.fits(); err != nil {
		return SidecarPlan{}, err
	}
	return b.sidecarService()
}

// sidecarService finds the ports and the headless Service. hostAliases know no ports: whatever TCP port a client dials has to be listened
// on, and what is no TCP cannot be.
func (b *builder) sidecarService() (SidecarPlan, error) {
	s := b.v.Service
	for _, p := range s.Ports {
		if !tcp(p) {
			return SidecarPlan{}, b.refuse(CodeNotTCP, "--strategy headless changes the clients instead",
				"port %s of svc/%s is %s: its name would lead to the sidecar, which speaks TCP alone", portName(p), s.Name, p.Protocol)
		}
	}
	ports, err := b.numbersOf(s.Ports)
	if err != nil {
		return SidecarPlan{}, err
	}
	name, create, err := b.twin()
	if err != nil {
		return SidecarPlan{}, err
	}
	out := SidecarPlan{Service: inject.Service{Key: s.Key, Dial: name}}
	for _, p := range ports {
		port := inject.Port{Name: p.Name, Number: p.Port, Target: p.number}
		if s.Headless() {
			port.Number = p.number // a headless Service translates no ports: its clients dial the pods'
		}
		for _, j := range b.v.GRPC().Ports {
			port.Other = port.Other || j.Port == p.ServicePort && j.Level == diagnose.GRPCNo
		}
		if !slices.ContainsFunc(out.Service.Ports, func(o inject.Port) bool { return o.Number == port.Number }) {
			out.Service.Ports = append(out.Service.Ports, port)
		}
	}
	if there, ok := b.service(name); ok && there.Headless() && maps.Equal(there.Selector, s.Selector) {
		out.There = true
	}
	if create {
		if err := b.addTwin(name, ports); err != nil {
			return SidecarPlan{}, err
		}
		twin := b.plan.Objects[len(b.plan.Objects)-1]
		out.Twin = &twin
		if out.There {
			b.plan.Objects = b.plan.Objects[:len(b.plan.Objects)-1]
		}
	}
	out.Notes = b.plan.Notes
	return out, nil
}

// sidecar puts the refresher beside each client that was found.
func (b *builder) sidecar() error {
	b.plan.Title = "add the refresher sidecar to the clients, no code change"
	if err := b.meshGuard(); err != nil {
		return err
	}
	p, err := b.sidecarService()
	if err != nil {
		return err
	}
	native, why := NativeSidecars(b.v)
	opt := inject.Options{
		Services: []inject.Service{p.Service}, Domain: b.domain(), Mode: inject.ModeAliases, Native: native,
		Image: cmp.Or(b.o.Image, DefaultImage), Resources: inject.DefaultResources(),
	}
	if !native {
		b.caveat("The sidecar is a plain container: %s. Init containers cannot use it.", why)
	}
	if b.v.Cluster.DomainFrom == diagnose.DomainAssumed {
		b.note("The cluster's DNS domain is taken to be %s: --cluster-domain says otherwise.", b.domain())
	}
	b.sidecarClients(opt)
	b.caveat("There is no way past the sidecar: while it is down, calls to svc/%s fail. Its container is started first and restarted by itself.", b.v.Service.Name)
	b.caveat("The clients' pods are started anew, with one small container more each (%s CPU, %s memory requested).", opt.Resources.CPURequest, opt.Resources.MemoryRequest)
	b.caveat("Clients that use TLS are passed through whole: each of their connections stays on one pod.")
	return nil
}

func (b *builder) sidecarClients(opt inject.Options) {
	if !b.v.Workloads.Known() {
		b.note("Clients were not looked for: kubectl grpclb inject KIND/NAME --service %s injects one.", b.v.Service.Name)
		return
	}
	clients := b.v.Clients()
	done := map[diagnose.Key]bool{}
	for _, c := range clients {
		w := c.Workload
		switch {
		case done[w.Key]:
		case b.balancedByMesh(c):
			b.note("%s is in %s and stays as it is: its proxy balances its calls.", w.Ref(), w.Mesh.Kind)
		case !changeable(w.Kind):
			b.note("%s: a %s cannot be changed in place. Inject its manifest: kubectl grpclb inject -f FILE --service %s.", w.Ref(), w.Kind, b.v.Service.Name)
		default:
			b.injectClient(w, opt)
		}
		done[w.Key] = true
	}
	if len(clients) == 0 {
		b.note("No client in reach names svc/%s: kubectl grpclb inject KIND/NAME --service %s injects one.", b.v.Service.Name, b.v.Service.Name)
	}
	if why := b.v.ClientsUnseen(); why != "" {
		b.note("Not every client could be looked at (%s).", why)
	}
}

// others adds the Services that a client was injected for before: an injection is made anew as a whole.
func (b *builder) others(read inject.Workload, opt inject.Options) (inject.Options, error) {
	for _, k := range read.Services {
		if slices.ContainsFunc(opt.Services, func(s inject.Service) bool { return s.Key == k }) {
			continue
		}
		v, ok := b.v.Snapshot.View(k)
		if !ok {
			return opt, fmt.Errorf("it was injected for svc/%s of %s, too, which could not be read", k.Name, k.Namespace)
		}
		p, err := Sidecar(v, Options{})
		if err != nil {
			return opt, err
		}
		opt.Services = append(slices.Clone(opt.Services), p.Service)
	}
	slices.SortFunc(opt.Services, func(x, y inject.Service) int { return x.Key.Compare(y.Key) })
	return opt, nil
}

// injectClient changes one client, or says what to run when it was not read.
func (b *builder) injectClient(w diagnose.Workload, opt inject.Options) {
	command := diagnose.Command{Args: []string{"kubectl", "grpclb", "inject", w.Ref(), "-n", w.Namespace, "--service", serviceWord(b.v.Service.Key, w.Namespace), "--apply"},
		Note: "shows what changes, and asks"}
	o, err := b.read(w.Kind, w.Namespace, w.Name)
	if err != nil {
		b.note("%s could not be read (%v): its part is a command.", w.Ref(), err)
	}
	if o == nil {
		b.plan.Commands = append(b.plan.Commands, command)
		return
	}
	if owner := o.controller(); owner != "" {
		b.note("%s belongs to %s, which would undo a change: inject that.", w.Ref(), owner)
		return
	}
	read, err := inject.Read(o.live, w.Namespace)
	if err != nil {
		b.note("%s is left as it is: %v.", w.Ref(), err)
		return
	}
	opt, err = b.others(read, opt)
	if err != nil {
		b.note("%s is left as it is: %v.", w.Ref(), err)
		return
	}
	in, remarks := inject.Decide(read, opt, inject.Facts{})
	for _, r := range remarks {
		switch {
		case r.Level == inject.Refusal:
			b.note("%s is left as it is: %s. Instead: %s.", w.Ref(), r.Text, r.Instead)
		case r.Instead != "":
			b.caveat("%s: %s. %s.", w.Ref(), r.Text, r.Instead)
		default:
			b.note("%s: %s.", w.Ref(), r.Text)
		}
	}
	if in == nil {
		return
	}
	if err := o.inject(in); err != nil {
		b.note("%s is left as it is: %v.", w.Ref(), err)
	}
}

// inject changes the object's document and its patch. The record of what was there before comes from the live object.
func (o *liveObject) inject(in *inject.Injection) error {
	in, err := in.For(o.live)
	if err != nil {
		return err
	}
	doc, err := inject.Add(o.doc, in)
	if err != nil {
		return err
	}
	head := map[string]any{"apiVersion": o.live["apiVersion"], "kind": o.kind}
	patch, err := inject.Add(head, in)
	if err != nil {
		return err
	}
	order(patch, o.live, o.kind)
	delete(patch, "apiVersion")
	delete(patch, "kind")
	merge(o.patch, patch)
	o.doc = doc
	o.did("its pods get the sidecar, and hostAliases that lead to it")
	return nil
}

// order keeps the sidecar before the other init containers: a merge would put what is new behind what is there.
func order(patch, live map[string]any, kind string) {
	spec := child(patch, append(templatePath(kind), "spec")...)
	for _, list := range []string{"initContainers", "containers"} {
		mine, _ := spec[list].([]any)
		others, _ := at(live, append(templatePath(kind), "spec", list)...).([]any)
		if mine == nil || others == nil {
			continue
		}
		names := []any{map[string]any{"name": diagnose.SidecarName}}
		for _, x := range others {
			if m, ok := x.(map[string]any); ok && m["name"] != diagnose.SidecarName {
				names = append(names, map[string]any{"name": m["name"]})
			}
		}
		spec["$setElementOrder/"+list] = names
	}
}

// Document is what `kubectl apply` takes to inject a live object; see liveObject for what it holds.
type Document struct {
	Content map[string]any
	// Whole is true when it holds all fields of the last applied manifest.
	Whole bool
	// Applier is the manager of an object that is kept by server-side apply, for which Content is not to be used.
	Applier string
	// Keeper names the tool that writes the object from elsewhere; Controller the object that manages it. Empty when none does.
	Keeper, Controller string
}

// Inject makes the document of a live object; a nil injection says only who keeps it.
func Inject(kind, namespace, name string, live map[string]any, in *inject.Injection) (Document, error) {
	o, err := newLive(kind, namespace, name, live)
	if err != nil {
		return Document{}, err
	}
	d := Document{Whole: o.whole, Applier: o.applier, Keeper: o.keeper(), Controller: o.controller()}
	if in != nil {
		if err := o.inject(in); err != nil {
			return d, err
		}
	}
	d.Content = o.doc
	return d, nil
}

// merge puts b into a; lists of b win.
func merge(a, b map[string]any) {
	for k, v := range b {
		am, ok1 := a[k].(map[string]any)
		bm, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			merge(am, bm)
			continue
		}
		a[k] = v
	}
}

// serviceWord names a Service for --service: with its namespace where that is another.
func serviceWord(k diagnose.Key, namespace string) string {
	if k.Namespace == namespace {
		return k.Name
	}
	return k.Name + "." + k.Namespace
}

// DefaultImage is the sidecar's image when Options names none.
const DefaultImage = "grpclb.dev/grpclb-refresher:dev"

var minor = regexp.MustCompile(`^v?1\.([0-9]+)`)

// NativeSidecars reports whether the cluster runs init containers that keep running: the API server and every node that takes pods are
// Kubernetes 1.29 or later (KEP-753). Where that is not known it is assumed, since all older versions are out of support; why says what
// was seen otherwise.
func NativeSidecars(v *diagnose.View) (native bool, why string) {
	old := func(version string) bool {
		m := minor.FindStringSubmatch(version)
		if m == nil {
			return false
		}
		n, err := strconv.Atoi(m[1])
		return err == nil && n < 29
	}
	if old(v.Cluster.Version) {
		return false, "the API server is " + v.Cluster.Version + ", and native sidecars need 1.29"
	}
	for _, n := range v.Nodes.Value {
		if !n.Unschedulable && old(n.Kubelet) {
			return false, fmt.Sprintf("node %s runs %s, and native sidecars need 1.29", n.Name, strings.TrimSpace(n.Kubelet))
		}
	}
	return true, ""
}
