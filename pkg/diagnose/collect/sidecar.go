package collect

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// rawSidecar is what a template has of an injected refresher, before it is known which names are Services. It never leaves this package.
type rawSidecar struct {
	out    diagnose.Sidecar
	routes []rawRoute
	hosts  []corev1.HostAlias
}

type rawRoute struct {
	listen netip.AddrPort
	target string
}

// isRefresher tells the injected container: its arguments name the Service's twin, and are no target of the client.
func isRefresher(c *corev1.Container) bool {
	return c.Name == diagnose.SidecarName && len(c.Args) > 0 && c.Args[0] == "sidecar"
}

func sidecarOf(meta *metav1.ObjectMeta, spec *corev1.PodSpec) *rawSidecar {
	s := &rawSidecar{}
	_, s.out.Annotated = meta.Annotations[diagnose.InjectedAnnotation]
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if isRefresher(&list[i]) {
				s.out.Container, s.out.Native = true, isSidecar(&list[i])
				s.routes = routesIn(list[i].Args)
			}
		}
	}
	for _, a := range spec.HostAliases { // 127.0.0.1 is where others' proxies listen
		if ip, err := netip.ParseAddr(a.IP); err == nil && ip.Is4() && ip.IsLoopback() && ip != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			s.hosts = append(s.hosts, a)
		}
	}
	if !s.out.Annotated && !s.out.Container && len(s.hosts) == 0 {
		return nil
	}
	return s
}

// routesIn reads the pairs of --listen and --target: the n-th belong together.
func routesIn(args []string) []rawRoute {
	var out []rawRoute
	targets := valuesOf(args, "target")
	for i, text := range valuesOf(args, "listen") {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil
		}
		if i < len(targets) {
			out = append(out, rawRoute{a, targets[i]})
		}
	}
	return out
}

// valuesOf lists what a flag was given, as --name value or --name=value.
func valuesOf(args []string, name string) []string {
	var out []string
	for i := range args {
		flag, value, ok := strings.Cut(args[i], "=")
		if strings.TrimLeft(flag, "-") != name {
			continue
		}
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		out = append(out, value)
	}
	return out
}

// SidecarListens lists the TCP addresses on which the injected sidecar of a pod listens, by its arguments; nil for a pod without one.
func SidecarListens(spec *corev1.PodSpec) []netip.AddrPort {
	var out []netip.AddrPort
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if !isRefresher(&c) {
			continue
		}
		admin := append([]string{fmt.Sprintf(":%d", diagnose.SidecarAdminPort)}, valuesOf(c.Args, "admin")...)
		debug := append([]string{fmt.Sprintf("127.0.0.1:%d", diagnose.SidecarDebugPort)}, valuesOf(c.Args, "debug")...)
		for _, text := range append(valuesOf(c.Args, "listen"), admin[len(admin)-1], debug[len(debug)-1]) {
			if strings.HasPrefix(text, ":") {
				text = "[::]" + text
			}
			if at, err := netip.ParseAddrPort(text); err == nil {
				out = append(out, at)
			}
		}
	}
	return out
}

// resolve keeps what names a Service: of targets those of the form NAME.NAMESPACE.svc, of hostAliases those of Services that exist. Nil
// when that leaves nothing.
func (s *rawSidecar) resolve(x *target.Index, namespace string) *diagnose.Sidecar {
	if s == nil {
		return nil
	}
	out := s.out
	for _, r := range s.routes {
		host, port, ok := strings.Cut(r.target, ":")
		labels := strings.Split(host, ".")
		n, err := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || len(labels) < 3 || labels[2] != "svc" || !isLabel(labels[0]) || !isLabel(labels[1]) {
			continue
		}
		out.Routes = append(out.Routes, diagnose.SidecarRoute{
			Listen: r.listen, Service: diagnose.Key{Namespace: labels[1], Name: labels[0]}, Port: int32(n),
		})
	}
	for _, a := range s.hosts {
		for _, name := range a.Hostnames {
			m, ok := x.Resolve(name, namespace)
			alias := diagnose.SidecarAlias{IP: a.IP, Service: diagnose.Key(m.Service)}
			if ok && m.Kind == target.KindService && !slices.Contains(out.Aliases, alias) {
				out.Aliases = append(out.Aliases, alias)
			}
		}
	}
	if !out.Annotated && !out.Container && len(out.Aliases) == 0 {
		return nil
	}
	return &out
}

func isLabel(s string) bool { return len(validation.IsDNS1123Label(s)) == 0 }
