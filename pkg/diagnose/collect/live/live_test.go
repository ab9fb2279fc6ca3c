package live_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// TestMain fails when something of the package still runs after all tests and their servers have ended. Opening a stream to a node that
// never replies cannot be called off within the library's 30 s, and a stream that was asked for just as the connection broke stays in the
// library's books for good, so that its shutdown waits for it; these two are let be. A connection that is still read from is not.
func TestMain(m *testing.M) {
	code := m.Run()
	left := ""
	ended := eventually(context.Background(), 10*time.Second, func() bool {
		left = leftovers()
		return left == ""
	})
	if ended {
		os.Exit(code)
	}
	fmt.Println("goroutines were left behind:\n" + left)
	os.Exit(1)
}

// eventually looks again and again whether cond holds, for at most d.
func eventually(ctx context.Context, d time.Duration, cond func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func leftovers() string {
	buf := make([]byte, 4<<20)
	var out []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		ours := strings.Contains(g, "collect/live.") || strings.Contains(g, "spdystream") || strings.Contains(g, "gorilla/websocket")
		letBe := strings.Contains(g, "WaitTimeout") || strings.Contains(g, "spdystream.(*Connection).shutdown")
		if ours && !letBe {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

// patience bounds what takes no time: a busy machine is no fault.
const patience = 3 * time.Second

const (
	ns      = "default"
	dnsA    = "kube-system/coredns-a"
	dnsB    = "kube-system/coredns-b"
	name    = "square.default.svc.cluster.local."
	srvName = "_grpc._tcp." + name
)

// world is a cluster with the gRPC Service square, port 6565 to 50051, before three pods on two nodes, and two DNS pods.
type world struct {
	srv   *kubetest.Server
	nodes *podtest.Nodes
	svc   kubetest.ServiceBuilder
	pods  []kubetest.PodBuilder

	mu        sync.Mutex
	announced []string
}

func newWorld(t *testing.T, more ...kruntime.Object) *world {
	t.Helper()
	w := &world{svc: kubetest.Service(ns, "square").Port("grpc", 6565, intstr.FromInt32(50051))}
	dep := kubetest.Deployment(ns, "square").Replicas(3)
	w.pods = dep.Pods()
	objs := []kruntime.Object{w.svc, dep, w.svc.Slice(w.pods...), kubetest.Node("n1"), kubetest.Node("n2")}
	for _, n := range []string{"coredns-a", "coredns-b"} {
		objs = append(objs, kubetest.Pod("kube-system", n).Label("k8s-app", "kube-dns"))
	}
	w.srv = kubetest.NewServer(t, append(objs, more...)...)
	w.nodes = podtest.New(t, w.srv)
	return w
}

func (w *world) podName(i int) string { return ns + "/" + w.pods[i].Name }

// dnsServes puts a server behind port 53 of a DNS pod, with records in zone-file form.
func (w *world) dnsServes(t *testing.T, pod string, records ...string) *dnstest.Server {
	t.Helper()
	s := dnstest.Serve(t, dnstest.NewZone(t, "cluster.local.").Add(records...))
	w.nodes.Listen(pod, 53, s.Addr())
	return s
}

// rightRecords are what a DNS server should have for the Service.
func (w *world) rightRecords() []string {
	return []string{name + " 30 IN A " + w.svc.Spec.ClusterIP, srvName + " 30 IN SRV 0 100 6565 " + name}
}

func (w *world) options() live.Options {
	return live.Options{
		Interval: 50 * time.Millisecond, StartWait: patience, Calls: 10,
		Announce: func(text string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.announced = append(w.announced, text)
		},
	}
}

func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.announced, "\n")
}

// run collects with the stages and demands that nothing but ctx ends the run.
func (w *world) run(t *testing.T, ctx context.Context, stages ...collect.Stage) *diagnose.Snapshot {
	t.Helper()
	return w.collect(t, ctx, collect.Options{Namespace: ns, Names: []string{"square"}}, stages...)
}

func (w *world) collect(t *testing.T, ctx context.Context, opt collect.Options, stages ...collect.Stage) *diagnose.Snapshot {
	t.Helper()
	s, err := collect.NewSession(w.srv.Config(), collect.SessionOptions{Context: "test", CallTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snap, err := collect.Run(ctx, s, opt, stages...)
	if err != nil && ctx.Err() == nil {
		t.Fatalf("Run: %v", err)
	}
	return snap
}

// tryCollect leaves the error to the test: a pod that goes away meanwhile is one for some.
func (w *world) tryCollect(t *testing.T, ctx context.Context, stages ...collect.Stage) (*diagnose.Snapshot, error) {
	t.Helper()
	s, err := collect.NewSession(w.srv.Config(), collect.SessionOptions{CallTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return collect.Run(ctx, s, collect.Options{Namespace: ns, Names: []string{"square"}}, stages...)
}

func gaps(snap *diagnose.Snapshot, fact diagnose.FactName) map[string]diagnose.Status {
	out := map[string]diagnose.Status{}
	for _, g := range snap.Gaps {
		if g.Fact == fact {
			out[g.Subject] = g.Status
		}
	}
	return out
}

// grpcServer runs a real gRPC server with a health service and returns its address.
func grpcServer(t *testing.T, opts ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// httpServer runs an HTTP/1 server and returns its address.
func httpServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// silentServer accepts connections and says nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// within fails when f takes longer than a prompt return may.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > d {
		t.Errorf("took %s, want at most %s", took, d)
	}
}

// cancelWhen cancels as soon as cond holds.
func cancelWhen(t *testing.T, cond func() bool) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	go func() {
		if eventually(ctx, 20*time.Second, cond) {
			cancel()
		}
	}()
	return ctx
}

func asked(srv *kubetest.Server, verb, sub string) int {
	n := 0
	for _, r := range srv.Requests() {
		if (verb == "" || r.Verb == verb) && r.Sub == sub && r.Resource == "pods" && r.Group == "" {
			n++
		}
	}
	return n
}

func contains(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %q does not contain %q", what, got, w)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
