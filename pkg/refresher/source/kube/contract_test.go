package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint/endpointtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract runs over sockets, in plaintext as HTTP/1.1 and in TLS as HTTP/2.
func TestContract(t *testing.T) {
	t.Run("plaintext", func(t *testing.T) { contract(t, kubetest.NewServer) })
	t.Run("TLS", func(t *testing.T) { contract(t, kubetest.NewTLSServer) })
}

func contract(t *testing.T, serve func(testing.TB, ...runtime.Object) *kubetest.Server) {
	endpointtest.TestSource(t, endpointtest.Harness{New: func(t *testing.T) endpointtest.World {
		srv := serve(t, svc(), es("a"))
		src, err := New(WithConfig(srv.Config()), WithNamespace(ns)).Open(endpoint.Target{Host: svcName, PortName: "grpc"})
		if err != nil {
			t.Fatal(err)
		}
		return endpointtest.World{
			Source: src,
			Put:    func(eps ...endpoint.Endpoint) { put(srv, eps) },
			Break: func() {
				srv.Fail(kubetest.Fault{Resource: "endpointslices", Status: http.StatusInternalServerError})
				srv.CutWatches()
			},
			Mend: srv.Heal,
		}
	}})
}

// put spreads the endpoints over two slices, by their addresses.
func put(srv *kubetest.Server, eps []endpoint.Endpoint) {
	slices := []sliceBuilder{es("a"), es("b")}
	for _, e := range eps {
		a := e.Addr().Addr()
		b := slices[a.As4()[3]%2]
		b.Endpoints = append(b.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}})
	}
	for _, b := range slices {
		srv.Set(b)
	}
}

// TestManyOfOneConnection: all sources of a process share a connection, and its
// end ends none of the others.
func TestManyOfOneConnection(t *testing.T) {
	srv := kubetest.NewTLSServer(t, svc(), es("a", 1))
	opener := New(WithConfig(srv.Config()), WithNamespace(ns))
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan endpoint.Set, 10), make(chan error, 10)
	run := func(ctx context.Context) {
		src, err := opener.Open(endpoint.Target{Host: svcName, Port: 6565})
		if err != nil {
			t.Error(err)
		}
		go func() { done <- src.Run(ctx, chanSink(told)) }()
		if set := <-told; len(set.Endpoints) != 1 {
			t.Errorf("told %v", set)
		}
	}
	run(ctx)
	short, stop := context.WithCancel(ctx)
	run(short)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	srv.Set(es("a", 1, 2))
	if set := <-told; len(set.Endpoints) != 2 {
		t.Errorf("told %v", set)
	}
	if n := srv.Count("watch", ""); n != 2 {
		t.Errorf("%d watches", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// chanSink hands Sets on and takes a failure for one without endpoints.
type chanSink chan<- endpoint.Set

func (s chanSink) Update(set endpoint.Set) { s <- set }
func (s chanSink) Fail(err error)          { s <- endpoint.Set{Reason: err.Error()} }
func (s chanSink) Note(endpoint.Event)     {}

// TestTokenIsReadAgain: the token of a ServiceAccount lives for an hour; the file
// has the next one. The server refuses the old one.
func TestTokenIsReadAgain(t *testing.T) {
	srv := kubetest.NewServer(t, svc(), es("a", 1))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	var good atomic.Value
	good.Store("old")
	var refused atomic.Int32
	cfg := srv.Config()
	cfg.BearerTokenFile = token
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Authorization") != "Bearer "+good.Load().(string) {
				refused.Add(1)
				return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
			}
			return rt.RoundTrip(r)
		})
	})
	src, err := New(WithConfig(cfg), WithNamespace(ns)).Open(endpoint.Target{Host: svcName, PortName: "grpc"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan endpoint.Set, 10), make(chan error, 1)
	go func() { done <- src.Run(ctx, chanSink(told)) }()
	if set := <-told; len(set.Endpoints) != 1 {
		t.Errorf("told %v", set)
	}
	good.Store("new")
	if err := os.WriteFile(token, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.CutWatches()
	srv.Set(es("a", 1, 2))
	if set := <-told; len(set.Endpoints) != 2 {
		t.Errorf("told %v", set)
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("%d requests with the old token", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNoCluster: what cannot become better ends the run.
func TestNoCluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	file := filepath.Join(t.TempDir(), "namespace")
	for _, c := range []struct {
		name string
		opts []Option
		want error
		says string
	}{
		{"not in a cluster", nil, rest.ErrNotInCluster, "find the API server"},
		{"no namespace", []Option{WithConfig(&rest.Config{}), func(o *options) { o.namespaceFile = file }}, os.ErrNotExist, "find the namespace of Service square"},
		{"no such certificate", []Option{WithConfig(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: file}}), WithNamespace(ns)}, nil, "make a client"},
		{"no such host", []Option{WithConfig(&rest.Config{Host: "://"}), WithNamespace(ns)}, nil, "make a client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, err := New(c.opts...).Open(endpoint.Target{Host: svcName, Port: 1})
			if err != nil {
				t.Fatal(err)
			}
			err = src.Run(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Run: %v, want %q", err, c.says)
			}
		})
	}
}

func TestNamespaceOfThePod(t *testing.T) {
	srv := kubetest.NewServer(t, svc(), es("a", 1))
	file := filepath.Join(t.TempDir(), "namespace")
	if err := os.WriteFile(file, fmt.Appendln(nil, ns), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := New(WithConfig(srv.Config()), func(o *options) { o.namespaceFile = file }).Open(endpoint.Target{Host: svcName, Port: 6565})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan endpoint.Set, 1), make(chan error, 1)
	go func() { done <- src.Run(ctx, chanSink(told)) }()
	if set := <-told; len(set.Endpoints) != 1 {
		t.Errorf("told %v", set)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
