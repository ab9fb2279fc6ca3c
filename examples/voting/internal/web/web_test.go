package web

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/server"
	votingpb "github.com/grpclb/kubectl-grpclb/examples/voting/proto"
)

func voting(r grpc.ServiceRegistrar, pod string) {
	votingpb.RegisterVotingServiceServer(r, &server.Server{Host: pod})
}

// start runs the front end against three pods until the test ends and returns its base URL.
func start(t *testing.T) string {
	t.Helper()
	service := clustertest.Start(t, 3, voting, clustertest.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	env := app.Env{Stderr: io.Discard, Getenv: func(name string) string { return map[string]string{EnvVoting: service.Target()}[name] }}
	go func() { done <- run(ctx, env, listener, serve.Stop{}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("web: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// TestVotes: one vote for each choice is answered by one pod of three, a tenth of them with an error.
func TestVotes(t *testing.T) {
	url := start(t)
	for _, c := range ballot.Choices() {
		r, err := http.Post(url+"/api/vote?choice="+c, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		want := http.StatusOK
		if c == ballot.Broken {
			want = http.StatusBadGateway
		}
		if r.StatusCode != want {
			t.Errorf("vote for %s: %s %s", c, r.Status, body)
		}
	}
	body := get(t, url+"/api/results")
	var got Results
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]tally.Row{{Host: "pod-0", Calls: 9}}, got.Pods); diff != "" || got.Failed != 1 || len(got.Choices) != 9 {
		t.Errorf("results %s (-want +got):\n%s", body, diff)
	}
	if text := get(t, url+"/"); !strings.Contains(text, "apple: 1") || !strings.Contains(text, `value="jellybean"`) || !strings.Contains(text, "1 votes failed") {
		t.Errorf("the page:\n%s", text)
	}
	get(t, url+"/healthz")
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %s %v", url, r.Status, err)
	}
	return string(body)
}

// failing is a connection on which every call ends with the error.
type failing struct{ err error }

func (f failing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return f.err }

func (f failing) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, f.err
}

func TestFailuresAreGatewayErrors(t *testing.T) {
	for code, err := range map[int]error{
		http.StatusServiceUnavailable: status.Error(codes.Unavailable, "no connection"),
		http.StatusGatewayTimeout:     status.Error(codes.DeadlineExceeded, "too slow"),
		http.StatusBadGateway:         status.Error(codes.Unimplemented, "no such method"),
		http.StatusBadRequest:         status.Error(codes.InvalidArgument, "no such choice"),
	} {
		w := httptest.NewRecorder()
		New(failing{err}).Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/vote?choice=apple", nil))
		if w.Code != code {
			t.Errorf("%v gave %d, want %d", err, w.Code, code)
		}
	}
}
