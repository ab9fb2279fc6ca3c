package fix_test

import (
	"encoding/json"
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
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
)

// collected is the view of svc/sq after a real collection from an API server that holds the objects.
func collected(t *testing.T, objs ...runtime.Object) *diagnose.View {
	t.Helper()
	s, err := collect.NewSession(kubetest.NewServer(t, objs...).Config(), collect.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snap, err := collect.Run(t.Context(), s, collect.Options{Namespace: "default", Names: []string{"sq"}})
	if err != nil {
		t.Fatal(err)
	}
	v, ok := snap.View(snap.Targets[0])
	if !ok {
		t.Fatal("the Service is not in the snapshot")
	}
	return v
}

// backend is svc/sq on port 6565 with its pods.
func backend() (kubetest.ServiceBuilder, []runtime.Object) {
	svc := kubetest.Service("default", "sq").Port("grpc", 6565, intstr.FromInt32(6565))
	dep := kubetest.Deployment("default", "sq").Replicas(2)
	return svc, []runtime.Object{svc, dep, svc.Slice(dep.Pods()...), kubetest.Node("n1")}
}

// asMap is an object as the API server sends it.
func asMap(t *testing.T, o any, apiVersion, kind string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(encode(t, o), &m); err != nil {
		t.Fatal(err)
	}
	m["apiVersion"], m["kind"] = apiVersion, kind
	return m
}

// TestOwnTwin holds that what a plan makes is known again as this project's own, and brought up to date by the next plan.
func TestOwnTwin(t *testing.T) {
	svc, objs := backend()
	first := build(t, collected(t, objs...), diagnose.StrategyHeadless, fix.Options{})
	if len(first.Objects) != 1 {
		t.Fatalf("objects %+v", first.Objects)
	}
	var twin corev1.Service
	if err := json.Unmarshal(encode(t, first.Objects[0].Content), &twin); err != nil {
		t.Fatal(err)
	}
	twin.UID, twin.Spec.ClusterIPs = "u", []string{"None"}
	objs = append(objs, &twin)

	v := collected(t, objs...)
	if s := v.Siblings(); len(s) != 1 || s[0].Name != "sq-headless" || !s[0].Ours {
		t.Fatalf("the twin is not known again: %+v", s)
	}
	second := build(t, v, diagnose.StrategyHeadless, fix.Options{})
	if diff := cmp.Diff(first.Objects, second.Objects); diff != "" {
		t.Errorf("a second plan differs, so that apply would not say unchanged:\n%s", diff)
	}
	svc.AndPort("grpc-admin", 7000, intstr.FromInt32(7000))
	third := build(t, collected(t, objs...), diagnose.StrategyHeadless, fix.Options{})
	ports := third.Objects[0].Content["spec"].(map[string]any)["ports"].([]any)
	if len(ports) != 2 {
		t.Errorf("a port that was added later is missing: %v", ports)
	}
}

// TestVariablesFromConfigMaps holds that a target is changed where it is written, and that the reference to it stays.
func TestVariablesFromConfigMaps(t *testing.T) {
	cm := kubetest.ConfigMap("default", "settings", "target", "sq:6565")
	cm.Data["GRPC_ADDR"], cm.Data["BACKEND_GRPC_HOST"], cm.Data["BACKEND_GRPC_PORT"] = "dns:///sq:6565", "sq", "80"
	cm.Data["ADDRS"] = "sq:6565,other.example.com:443"
	key := kubetest.Deployment("default", "key").EnvKey("SQ_TARGET", "settings", "target")
	from := kubetest.Deployment("default", "from").EnvFrom("settings")
	from.Spec.Template.Spec.Containers[0].EnvFrom[0].Prefix = "APP_"
	svc, objs := backend()
	svc.AndPort("grpc80", 80, intstr.FromInt32(6565))
	read := func(kind, _, name string) (map[string]any, error) {
		if kind != "ConfigMap" || name != "settings" {
			t.Errorf("%s %s was read, and needs no change", kind, name)
		}
		return asMap(t, cm, "v1", "ConfigMap"), nil
	}
	p := build(t, collected(t, append(objs, cm, key, from)...), diagnose.StrategyHeadless, fix.Options{Workload: read})
	if len(p.Objects) != 2 || p.Objects[1].Ref != "configmap/settings" {
		t.Fatalf("objects %+v, notes %q", p.Objects, p.Notes)
	}
	const twin = "sq-headless.default.svc.cluster.local"
	want := map[string]any{"target": "dns:///" + twin + ":6565", "GRPC_ADDR": "dns:///" + twin + ":6565", "BACKEND_GRPC_HOST": twin, "BACKEND_GRPC_PORT": "6565"}
	if diff := cmp.Diff(want, p.Objects[1].Content["data"]); diff != "" {
		t.Error(diff)
	}
	var restarts []string
	for _, c := range p.Commands {
		restarts = append(restarts, strings.Join(c.Args, " "))
	}
	slices.Sort(restarts)
	if diff := cmp.Diff([]string{"kubectl rollout restart deploy/from -n default", "kubectl rollout restart deploy/key -n default"}, restarts); diff != "" {
		t.Error(diff)
	}
	mentions(t, p.Notes, "env APP_ADDRS (configmap/settings ADDRS): the value is a list")
	mentions(t, p.Caveats, "Whatever else reads target of configmap/settings")
	for _, n := range p.Notes {
		if strings.Contains(n, "not there any more") {
			t.Errorf("a wrong reason: %s", n)
		}
	}

	offline := build(t, collected(t, append(objs, cm, key, from)...), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, offline.Notes, "(kubectl edit configmap/settings -n default)")
	for _, c := range offline.Commands {
		if slices.Contains(c.Args, "set") {
			t.Errorf("a command that cuts the reference to the ConfigMap: %v", c.Args)
		}
	}
}
