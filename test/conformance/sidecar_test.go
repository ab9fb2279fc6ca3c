//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the sidecar that TestMain built; empty when another program stands in its place.
var program string

func TestMain(m *testing.M) {
	if name := os.Getenv(interopVariable); name != "" {
		interopCase(name, os.Getenv(interopAddress))
		os.Exit(0)
	}
	code := built(m)
	if err := writeFigures(os.Getenv(writeVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func built(m *testing.M) int {
	if os.Getenv(proxyVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "grpclb-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system's to clean
	program = filepath.Join(dir, "grpclb-refresher")
	build := exec.Command("go", "build", "-o", program, "./cmd/grpclb-refresher")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the sidecar: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// proxyVariable names another program in place of the sidecar: see the package's doc.
const proxyVariable = "GRPCLB_PROXY"

// sidecar is one that runs for the time of a test.
type sidecar struct {
	addr string
	pid  int // 0 when there is none
}

// startSidecar runs a sidecar of its own in front of one address. flags are added to its command line.
func startSidecar(t *testing.T, target string, flags ...string) *sidecar {
	t.Helper()
	if os.Getenv(proxyVariable) == "direct" {
		return &sidecar{addr: target}
	}
	listen, admin := freeAddress(t), freeAddress(t)
	argv := append([]string{
		program, "sidecar", "--listen", listen, "--target", target, "--admin", admin, "--debug", "off", "--log-level", "warn", "--drain-timeout", "1s",
	}, flags...)
	ready := func() error { return askReady(t.Context(), admin) }
	if command := os.Getenv(proxyVariable); command != "" {
		argv = substitute(t, command, listen, target)
		ready = func() error { return reachable(listen) }
	}
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := errors.Join(cmd.Start(), out.Close()); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it says is looked at below
		close(over)
	}()
	t.Cleanup(func() { finish(t, cmd, over, log) })
	await(t, "the sidecar to be ready", func() error {
		select {
		case <-over:
			b, _ := os.ReadFile(log)
			t.Fatalf("%s ended: %s", argv[0], b)
		default:
		}
		return ready()
	})
	return &sidecar{addr: listen, pid: cmd.Process.Pid}
}

// finish ends a sidecar, which must not have ended before.
func finish(t *testing.T, cmd *exec.Cmd, over chan struct{}, log string) {
	select {
	case <-over:
		t.Errorf("the sidecar ended during the test: %v", cmd.ProcessState)
	default:
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may end by itself at this moment
		select {
		case <-over:
		case <-time.After(15 * time.Second):
			t.Error("the sidecar did not end within 15 s of SIGTERM")
			_ = cmd.Process.Kill() // the last resort
			<-over
		}
	}
	if b, err := os.ReadFile(log); err == nil && t.Failed() && len(b) > 0 {
		t.Logf("the sidecar said:\n%s", b[max(0, len(b)-4000):])
	}
	if b, err := os.ReadFile(log); err == nil && bytes.Contains(b, []byte("goroutine ")) {
		t.Errorf("the sidecar crashed:\n%s", b[:min(len(b), 4000)])
	}
}

func askReady(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode == http.StatusOK {
		return err
	}
	return fmt.Errorf("%s: %s", answer.Status, text)
}

func reachable(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// substitute writes a configuration for another program, and its command line.
func substitute(t *testing.T, command, listen, target string) []string {
	t.Helper()
	fill := strings.NewReplacer("{listen}", listen, "{target}", target).Replace
	argv := strings.Fields(command)
	for i, arg := range argv {
		argv[i] = fill(arg)
		if b, err := os.ReadFile(arg); err == nil && i > 0 {
			argv[i] = filepath.Join(t.TempDir(), filepath.Base(arg))
			if err := os.WriteFile(argv[i], []byte(fill(string(b))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return argv
}

// await asks again until there is no error, for ten seconds.
func await(t *testing.T, what string, ask func() error) {
	t.Helper()
	limit := time.After(10 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-limit:
			t.Fatalf("waited for %s: %v", what, err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-again.C:
		}
	}
}

// freeAddress is one that nobody listens on, a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l := listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// resident is what the sidecar has in memory, in bytes; 0 where that cannot be said.
func (s *sidecar) resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(s.pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
