package inject

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Mode says how a client's calls reach the sidecar.
type Mode string

// The modes.
const (
	// ModeAliases leads the Service's names to a loopback address inside of the pod (hostAliases): nothing of the client changes.
	ModeAliases Mode = "aliases"
	// ModeEnv writes 127.0.0.1 into the variables and arguments that name the Service: for clients that do not read the hosts file, and for
	// pods whose containers use the Service's port numbers themselves.
	ModeEnv Mode = "env"
)

// Modes lists the modes, the usual one first.
func Modes() []string { return []string{string(ModeAliases), string(ModeEnv)} }

// Port is one TCP port of a Service.
type Port struct {
	Name   string
	Number int32 // what clients dial
	Target int32 // what the pods serve it on
	// Other is true when the port is known to speak something else than gRPC: its connections are passed on whole.
	Other bool
}

// Service is a Service whose calls are to go through the sidecar.
type Service struct {
	diagnose.Key
	Dial  string // the headless Service of the same namespace that the sidecar looks up
	Ports []Port // every TCP port, in order
}

// Resources are the container's, as Kubernetes writes quantities; empty leaves one out.
type Resources struct {
	CPURequest, MemoryRequest, CPULimit, MemoryLimit string
}

// DefaultResources are small because every client's pod pays for them. There is no CPU limit: being throttled adds latency to every call of
// the pod. The memory limit is far above what the sidecar uses, since a limit reserves nothing and running into it breaks every call.
func DefaultResources() Resources {
	return Resources{CPURequest: "10m", MemoryRequest: "16Mi", MemoryLimit: "128Mi"}
}

// Options say what to inject.
type Options struct {
	Services   []Service // at least one
	Domain     string    // the cluster's DNS domain
	Mode       Mode      // empty means ModeAliases
	Native     bool      // as an init container that keeps running (KEP-753)
	Image      string
	PullPolicy string // empty means IfNotPresent
	Resources  Resources
	AdminPort  int32 // 0 means diagnose.SidecarAdminPort
}

// Injection is what one pod template gets.
type Injection struct {
	record    record
	container object
	aliases   []any   // of object
	defaultTo string  // the container that kubectl takes for logs and exec; empty leaves that alone
	fixed     *record // the record as it is for another object; see For
	ports     []int32
}

// Ports returns the TCP ports on which the sidecar will listen, in order and each once.
func (in *Injection) Ports() []int32 { return slices.Clone(in.ports) }

// record is the value of the annotation: what was put in, for taking it out.
type record struct {
	Services []string  `json:"services"`
	Mode     Mode      `json:"mode"`
	Native   bool      `json:"native"`
	IPs      []string  `json:"ips,omitempty"`
	Default  bool      `json:"default,omitempty"`
	Rewrites []rewrite `json:"rewrites,omitempty"`
	// Made are the keys that were not there before: metadata, annotations, hostAliases, initContainers, containers.
	Made []string `json:"made,omitempty"`
}

// rewrite is one changed variable or argument: Was became Now inside of what stands in the field.
type rewrite struct {
	List      string `json:"list"` // containers or initContainers
	Container string `json:"container"`
	Env       string `json:"env,omitempty"`  // the variable's name
	Args      string `json:"args,omitempty"` // command or args
	Index     int    `json:"index,omitempty"`
	Was       string `json:"was"`
	Now       string `json:"now"`
}

func (r record) text() string {
	b, err := json.Marshal(r)
	if err != nil { // strings and booleans always encode
		return "{}"
	}
	return string(b)
}

const defaultContainer = "kubectl.kubernetes.io/default-container"

// names are the forms in which a client of a namespace may write the Service.
func (s Service) names(namespace, domain string) []string {
	out := []string{s.Name + "." + s.Namespace, s.Name + "." + s.Namespace + ".svc", s.Name + "." + s.Namespace + ".svc." + domain}
	if namespace == s.Namespace {
		out = slices.Insert(out, 0, s.Name)
	}
	return out
}

var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// listener is one pair of flags.
type listener struct {
	service int // index in Options.Services
	port    Port
	listen  netip.AddrPort
}

// listeners gives every port of every Service an address: in ModeAliases an IP for each Service, since names know no ports; in ModeEnv a
// port on 127.0.0.1 each.
func (o Options) listeners(taken map[netip.Addr]bool) []listener {
	var out []listener
	ip := netip.MustParseAddr(diagnose.SidecarFirstIP)
	port := uint16(diagnose.SidecarFirstPort)
	for i, s := range o.Services {
		for taken[ip] {
			ip = ip.Next()
		}
		for _, p := range s.Ports {
			l := listener{i, p, netip.AddrPortFrom(ip, uint16(p.Number))}
			if o.Mode == ModeEnv {
				l.listen = netip.AddrPortFrom(localhost, port)
				port++
			}
			out = append(out, l)
		}
		ip = ip.Next()
	}
	return out
}

func (o Options) adminPort() int32 { return cmp.Or(o.AdminPort, diagnose.SidecarAdminPort) }

func (o Options) target(l listener) string {
	s := o.Services[l.service]
	return fmt.Sprintf("%s.%s.svc.%s:%d", s.Dial, s.Namespace, o.Domain, l.port.Target)
}

// containerOf writes the container. What it may do is the least that Kubernetes knows: the restricted profile of Pod Security.
func (o Options) containerOf(ls []listener) object {
	args := []any{"sidecar"}
	for _, l := range ls {
		args = append(args, "--listen", l.listen.String(), "--target", o.target(l))
	}
	admin := o.adminPort()
	if admin != diagnose.SidecarAdminPort {
		args = append(args, "--admin", fmt.Sprintf(":%d", admin))
	}
	if !o.Native {
		args = append(args, "--drain-delay", "5s") // it is told to stop together with the client, which still calls
	}
	// From these the daemon knows that it is not on the host's network, where its listeners would be the node's.
	var env []any
	for _, v := range [][2]string{{"GRPCLB_POD_IP", "status.podIP"}, {"GRPCLB_HOST_IP", "status.hostIP"}} {
		env = append(env, object{{"name", v[0]}, {"valueFrom", object{{"fieldRef", object{{"fieldPath", v[1]}}}}}})
	}
	probe := func(path string, period, failures int32) object {
		return object{
			{"httpGet", object{{"path", path}, {"port", admin}}},
			{"periodSeconds", period}, {"timeoutSeconds", int32(2)}, {"failureThreshold", failures},
		}
	}
	c := object{{"name", diagnose.SidecarName}, {"image", o.Image}, {"imagePullPolicy", cmp.Or(o.PullPolicy, "IfNotPresent")}}
	if o.Native {
		c = append(c, field{"restartPolicy", "Always"})
	}
	c = append(c,
		field{"args", args},
		field{"env", env},
		field{"ports", []any{object{{"name", "grpclb-admin"}, {"containerPort", admin}, {"protocol", "TCP"}}}},
		// The sidecar is ready at the latest when it has believed for ten seconds that there is no pod, or tried them all: a client whose servers
		// are down starts. Only where no DNS server answers does it wait, and the kubelet begin again.
		field{"startupProbe", probe("/readyz", 1, 120)},
		field{"readinessProbe", probe("/readyz", 10, 3)},
		field{"livenessProbe", probe("/healthz", 10, 3)})
	if r := o.Resources.object(); len(r) > 0 {
		c = append(c, field{"resources", r})
	}
	return append(c, field{"securityContext", object{
		{"runAsNonRoot", true}, {"runAsUser", int32(65532)}, {"runAsGroup", int32(65532)},
		{"readOnlyRootFilesystem", true}, {"allowPrivilegeEscalation", false},
		{"capabilities", object{{"drop", []any{"ALL"}}}},
		{"seccompProfile", object{{"type", "RuntimeDefault"}}},
	}})
}

func (r Resources) object() object {
	pair := func(cpu, memory string) object {
		var out object
		if cpu != "" {
			out = append(out, field{"cpu", cpu})
		}
		if memory != "" {
			out = append(out, field{"memory", memory})
		}
		return out
	}
	var out object
	if p := pair(r.CPURequest, r.MemoryRequest); p != nil {
		out = append(out, field{"requests", p})
	}
	if p := pair(r.CPULimit, r.MemoryLimit); p != nil {
		out = append(out, field{"limits", p})
	}
	return out
}

// list is where the container goes.
func (r record) list() string {
	if r.Native {
		return "initContainers"
	}
	return "containers"
}

// For returns the injection with the record as it is for an object: for a part of that object, which tells less of what was there before.
func (in *Injection) For(obj map[string]any) (*Injection, error) {
	without, _, err := Remove(obj)
	if err != nil {
		return nil, err
	}
	path := templatePath(textAt(obj, "kind"))
	if path == nil {
		return nil, fmt.Errorf("a %s has no pod template", textAt(obj, "kind"))
	}
	out := *in
	r := in.recordFor(without, path)
	out.fixed = &r
	return &out, nil
}

// recordFor notes which keys an object lacks that the injection makes.
func (in *Injection) recordFor(root map[string]any, path []any) record {
	if in.fixed != nil {
		return *in.fixed
	}
	r := in.record
	r.Made = nil
	annotations, podSpec := mapAt(root, below(path, "metadata", "annotations")...), mapAt(root, below(path, "spec")...)
	for _, k := range []struct {
		in   map[string]any
		key  string
		need bool
	}{
		{mapAt(root, path...), "metadata", true}, {mapAt(root, below(path, "metadata")...), "annotations", true},
		{podSpec, "hostAliases", len(in.aliases) > 0}, {podSpec, r.list(), true},
	} {
		if _, has := k.in[k.key]; !has && k.need {
			r.Made = append(r.Made, k.key)
		}
	}
	_, has := annotations[defaultContainer]
	r.Default = in.defaultTo != "" && !has
	return r
}

// steps are what turns an object without an injection into one with it. path leads to the pod template.
func (in *Injection) steps(root map[string]any, path []any) ([]op, error) {
	r := in.recordFor(root, path)
	spec := below(path, "spec")
	var out []op
	for _, w := range r.Rewrites { // first: where the containers stand changes below
		p, ok := w.path(root, path)
		if !ok {
			return nil, fmt.Errorf("container %s: %w", w.Container, errForm)
		}
		out = append(out, op{do: replace, path: p, old: w.Was, now: w.Now})
	}
	lacks := func(m map[string]any, key string) bool { _, has := m[key]; return !has }
	podSpec := mapAt(root, spec...)
	out = append(out, addTo(spec, r.list(), lacks(podSpec, r.list()), []any{in.container})...)
	if len(in.aliases) > 0 {
		out = append(out, addTo(spec, "hostAliases", lacks(podSpec, "hostAliases"), in.aliases)...)
	}
	notes := object{{diagnose.InjectedAnnotation, r.text()}}
	if r.Default {
		notes = append(notes, field{defaultContainer, in.defaultTo})
	}
	switch {
	case lacks(mapAt(root, path...), "metadata"):
		return append(out, op{do: addKey, path: path, key: "metadata", val: object{{"annotations", notes}}}), nil
	case lacks(mapAt(root, below(path, "metadata")...), "annotations"):
		return append(out, op{do: addKey, path: below(path, "metadata"), key: "annotations", val: notes}), nil
	}
	for _, f := range slices.Backward(notes) {
		out = append(out, op{do: addKey, path: below(path, "metadata", "annotations"), key: f.key, val: f.val})
	}
	return out, nil
}

func (r record) made(key string) bool { return slices.Contains(r.Made, key) }

// below returns a longer path, and leaves the one given as it is.
func below(path []any, keys ...string) []any {
	out := slices.Clone(path)
	for _, k := range keys {
		out = append(out, k)
	}
	return out
}

// path finds the text that is rewritten in an object as it is now.
func (w rewrite) path(root map[string]any, tmpl []any) ([]any, bool) {
	list := below(tmpl, "spec", w.List)
	i := named(listAt(root, list...), w.Container)
	if i < 0 {
		return nil, false
	}
	c := append(list, i)
	if w.Args != "" {
		return append(c, w.Args, w.Index), true
	}
	c = append(c, "env")
	j := named(listAt(root, c...), w.Env)
	return append(c, j, "value"), j >= 0
}

// named is the index of the item of that name, -1 when there is none. Of several variables of one name the last counts.
func named(list []any, name string) int {
	for i, x := range slices.Backward(list) {
		if textAt(x, "name") == name {
			return i
		}
	}
	return -1
}

// addTo puts items before those of a list, or makes it.
func addTo(spec []any, list string, made bool, items []any) []op {
	if made {
		return []op{{do: addKey, path: spec, key: list, val: items}}
	}
	var out []op
	for _, x := range slices.Backward(items) {
		out = append(out, op{do: addItem, path: below(spec, list), val: x})
	}
	return out
}
