package graph

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/server"
	votingpb "github.com/grpclb/kubectl-grpclb/examples/voting/proto"
)

// TestReadsWhatTheServerWrites: the two sides of the metrics, and the rate of failed votes.
func TestReadsWhatTheServerWrites(t *testing.T) {
	s := &server.Server{Host: "pod-a"}
	metrics := httptest.NewServer(s.Metrics())
	defer metrics.Close()
	before, err := ask(t.Context(), metrics.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ballot.Choices() {
		_, _ = s.Vote(t.Context(), &votingpb.Ballot{Choice: c}) // one of them fails
	}
	after, err := ask(t.Context(), metrics.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	before.at, after.at = time.Unix(0, 0), time.Unix(2, 0)
	before.cpu, after.cpu = 1, 1.5
	want := []row{{pod: "pod-a", cores: 0.25, votes: 5, failed: 0.1}}
	if diff := cmp.Diff(want, compare([]sample{before}, []sample{after}), cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestCompareLeavesOutWhatStartedAnew(t *testing.T) {
	now := time.Unix(10, 0)
	before := []sample{{pod: "gone", at: now}, {pod: "anew", at: now, counted: 5}}
	after := []sample{{pod: "anew", at: now.Add(time.Second), counted: 1}, {pod: "new", at: now.Add(time.Second)}}
	if got := compare(before, after); len(got) != 0 {
		t.Errorf("rows %+v, want none", got)
	}
}

func TestDraw(t *testing.T) {
	var out strings.Builder
	err := draw(&out, []row{{"pod-a", 0.12, 50, 0.1}, {"pod-b", 0.0305, 0, 0}, {"pod-c", 0, 0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	want := "POD    CPU   VOTES/S  FAILED  \n" +
		"pod-a  120m  50.0     10.0 %  ██████████████████████████████\n" +
		"pod-b   30m  0.0      -       ███████▋\n" +
		"pod-c    0m  0.0      -       \n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("the graph (-want +got):\n%s", diff)
	}
}

// TestMeasure finds pods by name, and ends early when it is told to.
func TestMeasure(t *testing.T) {
	service := clustertest.Start(t, 2, func(grpc.ServiceRegistrar, string) {}, clustertest.Options{})
	first, err := net.Listen("tcp", net.JoinHostPort(service.Addresses[0], "0"))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, first, "pod-a")
	_, port, err := net.SplitHostPort(first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Listen("tcp", net.JoinHostPort(service.Addresses[1], port))
	if err != nil {
		t.Skipf("another program has the port: %v", err)
	}
	serve(t, second, "pod-b")
	pods := net.JoinHostPort(clustertest.Name, port)
	rows, err := measure(t.Context(), service.Resolver(), pods, 20*time.Millisecond)
	if err != nil || len(rows) != 2 || rows[0].pod != "pod-a" || rows[1].pod != "pod-b" {
		t.Errorf("rows %+v, %v", rows, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := measure(ctx, service.Resolver(), pods, time.Hour); err == nil {
		t.Error("an interrupt went unnoticed")
	}
}

func serve(t *testing.T, l net.Listener, pod string) {
	s := &http.Server{Handler: (&server.Server{Host: pod}).Metrics(), ReadHeaderTimeout: time.Second}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

func TestForeignPages(t *testing.T) {
	for _, page := range []string{"", "up 1\n", "process_cpu_seconds_total many\n"} {
		if s, err := read(strings.NewReader(page)); err == nil {
			t.Errorf("page %q gave %+v", page, s)
		}
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-over", "0s"}, {"-pods", "nowhere"}, {"-what"}} {
		var usage *app.UsageError
		if err := Run(t.Context(), app.Env{Args: args, Stdout: io.Discard, Stderr: io.Discard}); !errors.As(err, &usage) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
}
