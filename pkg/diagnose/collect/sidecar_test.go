package collect_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// injected is a client with a sidecar, and with secrets in everything of it that is not to be kept.
func injected(env string, change func(*corev1.PodSpec)) kubetest.DeploymentBuilder {
	d := kubetest.Deployment(ns, "client").Env("TARGET", env).Annotate(diagnose.InjectedAnnotation, `{"services":["canary/secret"]}`)
	spec := &d.Spec.Template.Spec
	always := corev1.ContainerRestartPolicyAlways
	spec.InitContainers = []corev1.Container{{
		Name: diagnose.SidecarName, RestartPolicy: &always,
		Args: []string{"sidecar", "--listen", "127.0.0.10:50051", "--target", "square-service-headless." + ns + ".svc.cluster.local:50051",
			"--listen=127.0.0.10:1", "--target=canary.example.com:1", "--token", "canary"},
		Env: []corev1.EnvVar{{Name: "canary", Value: "canary"}},
	}}
	spec.HostAliases = []corev1.HostAlias{
		{IP: "127.0.0.10", Hostnames: []string{"square-service", "square-service." + ns, "canary"}},
		{IP: "10.1.1.1", Hostnames: []string{"canary"}}, {IP: "127.0.0.1", Hostnames: []string{"square-service"}},
	}
	change(spec)
	return d
}

func TestSidecarIsProjected(t *testing.T) {
	twin := diagnose.Key{Namespace: ns, Name: "square-service-headless"}
	service := diagnose.Key{Namespace: ns, Name: "square-service"}
	route := diagnose.SidecarRoute{Listen: netip.MustParseAddrPort("127.0.0.10:50051"), Service: twin, Port: 50051}
	alias := diagnose.SidecarAlias{IP: "127.0.0.10", Service: service}
	nothing := func(*corev1.PodSpec) {}
	cases := map[string]struct {
		env    string
		change func(*corev1.PodSpec)
		want   *diagnose.Sidecar
		led    bool
	}{
		"whole": {target, nothing, &diagnose.Sidecar{Annotated: true, Container: true, Native: true,
			Routes: []diagnose.SidecarRoute{route}, Aliases: []diagnose.SidecarAlias{alias}}, true},
		"a final dot goes past it": {"dns:///square-service." + ns + ".svc.cluster.local.:50051", nothing, &diagnose.Sidecar{Annotated: true, Container: true, Native: true,
			Routes: []diagnose.SidecarRoute{route}, Aliases: []diagnose.SidecarAlias{alias}}, false},
		"no container": {target, func(s *corev1.PodSpec) { s.InitContainers = nil }, &diagnose.Sidecar{Annotated: true, Aliases: []diagnose.SidecarAlias{alias}}, true},
		"a plain container": {target, func(s *corev1.PodSpec) {
			s.InitContainers[0].RestartPolicy = nil
			s.Containers, s.InitContainers = append(s.Containers, s.InitContainers[0]), nil
		}, &diagnose.Sidecar{Annotated: true, Container: true, Routes: []diagnose.SidecarRoute{route}, Aliases: []diagnose.SidecarAlias{alias}}, true},
		"arguments that cannot be read": {target, func(s *corev1.PodSpec) { s.InitContainers[0].Args[2] = "canary" },
			&diagnose.Sidecar{Annotated: true, Container: true, Native: true, Aliases: []diagnose.SidecarAlias{alias}}, true},
		"a container of that name": {target, func(s *corev1.PodSpec) { s.InitContainers[0].Args[0] = "other"; s.HostAliases = nil },
			&diagnose.Sidecar{Annotated: true}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			objs := []runtime.Object{kubetest.Service(ns, "square-service").Port("grpc", 50051, intstr.FromInt32(50051)), injected(c.env, c.change)}
			snap, err := run(t, objs, options("square-service"))
			if err != nil {
				t.Fatal(err)
			}
			if len(snap.Workloads.Value) != 1 {
				t.Fatalf("%d workloads", len(snap.Workloads.Value))
			}
			w := snap.Workloads.Value[0]
			if diff := cmp.Diff(c.want, w.Sidecar, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			of := slices.IndexFunc(w.Targets, func(t diagnose.Target) bool { return t.Container == "app" })
			if of < 0 || w.Targets[of].Sidecar != c.led || c.want.Container && len(w.Targets) != 1 {
				t.Errorf("targets %+v", w.Targets)
			}
			if text := string(marshal(t, snap)); strings.Contains(text, "canary") {
				t.Errorf("a secret is in the snapshot: %s", around(text, "canary"))
			}
		})
	}
}

// TestSidecarListens: the addresses of an injected sidecar, in either form of its flags, with the ports that it has unless it was told.
func TestSidecarListens(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"sidecar --listen 127.0.0.10:80 --target a:1 --listen=127.0.0.11:81 --target=b:1", "127.0.0.10:80 127.0.0.11:81 [::]:15650 127.0.0.1:15651"},
		{"sidecar --listen 127.0.0.10:80 --target a:1 --admin :9000 --debug=off", "127.0.0.10:80 [::]:9000"},
		{"sidecar --listen canary --admin 127.0.0.1:9000 --debug 127.0.0.1:9001", "127.0.0.1:9000 127.0.0.1:9001"},
		{"sidecar --admin", "127.0.0.1:15651"},
		{"serve --listen 127.0.0.10:80", ""},
		{"", ""},
	} {
		var got []string
		spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Args: []string{"sidecar", "--listen", "127.0.0.1:1"}},
			{Name: diagnose.SidecarName, Args: strings.Fields(c.args)}}}
		for _, at := range collect.SidecarListens(spec) {
			got = append(got, at.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q listens on %q, want %q", c.args, got, c.want)
		}
	}
}
