package h2probe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

// testContext ends well before the test's own time-out, so that a hang shows as an error of the code under test.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dialer(addr net.Addr) h2probe.DialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, addr.Network(), addr.String())
	}
}

// testService answers UnaryCall with the request's payload, and EmptyCall never before the call's context ends.
type testService struct {
	testpb.UnimplementedTestServiceServer
}

func (testService) UnaryCall(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (testService) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// grpcServer starts a real grpc-go server with a health service ("" SERVING, "down" NOT_SERVING).
func grpcServer(t testing.TB, opts ...grpc.ServerOption) net.Addr {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer(opts...)
	h := health.NewServer()
	h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, h)
	testpb.RegisterTestServiceServer(s, testService{})
	serve(t, func() { _ = s.Serve(l) }, s.Stop)
	return l.Addr()
}

func serve(t testing.TB, run, stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

// httpServer starts net/http's server, with h2c if asked, and TLS if given a configuration.
func httpServer(t testing.TB, h2c bool, cfg *tls.Config) net.Addr {
	t.Helper()
	l := listen(t)
	addr := l.Addr()
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", "plain-web")
			http.Error(w, "no such page", http.StatusNotFound)
		}),
		Protocols: new(http.Protocols), ReadHeaderTimeout: 5 * time.Second, TLSConfig: cfg,
		ErrorLog: log.New(io.Discard, "", 0), // plaintext on a TLS port is what we are here for
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(h2c)
	if cfg != nil {
		s.Protocols.SetHTTP2(len(cfg.NextProtos) == 0 || cfg.NextProtos[0] == "h2")
		serve(t, func() { _ = s.ServeTLS(l, "", "") }, func() { _ = s.Close() })
		return addr
	}
	serve(t, func() { _ = s.Serve(l) }, func() { _ = s.Close() })
	return addr
}

// rawServer hands every accepted connection to handle and closes it afterwards.
func rawServer(t testing.TB, handle func(net.Conn)) net.Addr {
	t.Helper()
	l := listen(t)
	serve(t, func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(t, func() {
				defer func() { _ = c.Close() }()
				handle(c)
			}, func() { _ = c.Close() })
		}
	}, func() { _ = l.Close() })
	return l.Addr()
}

// drain reads until the peer hangs up.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// certificate makes a self-signed certificate for the names that the tests look for.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "square"},
		DNSNames: []string{"square.default.svc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serverTLS(t testing.TB, auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate(t)}, ClientAuth: auth}
}

func grpcTLS(cfg *tls.Config) grpc.ServerOption { return grpc.Creds(credentials.NewTLS(cfg)) }

// deafConn is a connection whose deadlines do nothing, as a port-forward's stream is.
type deafConn struct{ net.Conn }

func (deafConn) SetDeadline(time.Time) error      { return nil }
func (deafConn) SetReadDeadline(time.Time) error  { return nil }
func (deafConn) SetWriteDeadline(time.Time) error { return nil }
