//go:build browser

package browser

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
)

// backend is a gRPC server in the place of a pod.
type backend struct {
	addr netip.Addr
	// fails is how many of ten calls end with UNKNOWN.
	fails atomic.Int64
	calls atomic.Int64
}

// startBackend listens on an address of loopback's network, all of them on the
// same port, as pods do.
func startBackend(t *testing.T, addr netip.Addr, port uint16) (*backend, error) {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		return nil, err
	}
	b := &backend{addr: addr}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		if b.calls.Add(1)%10 < b.fails.Load() {
			return status.Error(codes.Unknown, "this pod fails by intent")
		}
		return stream.SendMsg(new(emptypb.Empty))
	}))
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return b, nil
}

// startBackends starts n of them on one free port.
func startBackends(t *testing.T, n int) ([]*backend, uint16) {
	t.Helper()
	for range 20 {
		free := netip.MustParseAddrPort(freeAddresses(t, 1)[0])
		var out []*backend
		for i := range n {
			b, err := startBackend(t, netip.AddrFrom4([4]byte{127, 0, 77, byte(11 + i)}), free.Port())
			if err != nil {
				break
			}
			out = append(out, b)
		}
		if len(out) == n {
			return out, free.Port()
		}
	}
	t.Fatal("no port is free on all addresses")
	return nil, 0
}

// freeAddresses are different addresses on loopback that nobody listened on a
// moment ago.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // nobody connected
		out = append(out, l.Addr().String())
	}
	return out
}

// load calls through an address until the test ends.
func load(t *testing.T, addr string, perSecond int) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	calls.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
					defer cancel()
					// What came of it is what the page shows.
					_ = conn.Invoke(ctx, "/square.Square/Square", new(emptypb.Empty), new(emptypb.Empty))
				})
			}
		}
	})
	t.Cleanup(func() {
		stop()
		calls.Wait()
		_ = conn.Close()
	})
}

// startDaemon runs the real program and waits until it answers.
func startDaemon(t *testing.T, admin string, args ...string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "grpclb-refresher")
	build := exec.Command("go", "build", "-o", program, "./cmd/grpclb-refresher")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the daemon: %v\n%s", err, out)
	}
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"sidecar", "--admin", admin}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close() // the child has its own
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the daemon ended with %v", err)
		}
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("the daemon said:\n%s", b)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", http.NoBody)
		if answer, err := http.DefaultClient.Do(r); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the daemon is not ready")
		}
	}
}

// TestDaemon is the whole thing: the real program under load, with a pod that
// fails and one that comes later.
func TestDaemon(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8, for pods with one port and several addresses")
	}
	const name = "square-headless.default.svc.cluster.local."
	pods, port := startBackends(t, 4)
	zone := dnstest.NewZone(t, "cluster.local.")
	zone.Headless(name, "grpc", port, pods[0].addr, pods[1].addr, pods[2].addr)
	server := dnstest.Serve(t, zone)
	pods[1].fails.Store(3)

	free := freeAddresses(t, 3)
	listen, admin, debug := free[0], free[1], free[2]
	startDaemon(t, admin, "--listen", listen, "--target", fmt.Sprintf("dns://%s/%s:%d", server.Addr(), name, port), "--debug", debug, "--interval", "1s")
	load(t, listen, 200)

	b := open(t, debug, "/", desk)
	row := func(i int) string { return fmt.Sprintf("%s:%d", pods[i].addr, port) }
	b.until(rows + " === 3")
	b.reads(".headline", row(1)+" fails")
	b.reads(cell(row(1), "Success"), "UNKNOWN")
	b.reads(cell(row(0), "Success"), "100")
	for i := range 3 {
		b.until(fmt.Sprintf(`parseFloat(document.querySelector(%q).innerText) > 10`, cell(row(i), "Share of calls")))
	}
	b.shoot("daemon-failing")

	// A pod more: seen at the next look, and it gets its share.
	zone.Remove(name)
	zone.Headless(name, "grpc", port, pods[0].addr, pods[1].addr, pods[2].addr, pods[3].addr)
	b.until(rows + " === 4")
	b.until(fmt.Sprintf(`parseFloat(document.querySelector(%q).innerText) > 5`, cell(row(3), "Share of calls")))
	b.reads("#t0-refreshes", row(3))

	// Not HTTP/2.
	plain, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: square\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }() // it was only to be seen
	b.reads("#t0-passthrough", "HTTP/1")
	b.shoot("daemon-scaled")

	// A pod less: it is told from the others while its last numbers are to be seen.
	zone.Remove(name)
	zone.Headless(name, "grpc", port, pods[1].addr, pods[2].addr, pods[3].addr)
	b.until(fmt.Sprintf(`document.querySelector(".pods tr.removed .name")?.innerText === %q`, row(0)))
	b.reads("#t0-refreshes del", row(0))
	b.reads(".headline", "of 3 pods")
	b.shoot("daemon-removed")

	checkMetrics(t, admin, row(3))
}

// checkMetrics holds what the page showed against what a scraper gets.
func checkMetrics(t *testing.T, admin, addr string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`endpoint="` + addr + `"`, `code="UNKNOWN"`, `grpclb_refresher_first_call_seconds_count`, `passthrough_connections_total`, `kind="http1"`,
		"grpclb_refresher_ready{", "process_resident_memory_bytes",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in the metrics:\n%s", want, text)
		}
	}
}
