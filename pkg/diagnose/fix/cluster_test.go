package fix_test

import (
	"encoding/json"
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
