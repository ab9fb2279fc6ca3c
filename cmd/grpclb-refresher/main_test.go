package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// allowed is all that the program may link beside the standard library, with the reason for each: it runs in other people's pods, where its
// size and its memory floor are multiplied by their number.
var allowed = map[string]string{
	module + "cmd/grpclb-refresher":     "the program",
	module + "internal/agent/":          "its commands",
	module + "internal/daemon/":         "the sidecar's command line, file and ports",
	module + "internal/version":         "which build it is",
	module + "pkg/h2probe":              "probe: frames as they are",
	module + "pkg/dnsprobe":             "sidecar: one DNS question",
	module + "pkg/refresher/config":     "sidecar: what may be tuned",
	module + "pkg/refresher/endpoint":   "sidecar: endpoints and sets",
	module + "pkg/refresher/internal/":  "sidecar: what is tuned, in the terms of the packages that do it",
	module + "pkg/refresher/policy":     "sidecar: which pod is next",
	module + "pkg/refresher/reconcile":  "sidecar: which answer is believed",
	module + "pkg/refresher/sidecar/":   "sidecar: the relay and its connections",
	module + "pkg/refresher/source/dns": "sidecar: where pods are learned",
	"github.com/miekg/dns":              "DNS messages with every record type; 2 MB of memory when linked",
	"go.yaml.in/yaml/v3":                "the file, with line and column of each value",
	"golang.org/x/net/http/httpguts":    "with http2",
	"golang.org/x/net/http2":            "probe: the framer; sidecar: HPACK",
	"golang.org/x/net/idna":             "with http2",
	"golang.org/x/net/internal/":        "with http2",
	"golang.org/x/net/bpf":              "with miekg/dns",
	"golang.org/x/net/ipv4":             "with miekg/dns",
	"golang.org/x/net/ipv6":             "with miekg/dns",
	"golang.org/x/sys/unix":             "socket tables, TCP_INFO",
	"golang.org/x/text/":                "with net/idna",
}

const module = "github.com/grpclb/kubectl-grpclb/"

// TestDependencies keeps the program small.
func TestDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 5 {
		t.Fatalf("go list gave %q", deps)
	}
	used := map[string]bool{}
	for _, d := range deps {
		ok := false
		for a := range allowed {
			if d == strings.TrimSuffix(a, "/") || strings.HasPrefix(d, strings.TrimSuffix(a, "/")+"/") {
				ok, used[a] = true, true
			}
		}
		if !ok {
			t.Errorf("it links %s", d)
		}
	}
	for a := range allowed {
		if !used[a] {
			t.Errorf("nothing of %s is linked any more: take it off the list", a)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "grpclb-refresher-")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "grpclb-refresher")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// TestBinary runs the real thing: its size, and a report printed on SIGTERM, which is what a kubelet sends.
func TestBinary(t *testing.T) {
	bin := binary(t)
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	const most = 10 << 20
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
