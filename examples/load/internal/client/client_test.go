package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	"github.com/grpclb/kubectl-grpclb/examples/load/internal/server"
	loadpb "github.com/grpclb/kubectl-grpclb/examples/load/proto"
)

func answer(r grpc.ServiceRegistrar, pod string) {
	loadpb.RegisterLoadServiceServer(r, server.New(pod, 1_000_000, slog.New(slog.DiscardHandler)))
}

type outcome struct {
	stdout, stderr string
	err            error
}

// runClient runs the whole client against the service with its DNS.
func runClient(ctx context.Context, t *testing.T, service clustertest.Service, args ...string) outcome {
	t.Helper()
	return runAt(ctx, t, service, service.Target(), args...)
}

// runAt is runClient with another SERVER_HOST.
func runAt(ctx context.Context, t *testing.T, service clustertest.Service, serverHost string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := app.Env{Args: args, Getenv: func(string) string { return serverHost }, Stdout: &stdout, Stderr: &stderr}
	o, err := readFlags(env)
	if err != nil {
		t.Fatal(err)
	}
	err = run(ctx, env, o, service.Resolver())
	return outcome{stdout.String(), stderr.String(), err}
}

func TestTallyShowsTheSpread(t *testing.T) {
	service := clustertest.Start(t, 3, answer, clustertest.Options{})
	t.Run("round_robin reaches every pod", func(t *testing.T) {
		o := runClient(t.Context(), t, service, "--count=3000", "--concurrency=4")
		if o.err != nil {
			t.Fatal(o.err)
		}
		for _, part := range []string{"pod-0", "pod-1", "pod-2", "3,000 calls in", "0 failed", "answered by 3 pods"} {
			if !strings.Contains(o.stdout, part) {
				t.Errorf("the tally lacks %q:\n%s", part, o.stdout)
			}
		}
	})
	t.Run("pick_first stays with one", func(t *testing.T) {
		o := runClient(t.Context(), t, service, "--count=300", "--policy=pick_first")
		if o.err != nil || !strings.Contains(o.stdout, "answered by 1 pod\n") || !strings.Contains(o.stdout, "100.0 %") {
			t.Errorf("error %v, tally:\n%s", o.err, o.stdout)
		}
	})
}

func TestProgressInALogIsLines(t *testing.T) {
	service := clustertest.Start(t, 1, answer, clustertest.Options{})
	o := runClient(t.Context(), t, service, "--count=50", "--concurrency=1")
	if o.err != nil {
		t.Fatal(o.err)
	}
	if !strings.Contains(o.stderr, "50 of 50 calls (100 %)\n") || strings.ContainsAny(o.stderr, "\r\x1b") {
		t.Errorf("progress in a log:\n%q", o.stderr)
	}
}

// gate lets calls pass until it has counted enough, then holds them until their client gives up.
type gate struct {
	loadpb.UnimplementedLoadServiceServer
	open    int64
	calls   atomic.Int64
	reached chan struct{}
}

func (g *gate) Call(ctx context.Context, _ *loadpb.CallRequest) (*loadpb.CallReply, error) {
	n := g.calls.Add(1)
	if n <= g.open {
		return &loadpb.CallReply{Host: "pod-0"}, nil
	}
	if n == g.open+1 {
		close(g.reached)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestASignalStillPrintsTheTallySoFar(t *testing.T) {
	g := &gate{open: 40, reached: make(chan struct{})}
	service := clustertest.Start(t, 1, func(r grpc.ServiceRegistrar, _ string) {
		loadpb.RegisterLoadServiceServer(r, g)
	}, clustertest.Options{})
	ctx, signal := context.WithCancel(t.Context())
	defer signal()
	go func() {
		<-g.reached
		signal()
	}()
	o := runClient(ctx, t, service, "--count=1000", "--concurrency=1")
	if !errors.Is(o.err, app.ErrInterrupted) {
		t.Errorf("error %v, want %v", o.err, app.ErrInterrupted)
	}
	for _, part := range []string{"pod-0   40", "40 of 1,000 calls", "0 failed"} {
		if !strings.Contains(o.stdout, part) {
			t.Errorf("the partial tally lacks %q:\n%s", part, o.stdout)
		}
	}
}

func TestASignalWhileConnecting(t *testing.T) {
	service := clustertest.Service{DNS: closedPort(t), Port: 1}
	ctx, signal := context.WithCancel(t.Context())
	signal()
	o := runClient(ctx, t, service)
	if !errors.Is(o.err, app.ErrInterrupted) || o.stdout != "" {
		t.Errorf("error %v, output %q; want %v and no tally", o.err, o.stdout, app.ErrInterrupted)
	}
}

// flaky fails every call, or every other.
type flaky struct {
	loadpb.UnimplementedLoadServiceServer
	calls atomic.Int64
	every int64
}

func (f *flaky) Call(context.Context, *loadpb.CallRequest) (*loadpb.CallReply, error) {
	if f.calls.Add(1)%f.every == 0 {
		return nil, status.Error(codes.ResourceExhausted, "too many")
	}
	return &loadpb.CallReply{Host: "pod-0"}, nil
}

func TestFailedCalls(t *testing.T) {
	start := func(t *testing.T, every int64) clustertest.Service {
		return clustertest.Start(t, 1, func(r grpc.ServiceRegistrar, _ string) {
			loadpb.RegisterLoadServiceServer(r, &flaky{every: every})
		}, clustertest.Options{})
	}
	t.Run("are counted by code and make the run fail", func(t *testing.T) {
		o := runClient(t.Context(), t, start(t, 2), "--count=100", "--concurrency=1")
		if o.err == nil || errors.Is(o.err, errGaveUp) || !strings.Contains(o.err.Error(), "50 of 100 calls failed") {
			t.Errorf("error %v", o.err)
		}
		if !strings.Contains(o.stdout, "50 x ResourceExhausted, such as: rpc error") || !strings.Contains(o.stdout, "50 failed") {
			t.Errorf("tally:\n%s", o.stdout)
		}
	})
	t.Run("and nothing else end the run", func(t *testing.T) {
		o := runClient(t.Context(), t, start(t, 1), "--count=100000", "--concurrency=2")
		if !errors.Is(o.err, errGaveUp) || !strings.Contains(o.stdout, " of 100,000 calls") {
			t.Errorf("error %v, tally:\n%s", o.err, o.stdout)
		}
	})
}

func TestThePortTrapIsExplained(t *testing.T) {
	service := clustertest.Start(t, 3, answer, clustertest.Options{})
	port := freePort(t)
	o := runAt(t.Context(), t, service, service.TargetAt(port), "--connect-timeout=200ms")
	if o.err == nil {
		t.Fatal("a port where nobody listens was called with success")
	}
	for _, part := range []string{
		"connection refused",
		fmt.Sprintf("Port %d is refused at 127.0.0.", port),
		fmt.Sprintf("port %d: a headless Service", service.Port),
		fmt.Sprintf("SERVER_HOST=%s:%d", clustertest.Name, service.Port),
	} {
		if !strings.Contains(o.err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, o.err)
		}
	}
	if !strings.Contains(o.stderr, "not connected at the first try") {
		t.Errorf("the wait was not announced:\n%s", o.stderr)
	}
}

func TestHoldKeepsTheChannelUntilASignal(t *testing.T) {
	service := clustertest.Start(t, 1, answer, clustertest.Options{})
	ctx, signal := context.WithCancel(t.Context())
	defer signal()
	reader, stdout := io.Pipe()
	env := app.Env{
		Args:   []string{"--count=10", "--hold"},
		Getenv: func(string) string { return service.Target() },
		Stdout: stdout, Stderr: io.Discard,
	}
	o, err := readFlags(env)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- run(ctx, env, o, service.Resolver()) }()
	waitForText(t, reader, "answered by 1 pod\n")
	select {
	case err := <-done:
		t.Fatalf("run ended without a signal: %v", err)
	default:
	}
	signal()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// waitForText reads until the text has come by.
func waitForText(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var seen strings.Builder
	chunk := make([]byte, 256)
	for !strings.Contains(seen.String(), text) {
		n, err := r.Read(chunk)
		if err != nil {
			t.Fatalf("%q did not come, only %q: %v", text, seen.String(), err)
		}
		seen.Write(chunk[:n])
	}
}

func TestTheBarCountsAndGoesAway(t *testing.T) {
	var out bytes.Buffer
	bar := newBar(&out, 100)
	bar.show(1)
	deadline := time.After(10 * time.Second)
	for !strings.Contains(out.String(), "40/100") {
		select {
		case <-deadline:
			t.Fatalf("the bar does not show its count: %q", out.String())
		case <-time.After(barInterval):
			bar.show(40)
		}
	}
	bar.finish()
	if lines := strings.Split(out.String(), "\r"); strings.TrimSpace(lines[len(lines)-1]) != "" {
		t.Errorf("the bar is left behind: %q", out.String())
	}
}

func TestRowsOfAnEmptyRun(t *testing.T) {
	r := newRunner(nil, options{count: 10})
	var out bytes.Buffer
	if err := r.print(&out, 0); err != nil {
		t.Fatal(err)
	}
	if want := "0 of 10 calls in 0s (0/s), 0 failed, answered by 0 pods\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if rows := r.hosts.Rows(); len(rows) != 0 {
		t.Errorf("rows %v", []tally.Row(rows))
	}
}

func closedPort(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
