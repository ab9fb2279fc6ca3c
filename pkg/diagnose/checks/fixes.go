package checks

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// strategy is a fix that `kubectl grpclb fix` writes out in full, with the caveats of the strategy itself: those given here are what this
// finding adds to them.
func strategy(v *diagnose.View, s diagnose.Strategy, title string, caveats ...string) diagnose.Fix {
	args := slices.Concat([]string{"kubectl", "grpclb", "fix", subject(v)}, inNamespace(v.Service.Namespace), []string{"--strategy", string(s)})
	return diagnose.Fix{Title: title, Strategy: s, Commands: []diagnose.Command{{Args: args}}, Caveats: caveats}
}

func fixHeadless(v *diagnose.View) diagnose.Fix {
	title := "use a headless Service with round_robin"
	if twin, ok := v.Twin(); ok {
		title = "point the clients at svc/" + twin.Name + " with round_robin"
	}
	var caveats []string
	if meshed(v.Clients()) {
		caveats = append(caveats, "Clients inside a mesh must stay on the ClusterIP: on a headless Service their proxy cannot balance requests.")
	}
	return strategy(v, diagnose.StrategyHeadless, title, caveats...)
}

// fixSidecar changes no client's code or configuration.
func fixSidecar(v *diagnose.View) diagnose.Fix {
	return strategy(v, diagnose.StrategySidecar, "add the refresher sidecar to the clients, no code change")
}

// fixMesh brings the clients into the mesh that was seen. Where none was, the command names one, since it could not choose.
func fixMesh(v *diagnose.View, title string) diagnose.Fix {
	f := strategy(v, diagnose.StrategyMesh, title)
	if !meshSeen(v) {
		f.Commands[0].Args = append(f.Commands[0].Args, "--mesh", "linkerd")
	}
	return f
}

func meshSeen(v *diagnose.View) bool {
	return slices.ContainsFunc(v.Pods.Value, func(p diagnose.Pod) bool { return p.Mesh.In() }) ||
		slices.ContainsFunc(v.Workloads.Value, func(w diagnose.Workload) bool { return w.Mesh.In() })
}

// fixOwnMesh lets the proxy that a client has see its calls; false when the client's configuration or the servers' does not say what
// keeps it from that.
func fixOwnMesh(v *diagnose.View, c diagnose.Client) (diagnose.Fix, bool) {
	w := c.Workload
	kind := meshName(w.Mesh.Kind)
	if port, ok := skipped(v, c); ok {
		annotation := "config.linkerd.io/skip-outbound-ports"
		if w.Mesh.Kind == "istio" {
			annotation = "traffic.sidecar.istio.io/excludeOutboundPorts"
		}
		cmd := kubectl(w.Namespace, "edit", w.Ref())
		cmd.Note = fmt.Sprintf("annotation %s of its pods, now %s: take port %d out", annotation, strings.Join(w.Mesh.SkipOutbound, ","), port)
		return diagnose.Fix{Title: "let " + kind + " see the calls of " + w.Ref() + " again", Commands: []diagnose.Command{cmd}}, true
	}
	if w.Mesh.Mode == "ambient" {
		cmd := kubectl(v.Service.Namespace, "get", "gateways.gateway.networking.k8s.io")
		cmd.Note = "a waypoint serves the Service, or its namespace, that names it by the label istio.io/use-waypoint"
		return diagnose.Fix{Title: "put a waypoint in front of the Service: it balances requests", Commands: []diagnose.Command{cmd}}, true
	}
	pod, port, ok := opaque(v)
	if !ok {
		return diagnose.Fix{}, false
	}
	o := pod.Owner
	if o.Name == "" {
		o = diagnose.Owner{Kind: "Pod", Name: pod.Name}
	}
	cmd := kubectl(pod.Namespace, "edit", ownerRef(o))
	cmd.Note = fmt.Sprintf("annotation config.linkerd.io/opaque-ports of its pods, now %s: take port %d out", strings.Join(pod.Mesh.Opaque, ","), port)
	return diagnose.Fix{Title: "let " + kind + " look into the calls again", Commands: []diagnose.Command{cmd}}, true
}

func fixMaxAge(v *diagnose.View, caveats ...string) diagnose.Fix {
	return strategy(v, diagnose.StrategyMaxAge, "let the servers end connections after a while, so that clients look again", caveats...)
}

func meshed(cs []diagnose.Client) bool {
	return slices.ContainsFunc(cs, func(c diagnose.Client) bool { return c.Workload.Mesh.In() })
}

// aim is where a target ought to lead; what is empty stays as it is written.
type aim struct {
	scheme string // only dns, with which the name is resolved by gRPC itself
	host   string
	port   int32
}

// change is one value to replace by another: a variable's, a flag's or a key's.
type change struct{ name, from, to string }

// changes lists what has to be written anew for a target to follow the aim; false when that cannot be said. A host and a port that are
// written apart are put together by the program: each keeps its form, and there is no place for a scheme.
func (a aim) changes(t diagnose.Target) ([]change, bool) {
	if !apart(t) {
		to := a.token(t)
		return []change{{t.Name, t.Token, to}}, to != t.Token
	}
	if a.scheme != "" && a.scheme != t.Scheme {
		return nil, false
	}
	var out []change
	if a.host != "" && a.host != t.Token {
		out = append(out, change{t.Name, t.Token, a.host})
	}
	if a.port != 0 && a.port != t.Port {
		out = append(out, change{t.PortName, strconv.Itoa(int(t.Port)), strconv.Itoa(int(a.port))})
	}
	return out, len(out) > 0
}

// apart reports whether the port of a target stands somewhere else than its token.
func apart(t diagnose.Target) bool {
	_, _, port := cutToken(t)
	return t.PortName != "" || t.Port != 0 && port == ""
}

// token writes a whole target.
func (a aim) token(t diagnose.Target) string {
	head, host, port := cutToken(t)
	if a.host != "" {
		host = a.host
	}
	if a.port != 0 && (a.port != t.Port || strings.HasPrefix(port, "$")) {
		port = strconv.Itoa(int(a.port))
	}
	if a.scheme != "" {
		head = a.scheme + ":///"
	}
	if port != "" {
		port = ":" + port
	}
	return head + host + port
}

// cutToken splits a token as it is written: what stands before the host ("dns:///", "k8s://shop/"), the host with the brackets of an IPv6
// address, and the port.
func cutToken(t diagnose.Target) (head, host, port string) {
	rest := t.Token
	switch i := strings.LastIndexByte(rest, '/'); {
	case i >= 0:
		head, rest = rest[:i+1], rest[i+1:]
	case t.Scheme != "" && len(rest) > len(t.Scheme):
		head, rest = rest[:len(t.Scheme)+1], rest[len(t.Scheme)+1:] // "dns:name", "dnssrv+name"
	}
	if _, err := netip.ParseAddr(rest); err == nil {
		return head, rest, ""
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		return head, rest[:i], rest[i+1:]
	}
	return head, rest, ""
}

// retarget is the command that makes a workload dial something else; false when the workload cannot be changed in place (a bare pod, a
// finished job) or the change cannot be said. What can be pasted blindly is printed as such: everything else opens the object in an editor.
func retarget(w diagnose.Workload, t diagnose.Target, a aim) (diagnose.Command, bool) {
	cs, ok := a.changes(t)
	if !ok || w.Kind == "Pod" || w.Kind == "Job" {
		return diagnose.Command{}, false
	}
	switch {
	case t.ConfigMap != "":
		c := kubectl(w.Namespace, "edit", "configmap/"+t.ConfigMap)
		more := ""
		if t.Part {
			more = ", and keep the rest"
		}
		c.Note = instead("key", renamed(cs, t), more) + "; then restart " + w.Ref()
		return c, true
	case t.Source == "env" && !t.Part:
		args := []string{"set", "env", w.Ref(), "-c", t.Container}
		for _, x := range cs {
			args = append(args, x.name+"="+x.to)
		}
		return kubectl(w.Namespace, args...), true
	}
	c := kubectl(w.Namespace, "edit", w.Ref())
	c.Note = "container " + t.Container + ", "
	if t.Source == "env" {
		c.Note += instead("env", cs, "; it holds more, or is put together of other variables: keep the rest")
	} else {
		c.Note += instead("argument", cs, "")
	}
	return c, true
}

// renamed gives the first change of a target in a ConfigMap the name of its key; the port's is not known when it is a variable's.
func renamed(cs []change, t diagnose.Target) []change {
	out := slices.Clone(cs)
	for i := range out {
		switch {
		case t.ConfigMapKey != "" && out[i].name == t.Name:
			out[i].name = t.ConfigMapKey
		case out[i].name == "":
			out[i].name = cmp.Or(t.ConfigMapKey, t.Name) + ", the port beside " + t.Token
		case out[i].name == t.PortName:
			out[i].name = "of " + t.PortName
		}
	}
	return out
}

// instead words changes for whoever has the object in an editor.
func instead(what string, cs []change, more string) string {
	var out []string
	for _, x := range cs {
		out = append(out, strings.TrimSpace(what+" "+x.name)+": write "+x.to+" instead of "+x.from)
	}
	return strings.Join(out, ", ") + more
}

// retargetAll builds one fix out of the commands for several clients; false when none of them can be changed.
func retargetAll(cs []diagnose.Client, title string, to func(diagnose.Target) aim) (diagnose.Fix, bool) {
	f := diagnose.Fix{Title: title}
	for _, c := range cs {
		for _, t := range c.Targets {
			cmd, ok := retarget(c.Workload, t, to(t))
			if ok && !slices.ContainsFunc(f.Commands, func(o diagnose.Command) bool { return reflect.DeepEqual(o, cmd) }) {
				f.Commands = append(f.Commands, cmd) // one key of a ConfigMap may feed several variables
			}
		}
	}
	return f, len(f.Commands) > 0
}

// toPort keeps everything but the port.
func toPort(n int32) func(diagnose.Target) aim {
	return func(diagnose.Target) aim { return aim{port: n} }
}
