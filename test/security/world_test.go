package security

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/cli"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
)

// asPlugin makes the test binary behave as the plugin, so that what it prints
// past its own streams is seen as well.
const asPlugin = "GRPCLB_SECURITY_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// result is what a run of the plugin left behind for a user to see.
type result struct {
	args           []string
	stdout, stderr string
	code           int
	files          map[string]string // by name, in the folder that it ran in
}

func (r result) String() string {
	return fmt.Sprintf("kubectl grpclb %s\nexit code %d\n-- stdout --\n%s\n-- stderr --\n%s", strings.Join(r.args, " "), r.code, clip(r.stdout), clip(r.stderr))
}

func clip(s string) string {
	if len(s) > 4000 {
		return s[:4000] + fmt.Sprintf("\n... %d more bytes", len(s)-4000)
	}
	return s
}

// plugin runs the command line in an empty folder with the kubeconfig.
func plugin(t *testing.T, kubeconfig string, args ...string) result {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self(t), args...)
	cmd.Dir = dir
	cmd.Env = []string{asPlugin + "=1", "KUBECONFIG=" + config, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "COLUMNS=120"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) || ctx.Err() != nil {
		t.Fatalf("kubectl grpclb %s: %v, %v\n%s", strings.Join(args, " "), err, ctx.Err(), clip(stderr.String()))
	}
	r := result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode(), files: map[string]string{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		r.files[e.Name()] = string(data)
	}
	return r
}

func self(t *testing.T) string {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// world is a cluster behind a door that remembers what went through it.
type world struct {
	srv   *kubetest.Server
	nodes *podtest.Nodes
	door  *httptest.Server

	mu   sync.Mutex
	seen bytes.Buffer // all bodies of answers, upgraded connections left out
}

func newWorld(t *testing.T, objs ...runtime.Object) *world {
	t.Helper()
	w := &world{srv: kubetest.NewServer(t, objs...)}
	w.nodes = podtest.New(t, w.srv)
	behind, err := url.Parse(w.srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(behind) },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode != http.StatusSwitchingProtocols {
				r.Body = teeBody{io.TeeReader(r.Body, w), r.Body}
			}
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }, // a client that left
	}
	w.door = httptest.NewServer(proxy)
	t.Cleanup(func() {
		w.door.CloseClientConnections()
		w.door.Close()
	})
	return w
}

type teeBody struct {
	io.Reader
	io.Closer
}

// Write implements io.Writer for what goes through the door.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Write(p)
}

// served reports whether text went through the door.
func (w *world) served(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.seen.Bytes(), []byte(text))
}

// kubeconfig names the door; user is the YAML of a user entry.
func (w *world) kubeconfig(user string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters: [{name: c, cluster: {server: %q}}]\n"+
		"users: [{name: u, user: %s}]\ncontexts: [{name: test, context: {cluster: c, user: u}}]\n", w.door.URL, user)
}

// agents plays agents that answer as they should, with a line of the runtime's before it.
func (w *world) agents(t *testing.T, line string) {
	t.Helper()
	var sockets bytes.Buffer
	rate := 34000.0
	report := agentapi.SocketReport{Version: agentapi.Version, At: kubetest.Epoch, Interval: 1, Samples: 2, Sockets: []agentapi.Socket{{
		Local: netip.MustParseAddrPort("10.1.0.5:50051"), Remote: netip.MustParseAddrPort("10.9.9.9:40000"), State: agentapi.StateEstablished,
		RxRate: &rate, TxRate: new(float64),
	}}}
	if err := agentapi.WriteSockets(&sockets, report); err != nil {
		t.Fatal(err)
	}
	w.nodes.Play(func(a podtest.Agent) podtest.Play {
		if len(a.Args) > 0 && a.Args[0] == "sockets" {
			return podtest.Play{Log: podtest.Text(line + "\n" + sockets.String())}
		}
		return podtest.Play{Log: podtest.Endless(line + "\n" + probeLog(t, a))}
	})
}

// probeLog is what the agent prints after ten calls over one connection to each target.
func probeLog(t *testing.T, a podtest.Agent) string {
	r := agentapi.ProbeReport{Version: agentapi.Version, At: kubetest.Epoch, Method: "/grpc.health.v1.Health/Check", Elapsed: 0.1}
	for i, arg := range a.Args {
		if arg != "--target" || i+1 == len(a.Args) {
			continue
		}
		label, target, _ := strings.Cut(a.Args[i+1], "=")
		r.Targets = append(r.Targets, agentapi.Target{Name: label, Target: target, Resolved: 1})
		r.Channels = append(r.Channels, agentapi.Channel{
			Name: label, Target: target, Local: netip.MustParseAddrPort("10.9.9.9:40000"), Remote: netip.MustParseAddrPort("172.16.0.1:6565"), Calls: 10,
			Codes: map[string]int{"UNIMPLEMENTED": 10}, Latency: &agentapi.Latency{P50: 250, Samples: 10},
		})
	}
	var b bytes.Buffer
	if err := agentapi.WriteProbe(&b, r); err != nil {
		t.Error(err)
	}
	return b.String()
}
