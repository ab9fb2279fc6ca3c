package aggregator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
	"github.com/grpclb/kubectl-grpclb/examples/square/internal/server"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

func square(r grpc.ServiceRegistrar, pod string) {
	squarepb.RegisterSquareServiceServer(r, server.Server{Host: pod})
}

// program runs the aggregator with the environment until the test ends and returns its base URL.
func program(t *testing.T, vars map[string]string) string {
	t.Helper()
	env := app.Env{Getenv: func(name string) string { return vars[name] }, Stderr: io.Discard}
	s, err := readSettings(env)
	if err != nil {
		t.Fatal(err)
	}
	s.stop.Drain = 0
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, env, s, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("aggregator: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

func get(t *testing.T, url string, into any) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return response.StatusCode
}

func hosts(results []Result) map[string]int {
	count := map[string]int{}
	for _, r := range results {
		count[r.Hostname]++
	}
	return count
}

// until polls ok until it holds or ten seconds have passed.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in 10 s: %s", what)
		case <-tick.C:
		}
	}
}

func TestOneAddressPinsAndTheEnvironmentAloneSpreads(t *testing.T) {
	service := clustertest.Start(t, 3, square, clustertest.Options{})
	t.Run("static", func(t *testing.T) {
		url := program(t, map[string]string{EnvAddress: fmt.Sprintf("static://%s:%d", service.Addresses[0], service.Port)})
		var results []Result
		if code := get(t, url+"/grpc/5", &results); code != http.StatusOK {
			t.Fatalf("status %d", code)
		}
		want := []Result{{1, 1, "pod-0"}, {2, 4, "pod-0"}, {3, 9, "pod-0"}, {4, 16, "pod-0"}, {5, 25, "pod-0"}}
		if diff := cmp.Diff(want, results); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
	t.Run("dns", func(t *testing.T) {
		url := program(t, map[string]string{EnvAddress: service.Target()})
		var results []Result
		// Until all three connections stand, round_robin takes turns among those that do.
		until(t, "9 calls spread 3, 3, 3", func() bool {
			get(t, url+"/grpc/9", &results)
			return cmp.Equal(hosts(results), map[string]int{"pod-0": 3, "pod-1": 3, "pod-2": 3})
		})
	})
	t.Run("dns, pick_first", func(t *testing.T) {
		url := program(t, map[string]string{EnvAddress: service.Target(), EnvPolicy: "pick_first"})
		var results []Result
		get(t, url+"/grpc/9", &results)
		if len(hosts(results)) != 1 {
			t.Errorf("hosts %v, want one", hosts(results))
		}
	})
}

func TestWireShape(t *testing.T) {
	service := clustertest.Start(t, 1, square, clustertest.Options{})
	url := program(t, map[string]string{EnvAddress: service.Target()})
	for path, want := range map[string]string{
		"/grpc/2":  `[{"input":1,"result":1,"hostname":"pod-0"},{"input":2,"result":4,"hostname":"pod-0"}]`,
		"/grpc/0":  `[]`,
		"/load":    `{"callsPerSecond":0,"failed":0,"hosts":[]}`,
		"/healthz": `{"status":"UP"}`,
	} {
		var got json.RawMessage
		if code := get(t, url+path, &got); code != http.StatusOK || string(got) != want {
			t.Errorf("GET %s: %d %s, want %s", path, code, got, want)
		}
	}
}

func TestBadNumbers(t *testing.T) {
	handler := New(failing{}).Handler(nil)
	for _, n := range []string{"-1", "46341", "five", "1e3", "99999999999999999999"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/grpc/"+n, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "46340") {
			t.Errorf("GET /grpc/%s: %d %s", n, w.Code, w.Body)
		}
	}
}

// failing is a connection on which every call ends with the error.
type failing struct{ err error }

func (f failing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return f.err }

func (f failing) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, f.err
}

func TestFailuresAreGatewayErrors(t *testing.T) {
	cases := map[int]error{
		http.StatusServiceUnavailable: status.Error(codes.Unavailable, "no connection"),
		http.StatusGatewayTimeout:     status.Error(codes.DeadlineExceeded, "too slow"),
		http.StatusBadGateway:         status.Error(codes.Unimplemented, "no such method"),
	}
	for code, err := range cases {
		w := httptest.NewRecorder()
		New(failing{err}).Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/grpc/3", nil))
		var body failure
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != code || !strings.Contains(body.Error, status.Convert(err).Message()) {
			t.Errorf("%v gave %d %q, want %d", err, w.Code, body.Error, code)
		}
	}
}

func TestAServerThatIsNotThereIsATimeOutWithItsReason(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := channel.Open("passthrough:///"+listener.Addr().String(), channel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a := New(conn)
	a.timeout = 300 * time.Millisecond
	_, err = a.Squares(t.Context(), 1)
	if httpStatus(err) != http.StatusGatewayTimeout || !strings.Contains(fmt.Sprint(err), "connection refused") {
		t.Errorf("error %v with status %d, want a time-out that names the refused connection", err, httpStatus(err))
	}
}

func TestBackgroundLoad(t *testing.T) {
	service := clustertest.Start(t, 2, square, clustertest.Options{})
	url := program(t, map[string]string{EnvAddress: service.Target(), EnvLoad: "500"})
	var r report
	until(t, "both pods got background calls", func() bool {
		get(t, url+"/load", &r)
		return len(r.Hosts) == 2
	})
	if r.CallsPerSecond != 500 || r.Failed != 0 {
		t.Errorf("report %+v, want 500 calls/s without failures", r)
	}
}

func TestBackgroundLoadCountsFailures(t *testing.T) {
	// The log is read only after Run, its one writer's starter, has returned.
	var log bytes.Buffer
	env := app.Env{Stderr: &log}
	load := NewLoad(New(failing{status.Error(codes.Unavailable, "gone")}), 1000, env.Logger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		load.Run(ctx)
		close(done)
	}()
	until(t, "three failed calls", func() bool { return load.report().Failed >= 3 })
	cancel()
	<-done
	if n := strings.Count(log.String(), "background calls fail"); n != 1 {
		t.Errorf("a run of failures was logged %d times, want once:\n%s", n, log.String())
	}
}

func TestSettings(t *testing.T) {
	good := map[string]string{EnvAddress: "static://square-service:6565"}
	bad := map[string]string{EnvAddress: "", EnvPolicy: "random", EnvLoad: "10001", EnvPort: "http"}
	for name, value := range bad {
		t.Run(name, func(t *testing.T) {
			_, err := readSettings(app.Env{Getenv: func(asked string) string {
				if asked == name {
					return value
				}
				return good[asked]
			}})
			var usage *app.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%q: error %v, want a usage error that names it", name, value, err)
			}
		})
	}
	s, err := readSettings(app.Env{Getenv: func(asked string) string { return good[asked] }})
	if err != nil || s.port != 8080 || s.load != 0 || s.target.Policy != channel.PickFirst {
		t.Errorf("defaults %+v, %v", s, err)
	}
}
