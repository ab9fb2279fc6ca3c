package live_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

func listening(at string) agentapi.Socket {
	return agentapi.Socket{Local: addrPort(at), Remote: addrPort("0.0.0.0:0"), State: agentapi.StateListen}
}

// look asks for the sockets of the pods with app=square.
func (w *world) look(t *testing.T, o live.Options, ports ...int32) diagnose.Fact[[]diagnose.SocketTable] {
	t.Helper()
	s, err := collect.NewSession(w.srv.Config(), collect.SessionOptions{CallTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return live.Listening(context.Background(), s, live.Pods{Namespace: ns, Selector: "app=square"}, ports, o)
}

func locals(tab diagnose.SocketTable) string {
	var out []string
	for _, so := range tab.Sockets {
		out = append(out, so.Local.String())
	}
	return strings.Join(out, " ")
}

// TestListening: of the pods that run and are ready, those sockets that listen on the ports, and none of a sidecar that is there already.
func TestListening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pods[0].NotReady("Starting")
	w.pods[1].Spec.InitContainers = []corev1.Container{{Name: diagnose.SidecarName, Image: "i",
		Args: []string{"sidecar", "--listen=127.0.0.10:6565", "--target", "a.b.svc.c:1", "--admin", ":9000"}}}
	w.srv.Set(w.pods[0])
	w.srv.Set(w.pods[1])
	log := socketLog(t, nil, established("10.1.0.5:6565", "10.1.0.9:40000"), listening("0.0.0.0:6565"), listening("127.0.0.10:6565"),
		listening("0.0.0.0:9000"), listening("127.0.0.1:9000"), listening("127.0.0.1:15651"), listening("0.0.0.0:22"))
	w.nodes.Play(plays(podtest.Text(log)))
	o := w.options()
	o.MaxPods = 2
	got := w.look(t, o, 15651, 6565, 9000, 6565)
	if !got.Known() || len(got.Value) != 2 || got.Value[0].Pod.String() != w.podName(1) || got.Value[1].Pod.String() != w.podName(2) {
		t.Fatalf("%+v", got)
	}
	for i, want := range []string{"0.0.0.0:6565 127.0.0.1:9000", "0.0.0.0:6565 127.0.0.10:6565 0.0.0.0:9000 127.0.0.1:9000 127.0.0.1:15651"} {
		if l := locals(got.Value[i]); l != want {
			t.Errorf("%s listens on %s, want %s", got.Value[i].Pod, l, want)
		}
	}
	for _, a := range w.nodes.Agents() {
		if want := []string{"sockets", "--interval", "50ms", "--port", "6565", "--port", "9000", "--port", "15651"}; !slices.Equal(a.Args, want) {
			t.Errorf("%+v, want args %q", a, want)
		}
	}
	contains(t, "announced", w.said(), "adding an ephemeral container (grpclb.dev/grpclb-refresher:dev) to 2 pods in namespace default")
}

// TestListeningUnseen: what cannot be seen has its reason, as in a diagnosis.
func TestListeningUnseen(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		set   func(w *world)
		state diagnose.State
		says  string
	}{
		"no pods": {func(w *world) {
			for _, p := range w.pods {
				p.Status.Phase = corev1.PodPending
				w.srv.Set(p)
			}
		}, diagnose.NotAsked, "none of its pods runs"},
		"host network": {func(w *world) {
			for _, p := range w.pods {
				p.Spec.HostNetwork = true
				w.srv.Set(p)
			}
		}, diagnose.NotAsked, "none of its pods runs"},
		"no list": {func(w *world) { w.srv.Fail(kubetest.Fault{Resource: "pods", Verb: "list", Status: 403}) }, diagnose.Denied, "may not list pods in default"},
		"hangs":   {func(w *world) { w.srv.Fail(kubetest.Fault{Resource: "pods", Verb: "list", Hang: true}) }, diagnose.Failed, "no answer within 3s"},
		"refused": {func(w *world) {
			w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 403}, kubetest.Fault{Sub: "exec", Status: 403})
		}, diagnose.Denied, "exec is not allowed either"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.set(w)
			got := w.look(t, w.options(), 6565)
			if got.State != c.state || !strings.Contains(got.Reason, c.says) || got.Value != nil {
				t.Errorf("%+v, want %s: %s", got, c.state, c.says)
			}
		})
	}
	// By exec of cat, the table is the kernel's text: 0.0.0.0:6565 listens.
	w := newWorld(t)
	w.srv.Fail(kubetest.Fault{Sub: "ephemeralcontainers", Status: 403})
	w.nodes.Exec(func(podtest.Exec) podtest.Result {
		return podtest.Result{Stdout: procText + "   1: 00000000:19A5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 20 4 30 10 -1\n"}
	})
	if got := w.look(t, w.options(), 6565, 50051); !got.Known() || locals(got.Value[0]) != "0.0.0.0:6565" {
		t.Errorf("%+v", got)
	}
}
