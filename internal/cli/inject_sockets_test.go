package cli_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/cli"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
)

// socketWorld is a cluster with a Service on port 6565 and a client of it, into whose pods the agent looks.
type socketWorld struct {
	srv    *kubetest.Server
	nodes  *podtest.Nodes
	client kubetest.DeploymentBuilder
	ctx    context.Context
}

func newSocketWorld(t *testing.T, change func(kubetest.DeploymentBuilder)) *socketWorld {
	t.Helper()
	w := &socketWorld{ctx: t.Context(), client: kubetest.Deployment("default", "client").Replicas(4).Env("SQUARE", "square-service:6565")}
	w.client.Spec.Template.Spec.Containers[0].Ports = nil
	if change != nil {
		change(w.client)
	}
	square := kubetest.Deployment("default", "square-app").Replicas(2)
	svc := kubetest.Service("default", "square-service").Selects("app", "square-app").Port("grpc", 6565, intstr.FromInt32(6565))
	w.srv = kubetest.NewServer(t, []runtime.Object{svc, svc.Slice(square.Pods()...), square, w.client, kubetest.Node("n1"), kubetest.Node("n2")}...)
	w.nodes = podtest.New(t, w.srv)
	return w
}

// listens makes every pod's agent report these sockets, and connections beside them.
func (w *socketWorld) listens(t *testing.T, at ...string) {
	t.Helper()
	r := agentapi.SocketReport{Version: agentapi.Version, At: kubetest.Epoch, Samples: 2, Sockets: []agentapi.Socket{
		{Local: netip.MustParseAddrPort("0.0.0.0:6565"), Remote: netip.MustParseAddrPort("10.1.0.9:40000"), State: agentapi.StateEstablished},
	}}
	for _, a := range at {
		r.Sockets = append(r.Sockets, agentapi.Socket{Local: netip.MustParseAddrPort(a), Remote: netip.MustParseAddrPort("0.0.0.0:0"), State: agentapi.StateListen})
	}
	var b bytes.Buffer
	if err := agentapi.WriteSockets(&b, r); err != nil {
		t.Fatal(err)
	}
	w.nodes.Play(func(podtest.Agent) podtest.Play { return podtest.Play{Log: podtest.Text(b.String())} })
}

// inject runs the command in the test's own process.
func (w *socketWorld) inject(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(kubeconfig(w.srv.Config().Host)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	args = append([]string{"inject", "--kubeconfig", config, "--service", "square-service", "--cluster-domain", "cluster.local", "-q"}, args...)
	code = cli.Main(w.ctx, args, cli.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

// TestInjectSockets: with --sockets the pods' own sockets count, and what keeps them from being read does not stop the injection.
func TestInjectSockets(t *testing.T) {
	t.Parallel()
	injected := func(d kubetest.DeploymentBuilder) {
		always := corev1.ContainerRestartPolicyAlways
		d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "grpclb-refresher", Image: "i", RestartPolicy: &always,
			Args: []string{"sidecar", "--listen", "127.0.0.10:6565", "--target", "square-service-headless.default.svc.cluster.local:6565"}}}
		d.Spec.Template.Spec.HostAliases = []corev1.HostAlias{{IP: "127.0.0.10", Hostnames: []string{"square-service"}}}
	}
	own := []string{"127.0.0.10:6565", "[::]:15650", "127.0.0.1:15651"}
	for name, c := range map[string]struct {
		change func(kubetest.DeploymentBuilder)
		listen []string
		fails  func(*socketWorld)
		code   int
		says   []string // on standard error
		agents int
	}{
		"free":           {nil, []string{"127.0.0.1:6565", "0.0.0.0:8080"}, nil, 0, []string{"adding an ephemeral container (example/r:2) to 3 pods in namespace default"}, 3},
		"on all":         {nil, []string{"[::]:6565"}, nil, 3, []string{"a running pod of deploy/client listens on [::]:6565", "--mode env"}, 3},
		"on its address": {nil, []string{"127.0.0.10:6565"}, nil, 3, []string{"127.0.0.10:6565"}, 3},
		"injected":       {injected, own, nil, 0, nil, 3},
		"injected, more": {injected, append([]string{"0.0.0.0:6565"}, own...), nil, 3, []string{"listens on 0.0.0.0:6565"}, 3},
		"no pods":        {func(d kubetest.DeploymentBuilder) { d.Replicas(0) }, nil, nil, 0, []string{"warning: no sockets of deploy/client were read: none of its pods runs"}, 0},
		"refused anyway": {func(d kubetest.DeploymentBuilder) { d.Spec.Template.Spec.HostNetwork = true }, nil, nil, 3, []string{"host's network"}, 0},
		"not allowed": {nil, nil, func(w *socketWorld) {
			w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 403}, kubetest.Fault{Sub: "exec", Status: 403})
		}, 0, []string{"warning: no sockets of deploy/client were read: may not patch pods/ephemeralcontainers in default, and exec is not allowed either"}, 0},
		"pods not allowed": {nil, nil, func(w *socketWorld) { w.srv.Fail(kubetest.Fault{Resource: "pods", Verb: "list", Skip: 1, Status: 403}) }, 0,
			[]string{"warning: no sockets of deploy/client were read: may not list pods in default"}, 0},
		"no image": {nil, nil, func(w *socketWorld) {
			w.nodes.Play(func(podtest.Agent) podtest.Play { return podtest.Play{Waiting: "ImagePullBackOff"} })
		}, 0, []string{"warning: no sockets of deploy/client were read: the agent cannot start in pod default/client", "--image"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSocketWorld(t, c.change)
			w.listens(t, c.listen...)
			if c.fails != nil {
				c.fails(w)
			}
			code, stdout, stderr := w.inject(t, "", "deploy/client", "--sockets", "--image", "example/r:2")
			if code != c.code || (code == 0) != strings.Contains(stdout, "127.0.0.10:6565") {
				t.Errorf("code %d, want %d\n%s\n%s", code, c.code, stdout, stderr)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("%q is not in:\n%s", s, stderr)
				}
			}
			agents := w.nodes.Agents()
			if len(agents) != c.agents {
				t.Errorf("%d agents, want %d", len(agents), c.agents)
			}
			for _, a := range agents {
				if !slices.Equal(a.Args, []string{"sockets", "--interval", "100ms", "--port", "6565", "--port", "15650", "--port", "15651"}) || !strings.HasPrefix(a.Pod, "default/client-") {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// TestInjectSocketsOfManifests: a manifest's workload is looked for in the cluster; without --sockets nothing is placed.
func TestInjectSocketsOfManifests(t *testing.T) {
	t.Parallel()
	manifest := func(kind, name string) string {
		return "apiVersion: apps/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: {template: {spec: {containers: [{name: app, image: a}]}}}\n"
	}
	for name, c := range map[string]struct {
		manifest string
		args     []string
		code     int
		says     string
		agents   int
	}{
		"there":      {manifest("Deployment", "client"), []string{"--sockets"}, 3, "listens on 0.0.0.0:6565", 3},
		"not asked":  {manifest("Deployment", "client"), nil, 0, "", 0},
		"not there":  {manifest("Deployment", "later"), []string{"--sockets"}, 0, "no sockets of deploy/later were read: it is not in the cluster", 0},
		"no pods":    {strings.Replace(manifest("Job", "later"), "apps", "batch", 1), []string{"--sockets"}, 0, "no sockets of job/later were read", 0},
		"no cluster": {manifest("Deployment", "client"), []string{"--sockets", "--port", "6565", "--server", "http://127.0.0.1:1"}, 0, "no sockets of deploy/client were read: no cluster was asked", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSocketWorld(t, nil)
			w.listens(t, "0.0.0.0:6565")
			code, stdout, stderr := w.inject(t, c.manifest, append([]string{"-f", "-"}, c.args...)...)
			if code != c.code || (code == 0) != strings.Contains(stdout, "127.0.0.10:6565") || !strings.Contains(stderr, c.says) {
				t.Errorf("code %d, want %d, with %q\n%s\n%s", code, c.code, c.says, stdout, stderr)
			}
			if n := len(w.nodes.Agents()); n != c.agents {
				t.Errorf("%d agents, want %d", n, c.agents)
			}
		})
	}
}

// TestInjectSocketsInterrupted: the end of a run is no pod that could not be read, and nothing is written.
func TestInjectSocketsInterrupted(t *testing.T) {
	t.Parallel()
	w := newSocketWorld(t, nil)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(t.Context())
	w.nodes.Play(func(podtest.Agent) podtest.Play {
		cancel()
		return podtest.Play{Waiting: "ContainerCreating"}
	})
	code, stdout, stderr := w.inject(t, "", "deploy/client", "--sockets")
	if code != int(cli.ExitInterrupted) || stdout != "" || !strings.Contains(stderr, "interrupted") {
		t.Errorf("code %d\n%s\n%s", code, stdout, stderr)
	}
}
