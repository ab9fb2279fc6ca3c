package h2probe_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

// identification is one server and what must be said of it.
type identification struct {
	name     string
	addr     func(t *testing.T) net.Addr
	proto    h2probe.Proto
	health   string
	tls      bool
	alpn     string
	cert     h2probe.ClientCert
	evidence string
	failed   bool // Identity.Error is set
}

func TestIdentify(t *testing.T) {
	closed := listen(t)
	_ = closed.Close()
	tests := []identification{
		{name: "grpc-go", addr: func(t *testing.T) net.Addr { return grpcServer(t) },
			proto: h2probe.ProtoGRPC, health: "SERVING", evidence: "UNIMPLEMENTED, trailers-only, content-type application/grpc"},
		{name: "grpc-go with TLS", addr: func(t *testing.T) net.Addr { return grpcServer(t, grpcTLS(serverTLS(t, tls.NoClientCert))) },
			proto: h2probe.ProtoGRPC, health: "SERVING", tls: true, alpn: "h2", evidence: `TLS handshake: TLS 1.3, ALPN "h2"`},
		{name: "grpc-go with mutual TLS", addr: func(t *testing.T) net.Addr {
			return grpcServer(t, grpcTLS(serverTLS(t, tls.RequireAnyClientCert)))
		}, proto: h2probe.ProtoTLS, tls: true, alpn: "h2", cert: h2probe.ClientCertRequired, evidence: "certificate required", failed: true},
		{name: "grpc-go with mutual TLS 1.2", addr: func(t *testing.T) net.Addr {
			cfg := serverTLS(t, tls.RequireAnyClientCert)
			cfg.MaxVersion = tls.VersionTLS12
			return grpcServer(t, grpcTLS(cfg))
		}, proto: h2probe.ProtoTLS, tls: true, cert: h2probe.ClientCertRequired, evidence: "remote error", failed: true},
		{name: "grpc-go that would like a certificate", addr: func(t *testing.T) net.Addr {
			return grpcServer(t, grpcTLS(serverTLS(t, tls.RequestClientCert)))
		}, proto: h2probe.ProtoGRPC, health: "SERVING", tls: true, alpn: "h2", cert: h2probe.ClientCertRequested},
		{name: "h2c web server", addr: func(t *testing.T) net.Addr { return httpServer(t, true, nil) },
			proto: h2probe.ProtoHTTP2, evidence: "unknown method: answer is not gRPC: HTTP 404, content-type \"text/plain"},
		{name: "https web server", addr: func(t *testing.T) net.Addr { return httpServer(t, false, serverTLS(t, tls.NoClientCert)) },
			proto: h2probe.ProtoHTTP2, tls: true, alpn: "h2"},
		{name: "https web server without HTTP/2", addr: func(t *testing.T) net.Addr {
			cfg := serverTLS(t, tls.NoClientCert)
			cfg.NextProtos = []string{"http/1.1"}
			return httpServer(t, false, cfg)
		}, proto: h2probe.ProtoHTTP1, tls: true, alpn: "http/1.1"},
		{name: "HTTP/1 web server", addr: func(t *testing.T) net.Addr { return httpServer(t, false, nil) },
			proto: h2probe.ProtoHTTP1, evidence: "answered in HTTP/1 with status"},
		{name: "error page without status line", addr: func(t *testing.T) net.Addr {
			return rawServer(t, func(c net.Conn) { _, _ = io.WriteString(c, "<!DOCTYPE HTML>\n<html>Invalid HTTP version (2.0)</html>") })
		}, proto: h2probe.ProtoHTTP1},
		{name: "echo", addr: func(t *testing.T) net.Addr { return rawServer(t, func(c net.Conn) { _, _ = io.Copy(c, c) }) },
			proto: h2probe.ProtoUnknown, evidence: "echoed back"},
		{name: "speaks first", addr: func(t *testing.T) net.Addr {
			return rawServer(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-\x1b[31mred\n"); drain(c) })
		}, proto: h2probe.ProtoUnknown, evidence: `bytes of no known protocol "SSH-2.0-"...`},
		{name: "hangs up", addr: func(t *testing.T) net.Addr {
			return rawServer(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 4)) })
		}, proto: h2probe.ProtoUnknown},
		{name: "silent", addr: func(t *testing.T) net.Addr { return rawServer(t, drain) }, proto: h2probe.ProtoSilent, evidence: "no byte in"},
		{name: "closed", addr: func(*testing.T) net.Addr { return closed.Addr() }, proto: h2probe.ProtoClosed, evidence: "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t)
		})
	}
}

func (tt identification) run(t *testing.T) {
	id, err := h2probe.Identify(testContext(t), dialer(tt.addr(t)), h2probe.IdentifyOptions{StepTimeout: time.Second})
	if err != nil {
		t.Fatalf("Identify: %v", err)
	}
	if id.Proto != tt.proto {
		t.Errorf("proto = %q, want %q", id.Proto, tt.proto)
	}
	if (id.TLS != nil) != tt.tls || (id.TLS != nil && (id.TLS.ALPN != tt.alpn || id.TLS.ClientCert != tt.cert)) {
		t.Errorf("TLS = %+v, want %v, ALPN %q, client certificate %q", id.TLS, tt.tls, tt.alpn, tt.cert)
	}
	if tt.health != "" && (id.Health == nil || id.Health.Status != tt.health) {
		t.Errorf("health = %+v, want %s", id.Health, tt.health)
	}
	if text := strings.Join(id.Evidence, "\n"); len(id.Evidence) == 0 || !strings.Contains(text, tt.evidence) {
		t.Errorf("evidence lacks %q:\n%s", tt.evidence, text)
	}
	if (id.Error != "") != tt.failed {
		t.Errorf("error = %q, want one: %v", id.Error, tt.failed)
	}
	if t.Failed() {
		b, _ := json.MarshalIndent(id, "", "  ")
		t.Logf("identity: %s", b)
	}
}

func TestIdentifySettingsAndNames(t *testing.T) {
	addr := grpcServer(t, grpc.MaxConcurrentStreams(7), grpcTLS(serverTLS(t, tls.NoClientCert)))
	id, err := h2probe.Identify(testContext(t), dialer(addr), h2probe.IdentifyOptions{HealthService: "down", ServerName: "square.default.svc"})
	if err != nil {
		t.Fatal(err)
	}
	if s := id.Settings; s == nil || s.MaxConcurrentStreams == nil || *s.MaxConcurrentStreams != 7 {
		t.Errorf("settings = %+v, want 7 concurrent streams", s)
	}
	if diff := cmp.Diff([]string{"square.default.svc", "127.0.0.1"}, id.TLS.Names); diff != "" {
		t.Errorf("certificate names: %s", diff)
	}
	if id.TLS.Subject != "square" || id.TLS.NotAfter == nil {
		t.Errorf("subject %q, end %v", id.TLS.Subject, id.TLS.NotAfter)
	}
	if id.Health.Status != "NOT_SERVING" || id.Health.Code != h2probe.OK {
		t.Errorf("health = %+v", id.Health)
	}
}

func TestIdentifyAbsentLimitIsNil(t *testing.T) {
	id, err := h2probe.Identify(testContext(t), dialer(grpcServer(t)), h2probe.IdentifyOptions{HealthService: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if id.Settings == nil || id.Settings.MaxConcurrentStreams != nil {
		t.Errorf("settings = %+v, want no limit", id.Settings)
	}
	if id.Health.Code != h2probe.NotFound || id.Health.Status != "" || id.Proto != h2probe.ProtoGRPC {
		t.Errorf("health of an unknown service = %+v, proto %s", id.Health, id.Proto)
	}
	b, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	var back h2probe.Identity
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(id, back); diff != "" {
		t.Errorf("JSON does not come back as it was: %s", diff)
	}
}

// TestIdentifyPlain400 covers nginx's manner: HTTP/1 in plaintext on a port that wants TLS.
func TestIdentifyPlain400(t *testing.T) {
	cfg := serverTLS(t, tls.NoClientCert)
	cfg.NextProtos = []string{"h2"}
	inner := grpcServer(t)
	addr := rawServer(t, func(c net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		if first[0] != 22 { // not a TLS handshake record
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\nThe plain HTTP request was sent to HTTPS port")
			return
		}
		relay(tls.Server(&prefixConn{Conn: c, prefix: first}, cfg), inner)
	})
	id, err := h2probe.Identify(testContext(t), dialer(addr), h2probe.IdentifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if id.Proto != h2probe.ProtoGRPC || id.TLS == nil {
		t.Errorf("identity = %+v, want gRPC in TLS", id)
	}
}

type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func relay(c net.Conn, to net.Addr) {
	back, err := net.Dial(to.Network(), to.String())
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(back, c)
		_ = back.Close()
	}()
	_, _ = io.Copy(c, back)
	_ = c.Close()
	<-done
}

// TestIdentifyPortForwardRefusal covers a stream on which the far end reports the refusal as text, at the first read.
func TestIdentifyPortForwardRefusal(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go drain(theirs)
		return &refusingConn{Conn: ours, other: theirs}, nil
	}
	id, err := h2probe.Identify(testContext(t), dial, h2probe.IdentifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if id.Proto != h2probe.ProtoClosed {
		t.Errorf("proto = %s, evidence %q", id.Proto, id.Evidence)
	}
}

type refusingConn struct {
	net.Conn
	other net.Conn
}

func (c *refusingConn) Read([]byte) (int, error) {
	return 0, errors.New("dial tcp4 127.0.0.1:9: connect: connection refused")
}

func (c *refusingConn) Close() error { return errors.Join(c.Conn.Close(), c.other.Close()) }

func TestIdentifyUnreachable(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
	}
	id, err := h2probe.Identify(testContext(t), dial, h2probe.IdentifyOptions{})
	if err != nil || id.Proto != h2probe.ProtoUnreachable || id.Error == "" {
		t.Errorf("identity %+v, error %v", id, err)
	}
}

func TestIdentifyEndsWithItsContext(t *testing.T) {
	addr := rawServer(t, drain)
	ctx, cancel := context.WithCancel(testContext(t))
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := dialer(addr)(ctx)
		cancel()
		return deafConn{conn}, err
	}
	start := time.Now()
	id, err := h2probe.Identify(ctx, dial, h2probe.IdentifyOptions{StepTimeout: time.Minute})
	if !errors.Is(err, context.Canceled) || id.Error == "" {
		t.Errorf("identity %+v, error %v", id, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s after its context had ended", took)
	}
}

// TestIdentifyGoAwayText: what a peer says must not pass for what the system says.
func TestIdentifyGoAwayText(t *testing.T) {
	addr := rawServer(t, func(c net.Conn) {
		f := framer(c)
		_ = f.WriteGoAway(0, 0, []byte("connection refused"))
		drain(c)
	})
	id, err := h2probe.Identify(testContext(t), dialer(addr), h2probe.IdentifyOptions{})
	if err != nil || id.Proto != h2probe.ProtoHTTP2 {
		t.Errorf("identity %+v, error %v", id, err)
	}
	if !slices.ContainsFunc(id.Evidence, func(s string) bool { return strings.Contains(s, "GOAWAY NO_ERROR connection refused") }) {
		t.Errorf("evidence %q", id.Evidence)
	}
}
