package live_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// withTLS is a server option with a throw-away certificate.
func withTLS(t *testing.T) grpc.ServerOption {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"square.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
}

func TestPortsAnswer(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		addr     func(t *testing.T) string
		proto    string
		tls      bool
		evidence string
	}{
		"grpc":     {addr: func(t *testing.T) string { return grpcServer(t, grpc.MaxConcurrentStreams(7)) }, proto: "grpc", evidence: "health check: OK"},
		"grpc tls": {addr: func(t *testing.T) string { return grpcServer(t, withTLS(t)) }, proto: "grpc", tls: true, evidence: "TLS 1.3"},
		"http":     {addr: httpServer, proto: "http1", evidence: "HTTP/1"},
		"closed":   {addr: func(*testing.T) string { return "" }, proto: "closed", evidence: "pod's address only looks closed"},
		"silent":   {addr: silentServer, proto: "silent", evidence: "no byte"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range w.pods {
				w.nodes.Listen(w.podName(i), 50051, c.addr(t))
			}
			snap := w.run(t, context.Background(), live.Ports(w.options()))
			if !snap.Ports.Known() || len(snap.Ports.Value) != 3 || len(snap.Gaps) != 0 || snap.Cost.Streams != 3 {
				t.Fatalf("%+v, gaps %+v, cost %+v", snap.Ports, snap.Gaps, snap.Cost)
			}
			for _, p := range snap.Ports.Value {
				if p.Proto != c.proto || p.Port != 50051 || (p.TLS != nil) != c.tls || p.RTTMicros <= 0 {
					t.Errorf("%+v", p)
				}
				contains(t, "evidence", strings.Join(p.Evidence, "\n"), c.evidence)
				if title == "grpc" && (p.MaxConcurrentStreams == nil || *p.MaxConcurrentStreams != 7 || p.Health != "SERVING") {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

// TestPortsNeverTouched: what is not judged gRPC is not asked, and no port besides those that are.
func TestPortsNeverTouched(t *testing.T) {
	t.Parallel()
	web := kubetest.Service(ns, "web").Port("http", 80, intstr.FromInt32(8080))
	pod := kubetest.Pod(ns, "web")
	pod.Spec.Containers[0].Ports = nil
	w := newWorld(t, web, pod, web.Slice(pod))
	w.svc.AndPort("metrics", 9090, intstr.FromInt32(9090))
	w.srv.Set(w.svc, w.svc.Slice(w.pods...))
	addr := grpcServer(t)
	for i := range w.pods {
		w.nodes.Listen(w.podName(i), 50051, addr)
	}
	w.nodes.Listen(ns+"/web", 8080, httpServer(t))
	snap := w.collect(t, context.Background(), collect.Options{Namespace: ns, Names: []string{"square", "web"}}, live.Ports(w.options()))
	for _, d := range w.nodes.Dials() {
		if !strings.HasSuffix(d, ":50051") {
			t.Errorf("%s was dialled", d)
		}
	}
	if len(snap.Ports.Value) != 3 {
		t.Errorf("%+v", snap.Ports)
	}
	snap = w.collect(t, context.Background(), collect.Options{Namespace: ns, Names: []string{"web"}}, live.Ports(w.options()))
	if snap.Ports.State != diagnose.NotAsked || snap.Ports.Reason == "" || snap.Cost.Streams != 0 {
		t.Errorf("%+v, cost %+v", snap.Ports.Status, snap.Cost)
	}
	snap = w.collect(t, context.Background(), collect.Options{Namespace: ns, Names: []string{"web"}, AssumeGRPC: true}, live.Ports(w.options()))
	if len(snap.Ports.Value) != 1 || snap.Ports.Value[0].Proto != "http1" {
		t.Errorf("assumed: %+v", snap.Ports)
	}
}

// TestPortsWayThere: what the way to the port did wrong is no answer of the port.
func TestPortsWayThere(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		break_ func(w *world, pod string)
		state  diagnose.State
		reason string
	}{
		"node's fault": {func(w *world, pod string) { w.nodes.Complain(pod, 50051, "canary: no sandbox") }, diagnose.Failed, "the node could not connect"},
		"silent node":  {func(w *world, pod string) { w.nodes.Silence(pod) }, diagnose.Failed, "deadline exceeded"},
		"gone":         {func(w *world, pod string) { w.srv.Delete(kubetest.Pod(ns, strings.TrimPrefix(pod, ns+"/"))) }, diagnose.Failed, "there is no pod"},
		"denied": {func(w *world, pod string) {
			w.srv.Fail(kubetest.Fault{Sub: "portforward", Name: strings.TrimPrefix(pod, ns+"/"), Status: 403})
		}, diagnose.Denied, "may not create pods/portforward in default"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			addr := grpcServer(t)
			w.nodes.Listen(w.podName(1), 50051, addr)
			w.nodes.Listen(w.podName(2), 50051, addr)
			late := func(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
				c.break_(w, w.podName(0)) // after the lists
				return live.Ports(w.options())(ctx, s, snap)
			}
			snap, err := w.tryCollect(t, context.Background(), late)
			if err != nil {
				t.Fatal(err)
			}
			g := gaps(snap, diagnose.FactPorts)["pod "+w.podName(0)]
			contains(t, "gap", g.Reason, c.reason)
			if g.State != c.state || len(snap.Ports.Value) != 2 || strings.Contains(g.Reason, "canary") {
				t.Errorf("gap %+v, ports %+v", g, snap.Ports)
			}
		})
	}
}

func TestPortsAllDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.srv.Fail(kubetest.Fault{Sub: "portforward", Status: 403})
	snap := w.run(t, context.Background(), live.Ports(w.options()))
	if snap.Ports.State != diagnose.Denied || snap.Ports.Reason != "may not port-forward in default" || snap.Ports.Hint == "" || len(snap.Gaps) != 0 {
		t.Errorf("%+v, gaps %+v: the group says it for all", snap.Ports.Status, snap.Gaps)
	}
}

// TestPortsSample: with fewer places than pods every node is seen, and of each node the oldest and the youngest pod.
func TestPortsSample(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var pods []kubetest.PodBuilder
	var objs []kruntime.Object
	addr := grpcServer(t)
	for i := range 30 {
		p := kubetest.Pod(ns, fmt.Sprintf("square-%02d", i)).Label("app", "square").On([]string{"n1", "n2", "n3"}[min(i/14, 2)])
		p.CreationTimestamp = metav1.NewTime(kubetest.Epoch.Add(time.Duration(i) * time.Minute))
		pods, objs = append(pods, p), append(objs, p)
		w.nodes.Listen(ns+"/"+p.Name, 50051, addr)
	}
	w.srv.Set(append(objs, w.svc.Slice(pods...))...)
	o := w.options()
	o.MaxPods = 6
	snap := w.run(t, context.Background(), live.Ports(o))
	var got []string
	for _, p := range snap.Ports.Value {
		got = append(got, p.Pod.Name)
	}
	if want := []string{"square-00", "square-13", "square-14", "square-27", "square-28", "square-29"}; !slices.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
	if g := gaps(snap, diagnose.FactPorts)["24 more pods"]; g.Reason == "" || g.State != diagnose.NotAsked || snap.Cost.Streams != 6 {
		t.Errorf("%+v, cost %+v", snap.Gaps, snap.Cost)
	}
}

func TestPortsInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range w.pods {
		w.nodes.Listen(w.podName(i), 50051, silentServer(t))
	}
	ctx := cancelWhen(t, func() bool { return len(w.nodes.Dials()) == 3 })
	var snap *diagnose.Snapshot
	within(t, time.Second, func() { snap = w.run(t, ctx, live.Ports(w.options())) })
	if snap.Ports.State != diagnose.Failed || len(snap.Ports.Value) != 0 {
		t.Errorf("%+v", snap.Ports)
	}
}
