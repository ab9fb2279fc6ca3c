package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
	votingpb "github.com/grpclb/kubectl-grpclb/examples/voting/proto"
)

// TestOneVoteInTenFails: the rate that the documents promise, for votes in turn.
func TestOneVoteInTenFails(t *testing.T) {
	s := &Server{Host: "pod-a", Work: 2}
	failed := 0
	for _, c := range ballot.Choices() {
		out, err := s.Vote(t.Context(), &votingpb.Ballot{Choice: c})
		switch {
		case status.Code(err) == codes.Internal && c == ballot.Broken:
			failed++
		case err != nil || out.GetChoice() != c || out.GetHost() != "pod-a" || len(out.GetSeal()) != 32:
			t.Errorf("vote for %s: %v, %v", c, out, err)
		}
	}
	if n := len(ballot.Choices()); failed*10 != n {
		t.Errorf("%d of %d votes failed, want a tenth", failed, n)
	}
	if _, err := s.Vote(t.Context(), &votingpb.Ballot{Choice: "gravel"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a vote for what is not on the ballot: %v", err)
	}
	w := httptest.NewRecorder()
	s.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"voting_votes_total{pod=\"pod-a\",result=\"counted\"} 9\n", "voting_votes_total{pod=\"pod-a\",result=\"failed\"} 1\n", "\nprocess_cpu_seconds_total "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the metrics lack %q:\n%s", want, w.Body)
		}
	}
}

func TestRunServesBothPorts(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logs, stderr := io.Pipe()
	vars := map[string]string{EnvPort: "0", EnvMetricsPort: "0", EnvWork: "1"}
	env := app.Env{Getenv: func(name string) string { return vars[name] }, Stderr: stderr}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, env) }()
	line, err := bufio.NewReader(logs).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`address=\S*:(\d+) metrics=\S*:(\d+)`).FindStringSubmatch(line)
	if port == nil {
		t.Fatalf("the first log line names no ports: %s", line)
	}
	conn, err := grpc.NewClient("127.0.0.1:"+port[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if out, err := votingpb.NewVotingServiceClient(conn).Vote(ctx, &votingpb.Ballot{Choice: "date"}); err != nil || out.GetHost() == "" {
		t.Errorf("a vote: %v, %v", out, err)
	}
	r, err := http.Get("http://127.0.0.1:" + port[2] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil || !strings.Contains(string(body), `result="counted"} 1`) {
		t.Errorf("metrics: %v\n%s", err, body)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestBadSettings(t *testing.T) {
	for _, name := range []string{EnvPort, EnvMetricsPort, EnvWork} {
		err := Run(t.Context(), app.Env{Stderr: io.Discard, Getenv: func(asked string) string {
			if asked == name {
				return "-1"
			}
			return "0"
		}})
		var usage *app.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=-1: %v, want a usage error that names it", name, err)
		}
	}
}
