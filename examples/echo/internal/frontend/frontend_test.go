package frontend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/echo/internal/backend"
	echopb "github.com/grpclb/kubectl-grpclb/examples/echo/proto"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/certs"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
)

func echo(r grpc.ServiceRegistrar, pod string) {
	echopb.RegisterEchoServerServer(r, backend.Server{Host: pod})
}

// program runs the frontend with the environment until the test ends and returns its base URL.
func program(t *testing.T, vars map[string]string) string {
	t.Helper()
	s, err := readSettings(app.Env{Getenv: func(name string) string { return vars[name] }})
	if err != nil {
		t.Fatal(err)
	}
	s.stop.Drain = 0
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, s, "fe", listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("frontend: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

func get(t *testing.T, url string) Answer {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer Answer
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, response.Status, err)
	}
	return answer
}

func count(hosts []string) map[string]int {
	n := map[string]int{}
	for _, h := range hosts {
		n[h]++
	}
	return n
}

// checkRoutes finds the one pinned and the other spread over all five backends.
func checkRoutes(t *testing.T, url string) {
	t.Helper()
	pinned := get(t, url+"/backend")
	if pinned.Frontend != "fe" || len(pinned.Backends) != Calls || len(count(pinned.Backends)) != 1 {
		t.Errorf("/backend: %+v, want %d calls to one backend", pinned, Calls)
	}
	want := map[string]int{"pod-0": 2, "pod-1": 2, "pod-2": 2, "pod-3": 2, "pod-4": 2}
	var spread Answer
	deadline := time.After(10 * time.Second)
	// Until all five connections stand, round_robin takes turns among those that do.
	for !cmp.Equal(count(spread.Backends), want) {
		select {
		case <-deadline:
			t.Fatalf("/backendlb: %+v, want two calls to each of five backends", spread)
		case <-time.After(5 * time.Millisecond):
			spread = get(t, url+"/backendlb")
		}
	}
}

func TestPlaintext(t *testing.T) {
	service := clustertest.Start(t, 5, echo, clustertest.Options{})
	checkRoutes(t, program(t, map[string]string{
		EnvBackend:   fmt.Sprintf("127.0.0.1:%d", service.Port),
		EnvBackendLB: service.Target(),
	}))
}

func TestTLS(t *testing.T) {
	now := time.Now()
	bundle, err := certs.Issue(certs.Request{
		Names: []string{"127.0.0.1", strings.TrimSuffix(clustertest.Name, ".")}, From: now.Add(-time.Minute), Until: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(bundle.Cert, bundle.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, bundle.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	service := clustertest.Start(t, 5, echo, clustertest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{pair}}})
	checkRoutes(t, program(t, map[string]string{
		EnvBackend:   fmt.Sprintf("127.0.0.1:%d", service.Port),
		EnvBackendLB: strings.Replace(service.Target(), clustertest.Name+":", strings.TrimSuffix(clustertest.Name, ".")+":", 1),
		EnvCA:        ca,
	}))
	t.Run("an unknown authority is refused", func(t *testing.T) {
		s, err := readSettings(app.Env{Getenv: func(name string) string { return map[string]string{EnvCA: ca}[name] }})
		if err != nil {
			t.Fatal(err)
		}
		s.options.TLS.RootCAs = x509.NewCertPool()
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", service.Port), s.options.TLS)
		if err == nil {
			_ = conn.Close()
			t.Error("the backend was accepted without its authority")
		}
	})
}

// failing is a connection on which every call ends with the error.
type failing struct{ err error }

func (f failing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return f.err }

func (f failing) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, f.err
}

func TestFailures(t *testing.T) {
	for code, err := range map[int]error{
		http.StatusBadGateway:     status.Error(codes.Unavailable, "no connection"),
		http.StatusGatewayTimeout: status.Error(codes.DeadlineExceeded, "too slow"),
	} {
		w := httptest.NewRecorder()
		Handler("fe", failing{err}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/backend", nil))
		if w.Code != code || !strings.Contains(w.Body.String(), status.Convert(err).Message()) {
			t.Errorf("%v gave %d %s, want %d", err, w.Code, w.Body, code)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := readSettings(app.Env{Getenv: func(string) string { return "" }})
	if err != nil || s.backend != "be-srv:50051" || s.backendLB != "dns:///be-srv-lb:50051" || s.port != 8081 || s.options.TLS != nil {
		t.Errorf("defaults %+v, %v", s, err)
	}
	_, err = readSettings(app.Env{Getenv: func(name string) string { return map[string]string{EnvPort: "x"}[name] }})
	var usage *app.UsageError
	if !errors.As(err, &usage) {
		t.Errorf("a bad port: %v, want a usage error", err)
	}
	_, err = readSettings(app.Env{Getenv: func(name string) string { return map[string]string{EnvCA: "/nonexistent/ca.crt"}[name] }})
	if err == nil || !strings.Contains(err.Error(), EnvCA) {
		t.Errorf("an authority that cannot be read: %v, want an error that names %s", err, EnvCA)
	}
}
