package live_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// socketLog is what the agent prints for these sockets.
func socketLog(t *testing.T, change func(*agentapi.SocketReport), socks ...agentapi.Socket) string {
	t.Helper()
	r := agentapi.SocketReport{Version: agentapi.Version, At: kubetest.Epoch, Interval: 4, Samples: 2, Sockets: socks}
	if change != nil {
		change(&r)
	}
	var b bytes.Buffer
	if err := agentapi.WriteSockets(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func established(local, remote string) agentapi.Socket {
	rate := 34000.0
	return agentapi.Socket{Local: addrPort(local), Remote: addrPort(remote), State: agentapi.StateEstablished, RxRate: &rate, TxRate: new(float64)}
}

func plays(log func(context.Context, io.Writer)) func(podtest.Agent) podtest.Play {
	return func(podtest.Agent) podtest.Play { return podtest.Play{Log: log} }
}

func TestSockets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := socketLog(t, nil, established("10.1.0.5:50051", "10.1.0.9:40000"), established("10.1.0.5:22", "10.1.0.9:40001"),
		established("[fd00::5]:50051", "[fd00::9]:40002"))
	w.nodes.Play(plays(podtest.Endless("a runtime's own line\n" + log))) // the log is followed: the report's end is the end
	snap := w.run(t, context.Background(), live.Sockets(w.options()))
	if !snap.Sockets.Known() || len(snap.Sockets.Value) != 3 || len(snap.Gaps) != 0 {
		t.Fatalf("%+v, %+v", snap.Sockets, snap.Gaps)
	}
	for _, tab := range snap.Sockets.Value {
		if tab.Source != "inet_diag" || tab.IntervalSeconds != 4 || !tab.At.Equal(kubetest.Epoch) || len(tab.Sockets) != 2 || *tab.Sockets[0].RxRate != 34000 ||
			tab.Sockets[1].Remote != addrPort("[fd00::9]:40002") {
			t.Errorf("%+v", tab)
		}
	}
	if snap.Cost.Writes != 3 {
		t.Errorf("cost %+v: three containers are three writes", snap.Cost)
	}
	contains(t, "announced", w.said(), "adding an ephemeral container (grpclb.dev/grpclb-refresher:dev) to 3 pods in namespace default",
		"its entry stays in the pod's spec")
	for _, a := range w.nodes.Agents() {
		if want := []string{"sockets", "--interval", "50ms", "--port", "50051"}; !slices.Equal(a.Args, want) || !strings.HasPrefix(a.Container, "grpclb-") {
			t.Errorf("%+v, want args %q", a, want)
		}
	}
	restricted(t, ephemeral(t, w, w.podName(0)).SecurityContext)
}

// ephemeral reads back the container that was added to a pod.
func ephemeral(t *testing.T, w *world, pod string) corev1.EphemeralContainerCommon {
	t.Helper()
	p := getPod(t, w, pod)
	if len(p.Spec.EphemeralContainers) != 1 {
		t.Fatalf("%d ephemeral containers in %s", len(p.Spec.EphemeralContainers), pod)
	}
	return p.Spec.EphemeralContainers[0].EphemeralContainerCommon
}

func getPod(t *testing.T, w *world, pod string) *corev1.Pod {
	t.Helper()
	s, err := collect.NewSession(w.srv.Config(), collect.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ns, name, _ := strings.Cut(pod, "/")
	p := &corev1.Pod{}
	if err := s.REST().Get().AbsPath("api", "v1", "namespaces", ns, "pods", name).Do(context.Background()).Into(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// restricted checks what Pod Security's level "restricted" asks of a container, and a user that the kubelet can tell from root.
func restricted(t *testing.T, c *corev1.SecurityContext) {
	t.Helper()
	if c == nil || !*c.RunAsNonRoot || *c.RunAsUser == 0 || *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem ||
		!slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) != 0 ||
		c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%+v", c)
	}
}

// TestSocketsAgentFails: each way in which one pod's agent can fail, beside two that work.
func TestSocketsAgentFails(t *testing.T) {
	t.Parallel()
	good := socketLog(t, nil, established("10.1.0.5:50051", "10.1.0.9:40000"))
	for title, c := range map[string]struct {
		play         podtest.Play
		reason, hint string
	}{
		"image":         {podtest.Play{Waiting: "ImagePullBackOff"}, "the agent cannot start in pod default/square", "--image"},
		"config":        {podtest.Play{Waiting: "CreateContainerConfigError"}, "CreateContainerConfigError", "kubectl describe pod"},
		"never starts":  {podtest.Play{Waiting: "ContainerCreating"}, "did not start within 3s (ContainerCreating)", ""},
		"odd reason":    {podtest.Play{Waiting: "canary \x1b[31m " + strings.Repeat("x", 5000)}, "did not start within 3s (no reason given)", ""},
		"no program":    {podtest.Play{Ended: "StartError"}, "StartError", "--image"},
		"pod deleted":   {podtest.Play{Vanish: true}, "there is no pod square", ""},
		"empty log":     {podtest.Play{}, "no whole report", "kubectl logs -n default"},
		"cut":           {podtest.Play{Log: podtest.Text(good[:len(good)-30])}, "report is cut short", "kubectl logs"},
		"garbage":       {podtest.Play{Log: podtest.Text("<html>\x1b]0;" + strings.Repeat("canary ", 4000) + "\n")}, "no agent report", "kubectl logs"},
		"too long":      {podtest.Play{Log: podtest.Text(strings.Repeat("x", 1<<20))}, "too long", "kubectl logs"},
		"other version": {podtest.Play{Log: podtest.Text(strings.ReplaceAll(good, "agent/v1", "agent/v9"))}, "another release", "--image"},
		"nothing read": {podtest.Play{Log: podtest.Text(socketLog(t, func(r *agentapi.SocketReport) { r.Errors = []string{"open netlink: denied"} }))},
			"open netlink: denied", ""},
		"no addresses": {podtest.Play{Log: podtest.Text(strings.ReplaceAll(good, "10.1.0.5:50051", "canary"))}, "no whole report", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.nodes.Play(func(a podtest.Agent) podtest.Play {
				if a.Pod == w.podName(0) {
					return c.play
				}
				return podtest.Play{Log: podtest.Text(good)}
			})
			snap := w.run(t, context.Background(), live.Sockets(w.options()))
			g := gaps(snap, diagnose.FactSockets)["pod "+w.podName(0)]
			contains(t, "reason", g.Reason, c.reason)
			contains(t, "hint", g.Hint, c.hint)
			if g.State != diagnose.Failed || len(g.Reason) > 600 || strings.ContainsAny(g.Reason, "\x1b\n") {
				t.Errorf("%+v", g)
			}
			if tabs := snap.Sockets.Value; len(tabs) != 3 || tabs[0].Error != g.Reason || tabs[0].Sockets != nil || len(tabs[1].Sockets) != 1 {
				t.Errorf("%+v", tabs)
			}
			if asked(w.srv, "", "exec") != 0 {
				t.Error("exec was tried though ephemeral containers are allowed")
			}
		})
	}
}

// TestSocketsHoles: a report says itself what it lacks.
func TestSocketsHoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := socketLog(t, func(r *agentapi.SocketReport) { r.Omitted, r.Errors = 12, []string{"read table of IPv6: busy"} },
		established("10.1.0.5:50051", "10.1.0.9:40000"))
	w.nodes.Play(plays(podtest.Text(log)))
	snap := w.run(t, context.Background(), live.Sockets(w.options()))
	g := gaps(snap, diagnose.FactSockets)["pod "+w.podName(0)]
	contains(t, "gap", g.Reason, "read table of IPv6: busy", "12 sockets were left out")
	if tab := snap.Sockets.Value[0]; len(tab.Sockets) != 1 || tab.Error != "" {
		t.Errorf("%+v", tab)
	}
}

// procText is /proc/net/tcp with one connection of 10.1.0.9:40000 to port 50051, as the kernel writes it.
const procText = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0500010A:C383 0900010A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 20 4 30 10 -1
`

// TestSocketsByExec: where ephemeral containers are refused as such, the image's own cat is next.
func TestSocketsByExec(t *testing.T) {
	t.Parallel()
	rbac := `pods "x" is forbidden: User "canary" cannot patch resource "pods/ephemeralcontainers" in API group "" in the namespace "default"`
	for title, c := range map[string]struct {
		code    int
		message string
		exec    podtest.Result
		reason  string // of the pods when nothing helped; empty: it did
		said    string
	}{
		"rbac":         {403, rbac, podtest.Result{Stdout: procText}, "", "may not patch pods/ephemeralcontainers in default"},
		"no ipv6":      {403, rbac, podtest.Result{Stdout: procText, ExitCode: 1}, "", "may not patch pods/ephemeralcontainers in default"},
		"pod security": {403, `pods "x" is forbidden: violates PodSecurity "restricted:latest": canary`, podtest.Result{Stdout: procText}, "", "Pod Security restricted:latest of namespace default does not allow an ephemeral container"},
		"old server":   {404, "the server could not find the requested resource", podtest.Result{Stdout: procText}, "", "the API server does not serve ephemeral containers"},
		"invalid":      {422, `Pod "x" is invalid: canary`, podtest.Result{Stdout: procText}, "", "does not accept an ephemeral container"},
		"no cat": {403, rbac, podtest.Result{Failure: `exec: "cat": executable file not found in $PATH: canary`},
			"may not patch pods/ephemeralcontainers in default, and its image has no cat", ""},
		"cat fails":  {403, rbac, podtest.Result{ExitCode: 1}, "and exec failed as well", ""},
		"other text": {403, rbac, podtest.Result{Stdout: "canary\n"}, "and exec failed as well", ""},
		"exec hangs": {403, rbac, podtest.Result{Hang: true, Stdout: procText}, "and exec did not answer in time", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.srv.Fail(statusFault("ephemeralcontainers", c.code, c.message))
			w.nodes.Exec(func(e podtest.Exec) podtest.Result {
				if strings.Join(e.Command, " ") != "cat /proc/net/tcp /proc/net/tcp6" || e.Container != "app" {
					t.Errorf("%+v", e)
				}
				return c.exec
			})
			snap := w.run(t, context.Background(), live.Sockets(w.options()))
			contains(t, "announced", w.said(), "running cat /proc/net/tcp /proc/net/tcp6 in the container of 3 pods in namespace default instead", c.said)
			if c.reason != "" {
				contains(t, "reason", snap.Sockets.Reason, c.reason)
				if snap.Sockets.State != diagnose.Denied || strings.Contains(snap.Sockets.Reason, "canary") {
					t.Errorf("%+v", snap.Sockets.Status)
				}
				return
			}
			if !snap.Sockets.Known() || len(snap.Gaps) != 0 {
				t.Fatalf("%+v, %+v", snap.Sockets, snap.Gaps)
			}
			for _, tab := range snap.Sockets.Value {
				if tab.Source != "proc" || len(tab.Sockets) != 1 || tab.Sockets[0].Remote != addrPort("10.1.0.9:40000") || tab.Sockets[0].RxRate != nil || tab.At.IsZero() {
					t.Errorf("%+v", tab)
				}
			}
		})
	}
}

// statusFault answers requests for a subresource of pods with an API status of that text.
func statusFault(sub string, code int, message string) kubetest.Fault {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":"Invalid","message":%q}`, code, message)
	return kubetest.Fault{Resource: "pods", Sub: sub, Status: code, ContentType: "application/json", Body: body}
}

// TestSocketsNotByExec: what is no refusal of ephemeral containers is no reason to run something in the server's container.
func TestSocketsNotByExec(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		break_ func(w *world)
		reason string
	}{
		"server fails": {func(w *world) { w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 500}) }, "the API server failed (500)"},
		"hangs":        {func(w *world) { w.nodes.Hang("ephemeralcontainers") }, "no answer within 3s to: patch pods/ephemeralcontainers"},
		"windows": {func(w *world) {
			for _, p := range w.pods {
				p.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
				w.srv.Set(p)
			}
		}, "runs Windows"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.break_(w)
			snap := w.run(t, context.Background(), live.Sockets(w.options()))
			contains(t, "reason", snap.Sockets.Reason, c.reason)
			if snap.Sockets.State != diagnose.Failed || asked(w.srv, "", "exec") != 0 {
				t.Errorf("%+v, %d exec", snap.Sockets.Status, asked(w.srv, "", "exec"))
			}
		})
	}
}

// TestSocketsPassingFailures: a call that fails while a container starts is made again.
func TestSocketsPassingFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes.Play(plays(podtest.Text(socketLog(t, nil, established("10.1.0.5:50051", "10.1.0.9:40000")))))
	name := w.pods[0].Name
	w.srv.Fail(kubetest.Fault{Verb: "get", Resource: "pods", Name: name, Skip: 2, Times: 2, Status: 503}) // the first two are before the container was added
	w.srv.Fail(kubetest.Fault{Verb: "get", Resource: "pods", Name: name, Sub: "log", Times: 1, Status: 500})
	snap := w.run(t, context.Background(), live.Sockets(w.options()))
	if !snap.Sockets.Known() || len(snap.Gaps) != 0 {
		t.Errorf("%+v, %+v", snap.Sockets, snap.Gaps)
	}
}

func TestSocketsInterrupted(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		set  func(w *world)
		sub  string
		verb string
	}{
		"adding": {func(w *world) { w.nodes.Hang("ephemeralcontainers") }, "ephemeralcontainers", "patch"},
		"waiting": {func(w *world) {
			w.nodes.Play(func(podtest.Agent) podtest.Play { return podtest.Play{Waiting: "ContainerCreating"} })
		}, "ephemeralcontainers", "patch"},
		"log":    {func(w *world) { w.nodes.Play(plays(podtest.Endless("half a line"))) }, "log", "get"},
		"no log": {func(w *world) { w.nodes.Hang("log") }, "log", "get"},
		"exec upgrade": {func(w *world) {
			w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 403})
			w.nodes.Hang("exec")
		}, "exec", "get"},
		"exec": {func(w *world) {
			w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 403})
			w.nodes.Exec(func(podtest.Exec) podtest.Result { return podtest.Result{Hang: true} })
		}, "exec", "create"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.set(w)
			ctx := cancelWhen(t, func() bool { return asked(w.srv, c.verb, c.sub) == 3 })
			var snap *diagnose.Snapshot
			within(t, 2*time.Second, func() { snap = w.run(t, ctx, live.Sockets(w.options())) })
			if snap.Sockets.Known() || snap.Sockets.Reason == "" {
				t.Errorf("%+v", snap.Sockets)
			}
		})
	}
}
