package sidecar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestPodsThatCannotServe: each fault of a pod has a state and a reason, and the
// other pod serves.
func TestPodsThatCannotServe(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(net.Conn) // nil: nobody listens
		want  string
	}{
		"refused": {nil, "connection refused"},
		"silent":  {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "sends no HTTP/2 SETTINGS within 100ms"},
		"closes":  {func(net.Conn) {}, "ended before HTTP/2 began|closed the connection without a word"},
		"http1": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1000))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
			_, _ = io.Copy(io.Discard, c)
		}, "speaks HTTP/1"},
		"tls": {func(c net.Conn) {
			_, _ = c.Write([]byte{0x15, 3, 1, 0, 2, 2, 10}) // OpenSSL's alert; Go's server closes without one
			_, _ = io.Copy(io.Discard, c)
		}, "speaks TLS"},
		"banner": {func(c net.Conn) {
			_, _ = io.WriteString(c, "220 at your service, and some more words\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "is not HTTP/2"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := closedPort(t)
			if tt.serve != nil {
				addr = tcpPod(t, tt.serve)
			}
			good := startServer(t)
			p := startProxyWith(t, static.New(endpoint.At(addr), good.endpoint()), func(o *Options) { o.Limits.ConnectTimeout = 100 * time.Millisecond })
			bad := &server{addr: addr}
			p.until("the fault is seen", func() bool { return p.pod(bad).State == StateUnreachable })
			why := p.pod(bad).StateReason
			found := false
			for _, w := range strings.Split(tt.want, "|") {
				found = found || strings.Contains(why, w)
			}
			if !found {
				t.Errorf("%q", why)
			}
			c := p.client()
			for range 5 {
				if _, err := c.EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestNothingReachable: calls fail at once, and say why; Ready is true all the same.
func TestNothingReachable(t *testing.T) {
	p := startProxyWith(t, static.New(endpoint.At(closedPort(t))), nil)
	p.until("it was tried", func() bool { ok, _ := p.Ready(); return ok })
	_, err := p.client().EmptyCall(ctxOf(t), &testpb.Empty{})
	wantCode(t, err, codes.Unavailable)
	if !strings.Contains(err.Error(), "no connection to any of the 1 pods of square.test:6565; 127.0.0.1:") || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
	if _, why := p.Ready(); !strings.Contains(why, "refused") {
		t.Error(why)
	}
}

// failingSource knows nothing.
type failingSource struct{ err error }

func (s failingSource) Open(endpoint.Target) (endpoint.Source, error) { return s, nil }
func (s failingSource) Run(ctx context.Context, sink endpoint.Sink) error {
	if s.err != nil {
		sink.Fail(s.err)
	}
	<-ctx.Done()
	return nil
}

// TestSourceFails: calls fail with the source's reason while nothing is known, and
// wait while it has said nothing.
func TestSourceFails(t *testing.T) {
	p := startProxy(t, func(o *Options) { o.Opener = failingSource{errTest} })
	p.until("it failed", func() bool { return p.Stats().LastError != "" })
	_, err := p.client().EmptyCall(ctxOf(t), &testpb.Empty{})
	wantCode(t, err, codes.Unavailable)
	if !strings.Contains(err.Error(), errTest.Error()) {
		t.Error(err)
	}
	if ok, why := p.Ready(); ok || !strings.Contains(why, errTest.Error()) {
		t.Errorf("%v %q", ok, why)
	}
	waits := startProxy(t, func(o *Options) { o.Opener = failingSource{} })
	ctx, cancel := context.WithTimeout(ctxOf(t), 50*time.Millisecond)
	defer cancel()
	_, err = waits.client().EmptyCall(ctx, &testpb.Empty{})
	wantCode(t, err, codes.DeadlineExceeded)
	if ok, why := waits.Ready(); ok || !strings.Contains(why, "no answer yet") {
		t.Errorf("%v %q", ok, why)
	}
}

// givingUp is a source that ends.
type givingUp struct{}

func (s givingUp) Open(endpoint.Target) (endpoint.Source, error) { return s, nil }
func (s givingUp) Run(context.Context, endpoint.Sink) error      { return errTest }

func TestSourceGivesUp(t *testing.T) {
	warned := make(chan string, 10)
	p := startProxy(t, func(o *Options) {
		o.Opener = givingUp{}
		o.Events = func(e endpoint.Event) {
			if w, ok := e.(endpoint.Warning); ok {
				warned <- w.Text
			}
		}
	})
	if text := <-warned; !strings.Contains(text, errTest.Error()) {
		t.Error(text)
	}
	p.until("Ready says so", func() bool { _, why := p.Ready(); return strings.Contains(why, errTest.Error()) })
}

func TestListenErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for addr, want := range map[string]struct {
		err  error
		hint string
	}{
		busy.Addr().String(): {syscall.EADDRINUSE, "another process of this pod"},
		"192.0.2.1:6565":     {syscall.EADDRNOTAVAIL, "no address of this pod"},
	} {
		p, err := New(Options{Listen: []string{"127.0.0.1:0", addr}, Target: "a:1", Opener: static.New()})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Run(t.Context())
		if !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.hint) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%v", err)
		}
		if p.Listening() != nil {
			t.Error("something is bound")
		}
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs once") {
			t.Errorf("%v", err)
		}
	}
	a := netip.MustParseAddrPort("127.0.0.1:80")
	if text := bindError(a, syscall.EACCES).Error(); !strings.Contains(text, "NET_BIND_SERVICE") {
		t.Error(text)
	}
	if text := bindError(a, errTest).Error(); !strings.Contains(text, "127.0.0.1:80") {
		t.Error(text)
	}
}

func TestOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		want []string
	}{
		"nothing": {Options{}, []string{"target: ", "no address to listen on"}},
		"listen":  {Options{Target: "a:1", Listen: []string{"localhost:1"}}, []string{`"localhost:1" is not IP:PORT`}},
		"no port": {Options{Target: "a", Listen: []string{"127.0.0.1:1"}}, []string{"target: "}},
		"limits":  {Options{Target: "a:1", Listen: []string{"127.0.0.1:1"}, Limits: Limits{MaxClients: -1, DeadAfter: 1}}, []string{"MaxClients", "DeadAfter"}},
		"per pod": {Options{Target: "a:1", Listen: []string{"127.0.0.1:1"}, Limits: Limits{MaxConnectionsPerPod: 65}}, []string{"MaxConnectionsPerPod"}},
		"a refusal": {Options{Target: "a:1", Listen: []string{"127.0.0.1:1"}, Opener: endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) {
			return nil, errTest
		})}, []string{errTest.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tt.o)
			for _, w := range tt.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
		})
	}
	if _, err := New(Options{Target: "a.b:1", Listen: []string{"[::1]:1", "127.0.0.10:1"}}); err != nil {
		t.Error(err)
	}
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
}

// TestMaxClients: a connection too many is closed, and counted.
func TestMaxClients(t *testing.T) {
	a := startServer(t)
	p := startProxy(t, func(o *Options) { o.Limits.MaxClients = 1 }, a)
	if _, err := p.client().EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := dialProxy(t, p).Read(make([]byte, 1)); err == nil {
		t.Error("it was taken")
	}
	if n := p.Stats().RejectedClients; n != 1 {
		t.Errorf("%d", n)
	}
}

// TestDrainBeforeRun: what was told to end does not begin.
func TestDrainBeforeRun(t *testing.T) {
	p, err := New(Options{Listen: []string{"127.0.0.1:0"}, Target: "a:1", Opener: static.New()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	if p.Listening() != nil {
		t.Error("it listens")
	}
}

// TestDrainFreesTheAddress: another Proxy can take it while the first still has
// calls.
func TestDrainFreesTheAddress(t *testing.T) {
	a := startServer(t)
	p := startProxy(t, nil, a)
	s, err := p.client().FullDuplexCall(ctxOf(t))
	if err != nil {
		t.Fatal(err)
	}
	pingPong(t, s, 1)
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(ctxOf(t)) }()
	p.until("it stopped listening", func() bool { return p.Listening() == nil })
	addr := p.addr
	next := startProxy(t, func(o *Options) { o.Listen = []string{addr} }, a)
	if _, err := next.client().EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
		t.Error(err)
	}
	pingPong(t, s, 1)
	if err := s.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
