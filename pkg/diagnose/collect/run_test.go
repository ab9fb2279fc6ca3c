package collect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const ns = "default"

// square is the cluster that most tests look at: a Service with some pods on two nodes, an aggregator that dials it, metrics.
func square(replicas int32) []runtime.Object {
	svc := kubetest.Service(ns, "square-service").Port("grpc", 6565, intstr.FromInt32(50051)).Selects("app", "square")
	dep := kubetest.Deployment(ns, "square").Replicas(replicas)
	client := kubetest.Deployment(ns, "aggregator").Env("GRPC_CLIENT_SQUARE_ADDRESS", "static://square-service:6565")
	objs := []runtime.Object{svc, dep, client, svc.Slice(dep.Pods()...), kubetest.Node("n1"), kubetest.Node("n2").Zone("b")}
	for _, p := range dep.Pods() {
		objs = append(objs, kubetest.PodMetrics(ns, p.Name, "250m"))
	}
	return objs
}

func session(t testing.TB, srv *kubetest.Server, opt collect.SessionOptions) *collect.Session {
	t.Helper()
	s, err := collect.NewSession(srv.Config(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func options(names ...string) collect.Options {
	return collect.Options{Namespace: ns, Names: names, Now: func() time.Time { return kubetest.Epoch.Add(time.Hour) }}
}

// run collects from a new server with the objects and faults.
func run(t *testing.T, objs []runtime.Object, opt collect.Options, faults ...kubetest.Fault) (*diagnose.Snapshot, error) {
	t.Helper()
	srv := kubetest.NewServer(t, objs...)
	srv.Fail(faults...)
	return collect.Run(context.Background(), session(t, srv, collect.SessionOptions{Context: "test"}), opt)
}

func mustRun(t *testing.T, objs []runtime.Object, opt collect.Options, faults ...kubetest.Fault) *diagnose.Snapshot {
	t.Helper()
	snap, err := run(t, objs, opt, faults...)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return snap
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryGroupOfFactsIsKnown(t *testing.T) {
	snap := mustRun(t, square(3), options("square-service"))
	for _, n := range []diagnose.FactName{
		diagnose.FactServices, diagnose.FactSlices, diagnose.FactPods, diagnose.FactNodes, diagnose.FactWorkloads, diagnose.FactConfigMaps,
		diagnose.FactMetrics,
	} {
		if st := snap.Status(n); !st.Known() {
			t.Errorf("%s: %+v", n, st)
		}
	}
	for _, n := range []diagnose.FactName{diagnose.FactDNS, diagnose.FactPorts, diagnose.FactSockets, diagnose.FactProbes} {
		if st := snap.Status(n); st.State != diagnose.NotAsked || st.Reason == "" || st.Hint == "" {
			t.Errorf("%s: %+v, want not asked, with a reason and a hint", n, st)
		}
	}
	v, ok := snap.View(diagnose.Key{Namespace: ns, Name: "square-service"})
	if !ok {
		t.Fatal("the Service is not in the snapshot")
	}
	if n := len(v.Ready()); n != 3 {
		t.Errorf("%d ready endpoints, want 3", n)
	}
	if n := len(v.Selected()); n != 3 {
		t.Errorf("the selector finds %d pods, want 3", n)
	}
	if c := v.Clients(); len(c) != 1 || c[0].Workload.Ref() != "deploy/aggregator" || !c[0].Targets[0].GRPC {
		t.Errorf("clients: %+v", c)
	}
	if snap.Cluster != (diagnose.Cluster{Context: "test", Version: kubetest.ServerVersion, Domain: "cluster.local", DomainFrom: diagnose.DomainAssumed}) {
		t.Errorf("cluster: %+v", snap.Cluster)
	}
	want := diagnose.Cost{Lists: 10, Gets: 1}
	if snap.Cost != want {
		t.Errorf("cost %+v, want %+v", snap.Cost, want)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	objs := square(40)
	first := marshal(t, mustRun(t, objs, options()))
	for range 5 {
		slices.Reverse(objs)
		if again := marshal(t, mustRun(t, objs, options())); !bytes.Equal(first, again) {
			t.Fatal(cmp.Diff(string(first), string(again)))
		}
	}
}

func TestJSONAndProtobufGiveTheSame(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	pb, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range srv.Requests() {
		if r.Resource != "" && r.Accept[:len(runtime.ContentTypeProtobuf)] != runtime.ContentTypeProtobuf {
			t.Errorf("%s does not ask for protobuf first: %s", r, r.Accept)
		}
	}
	// A server that knows no protobuf answers in JSON; here one stands in front that hides the wish.
	plain := kubetest.NewServer(t, square(3)...)
	plain.JSONOnly()
	js, err := collect.Run(context.Background(), session(t, plain, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(marshal(t, pb)), string(marshal(t, js))); diff != "" {
		t.Error(diff)
	}
}

// TestRequestsDoNotGrowWithPods is the promise about cost: what is asked depends on the options, not on the size of the Service.
func TestRequestsDoNotGrowWithPods(t *testing.T) {
	count := func(replicas int32) (int, diagnose.Cost) {
		srv := kubetest.NewServer(t, square(replicas)...)
		snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(snap.Pods.Value); got != int(replicas)+1 {
			t.Fatalf("%d pods in the snapshot, want %d", got, replicas+1)
		}
		return len(srv.Requests()), snap.Cost
	}
	few, fewCost := count(3)
	many, manyCost := count(300)
	if few != many || fewCost != manyCost {
		t.Errorf("3 pods: %d requests %+v; 300 pods: %d requests %+v", few, fewCost, many, manyCost)
	}
	if few != fewCost.Lists+fewCost.Gets {
		t.Errorf("the server saw %d requests, the session counted %+v", few, fewCost)
	}
}

func TestPages(t *testing.T) {
	srv := kubetest.NewServer(t, square(50)...)
	srv.PageSize(20)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Pods.Value) != 51 {
		t.Errorf("%d pods over 3 pages, want 51", len(snap.Pods.Value))
	}
	var lists int
	for _, r := range srv.Requests() {
		if r.Verb == "list" {
			lists++
			if r.Limit != 500 {
				t.Errorf("%s: limit %d", r, r.Limit)
			}
		}
	}
	if snap.Cost.Lists != lists {
		t.Errorf("cost says %d lists, the server saw %d", snap.Cost.Lists, lists)
	}
}

func TestSlicesOfOneTargetAreSelected(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"square-service"}, "kubernetes.io/service-name=square-service"},
		{[]string{"square-service", "cube-service"}, "kubernetes.io/service-name in (cube-service,square-service)"},
		{nil, ""},
	} {
		srv := kubetest.NewServer(t, append(square(1), kubetest.Service(ns, "cube-service"))...)
		if _, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options(c.names...)); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(srv.Requests(), func(r kubetest.Request) bool { return r.Resource == "endpointslices" })
		if got := srv.Requests()[i].Labels; got != c.want {
			t.Errorf("%v: selector %q, want %q", c.names, got, c.want)
		}
	}
}

func TestOverTLS(t *testing.T) {
	srv := kubetest.NewTLSServer(t, square(3)...)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil || len(snap.Pods.Value) != 4 {
		t.Fatalf("%d pods, %v", len(snap.Pods.Value), err)
	}
}

func TestProgress(t *testing.T) {
	var mu sync.Mutex
	open := map[diagnose.FactName]int{}
	opt := collect.SessionOptions{Progress: func(e collect.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Step {
		case collect.StepStart:
			open[e.Fact]++
		case collect.StepEnd:
			open[e.Fact] += 100
			if e.Fact == diagnose.FactPods && (e.Done != 4 || !e.Status.Known()) {
				t.Errorf("pods: %+v", e)
			}
		}
	}}
	srv := kubetest.NewServer(t, square(3)...)
	if _, err := collect.Run(context.Background(), session(t, srv, opt), options("square-service")); err != nil {
		t.Fatal(err)
	}
	want := map[diagnose.FactName]int{
		diagnose.FactServices: 101, diagnose.FactSlices: 101, diagnose.FactPods: 101, diagnose.FactNodes: 101, diagnose.FactWorkloads: 101,
		diagnose.FactConfigMaps: 101, diagnose.FactMetrics: 101,
	}
	if diff := cmp.Diff(want, open); diff != "" {
		t.Errorf("each group starts and ends once (-want +got):\n%s", diff)
	}
}

func TestStages(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	s := session(t, srv, collect.SessionOptions{})
	var order []string
	stage := func(name string) collect.Stage {
		return func(_ context.Context, _ *collect.Session, snap *diagnose.Snapshot) error {
			order = append(order, name)
			if len(snap.Targets) != 1 || !snap.Pods.Known() {
				t.Errorf("stage %s runs before the API was read", name)
			}
			return nil
		}
	}
	dns := func(_ context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		snap.DNS = diagnose.Know([]diagnose.DNSAnswer{{Name: "x."}})
		s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: "pod kube-system/coredns-1"})
		return nil
	}
	ports := func(_ context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		snap.Ports = diagnose.Know([]diagnose.PortProbe{{Port: 1}})
		s.Gap(diagnose.Gap{Fact: diagnose.FactPorts, Subject: "pod default/a"})
		return nil
	}
	snap, err := collect.Run(context.Background(), s, options("square-service"), stage("a"), collect.Together(dns, ports), stage("b"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, order); diff != "" {
		t.Error(diff)
	}
	if !snap.DNS.Known() || !snap.Ports.Known() || len(snap.Gaps) != 2 || snap.Gaps[0].Fact != diagnose.FactDNS {
		t.Errorf("dns %v, ports %v, gaps %+v", snap.DNS.Status, snap.Ports.Status, snap.Gaps)
	}
	if n := srv.Count("get", "services"); n != 1 {
		t.Errorf("%d gets of the Service after the stages, want 1", n)
	}
}

func TestStageError(t *testing.T) {
	boom := errors.New("boom")
	srv := kubetest.NewServer(t, square(1)...)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"),
		func(context.Context, *collect.Session, *diagnose.Snapshot) error { return boom },
		func(context.Context, *collect.Session, *diagnose.Snapshot) error {
			t.Error("runs after an error")
			return nil
		})
	if !errors.Is(err, boom) || !snap.Pods.Known() {
		t.Errorf("%v, pods %v", err, snap.Pods.Status)
	}
}

// TestDeletedMidRun: the stage plays the time in which somebody deletes the Service, or puts another one of that name there.
func TestDeletedMidRun(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		srv := kubetest.NewServer(t, square(3)...)
		stage := func(context.Context, *collect.Session, *diagnose.Snapshot) error {
			svc := kubetest.Service(ns, "square-service")
			srv.Delete(svc)
			if replaced {
				svc.UID = "another"
				srv.Set(svc)
			}
			return nil
		}
		snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"), stage)
		var gone *collect.DeletedError
		if !errors.As(err, &gone) || gone.Replaced != replaced || gone.Service.Name != "square-service" {
			t.Fatalf("replaced=%t: %v", replaced, err)
		}
		if len(snap.Slices.Value) != 1 || len(snap.Gaps) != 1 || snap.Gaps[0].Reason == "" {
			t.Errorf("replaced=%t: facts are lost: %d slices, gaps %+v", replaced, len(snap.Slices.Value), snap.Gaps)
		}
	}
}

func BenchmarkThousandEndpoints(b *testing.B) {
	srv := kubetest.NewServer(b, square(1000)...)
	s, err := collect.NewSession(srv.Config(), collect.SessionOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := collect.Run(context.Background(), s, options("square-service")); err != nil {
			b.Fatal(err)
		}
	}
}
