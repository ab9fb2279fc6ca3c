package grpcresolver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// proxyEnv carries the routes of the proxy into the process that has HTTPS_PROXY
// set: Go reads the variable once, and grpc-go with it.
const proxyEnv = "GRPCRESOLVER_TEST_BACKENDS"

// Under HTTPS_PROXY grpc-go puts the proxy's address in place of the endpoints'
// and drops what they carry. The members are found all the same.
func TestBehindProxy(t *testing.T) {
	if os.Getenv(proxyEnv) != "" {
		t.Skip("this process is the one behind the proxy")
	}
	bs := backends(t, 3)
	routes := map[string]string{}
	var names []string
	for i, b := range bs {
		// Documentation addresses (RFC 5737): Go never uses a proxy for loopback.
		pod := fmt.Sprintf("192.0.2.%d:50051", i+1)
		routes[pod] = b.addr.String()
		names = append(names, pod)
	}
	proxy := newProxy(t, routes)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyChild$", "-test.v")
	cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://"+proxy.addr, "NO_PROXY=", "no_proxy=", "https_proxy=", proxyEnv+"="+strings.Join(names, ","))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestProxyChild") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, b := range bs {
		if b.calls.Load() == 0 {
			t.Errorf("%s got no call through the proxy", b.addr)
		}
	}
}

// TestProxyChild is the client of TestBehindProxy.
func TestProxyChild(t *testing.T) {
	list := os.Getenv(proxyEnv)
	if list == "" {
		t.Skip("run by TestBehindProxy")
	}
	var eps []endpoint.Endpoint
	for pod := range strings.SplitSeq(list, ",") {
		eps = append(eps, endpoint.At(netip.MustParseAddrPort(pod)))
	}
	warnings := make(chan string, 10)
	source := static.New(eps...)
	b := newBuilder(t, source, func(o *Options) {
		o.Events = func(_ string, e endpoint.Event) {
			if w, ok := e.(endpoint.Warning); ok {
				warnings <- w.Text
			}
		}
	})
	c, _ := open(t, b, len(eps))
	if got := answeredBy(t, c, 60); len(got) != len(eps) {
		t.Errorf("answers came from %v", got)
	}
	if text := <-warnings; !strings.Contains(text, "HTTPS_PROXY") || !strings.Contains(text, "NO_PROXY") {
		t.Errorf("warned of %q", text)
	}
	for _, e := range b.Stats()[0].Endpoints {
		if e.Calls.Succeeded == 0 || e.Connections != 1 {
			t.Errorf("%v has %d connections and %d calls", e, e.Connections, e.Calls.Succeeded)
		}
	}
	source.Set(eps[1:]...)
	eventually(t, "one endpoint less", func() bool { return len(answeredBy(t, c, 40)) == len(eps)-1 })
	if len(warnings) != 0 {
		t.Error("warned again")
	}
}

// proxy is an HTTP CONNECT proxy (RFC 9110 section 9.3.6) that knows where some
// addresses really are.
type proxy struct{ addr string }

func newProxy(t *testing.T, routes map[string]string) proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			wg.Go(func() { tunnel(conn, routes) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return proxy{l.Addr().String()}
}

func tunnel(client net.Conn, routes map[string]string) {
	defer func() { _ = client.Close() }()
	in := bufio.NewReader(client)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	server, err := net.Dial("tcp", routes[req.Host])
	if err != nil {
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer func() { _ = server.Close() }()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, in)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	_ = client.Close()
	<-done
}
