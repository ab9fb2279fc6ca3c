package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
)

func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, errs journal.Buffer
	code = Main(ctx, args, Streams{Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

func grpcServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{nil, "no command"},
		{[]string{"serve"}, `unknown command "serve"`},
		{[]string{"sockets", "extra"}, `unexpected argument "extra"`},
		{[]string{"sockets", "--port", "http"}, "from 1 to 65535"},
		{[]string{"sockets", "--port", "0"}, "from 1 to 65535"},
		{[]string{"sockets", "--samples", "0"}, "--samples must be"},
		{[]string{"sockets", "--interval", "1ns"}, "--interval must be"},
		{[]string{"sockets", "--max", "0"}, "--max must be"},
		{[]string{"sockets", "--nope"}, "nope"},
		{[]string{"probe"}, "no --target"},
		{[]string{"probe", "--target", "a"}, "want HOST:PORT"},
		{[]string{"probe", "--target", "a:1", "--calls", "-1"}, "--calls must be"},
		{[]string{"probe", "--target", "a:1", "--calls", "0"}, "--calls must be"},
		{[]string{"probe", "--target", "a:1", "--channels", "0"}, "--channels must be"},
		{[]string{"probe", "--target", "a:1", "--rate", "NaN"}, "--rate must be"},
		{[]string{"probe", "--target", "a:1", "--rate", "-1"}, "--rate must be"},
		{[]string{"probe", "--target", "a:1", "--duration", "2h"}, "--duration must be"},
		{[]string{"probe", "--target", "a:1", "--hold", "-1s"}, "--hold must be"},
		{[]string{"probe", "--target", "a:1", "--timeout", "0s"}, "--timeout must be"},
		{[]string{"probe", "--target", "a:1", "--method", "Check"}, "--method must be"},
		{[]string{"version", "-o", "yaml"}, `unknown format "yaml"`},
	}
	for _, tt := range tests {
		code, stdout, stderr := run(t, tt.args...)
		if code != ExitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: code %d, stdout %q, stderr %q, want %q", tt.args, code, stdout, stderr, tt.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"--help"}, []string{"sockets", "probe", "version", "Exit codes"}},
		{[]string{"sockets", "--help"}, []string{"--port N", "--interval TIME", "--samples N", "--all"}},
		{[]string{"probe", "-h"}, []string{"--target TARGET", "--channels K", "--hold TIME", "dns:///HOST:PORT", "--insecure-skip-verify"}},
		{[]string{"version", "--help"}, []string{"-o json"}},
	} {
		code, stdout, stderr := run(t, tt.args...)
		if code != ExitOK || stderr != "" {
			t.Errorf("%q: code %d, stderr %q", tt.args, code, stderr)
		}
		for _, w := range tt.want {
			if !strings.Contains(stdout, w) {
				t.Errorf("%q: no %q in\n%s", tt.args, w, stdout)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := run(t, "version", "-o", "json")
	var got struct{ Version, GoVersion, Reports string }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != ExitOK {
		t.Fatalf("code %d, %q: %v", code, stdout, err)
	}
	if got.Version == "" || got.GoVersion != runtime.Version() || got.Reports != agentapi.Version {
		t.Errorf("got %+v", got)
	}
	if code, stdout, _ := run(t, "version"); code != ExitOK || !strings.HasPrefix(stdout, "grpclb-refresher "+got.Version) {
		t.Errorf("code %d, %q", code, stdout)
	}
}

// TestProbeThenSockets is what the plugin does: while a probe holds its connections, the server's table shows the report's local
// addresses as peers.
func TestProbeThenSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	addr := netip.MustParseAddrPort(grpcServer(t))
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, []string{"probe", "--target", "clusterip=" + addr.String(), "--channels", "3", "--calls", "5", "--hold", "1m"},
			Streams{Out: in, Err: io.Discard})
	}()
	probe, err := agentapi.ReadProbe(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(probe.Channels) != 3 || probe.HoldSeconds != 60 || probe.Host == "" {
		t.Fatalf("report %+v", probe)
	}
	port := strconv.Itoa(int(addr.Port()))
	socketCode, stdout, stderr := run(t, "sockets", "--port", port, "--interval", "20ms")
	table, err := agentapi.ReadSockets(strings.NewReader(stdout))
	if err != nil || socketCode != ExitOK {
		t.Fatalf("code %d, error %v, stderr %q", socketCode, err, stderr)
	}
	if table.Samples != 2 || table.Interval < 0.02 {
		t.Errorf("%d samples in %v s", table.Samples, table.Interval)
	}
	for _, c := range probe.Channels {
		found := false
		for _, s := range table.Sockets {
			found = found || s.Local == addr && s.Remote == c.Local && s.State == agentapi.StateEstablished && *s.RxBytes > 0 && s.RxRate != nil
		}
		if !found || c.Calls != 5 {
			t.Errorf("%s (%d calls) is not in the server's table of %d", c.Local, c.Calls, len(table.Sockets))
		}
	}
	stop()
	if got := <-code; got != ExitOK {
		t.Errorf("ended during the hold with code %d", got)
	}
}

func TestProbeNothingThere(t *testing.T) {
	code, stdout, stderr := run(t, "probe", "--target", "127.0.0.1:1", "--calls", "1")
	report, err := agentapi.ReadProbe(strings.NewReader(stdout))
	if err != nil || code != ExitNothing || stderr != "" || len(report.Channels) == 0 || report.Channels[0].StartError == "" {
		t.Errorf("code %d, error %v, stderr %q, report %+v", code, err, stderr, report)
	}
}

func TestProbeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	var out journal.Buffer
	code := Main(ctx, []string{"probe", "--target", grpcServer(t), "--duration", "1m", "--hold", "1m"}, Streams{Out: &out, Err: io.Discard})
	report, err := agentapi.ReadProbe(strings.NewReader(out.String()))
	if err != nil || code != ExitInterrupted || !report.Interrupted || report.HoldSeconds != 0 || report.Channels[0].Codes["OK"] == 0 {
		t.Errorf("code %d, error %v, report %+v", code, err, report)
	}
}

func TestSocketsInterrupted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	var out journal.Buffer
	code := Main(ctx, []string{"sockets", "--interval", "5m", "--all"}, Streams{Out: &out, Err: io.Discard})
	report, err := agentapi.ReadSockets(strings.NewReader(out.String()))
	if err != nil || code != ExitInterrupted || !report.Interrupted || report.Samples != 2 || report.Interval <= 0 {
		t.Errorf("code %d, error %v, %d samples in %v s", code, err, report.Samples, report.Interval)
	}
}

func TestSocketsLimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	grpcServer(t)
	grpcServer(t)
	code, stdout, _ := run(t, "sockets", "--samples", "1", "--max", "1")
	report, err := agentapi.ReadSockets(strings.NewReader(stdout))
	if err != nil || code != ExitOK || len(report.Sockets) != 1 || report.Omitted < 1 || report.Interval != 0 || report.Sockets[0].RxRate != nil {
		t.Errorf("code %d, error %v, %d sockets, %d omitted", code, err, len(report.Sockets), report.Omitted)
	}
}

func TestSocketsElsewhere(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Skip("only for systems without INET_DIAG")
	}
	code, stdout, _ := run(t, "sockets")
	report, err := agentapi.ReadSockets(strings.NewReader(stdout))
	if err != nil || code != ExitNothing || len(report.Errors) != 1 || !strings.Contains(report.Errors[0], "Linux only") {
		t.Errorf("code %d, error %v, errors %q", code, err, report.Errors)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestCannotPrint(t *testing.T) {
	var errs journal.Buffer
	code := Main(context.Background(), []string{"probe", "--target", "127.0.0.1:1", "--calls", "1"}, Streams{Out: brokenPipe{}, Err: &errs})
	if code != ExitNothing || !strings.Contains(errs.String(), "broken pipe") {
		t.Errorf("code %d, stderr %q", code, errs.String())
	}
	if code := Main(context.Background(), []string{"--help"}, Streams{Out: brokenPipe{}, Err: &errs}); code != ExitNothing {
		t.Errorf("code %d", code)
	}
}
