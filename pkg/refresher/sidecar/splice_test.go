package sidecar

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want string
		sure bool
	}{
		{"", kindSilent, false},
		{"P", kindOther, false},
		{"PR", kindOther, false},
		{"PRI", kindOther, false},
		{"PRI ", kindHTTP2, true},
		{relay.Preface[:sniffLen], kindHTTP2, true},
		{"PRX", kindOther, true},
		{"\x16", kindOther, false},
		{"\x16\x03", kindTLS, true},
		{"\x16\x02", kindOther, true},
		{"G", kindOther, false},
		{"GET /", kindHTTP1, true},
		{"PUT /", kindHTTP1, true},
		{"OPTIONS", kindOther, false},
		{"OPTIONS ", kindHTTP1, true},
		{"CONNECT ", kindHTTP1, true},
		{"hello", kindOther, true},
		{"\x00", kindOther, true},
	} {
		if kind, sure := classify([]byte(tt.in)); kind != tt.want || sure != tt.sure {
			t.Errorf("%q: %s, %v", tt.in, kind, sure)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range append(methods, relay.Preface, "\x16\x03\x01") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), sniffLen)]
		kind, sure := classify(b)
		if len(b) == sniffLen && !sure {
			t.Errorf("%q is not decided", b)
		}
		// What is sure stays so, whatever follows.
		if sure {
			if again, still := classify(append(b[:len(b):len(b)], 'x')); again != kind || !still {
				t.Errorf("%q: %s, then %s", b, kind, again)
			}
		}
	})
}

// tcpPod is a pod that is not a gRPC server.
func tcpPod(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func dialProxy(t *testing.T, p *proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// TestSplice: what is not HTTP/2 goes to one pod as it is, with half-close.
func TestSplice(t *testing.T) {
	pod := tcpPod(t, echo)
	p := startProxyWith(t, static.New(endpoint.At(pod)), nil)
	c := dialProxy(t, p)
	text := strings.Repeat("hello, pod. ", 100_000)
	go func() {
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		t.Fatalf("%d bytes of %d, %v", len(got), len(text), err)
	}
	p.until("it is counted", func() bool { return p.Stats().Passthrough.Open == 0 })
	s := p.Stats()
	if pt := s.Passthrough; pt.Total != 1 || pt.Kinds[kindOther] != 1 || pt.Bytes != uint64(2*len(text)) || pt.LastPod != pod.String() || pt.Failed != 0 {
		t.Errorf("%+v", pt)
	}
	if one := s.Pods[0]; one.Passthrough != 0 || one.PassthroughBytes != uint64(2*len(text)) {
		t.Errorf("%+v", one)
	}
}

// TestSpliceIsCounted: bytes are counted while the connection is open, also after a
// pause in which nothing wakes up, and at the end.
func TestSpliceIsCounted(t *testing.T) {
	client, near := tcpPair(t)
	far, server := tcpPair(t)
	p := &Proxy{countEvery: 20 * time.Millisecond}
	s := &splice{client: near, server: far, pod: &pod{}}
	var wg sync.WaitGroup
	wg.Go(func() { p.move(s, s.server, s.client) })
	wg.Go(func() { p.move(s, s.client, s.server) })
	total := uint64(0)
	pass := func(from, to net.Conn, text string) {
		t.Helper()
		if _, err := io.WriteString(from, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
		total += uint64(len(text))
	}
	for range 3 {
		pass(client, server, "hello, pod")
		pass(server, client, "hello")
		eventually(t, "bytes are counted", func() bool { return p.spliced.Load() == total && s.pod.spliced.Load() == total })
		eventually(t, "both directions wait for more", func() bool { return waiting("awaitBytes") == 2 })
	}
	// Half of it ends, then the rest by force.
	_ = client.CloseWrite()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	pass(server, client, "and so on")
	s.stop()
	wg.Wait()
	if n := p.spliced.Load(); n != total {
		t.Errorf("%d bytes, want %d", n, total)
	}
}

// TestSpliceStops: the end comes through whatever a direction is about to wait for.
func TestSpliceStops(t *testing.T) {
	p := &Proxy{countEvery: time.Nanosecond}
	for range 200 {
		_, near := tcpPair(t)
		far, _ := tcpPair(t)
		s := &splice{client: near, server: far, pod: &pod{}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.move(s, s.server, s.client)
		}()
		s.stop()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
	}
}

// TestAwaitBytes: what is waited for is still there, an error included.
func TestAwaitBytes(t *testing.T) {
	a, b := tcpPair(t)
	_ = a.SetReadDeadline(longAgo)
	if err := awaitBytes(a); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = a.SetReadDeadline(time.Time{})
	_, _ = b.Write([]byte("x"))
	if err := awaitBytes(a); err != nil {
		t.Error(err)
	}
	if n, err := a.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Error(n, err)
	}
	_ = b.CloseWrite()
	if err := awaitBytes(a); err != nil {
		t.Error(err)
	}
	a, b = tcpPair(t)
	_ = b.SetLinger(0)
	_ = b.Close()
	if err := awaitBytes(a); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// tcpPair are the two ends of a connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near.(*net.TCPConn), far.(*net.TCPConn)
}

// waiting is how many goroutines are in a function.
func waiting(function string) int {
	b := make([]byte, 1<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "sidecar."+function+"(")
}

// TestSpliceTLS: a TLS server answers through the proxy as it does without.
func TestSpliceTLS(t *testing.T) {
	cert := selfSigned(t)
	pod := tcpPod(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		echo(s)
		_ = s.Close()
	})
	p := startProxyWith(t, static.New(endpoint.At(pod)), nil)
	p.until("it serves, though the pod speaks no HTTP/2 in the clear", func() bool { ok, _ := p.Ready(); return ok })
	c := tls.Client(dialProxy(t, p), &tls.Config{InsecureSkipVerify: true})
	if _, err := c.Write([]byte("over TLS\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "over TLS\n" {
		t.Errorf("%q %v", line, err)
	}
	if n := p.Stats().Passthrough; n.Kinds[kindTLS] != 1 || n.Open != 1 {
		t.Errorf("%+v", n)
	}
	pods := p.Stats().Pods
	if pods[0].Passthrough != 1 {
		t.Errorf("%+v", pods[0])
	}
	if pods[0].State != StateUnreachable || !strings.Contains(pods[0].StateReason, "TLS") {
		t.Errorf("%+v", pods[0])
	}
	_, err := p.client().EmptyCall(ctxOf(t), &testpb.Empty{})
	if err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("a call says %v", err)
	}
}

// TestSpliceServerFirst: a client that waits for the server to speak gets a pod.
func TestSpliceServerFirst(t *testing.T) {
	pod := tcpPod(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 at your service\r\n") })
	p := startProxyWith(t, static.New(endpoint.At(pod)), func(o *Options) { o.Limits.SniffTimeout = 20 * time.Millisecond })
	got, err := io.ReadAll(dialProxy(t, p))
	if string(got) != "220 at your service\r\n" {
		t.Errorf("%q %v", got, err)
	}
	if n := p.Stats().Passthrough; n.Kinds[kindSilent] != 1 {
		t.Errorf("%+v", n)
	}
}

// TestSpliceToTheSecond: a pod that refuses is passed over.
func TestSpliceToTheSecond(t *testing.T) {
	gone := closedPort(t)
	pod := tcpPod(t, echo)
	p := startProxyWith(t, static.New(endpoint.At(gone), endpoint.At(pod)), nil)
	for range 6 {
		c := dialProxy(t, p)
		if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); line != "GET / HTTP/1.0\r\n" {
			t.Errorf("%q %v", line, err)
		}
	}
	if n := p.Stats().Passthrough; n.Kinds[kindHTTP1] != 6 || n.Failed != 0 || n.LastPod != pod.String() {
		t.Errorf("%+v", n)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestSpliceWithoutPods(t *testing.T) {
	for name, endpoints := range map[string][]endpoint.Endpoint{
		"none": nil, "refused": {endpoint.At(closedPort(t)), endpoint.At(closedPort(t))},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxyWith(t, static.New(endpoints...), nil)
			c := dialProxy(t, p)
			_, _ = c.Write([]byte("hello there"))
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes", n)
			}
			p.until("it is counted", func() bool { return p.Stats().Passthrough.Failed == 1 })
		})
	}
}

// TestSpliceOfRemovedPod: it stays until the drain time-out.
func TestSpliceOfRemovedPod(t *testing.T) {
	pod := tcpPod(t, echo)
	p := startProxyWith(t, static.New(endpoint.At(pod)), func(o *Options) { o.Limits.DrainTimeout = 200 * time.Millisecond })
	c := dialProxy(t, p)
	r := bufio.NewReader(c)
	say := func() error {
		_, _ = c.Write([]byte("hello pod\n"))
		_, err := r.ReadString('\n')
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	p.source.Set()
	p.until("it is removed", func() bool { return p.Stats().Pods[0].State == StateDraining })
	if err := say(); err != nil {
		t.Errorf("the connection ended with the membership: %v", err)
	}
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("it went on")
	}
	p.until("the pod is gone", func() bool { return p.Stats().Pods[0].State == StateGone })
}

// TestSpliceEndsWithTheProxy: a spliced connection does not outlive Run.
func TestSpliceEndsWithTheProxy(t *testing.T) {
	pod := tcpPod(t, echo)
	p := startProxyWith(t, static.New(endpoint.At(pod)), func(o *Options) { o.Limits.ShutdownTimeout = 50 * time.Millisecond })
	c := dialProxy(t, p)
	_, _ = c.Write([]byte("hello pod\n"))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, errTest) {
		t.Error("it is still open")
	}
}

// TestClientThatSaysNothing: one that leaves without a word, as a health check
// does, is no connection to a pod.
func TestClientThatSaysNothing(t *testing.T) {
	p := startProxyWith(t, static.New(), nil)
	for range 10 {
		_ = dialProxy(t, p).Close()
	}
	p.until("all are gone", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sniffing) == 0
	})
	if n := p.Stats().Passthrough; n.Total != 0 {
		t.Errorf("%+v", n)
	}
}
