package calls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// backend is a real grpc-go server that remembers the callers' addresses.
type backend struct {
	addr netip.AddrPort
	stop func()
	mu   sync.Mutex
	seen map[netip.AddrPort]int
}

func (b *backend) calls() map[netip.AddrPort]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.seen)
}

// start listens on one of the loopback addresses 127.0.0.N, all with the same port when one is given.
func start(t *testing.T, ip string, port uint16, opts ...grpc.ServerOption) *backend {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), port).String())
	if err != nil {
		t.Skipf("cannot listen on %s: %v", ip, err) // systems without 127.0.0.0/8 on the loopback
	}
	b := &backend{addr: l.Addr().(*net.TCPAddr).AddrPort(), seen: map[netip.AddrPort]int{}}
	s := grpc.NewServer(append(opts, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		if p, ok := peer.FromContext(ctx); ok {
			b.mu.Lock()
			b.seen[p.Addr.(*net.TCPAddr).AddrPort()]++
			b.mu.Unlock()
		}
		return h(ctx, req)
	}))...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	b.stop = sync.OnceFunc(func() { s.Stop(); <-done })
	t.Cleanup(b.stop)
	return b
}

func target(t *testing.T, text string) Target {
	t.Helper()
	got, err := ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func run(t *testing.T, cfg Config) agentapi.ProbeReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	report, done := Run(ctx, cfg)
	t.Cleanup(done)
	for i, c := range report.Channels {
		sum := 0
		for _, n := range c.Codes {
			sum += n
		}
		if sum != c.Calls || c.Failed > c.Calls {
			t.Errorf("connection %d does not add up: %+v", i, c)
		}
	}
	return report
}

func lookup(ips ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "square-service" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		var out []netip.Addr
		for _, ip := range ips {
			out = append(out, netip.MustParseAddr(ip))
		}
		return out, nil
	}
}

// TestPinned: one channel to host:port uses one address however many there are, and the report's local address is what the
// server sees as its peer.
func TestPinned(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	b := start(t, "127.0.0.2", a.addr.Port())
	port := a.addr.String()[strings.LastIndex(a.addr.String(), ":"):]
	r := run(t, Config{Targets: []Target{target(t, "clusterip=square-service"+port)}, Calls: 50, Lookup: lookup("127.0.0.1", "127.0.0.2")})
	if len(r.Channels) != 1 {
		t.Fatalf("%d connections: %+v", len(r.Channels), r.Channels)
	}
	c := r.Channels[0]
	if c.Name != "clusterip" || c.Remote != a.addr || c.Calls != 50 || c.Failed != 0 || c.Codes["OK"] != 50 || c.Settings == nil {
		t.Errorf("connection %+v", c)
	}
	if got := a.calls(); got[c.Local] != 50 || len(b.calls()) != 0 {
		t.Errorf("servers saw %v and %v, the report says %s", got, b.calls(), c.Local)
	}
	if l := c.Latency; l == nil || l.Samples != 50 || l.P50 == 0 || l.P50 > l.P90 || l.P90 > l.P99 {
		t.Errorf("latency %+v", l)
	}
	if r.Targets[0].Resolved != 2 || r.Elapsed <= 0 {
		t.Errorf("target %+v, elapsed %v", r.Targets[0], r.Elapsed)
	}
}

// TestSpread: dns:/// connects to all and calls in turn; each channel begins elsewhere.
func TestSpread(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	b := start(t, "127.0.0.2", a.addr.Port())
	c := start(t, "127.0.0.3", a.addr.Port())
	port := a.addr.String()[strings.LastIndex(a.addr.String(), ":"):]
	r := run(t, Config{Targets: []Target{target(t, "dns:///square-service"+port)}, Channels: 3, Calls: 10,
		Lookup: lookup("127.0.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.1")})
	if len(r.Channels) != 9 {
		t.Fatalf("%d connections, want 3 channels of 3", len(r.Channels))
	}
	for _, s := range []*backend{a, b, c} {
		total := 0
		for _, n := range s.calls() {
			total += n
		}
		if total != 10 {
			t.Errorf("%s got %d of 30 calls", s.addr, total)
		}
	}
}

func TestUnresolved(t *testing.T) {
	r := run(t, Config{Targets: []Target{target(t, "x=nowhere:1")}, Calls: 5, Lookup: lookup()})
	if len(r.Channels) != 1 || !strings.Contains(r.Channels[0].StartError, "no such host") || r.Channels[0].Calls != 0 {
		t.Errorf("connections %+v", r.Channels)
	}
	if !strings.Contains(r.Targets[0].Error, "no such host") || r.Targets[0].Resolved != 0 {
		t.Errorf("target %+v", r.Targets[0])
	}
	if r := run(t, Config{Targets: []Target{target(t, "square-service:1")}, Lookup: lookup()}); !strings.Contains(r.Targets[0].Error, "no addresses") {
		t.Errorf("target %+v", r.Targets[0])
	}
}

// TestOneAddressDead: round_robin leaves out what it cannot connect to; pick_first goes on to the next address.
func TestOneAddressDead(t *testing.T) {
	a := start(t, "127.0.0.2", 0)
	port := a.addr.String()[strings.LastIndex(a.addr.String(), ":"):]
	for _, scheme := range []string{"", "dns:///"} {
		r := run(t, Config{Targets: []Target{target(t, scheme+"square-service"+port)}, Calls: 6, Lookup: lookup("127.0.0.1", "127.0.0.2")})
		if len(r.Channels) < 2 || !strings.Contains(r.Channels[0].StartError, "connection refused") || r.Channels[0].Calls != 0 {
			t.Errorf("%q: %+v", scheme, r.Channels)
		}
		if last := r.Channels[len(r.Channels)-1]; last.Codes["OK"] != 6 {
			t.Errorf("%q: %+v", scheme, last)
		}
	}
}

func TestAllDead(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	a.stop()
	r := run(t, Config{Targets: []Target{target(t, a.addr.String())}, Calls: 3})
	if len(r.Channels) == 0 || r.Channels[0].Failed != 3 || r.Channels[0].Codes["UNAVAILABLE"] != 3 {
		t.Errorf("connections %+v", r.Channels)
	}
}

// TestReconnects: a server that retires connections sees new ones, and no call is lost to that.
func TestReconnects(t *testing.T) {
	a := start(t, "127.0.0.1", 0, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond}))
	r := run(t, Config{Targets: []Target{target(t, a.addr.String())}, Duration: 600 * time.Millisecond, Rate: 200})
	if len(r.Channels) < 3 || !strings.Contains(r.Channels[0].EndError, "GOAWAY") {
		t.Errorf("%d connections, the first ended by %q", len(r.Channels), r.Channels[0].EndError)
	}
	locals := map[netip.AddrPort]bool{}
	for _, c := range r.Channels {
		locals[c.Local] = true
		if c.Failed > 1 { // one that crossed the GOAWAY
			t.Errorf("connection %+v", c)
		}
	}
	if len(locals) != len(r.Channels) {
		t.Errorf("%d local addresses of %d connections", len(locals), len(r.Channels))
	}
}

// TestServerDies: calls fail as UNAVAILABLE and the report says what ended the connection.
func TestServerDies(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	time.AfterFunc(100*time.Millisecond, a.stop)
	r := run(t, Config{Targets: []Target{target(t, a.addr.String())}, Calls: 100, Duration: 500 * time.Millisecond, Rate: 200})
	var ok, unavailable int
	for _, c := range r.Channels {
		ok, unavailable = ok+c.Codes["OK"], unavailable+c.Codes["UNAVAILABLE"]
	}
	if ok == 0 || unavailable == 0 || r.Channels[0].EndError == "" {
		t.Errorf("%d OK, %d unavailable: %+v", ok, unavailable, r.Channels)
	}
}

func TestRateAndDuration(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	r := run(t, Config{Targets: []Target{target(t, a.addr.String())}, Rate: 50, Duration: 400 * time.Millisecond})
	if n := r.Channels[0].Calls; n < 5 || n > 21 {
		t.Errorf("%d calls in 0.4 s at 50 a second", n)
	}
	if r.Interrupted {
		t.Error("the end of the duration is no interruption")
	}
}

// TestInterrupted: what was measured is reported, and the call that we broke off is not held against the server.
func TestInterrupted(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	r, done := Run(ctx, Config{Targets: []Target{target(t, a.addr.String())}, Calls: MaxCalls, Rate: 100})
	defer done()
	if !r.Interrupted || len(r.Errors) != 1 || len(r.Channels) != 1 || r.Channels[0].Codes["OK"] == 0 || r.Channels[0].Failed != 0 {
		t.Errorf("report %+v", r)
	}
}

// TestHeldOpen: the connections live until the caller is done with them.
func TestHeldOpen(t *testing.T) {
	a := start(t, "127.0.0.1", 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ch := &channel{session: &session{cfg: Config{Targets: []Target{target(t, a.addr.String())}}.withDefaults(),
		targets: make([]agentapi.Target, 1)}, target: target(t, a.addr.String())}
	ch.session.channels = []*channel{ch}
	ch.run(ctx, ctx)
	if !ch.connected() {
		t.Fatal("not connected after the calls")
	}
	ch.session.close()
	if ch.connected() {
		t.Error("connected after close")
	}
	ch.session.close()
}

func TestTLS(t *testing.T) {
	cert := certificate(t)
	a := start(t, "127.0.0.1", 0, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	verified := run(t, Config{Targets: []Target{target(t, a.addr.String())}, TLS: true})
	if e := verified.Channels[0].StartError; !strings.Contains(e, "certificate") {
		t.Errorf("an unknown certificate was taken: %+v", verified.Channels[0])
	}
	r := run(t, Config{Targets: []Target{target(t, a.addr.String())}, TLS: true, SkipVerify: true, Authority: "square.default.svc", Calls: 2})
	if c := r.Channels[0]; !c.TLS || c.Codes["OK"] != 2 {
		t.Errorf("connection %+v", c)
	}
	plain := start(t, "127.0.0.1", 0)
	if r := run(t, Config{Targets: []Target{target(t, plain.addr.String())}, TLS: true, SkipVerify: true}); r.Channels[0].StartError == "" {
		t.Errorf("connection %+v", r.Channels[0])
	}
}

// TestTLSWithoutALPN: gRPC clients refuse a server that does not choose h2, so the probe does.
func TestTLSWithoutALPN(t *testing.T) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err == nil {
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	r := run(t, Config{Targets: []Target{target(t, l.Addr().String())}, TLS: true, SkipVerify: true})
	if e := r.Channels[0].StartError; !strings.Contains(e, errNoALPN.Error()) {
		t.Errorf("start error %q", e)
	}
}

func TestTooManyConnections(t *testing.T) {
	s := &session{cfg: Config{}.withDefaults(), open: MaxConnections}
	ch := &channel{session: s, target: target(t, "127.0.0.1:1")}
	slot := &slot{addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}}
	ch.connect(context.Background(), slot)
	if ch.refused != 1 || slot.current != nil || !strings.Contains(ch.tooMany(), "1 addresses got no connection") {
		t.Errorf("refused %d: %s", ch.refused, ch.tooMany())
	}
}

func TestParseTarget(t *testing.T) {
	good := map[string]Target{
		"square-service:6565":                    {Name: "square-service:6565", Text: "square-service:6565", Host: "square-service", Port: "6565"},
		"clusterip=10.96.0.1:80":                 {Name: "clusterip", Text: "10.96.0.1:80", Host: "10.96.0.1", Port: "80"},
		"headless=dns:///a-headless.b.svc.:8001": {Name: "headless", Text: "dns:///a-headless.b.svc.:8001", Host: "a-headless.b.svc.", Port: "8001", All: true},
		"dns:a:1":                                {Name: "dns:a:1", Text: "dns:a:1", Host: "a", Port: "1", All: true},
		"p=[fd00::1]:50051":                      {Name: "p", Text: "[fd00::1]:50051", Host: "fd00::1", Port: "50051"},
	}
	for text, want := range good {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%q: %+v, error %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "a:", ":1", "=a:1", "a:0", "a:65536", "a:grpc", "a b:1", "dns://8.8.8.8/a:1", "dns:///a", "dns://a:1",
		"passthrough:///a:1", "xds:///a:1", "fd00::1:80"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q was taken as %+v", text, got)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("headless=dns:///a:1")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		if err == nil && (got.Host == "" || got.Port == "" || got.Name == "" || !strings.HasSuffix(text, got.Text)) {
			t.Errorf("%q: %+v", text, got)
		}
	})
}

func TestSample(t *testing.T) {
	var s sample
	if s.quantiles() != nil {
		t.Error("quantiles of nothing")
	}
	for i := 1; i <= 100; i++ {
		s.add(time.Duration(i) * time.Millisecond)
	}
	if got := s.quantiles(); *got != (agentapi.Latency{P50: 50_000, P90: 90_000, P99: 99_000, Samples: 100}) {
		t.Errorf("quantiles %+v", got)
	}
	for range 3 * maxKept {
		s.add(2 * time.Hour) // beyond 32 bits of microseconds
	}
	if got := s.quantiles(); got.Samples != maxKept || got.P99 != 1<<32-1 {
		t.Errorf("quantiles %+v", got)
	}
}

func TestResolveErrors(t *testing.T) {
	boom := errors.New("server misbehaving")
	r := run(t, Config{Targets: []Target{target(t, "dns:///a:1")}, Channels: 2,
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, boom }})
	if len(r.Channels) != 2 || !slices.ContainsFunc(r.Targets, func(x agentapi.Target) bool { return strings.Contains(x.Error, boom.Error()) }) {
		t.Errorf("report %+v", r)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
