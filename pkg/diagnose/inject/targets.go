package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// targets finds the variables and arguments that name one of the Services.
func (l *look) targets() {
	var services []target.Service
	for _, s := range l.o.Services {
		ts := target.Service{Ref: target.Ref(s.Key)}
		for _, p := range s.Ports {
			ts.Ports = append(ts.Ports, target.Port{Name: p.Name, Number: p.Number})
		}
		services = append(services, ts)
	}
	index := target.NewIndex(services, nil, func(string) bool { return false }, l.o.Domain)
	spec := &l.w.Template.Spec
	for list, cs := range map[string][]corev1.Container{"containers": spec.Containers, "initContainers": spec.InitContainers} {
		for _, c := range cs {
			tc := target.Container{Args: slices.Concat(c.Command, c.Args)}
			for _, e := range c.Env {
				if e.ValueFrom == nil {
					tc.Env = append(tc.Env, target.Var{Name: e.Name, Value: e.Value})
				}
			}
			for _, f := range index.Find(l.w.Namespace, tc) {
				i := slices.IndexFunc(l.o.Services, func(s Service) bool { return target.Ref(s.Key) == f.Service })
				if i >= 0 {
					l.found = append(l.found, foundTarget{f, list, c.Name, i})
				}
			}
		}
	}
	slices.SortStableFunc(l.found, func(a, b foundTarget) int { return strings.Compare(a.list, b.list) })
}

// place names where a target stands.
func (f foundTarget) place() string {
	if f.Source == target.SourceEnv {
		return fmt.Sprintf("env %s of container %s", f.Name, f.container)
	}
	return fmt.Sprintf("an argument of container %s", f.container)
}

// clients looks at what keeps a client's program from reading the hosts file.
func (l *look) clients() {
	if l.o.Mode == ModeEnv {
		return
	}
	for _, f := range l.found {
		if f.Rooted {
			l.say(l.unless(func(o foundTarget) bool { return o.Rooted }), "trailing-dot", "take the final dot off, or "+byEnv,
				"%s names %s with a final dot: most clients ask DNS for such a name and not the hosts file", f.place(), f.Token)
		}
	}
	for _, c := range slices.Concat(l.w.Template.Spec.InitContainers, l.w.Template.Spec.Containers) {
		for _, e := range c.Env {
			switch strings.ToUpper(e.Name) {
			case "GRPC_NODE_USE_ALTERNATIVE_RESOLVER":
				if strings.EqualFold(e.Value, "true") {
					l.say(Refusal, "node-resolver", "take the variable away, or "+byEnv,
						"container %s sets %s=true: Node's gRPC client then asks DNS and does not read the hosts file", c.Name, e.Name)
				}
			case "HTTP_PROXY", "HTTPS_PROXY", "GRPC_PROXY":
				l.proxy(c, e)
			}
		}
	}
}

// unless is a warning while some target reaches the sidecar, and a refusal when none does.
func (l *look) unless(past func(foundTarget) bool) Level {
	if slices.ContainsFunc(l.found, func(f foundTarget) bool { return !past(f) }) {
		return Warning
	}
	return Refusal
}

// proxy: a client with a proxy hands it the name, and never looks it up.
func (l *look) proxy(c corev1.Container, e corev1.EnvVar) {
	if e.Value == "" && e.ValueFrom == nil {
		return
	}
	var skip []string
	for _, x := range c.Env {
		if strings.EqualFold(x.Name, "NO_PROXY") || strings.EqualFold(x.Name, "NO_GRPC_PROXY") {
			skip = append(skip, strings.Split(x.Value, ",")...)
		}
	}
	for _, s := range l.o.Services {
		covered := slices.ContainsFunc(skip, func(p string) bool {
			p = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(p), "*"), ".")
			return p != "" && slices.ContainsFunc(s.names(l.w.Namespace, l.o.Domain), func(n string) bool { return n == p || strings.HasSuffix(n, "."+p) })
		})
		if !covered {
			l.say(Warning, "http-proxy", "add "+s.Name+" to NO_PROXY as the client writes it",
				"container %s sets %s, and no NO_PROXY names svc/%s: a client that uses the proxy never reaches the sidecar", c.Name, e.Name, s.Name)
		}
	}
}

// rewrites are the changes of ModeEnv.
func (l *look) rewrites(ls []listener) []rewrite {
	var out []rewrite
	done := map[int]bool{}
	for _, f := range l.found {
		w, why := l.rewrite(f, ls)
		if why != "" {
			l.say(Warning, "by-hand", "let it dial "+l.local(f.service, ls), "%s names %s and is left as it is: %s", f.place(), f.Token, why)
			continue
		}
		if f.Scheme == "https" || f.Scheme == "grpcs" {
			l.say(Warning, "tls-name", "let the client verify the Service's name", "%s uses TLS and will dial 127.0.0.1, for which no certificate is valid", f.place())
		}
		done[f.service] = true
		out = append(out, w)
	}
	for i, s := range l.o.Services {
		if !done[i] {
			l.say(Refusal, "nothing-to-rewrite", "change by hand what it reads (a ConfigMap, say) to "+l.local(i, ls)+", or use --mode aliases",
				"no variable and no argument of %s names svc/%s with its port", l.w.Ref(), s.Name)
		}
	}
	if len(out) > 0 {
		l.say(Note, "authority", "", "servers will see 127.0.0.1 as the :authority of the calls of %s", l.w.Ref())
	}
	return out
}

// local lists the addresses on which the sidecar listens for a Service.
func (l *look) local(service int, ls []listener) string {
	var out []string
	for _, x := range ls {
		if x.service == service {
			out = append(out, fmt.Sprintf("%s (for port %d)", x.listen, x.port.Number))
		}
	}
	return strings.Join(out, ", ")
}

// rewrite finds the host and port of a target where it is written; why says what keeps it as it is.
func (l *look) rewrite(f foundTarget, ls []listener) (w rewrite, why string) {
	port := f.Port
	if port == 0 {
		port = diagnose.Target{Scheme: f.Scheme}.EffectivePort()
	}
	i := slices.IndexFunc(ls, func(x listener) bool { return x.service == f.service && x.port.Number == port })
	switch {
	case f.Part:
		return w, "its value holds more, or is put together of others"
	case f.PortName != "":
		return w, "its port stands elsewhere (" + f.PortName + ")"
	case port == 0:
		return w, "it names no port"
	case i < 0:
		return w, fmt.Sprintf("svc/%s has no TCP port %d", l.o.Services[f.service].Name, port)
	}
	from := strings.LastIndex(strings.ToLower(f.Token), f.Host)
	if from < 0 {
		return w, "it is written in a way that cannot be changed safely"
	}
	w = rewrite{List: f.list, Container: f.container, Was: f.Token[from:], Now: ls[i].listen.String()}
	if f.Source == target.SourceEnv {
		w.Env = f.Name
		return w, ""
	}
	for _, cs := range [][]corev1.Container{l.w.Template.Spec.Containers, l.w.Template.Spec.InitContainers} {
		for _, c := range cs {
			if c.Name != f.container {
				continue
			}
			for _, field := range []struct {
				name string
				args []string
			}{{"command", c.Command}, {"args", c.Args}} {
				if j := slices.IndexFunc(field.args, func(a string) bool { return a == f.Token || strings.HasSuffix(a, "="+f.Token) }); j >= 0 {
					w.Args, w.Index = field.name, j
					return w, ""
				}
			}
		}
	}
	return w, "the argument holds more"
}
