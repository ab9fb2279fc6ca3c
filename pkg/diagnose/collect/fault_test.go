package collect_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// factOf maps a listed resource to the group of facts that depends on it.
var factOf = map[string]diagnose.FactName{
	"services": diagnose.FactServices, "endpointslices": diagnose.FactSlices, "pods": diagnose.FactPods, "nodes": diagnose.FactNodes,
}

func known(snap *diagnose.Snapshot) map[diagnose.FactName]bool {
	out := map[diagnose.FactName]bool{}
	for _, n := range []diagnose.FactName{
		diagnose.FactServices, diagnose.FactSlices, diagnose.FactPods, diagnose.FactNodes, diagnose.FactWorkloads, diagnose.FactMetrics,
	} {
		out[n] = snap.Status(n).Known()
	}
	return out
}

// onlyLost fails the test unless exactly one group of facts is not known.
func onlyLost(t *testing.T, snap *diagnose.Snapshot, lost diagnose.FactName) diagnose.Status {
	t.Helper()
	for n, ok := range known(snap) {
		if ok == (n == lost) {
			t.Errorf("%s known: %t; %+v", n, ok, snap.Status(n))
		}
	}
	return snap.Status(lost)
}

// TestOneForbiddenVerb: each refusal costs its own facts and nothing else, and says which right is missing.
func TestOneForbiddenVerb(t *testing.T) {
	for resource, want := range map[string]string{
		"endpointslices": "may not list endpointslices in default", "pods": "may not list pods in default", "nodes": "may not list nodes",
	} {
		snap, err := run(t, square(3), options("square-service"), kubetest.Fault{Verb: "list", Resource: resource, Group: groupOf[resource], Status: 403})
		if err != nil {
			t.Fatalf("%s: %v", resource, err)
		}
		st := onlyLost(t, snap, factOf[resource])
		if st.State != diagnose.Denied || st.Reason != want || !strings.Contains(st.Hint, "--rbac") {
			t.Errorf("%s: %+v, want %q", resource, st, want)
		}
		if strings.Contains(string(marshal(t, snap)), "canary-user") {
			t.Errorf("%s: the server's message is in the snapshot", resource)
		}
	}
}

var groupOf = map[string]string{"endpointslices": "discovery.k8s.io", "pods": "core", "nodes": "core"}

func TestForbiddenKindsOfWorkloads(t *testing.T) {
	snap := mustRun(t, square(3), options("square-service"), kubetest.Fault{Verb: "list", Resource: "statefulsets", Status: 403})
	if !snap.Workloads.Known() || len(snap.Workloads.Value) != 2 {
		t.Errorf("workloads: %+v", snap.Workloads)
	}
	want := []diagnose.Gap{{Fact: diagnose.FactWorkloads, Subject: "statefulsets", Status: diagnose.Status{
		State: diagnose.Denied, Reason: "may not list statefulsets in default", Hint: "kubectl grpclb diagnose --rbac prints the Role that is needed",
	}}}
	if diff := cmp.Diff(want, snap.Gaps); diff != "" {
		t.Error(diff)
	}
	snap = mustRun(t, square(3), options("square-service"), kubetest.Fault{Verb: "list", Group: "apps", Status: 403}, kubetest.Fault{Verb: "list", Group: "batch", Status: 403})
	if st := onlyLost(t, snap, diagnose.FactWorkloads); st.State != diagnose.Denied || st.Reason != "may not list deployments in default" {
		t.Errorf("%+v", st)
	}
	if snap.ConfigMaps.State != diagnose.NotAsked || snap.ConfigMaps.Reason == "" {
		t.Errorf("configmaps: %+v", snap.ConfigMaps)
	}
}

func TestForbiddenServices(t *testing.T) {
	noList := kubetest.Fault{Verb: "list", Resource: "services", Status: 403}
	// Getting the one that was named is enough.
	snap := mustRun(t, square(3), options("square-service"), noList)
	if len(snap.Services.Value) != 1 || len(snap.Gaps) != 1 || snap.Gaps[0].Reason != "may not list services in default" {
		t.Errorf("services %+v, gaps %+v", snap.Services, snap.Gaps)
	}
	// A name that does not exist is still told apart.
	var missing *collect.NotFoundError
	if _, err := run(t, square(3), options("sqare"), noList); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	// Neither: nothing can be said about the Service, and that is said.
	snap, err := run(t, square(3), options("square-service"), kubetest.Fault{Resource: "services", Status: 403})
	var ce *collect.CallError
	if !errors.As(err, &ce) || ce.Kind != collect.KindDenied || ce.Error() != "may not list services in default" || ce.Hint() == "" {
		t.Fatalf("%v", err)
	}
	if st := onlyLost(t, snap, diagnose.FactServices); st.State != diagnose.Denied {
		t.Errorf("%+v", st)
	}
	r := diagnose.Run(snap, diagnose.Options{})
	if r.Services[0].Verdict.State != diagnose.VerdictUnknown {
		t.Errorf("the report calls a Service that could not be read %q", r.Services[0].Verdict.State)
	}
}

func TestNothingIsMissingWhereServicesWereNotListed(t *testing.T) {
	objs := append(square(1), kubetest.Deployment(ns, "other").Env("GRPC_TARGET", "dns:///nope:80"))
	for fault, want := range map[bool]int{false: 1, true: 0} {
		var f []kubetest.Fault
		if fault {
			f = append(f, kubetest.Fault{Verb: "list", Resource: "services", Status: 403})
		}
		snap := mustRun(t, objs, options("square-service"), f...)
		n := 0
		for _, w := range snap.Workloads.Value {
			for _, tg := range w.Targets {
				if tg.Kind == diagnose.TargetMissing {
					n++
				}
			}
		}
		if n != want {
			t.Errorf("services denied: %t; %d missing targets, want %d", fault, n, want)
		}
	}
}

// TestOneBadAnswer: whatever happens to one list, the run ends, the fact says why, and the others are there.
func TestOneBadAnswer(t *testing.T) {
	pods := kubetest.Fault{Verb: "list", Resource: "pods", Group: "core"}
	with := func(change func(*kubetest.Fault)) kubetest.Fault {
		f := pods
		f.Namespace = ns
		change(&f)
		return f
	}
	for _, c := range []struct {
		name  string
		fault kubetest.Fault
		want  string
		tries int
	}{
		{"404", with(func(f *kubetest.Fault) { f.Status, f.Body, f.ContentType = 404, "404 page not found\n", "text/plain" }), "the API server does not serve pods", 1},
		{"410 for ever", with(func(f *kubetest.Fault) { f.Status = 410 }), "the list changed faster than it could be read: list pods in default", 2},
		{"429 without end", with(func(f *kubetest.Fault) { f.Status = 429 }), "the API server is too busy to list pods in default", 3},
		{"429 for too long", with(func(f *kubetest.Fault) { f.Status, f.RetryAfter = 429, 60 }), "the API server is too busy to list pods in default", 1},
		{"500", with(func(f *kubetest.Fault) { f.Status = 500 }), "the API server failed (500) to list pods in default", 3},
		{"503", with(func(f *kubetest.Fault) { f.Status = 503 }), "the API server failed (503) to list pods in default", 3},
		{"hang", with(func(f *kubetest.Fault) { f.Hang = true }), "no answer within 300ms to: list pods in default", 1},
		{"drip", with(func(f *kubetest.Fault) { f.Drip = 50 * time.Millisecond }), "no answer within 300ms to: list pods in default", 1},
		{"half a body", with(func(f *kubetest.Fault) { f.Half = true }), "the connection broke in the middle of the answer to: list pods in default", 3},
		{"a login page", with(func(f *kubetest.Fault) { f.ContentType, f.Body = "text/html", "<html>log in</html>" }), "the answer is not what an API server says to: list pods in default", 1},
		{"an empty document", with(func(f *kubetest.Fault) { f.ContentType, f.Body = "application/json", "{}" }), "the answer is not what an API server says to: list pods in default", 1},
		{"another document", with(func(f *kubetest.Fault) {
			f.ContentType, f.Body = "application/json", `{"kind":"NodeList","apiVersion":"v1"}`
		}), "the answer is not what an API server says to: list pods in default", 1},
		{"broken JSON", with(func(f *kubetest.Fault) { f.ContentType, f.Body = "application/json", `{"kind":` }), "the answer is not what an API server says to: list pods in default", 1},
		{"no body", with(func(f *kubetest.Fault) { f.ContentType = "application/json" }), "the answer is not what an API server says to: list pods in default", 1},
		{"401 by way of 400", with(func(f *kubetest.Fault) { f.Status = 400 }), "the answer is not what an API server says to: list pods in default", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := kubetest.NewServer(t, square(3)...)
			srv.Fail(c.fault)
			snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{CallTimeout: 300 * time.Millisecond}), options("square-service"))
			if err != nil {
				t.Fatal(err)
			}
			if st := snap.Pods.Status; st.State != diagnose.Failed || st.Reason != c.want {
				t.Errorf("%+v, want %q", st, c.want)
			}
			if !snap.Services.Known() || !snap.Slices.Known() || !snap.Nodes.Known() || !snap.Workloads.Known() {
				t.Errorf("other facts are lost: %v", known(snap))
			}
			n := 0
			for _, r := range srv.Requests() {
				if r.Resource == "pods" && r.Group == "" {
					n++
				}
			}
			if n != c.tries {
				t.Errorf("%d tries, want %d", n, c.tries)
			}
		})
	}
}

// TestTransientFaults: what passes by itself costs a retry and no fact.
func TestTransientFaults(t *testing.T) {
	for name, f := range map[string]kubetest.Fault{
		"429, Retry-After": {Status: 429, RetryAfter: 1, Times: 1},
		"500":              {Status: 500, Times: 2},
		"half a body":      {Half: true, Times: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.Verb, f.Resource = "list", "nodes"
			start := time.Now()
			snap := mustRun(t, square(3), options("square-service"), f)
			if !snap.Nodes.Known() || len(snap.Nodes.Value) != 2 {
				t.Errorf("%+v", snap.Nodes)
			}
			if d := time.Since(start); f.RetryAfter > 0 && d < time.Second {
				t.Errorf("came back after %s, the server asked for 1s", d)
			}
		})
	}
}

// TestHalfAnAnswerOverHTTP2: there a broken answer is the end of a stream, not of the connection.
func TestHalfAnAnswerOverHTTP2(t *testing.T) {
	srv := kubetest.NewTLSServer(t, square(3)...)
	srv.Fail(kubetest.Fault{Verb: "list", Resource: "nodes", Half: true})
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil || snap.Nodes.Reason != "the connection broke in the middle of the answer to: list nodes" {
		t.Errorf("%+v, %v", snap.Nodes.Status, err)
	}
}

// TestExpiredContinue: a token that expires between two pages starts the list again, and nothing is counted twice.
func TestExpiredContinue(t *testing.T) {
	srv := kubetest.NewServer(t, square(30)...)
	srv.PageSize(10)
	srv.Fail(kubetest.Fault{Verb: "list", Resource: "pods", Continued: true, Skip: 1, Times: 1, Status: 410})
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil || len(snap.Pods.Value) != 31 {
		t.Fatalf("%d pods, %v", len(snap.Pods.Value), err)
	}
}

func TestNoMetricsServer(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	srv.Unserve("metrics.k8s.io")
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	want := diagnose.Status{State: diagnose.Failed, Reason: "the cluster has no metrics-server", Hint: "install metrics-server to see CPU per pod"}
	if st := onlyLost(t, snap, diagnose.FactMetrics); st != want {
		t.Errorf("%+v", st)
	}
	for status, reason := range map[int]string{
		503: "metrics-server does not answer", 403: "may not list pods.metrics.k8s.io in default", 401: "the API server does not accept the credentials",
	} {
		srv := kubetest.NewServer(t, square(3)...)
		srv.Fail(kubetest.Fault{Group: "metrics.k8s.io", Status: status})
		snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
		if err != nil || snap.Metrics.Reason != reason || snap.Metrics.Known() {
			t.Errorf("%d: %+v, %v; want %q", status, snap.Metrics.Status, err, reason)
		}
		if n := srv.Count("list", "pods"); n != 2 { // one of each group: a broken metrics-server is not waited for
			t.Errorf("%d: %d lists of pods, want 2", status, n)
		}
	}
}

func TestMissingGroups(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	srv.Unserve("discovery.k8s.io", "batch")
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	if st := onlyLost(t, snap, diagnose.FactSlices); st.Reason != "the API server does not serve EndpointSlices (discovery.k8s.io/v1)" {
		t.Errorf("%+v", st)
	}
	if len(snap.Gaps) != 2 || snap.Gaps[0].Reason != "the API server does not serve cronjobs of batch/v1" {
		t.Errorf("%+v", snap.Gaps)
	}
}

func TestUnauthorized(t *testing.T) {
	snap, err := run(t, square(3), options("square-service"), kubetest.Fault{Status: 401})
	var ue *collect.UnauthorizedError
	if !errors.As(err, &ue) || ue.Error() != `the credentials of context "test" do not work: the API server does not accept them` || ue.Hint() == "" {
		t.Fatalf("%v", err)
	}
	if snap == nil || snap.Services.State != diagnose.Denied {
		t.Errorf("%+v", snap)
	}
}

func TestCredentialPlugin(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	cfg := srv.Config()
	cfg.Wrap(func(http.RoundTripper) http.RoundTripper {
		return roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("getting credentials: exec: executable aws not found")
		})
	})
	s, err := collect.NewSession(cfg, collect.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = collect.Run(context.Background(), s, options("square-service"))
	var ue *collect.UnauthorizedError
	if !errors.As(err, &ue) || ue.Error() != "the credentials do not work: the program that provides them failed" || !strings.Contains(ue.Unwrap().Error(), "aws") {
		t.Errorf("%v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestUnreachable: what keeps every request from the server is one sentence, not one per fact.
func TestUnreachable(t *testing.T) {
	quiet := func(h http.Handler) *httptest.Server { return httptest.NewUnstartedServer(h) }
	for name, c := range map[string]struct {
		config func(t *testing.T) *rest.Config
		want   string
	}{
		"refused": {func(t *testing.T) *rest.Config {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			return &rest.Config{Host: "http://" + l.Addr().String()}
		}, "connection refused"},
		"no such host": {func(*testing.T) *rest.Config { return &rest.Config{Host: "https://api.invalid:6443"} }, "its host name cannot be resolved"},
		"unknown authority": {func(t *testing.T) *rest.Config {
			cfg := kubetest.NewTLSServer(t).Config()
			cfg.CAData = nil
			return cfg
		}, "its certificate is signed by an authority that is not trusted"},
		"another name": {func(t *testing.T) *rest.Config {
			cfg := kubetest.NewTLSServer(t).Config()
			cfg.ServerName = "kubernetes.invalid"
			return cfg
		}, "its certificate is for another host name"},
		"no TLS": {func(t *testing.T) *rest.Config {
			return &rest.Config{Host: strings.Replace(kubetest.NewServer(t).URL(), "http://", "https://", 1)}
		}, "it does not speak TLS"},
		"client certificate wanted": {func(t *testing.T) *rest.Config {
			s := quiet(http.NotFoundHandler())
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MaxVersion: tls.VersionTLS12}
			s.StartTLS()
			t.Cleanup(s.Close)
			return &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
		}, "it refused the TLS handshake"},
		"silent": {func(t *testing.T) *rest.Config {
			srv := kubetest.NewServer(t)
			srv.Fail(kubetest.Fault{Hang: true})
			return srv.Config()
		}, "no answer within 500ms"},
		"no connection": {func(t *testing.T) *rest.Config {
			return &rest.Config{Host: "http://192.0.2.1:6443", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done() // a network that drops every packet
				return nil, ctx.Err()
			}}
		}, "no connection within 500ms"},
		"a web server": {func(t *testing.T) *rest.Config {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
			t.Cleanup(s.Close)
			return &rest.Config{Host: s.URL}
		}, "the answer is not what an API server says to: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := collect.NewSession(c.config(t), collect.SessionOptions{Context: "test", CallTimeout: 500 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			snap, err := collect.Run(context.Background(), s, options("square-service"))
			var ue *collect.UnreachableError
			if !errors.As(err, &ue) {
				t.Fatalf("%v (%T)", err, err)
			}
			if !strings.HasPrefix(ue.Reason, c.want) || ue.Hint() == "" || !strings.Contains(err.Error(), `context "test"`) {
				t.Errorf("%q, hint %q; want reason %q; cause %v", err, ue.Hint(), c.want, ue.Err)
			}
			if snap == nil || snap.Services.Known() {
				t.Errorf("%+v", snap)
			}
			if strings.Contains(string(marshal(t, snap)), "127.0.0.1") {
				t.Error("the server's address is in the snapshot")
			}
		})
	}
}

// TestStopped: a Ctrl-C or the end of --timeout in the middle keeps what is there.
func TestStopped(t *testing.T) {
	for name, c := range map[string]struct {
		stop    func(ctx context.Context, reached <-chan struct{}) (context.Context, context.CancelFunc)
		timeout bool
		is      error
		reason  string
	}{
		"interrupted": {func(ctx context.Context, reached <-chan struct{}) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			go func() { <-reached; cancel() }()
			return ctx, cancel
		}, false, context.Canceled, "interrupted before the answer to: list pods in default"},
		"time is up": {func(ctx context.Context, _ <-chan struct{}) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 500*time.Millisecond)
		}, true, context.DeadlineExceeded, "time was up before the answer to: list pods in default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := kubetest.NewServer(t, square(3)...)
			srv.Fail(kubetest.Fault{Verb: "list", Resource: "pods", Hang: true})
			reached := make(chan struct{})
			others := 0
			s := session(t, srv, collect.SessionOptions{Progress: progressUntil(reached, &others)})
			ctx, cancel := c.stop(context.Background(), reached)
			defer cancel()
			ran := false
			snap, err := collect.Run(ctx, s, options("square-service"), func(ctx context.Context, _ *collect.Session, _ *diagnose.Snapshot) error {
				ran = true
				return ctx.Err()
			})
			var se *collect.StoppedError
			if !errors.As(err, &se) || !errors.Is(err, c.is) || se.Timeout != c.timeout {
				t.Fatalf("%v", err)
			}
			if !snap.Services.Known() || !snap.Slices.Known() || snap.Pods.State != diagnose.Failed || snap.Pods.Reason != c.reason {
				t.Errorf("services %+v, pods %+v", snap.Services.Status, snap.Pods.Status)
			}
			if len(snap.Targets) != 1 {
				t.Errorf("targets %v", snap.Targets)
			}
			if ran {
				t.Error("a stage ran after the end")
			}
		})
	}
}

// progressUntil closes reached when four groups of facts are in; it runs under the session's own concurrency.
func progressUntil(reached chan struct{}, n *int) func(collect.Event) {
	slot := make(chan struct{}, 1)
	return func(e collect.Event) {
		slot <- struct{}{}
		defer func() { <-slot }()
		if e.Step != collect.StepEnd || e.Fact == diagnose.FactMetrics {
			return
		}
		if *n++; *n == 4 {
			close(reached)
		}
	}
}

func TestStoppedBeforeTheStart(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	snap, err := collect.Run(ctx, session(t, srv, collect.SessionOptions{}), options("square-service"))
	if !errors.Is(err, context.Canceled) || snap == nil || snap.Pods.State != diagnose.Failed {
		t.Errorf("%v, %+v", err, snap)
	}
}

func TestEmptyLists(t *testing.T) {
	snap := mustRun(t, []runtime.Object{kubetest.Service(ns, "square-service")}, options("square-service"))
	for n, ok := range known(snap) {
		if !ok {
			t.Errorf("%s is not known: %+v", n, snap.Status(n))
		}
	}
	if len(snap.Pods.Value) != 0 || len(snap.Gaps) != 0 {
		t.Errorf("%d pods, gaps %+v", len(snap.Pods.Value), snap.Gaps)
	}
}
