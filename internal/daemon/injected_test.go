package daemon

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// route is an address and the target that its calls go to.
type route struct{ listen, target string }

// TestInjected gives the daemon the arguments that `kubectl grpclb inject` writes, in each form: it has to take them without a warning,
// and to mean by them what the rest of the injection relies on.
func TestInjected(t *testing.T) {
	t.Parallel()
	two := func(o *inject.Options) {
		o.Services = append(o.Services, injectedService("shop", "cart",
			inject.Port{Name: "grpc", Number: 80, Target: 50051}, inject.Port{Name: "metrics", Number: 9090, Target: 9090, Other: true}))
	}
	for name, c := range map[string]struct {
		change func(*inject.Options)
		want   []route
	}{
		"hostAliases": {func(*inject.Options) {}, []route{{"127.0.0.10:6565", "square-service-headless.default.svc.cluster.local:6565"}}},
		"env": {func(o *inject.Options) { o.Mode = inject.ModeEnv },
			[]route{{"127.0.0.1:15661", "square-service-headless.default.svc.cluster.local:6565"}}},
		"plain container": {func(o *inject.Options) { o.Native = false }, []route{{"127.0.0.10:6565", "square-service-headless.default.svc.cluster.local:6565"}}},
		"another admin port": {func(o *inject.Options) { o.AdminPort = 9000 },
			[]route{{"127.0.0.10:6565", "square-service-headless.default.svc.cluster.local:6565"}}},
		"headless itself, another domain": {func(o *inject.Options) { o.Services[0].Dial, o.Domain = "square-service", "acme.example" },
			[]route{{"127.0.0.10:6565", "square-service.default.svc.acme.example:6565"}}},
		"two Services, three ports": {two, []route{
			{"127.0.0.10:6565", "square-service-headless.default.svc.cluster.local:6565"},
			{"127.0.0.11:80", "cart-headless.shop.svc.cluster.local:50051"},
			{"127.0.0.11:9090", "cart-headless.shop.svc.cluster.local:9090"},
		}},
		"two Services, three ports, env": {func(o *inject.Options) { two(o); o.Mode = inject.ModeEnv }, []route{
			{"127.0.0.1:15661", "square-service-headless.default.svc.cluster.local:6565"},
			{"127.0.0.1:15662", "cart-headless.shop.svc.cluster.local:50051"},
			{"127.0.0.1:15663", "cart-headless.shop.svc.cluster.local:9090"},
		}},
		"two ports, one in the pods": {func(o *inject.Options) {
			o.Services[0].Ports = append(o.Services[0].Ports, inject.Port{Name: "old", Number: 80, Target: 6565})
		}, []route{
			{"127.0.0.10:6565", "square-service-headless.default.svc.cluster.local:6565"},
			{"127.0.0.10:80", "square-service-headless.default.svc.cluster.local:6565"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heldToInjection(t, injectedOptions(c.change), c.want)
		})
	}
	t.Run("many Services", func(t *testing.T) {
		t.Parallel()
		var services []inject.Service
		var want []route
		ip := netip.MustParseAddr(diagnose.SidecarFirstIP)
		for i := range 100 {
			s := injectedService("default", fmt.Sprintf("service-%d", i), inject.Port{Name: "grpc", Number: 50051, Target: 50051}, inject.Port{Name: "web", Number: 80, Target: 8080})
			services = append(services, s)
			for _, p := range s.Ports {
				want = append(want, route{netip.AddrPortFrom(ip, uint16(p.Number)).String(), fmt.Sprintf("%s.default.svc.cluster.local:%d", s.Dial, p.Target)})
			}
			ip = ip.Next()
		}
		heldToInjection(t, injectedOptions(func(o *inject.Options) { o.Services = services }), want)
	})
}

func injectedService(namespace, name string, ports ...inject.Port) inject.Service {
	return inject.Service{Key: diagnose.Key{Namespace: namespace, Name: name}, Dial: name + "-headless", Ports: ports}
}

func injectedOptions(change func(*inject.Options)) inject.Options {
	o := inject.Options{
		Services: []inject.Service{injectedService("default", "square-service", inject.Port{Name: "grpc", Number: 6565, Target: 6565})},
		Domain:   "cluster.local", Native: true, Image: "i", Resources: inject.DefaultResources(),
	}
	change(&o)
	return o
}

// heldToInjection injects a pod that names every Service, and reads the container's arguments as the daemon does.
func heldToInjection(t *testing.T, o inject.Options, want []route) {
	t.Helper()
	spec, c := injected(t, o)
	if len(c.Args) == 0 || c.Args[0] != "sidecar" {
		t.Fatalf("the arguments begin with %q", c.Args)
	}
	got, err := parseFlags(c.Args[1:], nil)
	if err != nil {
		t.Fatalf("the daemon refuses %q:\n%v", c.Args, err)
	}
	if got.File != "" || len(got.Warnings)+len(got.Strange) > 0 {
		t.Errorf("file %q, warnings %v, %v", got.File, got.Warnings, got.Strange)
	}
	if routes := routesOf(t, got.Settings); !slices.Equal(routes, sorted(want)) {
		t.Errorf("it serves\n%v, want\n%v", routes, sorted(want))
	}
	heldToProbes(t, c, got.Settings)
	if delay := map[bool]time.Duration{true: 0, false: 5 * time.Second}[o.Native]; got.Settings.DrainDelay != delay {
		t.Errorf("drain delay %s, want %s", got.Settings.DrainDelay, delay)
	}
	if at := got.Settings.Admin.Debug; at.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) || at.Port() != diagnose.SidecarDebugPort {
		t.Errorf("the pools page is at %s", at)
	}
	var leads, listens []string
	for _, a := range spec.HostAliases {
		leads = append(leads, a.IP)
	}
	for _, r := range want {
		if ip := netip.MustParseAddrPort(r.listen).Addr().String(); o.Mode != inject.ModeEnv && !slices.Contains(listens, ip) {
			listens = append(listens, ip)
		}
	}
	if !slices.Equal(leads, listens) {
		t.Errorf("hostAliases lead to %v, it listens on %v", leads, listens)
	}
	for _, name := range []string{PodIPEnv, HostIPEnv} {
		if !slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name && v.ValueFrom != nil }) {
			t.Errorf("the container has no variable %s", name)
		}
	}
}

// heldToProbes: the kubelet asks where the daemon answers.
func heldToProbes(t *testing.T, c corev1.Container, s settings.Settings) {
	t.Helper()
	for path, p := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port.IntValue() != int(s.Admin.Listen.Port()) || !s.Admin.Listen.Addr().IsUnspecified() {
			t.Errorf("the probe %+v, and the daemon listens on %s", p, s.Admin.Listen)
		}
	}
	if len(c.Ports) != 1 || c.Ports[0].ContainerPort != int32(s.Admin.Listen.Port()) {
		t.Errorf("the ports %+v, and the daemon listens on %s", c.Ports, s.Admin.Listen)
	}
}

// routesOf lists what the daemon would serve.
func routesOf(t *testing.T, s settings.Settings) []route {
	t.Helper()
	var out []route
	for _, target := range s.Targets {
		if _, err := sidecar.ParseTarget(target.Target); err != nil {
			t.Error(err)
		}
		for _, l := range target.Listen {
			out = append(out, route{l.String(), target.Target})
		}
	}
	return sorted(out)
}

func sorted(rs []route) []route {
	return slices.SortedFunc(slices.Values(rs), func(a, b route) int {
		return netip.MustParseAddrPort(a.listen).Compare(netip.MustParseAddrPort(b.listen))
	})
}

// injected returns the pod spec after the injection, and the container that it brought.
func injected(t *testing.T, o inject.Options) (corev1.PodSpec, corev1.Container) {
	t.Helper()
	var env []any
	for i, s := range o.Services {
		env = append(env, map[string]any{"name": fmt.Sprintf("TARGET_%d", i), "value": fmt.Sprintf("%s.%s:%d", s.Name, s.Namespace, s.Ports[0].Number)})
	}
	obj := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "client", "namespace": "default"},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app:1", "env": env}}},
	}
	w, err := inject.Read(obj, "default")
	if err != nil {
		t.Fatal(err)
	}
	in, remarks := inject.Decide(w, o, inject.Facts{})
	if in == nil {
		t.Fatalf("refused: %+v", remarks)
	}
	after, err := inject.Add(obj, in)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(after)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == diagnose.SidecarName {
			return pod.Spec, c
		}
	}
	t.Fatalf("no container %s:\n%s", diagnose.SidecarName, raw)
	return pod.Spec, corev1.Container{}
}
