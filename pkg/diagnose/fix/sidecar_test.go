package fix_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// TestSidecarIsApplied holds that apply and the patch do to an object what injecting it does, whatever its history: nothing else changes,
// and the sidecar stands before the other init containers.
func TestSidecarIsApplied(t *testing.T) {
	withInit := strings.Replace(deployment, "      containers:\n", "      hostAliases: [{ip: 10.0.0.9, hostnames: [db]}]\n      initContainers: [{name: migrate, image: migrate:1}]\n      containers:\n", 1)
	appliedInit := strings.Replace(applied, "      containers:\n", "      initContainers: [{name: migrate, image: migrate:1}]\n      containers:\n", 1)
	for name, c := range map[string]struct{ live, last string }{
		"created":             {deployment, ""},
		"applied":             {deployment, applied},
		"with init":           {withInit, ""},
		"applied, with init":  {withInit, appliedInit},
		"applied, init later": {withInit, applied},
	} {
		t.Run(name, func(t *testing.T) {
			before := live(t, c.live, c.last)
			p := build(t, square(t), diagnose.StrategySidecar, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
			if len(p.Objects) != 2 || len(p.Patches) != 1 {
				t.Fatalf("%d objects, %d patches, notes %q", len(p.Objects), len(p.Patches), p.Notes)
			}
			after := apply(t, before, p.Objects[1].Content, appsv1.Deployment{})
			back, had, err := inject.Remove(after)
			if err != nil || !had {
				t.Fatalf("%v, %v", had, err)
			}
			if diff := cmp.Diff(before, back); diff != "" {
				t.Errorf("apply changed more, or less:\n%s", diff)
			}
			patched := merge(t, encode(t, before), encode(t, object(t, p.Patches[0].YAML)), appsv1.Deployment{})
			if diff := cmp.Diff(after, patched); diff != "" && name != "with init" {
				t.Errorf("the patch does something else:\n%s", diff)
			}
			inits := patched["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["initContainers"].([]any)
			if inits[0].(map[string]any)["name"] != diagnose.SidecarName {
				t.Errorf("the sidecar is not the first: %v", inits)
			}
			again := build(t, square(t), diagnose.StrategySidecar, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": after})})
			if diff := cmp.Diff(after, apply(t, after, again.Objects[1].Content, appsv1.Deployment{})); diff != "" {
				t.Errorf("a second time it is another:\n%s", diff)
			}
		})
	}
}

func TestSidecarRefusals(t *testing.T) {
	cases := map[string]struct {
		change func(*diagnose.Service)
		code   string
	}{
		"udp": {func(s *diagnose.Service) {
			s.Ports = append(s.Ports, diagnose.ServicePort{Name: "gossip", Protocol: "UDP", Port: 7946})
		}, fix.CodeNotTCP},
		"external name": {func(s *diagnose.Service) { s.Type, s.ExternalName = "ExternalName", "example.com" }, fix.CodeExternalName},
		"no selector":   {func(s *diagnose.Service) { s.Selector = nil }, fix.CodeNoSelector},
		"unknown port":  {func(s *diagnose.Service) { s.Ports[0].Name, s.Ports[0].TargetPort = "other", "nowhere" }, fix.CodePortUnknown},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := fix.Sidecar(square(t, service(c.change)), fix.Options{})
			var r *fix.Refusal
			if !errors.As(err, &r) || r.Code != c.code || r.Strategy != diagnose.StrategySidecar {
				t.Errorf("%v, want %s", err, c.code)
			}
		})
	}
}

func TestSidecarService(t *testing.T) {
	web := diagnose.ServicePort{Name: "web", Protocol: "TCP", Port: 80, TargetPort: "8080", AppProtocol: "http"}
	second := service(func(s *diagnose.Service) { s.Ports = append(s.Ports, web) })
	headless := service(func(s *diagnose.Service) { s.ClusterIPs, s.Ports[0].Port = []string{"None"}, 80 })
	cases := map[string]struct {
		mods []func(*diagnose.Snapshot)
		want inject.Service
		twin bool
	}{
		"every TCP port": {[]func(*diagnose.Snapshot){second}, inject.Service{Dial: "square-service-headless", Ports: []inject.Port{
			{Name: "grpc", Number: 6565, Target: 6565}, {Name: "web", Number: 80, Target: 8080, Other: true}}}, true},
		"a headless Service is its own twin, and knows no other ports than the pods'": {[]func(*diagnose.Snapshot){headless},
			inject.Service{Dial: "square-service", Ports: []inject.Port{{Name: "grpc", Number: 6565, Target: 6565}}}, false},
		"a twin that is there": {[]func(*diagnose.Snapshot){sibling(func(s *diagnose.Service) { s.Ours = true })},
			inject.Service{Dial: "square-service-headless", Ports: []inject.Port{{Name: "grpc", Number: 6565, Target: 6565}}}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := fix.Sidecar(square(t, c.mods...), fix.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c.want.Key = diagnose.Key{Namespace: "default", Name: "square-service"}
			if diff := cmp.Diff(c.want, p.Service); diff != "" {
				t.Error(diff)
			}
			if (p.Twin != nil && !p.There) != c.twin {
				t.Errorf("twin %+v", p.Twin)
			}
		})
	}
}

func TestNativeSidecars(t *testing.T) {
	node := func(version string, cordoned bool) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			s.Nodes.Value = append(s.Nodes.Value, diagnose.Node{Name: "old", Kubelet: version, Unschedulable: cordoned})
		}
	}
	server := func(v string) func(*diagnose.Snapshot) { return func(s *diagnose.Snapshot) { s.Cluster.Version = v } }
	for name, c := range map[string]struct {
		mod  func(*diagnose.Snapshot)
		want bool
	}{
		"new": {server("v1.36.3"), true}, "the first": {server("v1.29.0"), true}, "old server": {server("v1.28.15-gke.1"), false},
		"old node": {node("v1.28.9", false), false}, "old node, cordoned": {node("v1.28.9", true), true}, "not known": {server(""), true},
	} {
		t.Run(name, func(t *testing.T) {
			got, why := fix.NativeSidecars(square(t, c.mod))
			if got != c.want || (why == "") != got {
				t.Errorf("%v, %q", got, why)
			}
		})
	}
}

// TestSidecarKeepsOthers: a client that was injected for another Service keeps that one.
func TestSidecarKeepsOthers(t *testing.T) {
	cart := func(s *diagnose.Snapshot) {
		o := s.Services.Value[0]
		o.Name, o.Selector = "cart", map[string]string{"app": "cart"}
		s.Services.Value = append(s.Services.Value, o)
	}
	before := live(t, deployment, "")
	v := square(t, cart)
	other, _ := v.Snapshot.View(diagnose.Key{Namespace: "default", Name: "cart"})
	p, err := fix.Sidecar(other, fix.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := inject.Read(before, "default")
	if err != nil {
		t.Fatal(err)
	}
	in, _ := inject.Decide(w, inject.Options{Services: []inject.Service{p.Service}, Domain: "cluster.local", Native: true, Image: "i"}, inject.Facts{})
	injected, err := inject.Add(before, in)
	if err != nil {
		t.Fatal(err)
	}
	plan := build(t, v, diagnose.StrategySidecar, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": injected})})
	if len(plan.Objects) != 2 {
		t.Fatalf("%d objects, notes %q", len(plan.Objects), plan.Notes)
	}
	got, err := inject.Read(apply(t, injected, plan.Objects[1].Content, appsv1.Deployment{}), "default")
	if err != nil || len(got.Services) != 2 {
		t.Errorf("injected for %v, %v", got.Services, err)
	}
	unread := build(t, square(t), diagnose.StrategySidecar, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": injected})})
	mentions(t, unread.Notes, "it was injected for svc/cart of default, too, which could not be read")
}
