package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// TestDependencies keeps the agent small: the image is pulled into other people's pods, and the same binary is to become a sidecar
// whose memory floor grows with all that it links.
func TestDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	const module = "github.com/grpclb/kubectl-grpclb/"
	allowed := []string{
		module + "cmd/grpclb-refresher", module + "internal/agent", module + "internal/version", module + "pkg/h2probe",
		"golang.org/x/net/", "golang.org/x/sys/unix", "golang.org/x/text/", // text comes with net/idna
	}
	deps := strings.Fields(string(out))
	if len(deps) < 5 {
		t.Fatalf("go list gave %q", deps)
	}
	for _, d := range deps {
		ok := false
		for _, a := range allowed {
			ok = ok || d == a || strings.HasPrefix(d, strings.TrimSuffix(a, "/")+"/")
		}
		if !ok {
			t.Errorf("the agent links %s", d)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "grpclb-refresher")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// TestBinary runs the real thing: its size, and a report printed on SIGTERM, which is what a kubelet sends.
func TestBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the agent runs on Linux")
	}
	bin := build(t)
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	const most = 8 << 20
	t.Logf("stripped binary: %.1f MB", float64(info.Size())/1e6)
	if info.Size() > most {
		t.Errorf("binary has %d bytes, more than %d", info.Size(), most)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cmd := exec.Command(bin, "probe", "--target", l.Addr().String(), "--timeout", "1m")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	conn, err := l.Accept() // from here on the agent waits for an answer, with its signal handler in place
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("still running after SIGTERM")
	}
	report, err := agentapi.ReadProbe(&out)
	if code := cmd.ProcessState.ExitCode(); err != nil || code != 130 || !report.Interrupted || errs.Len() > 0 {
		t.Errorf("code %d, error %v, interrupted %v, stderr %q", code, err, report.Interrupted, errs.String())
	}
}
