package live_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// targetsOf takes the --target flags of an agent's command line as label -> targets.
func targetsOf(a podtest.Agent) map[string][]string {
	out := map[string][]string{}
	for i, arg := range a.Args {
		if arg == "--target" {
			label, target, _ := strings.Cut(a.Args[i+1], "=")
			out[label] = append(out[label], target)
		}
	}
	return out
}

// probeLog is what the agent prints after 10 calls over one connection to each target.
func probeLog(t *testing.T, a podtest.Agent) string {
	t.Helper()
	r := agentapi.ProbeReport{Version: agentapi.Version, At: kubetest.Epoch, Method: "/grpc.health.v1.Health/Check", Elapsed: 0.1}
	port := uint16(40000)
	labels := sortedKeys(targetsOf(a))
	for _, label := range labels {
		for _, target := range targetsOf(a)[label] {
			port++
			r.Targets = append(r.Targets, agentapi.Target{Name: label, Target: target, Resolved: 1})
			r.Channels = append(r.Channels, agentapi.Channel{
				Name: label, Target: target, Local: addrPort("10.9.9.9:40000"), Remote: addrPort("172.16.0.1:6565"), Calls: 10,
				Codes: map[string]int{"UNIMPLEMENTED": 10}, Latency: &agentapi.Latency{P50: 250, Samples: 10},
			})
		}
	}
	var b bytes.Buffer
	if err := agentapi.WriteProbe(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// working plays agents that do what they are for; order notes what was asked of which.
func (w *world) working(t *testing.T, order *[]string) {
	var mu sync.Mutex
	socks := socketLog(t, nil, established("10.1.0.5:50051", "10.9.9.9:40000"))
	w.nodes.Play(func(a podtest.Agent) podtest.Play {
		if order != nil {
			mu.Lock()
			*order = append(*order, a.Args[0])
			mu.Unlock()
		}
		if a.Args[0] == "sockets" {
			return podtest.Play{Log: podtest.Text(socks)}
		}
		return podtest.Play{Log: podtest.Endless(probeLog(t, a))} // the agent holds its connections after the report
	})
}

// probePods are those that the probe made and that are still there.
func probePods(t *testing.T, w *world) []string {
	t.Helper()
	var out []string
	snap, err := w.tryCollect(t, context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range snap.Pods.Value {
		if strings.HasPrefix(p.Name, "grpclb-probe-") {
			out = append(out, p.Name)
		}
	}
	return out
}

func TestProbe(t *testing.T) {
	t.Parallel()
	twin := kubetest.Service(ns, "square-headless").Headless().Selects("app", "square")
	w := newWorld(t, twin)
	var order []string
	w.working(t, &order)
	open := 0
	snap := w.run(t, context.Background(), live.Probe(w.options()), func(context.Context, *collect.Session, *diagnose.Snapshot) error {
		open = len(probePods(t, w))
		return nil
	})
	if !snap.Probes.Known() || len(snap.Probes.Value) != 2 || !snap.Sockets.Known() || len(snap.Gaps) != 0 {
		t.Fatalf("%+v\n%+v\n%+v", snap.Probes, snap.Sockets, snap.Gaps)
	}
	ip := w.svc.Spec.ClusterIP
	a, b := snap.Probes.Value[0], snap.Probes.Value[1]
	if a.Via != "clusterip" || a.Target != ip+":6565" || a.FromIP != "10.9.9.9" || len(a.Channels) != 1 || a.Channels[0].Codes["UNIMPLEMENTED"] != 10 ||
		a.Channels[0].P50Micros != 250 || a.Channels[0].Local != addrPort("10.9.9.9:40000") {
		t.Errorf("%+v", a)
	}
	if b.Via != "headless" || b.Target != "dns:///square-headless.default.svc.cluster.local.:50051" || b.From != a.From {
		t.Errorf("%+v", b)
	}
	if want := []string{"probe", "sockets", "sockets", "sockets"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v: the connections are held while sockets are read", order, want)
	}
	if open != 0 || asked(w.srv, "delete", "") != 1 {
		t.Errorf("%d pods left, %d deletions", open, asked(w.srv, "delete", ""))
	}
	if snap.Cost.Writes != 5 {
		t.Errorf("cost %+v: a pod made and deleted and three containers are five writes", snap.Cost)
	}
	contains(t, "announced", w.said(), "creating the short-lived pod default/grpclb-probe-", "(grpclb.dev/grpclb-refresher:dev)", "10 calls of each kind", "it is deleted afterwards")
	probe := probeAgent(t, w)
	contains(t, "args", strings.Join(probe.Args, " "), "--channels 1 --calls 10 --rate 200", "--duration", "--hold")
	if slices.Contains(probe.Args, "--insecure-skip-verify") {
		t.Errorf("%q", probe.Args)
	}
}

func probeAgent(t *testing.T, w *world) podtest.Agent {
	t.Helper()
	for _, a := range w.nodes.Agents() {
		if a.Args[0] == "probe" {
			return a
		}
	}
	t.Fatal("no agent probed")
	return podtest.Agent{}
}

// TestProbeAnnouncesWhatItSends: calls that channels cannot share evenly are announced as many as are sent.
func TestProbeAnnouncesWhatItSends(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		calls, channels int
		args, said      string
	}{
		{7, 3, "--channels 3 --calls 2", "to send 6 calls of each kind"},
		{2, 3, "--channels 3 --calls 1", "to send 3 calls of each kind"},
	} {
		w := newWorld(t)
		w.working(t, nil)
		o := w.options()
		o.Calls, o.Channels = c.calls, c.channels
		w.run(t, context.Background(), live.Probe(o))
		contains(t, "args", strings.Join(probeAgent(t, w).Args, " "), c.args)
		contains(t, "announced", w.said(), c.said)
	}
}

// TestProbePod: the pod is one that a namespace enforcing Pod Security's level "restricted" and a quota takes.
func TestProbePod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes.Play(func(podtest.Agent) podtest.Play { return podtest.Play{Waiting: "ContainerCreating"} })
	w.srv.Fail(kubetest.Fault{Verb: "delete", Resource: "pods", Status: 403})
	snap := w.run(t, context.Background(), live.Probe(w.options()))
	contains(t, "reason", snap.Probes.Reason, "did not start within 3s (ContainerCreating)")
	left := probePods(t, w)
	if len(left) != 1 {
		t.Fatalf("%v", left)
	}
	contains(t, "announced", w.said(), "could not delete pod default/"+left[0]+" (may not delete pod", "kubectl delete pod -n default "+left[0])
	p := getPod(t, w, ns+"/"+left[0])
	c := p.Spec.Containers[0]
	restricted(t, c.SecurityContext)
	if p.Labels[diagnose.ManagedByLabel] != diagnose.ManagedBy || p.Spec.RestartPolicy != "Never" || *p.Spec.AutomountServiceAccountToken || *p.Spec.EnableServiceLinks ||
		*p.Spec.TerminationGracePeriodSeconds != 0 || *p.Spec.ActiveDeadlineSeconds < 30 || p.Spec.NodeSelector["kubernetes.io/os"] != "linux" ||
		p.Annotations["linkerd.io/inject"] != "disabled" || p.Labels["sidecar.istio.io/inject"] != "false" || p.Labels["istio.io/dataplane-mode"] != "none" {
		t.Errorf("%+v\n%+v", p.ObjectMeta, p.Spec)
	}
	for _, list := range []int{len(c.Resources.Requests), len(c.Resources.Limits)} {
		if list != 2 {
			t.Errorf("%+v", c.Resources)
		}
	}
}

func TestProbeGroups(t *testing.T) {
	t.Parallel()
	secure := kubetest.Service(ns, "secure").Port("grpc", 443, intstr.FromInt32(50051))
	pod := kubetest.Pod(ns, "secure")
	w := newWorld(t, secure, pod, secure.Slice(pod))
	w.working(t, nil)
	plain := grpcServer(t)
	for i := range w.pods {
		w.nodes.Listen(w.podName(i), 50051, plain)
	}
	w.nodes.Listen(ns+"/secure", 50051, grpcServer(t, withTLS(t)))
	o := w.options()
	o.Via = []string{"clusterip", "pods"}
	o.Channels, o.Calls = 4, 100
	opt := collect.Options{Namespace: ns, Names: []string{"square", "secure"}}
	snap := w.collect(t, context.Background(), opt, live.Ports(o), live.Probe(o))
	var vias []string
	for _, r := range snap.Probes.Value {
		vias = append(vias, r.Via+" "+r.Target)
	}
	each := "each pod's own address"
	if want := []string{"clusterip " + w.svc.Spec.ClusterIP + ":6565", "pods " + each, "clusterip " + secure.Spec.ClusterIP + ":443", "pods " + pod.Status.PodIP + ":50051"}; !slices.Equal(vias, want) {
		t.Errorf("%q, want %q", vias, want)
	}
	n := 0
	for _, a := range w.nodes.Agents() {
		if a.Args[0] != "probe" {
			continue
		}
		n++
		line := strings.Join(a.Args, " ")
		if tls := strings.Contains(line, "clusterip:default/secure="); tls != slices.Contains(a.Args, "--insecure-skip-verify") {
			t.Errorf("%q", line)
		}
		contains(t, "args", line, "--channels 4 --calls 25")
	}
	if n != 2 || len(probePods(t, w)) != 0 || !snap.Sockets.Known() || len(snap.Sockets.Value) != 4 {
		t.Errorf("%d probes, pods left %v, sockets %+v", n, probePods(t, w), snap.Sockets)
	}
}

func TestProbeFrom(t *testing.T) {
	t.Parallel()
	client := kubetest.Deployment(ns, "client")
	for title, c := range map[string]struct {
		objs   []kruntime.Object
		ref    collect.ClientRef
		reason string
	}{
		"deployment": {[]kruntime.Object{client}, ref("Deployment", "client"), ""},
		"pod":        {[]kruntime.Object{kubetest.Pod(ns, "shell")}, ref("Pod", "shell"), ""},
		"none runs":  {[]kruntime.Object{client.Deployment}, ref("Deployment", "client"), "deploy/client in default has no running pod"},
		"no such":    {nil, ref("Deployment", "nobody"), "deploy/nobody in default has no running pod"},
		"no pod":     {nil, ref("Pod", "nobody"), "there is no pod nobody in default"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.objs...)
			w.working(t, nil)
			o := w.options()
			o.From = &c.ref
			snap := w.run(t, context.Background(), live.Probe(o))
			if asked(w.srv, "create", "") != 0 || snap.Sockets.Known() != (c.reason == "") {
				t.Errorf("%d pods made, sockets %+v", asked(w.srv, "create", ""), snap.Sockets.Status)
			}
			if c.reason != "" {
				contains(t, "reason", snap.Probes.Reason, c.reason)
				contains(t, "reason", snap.Sockets.Reason, c.reason)
				if len(w.nodes.Agents()) != 0 || w.said() != "" {
					t.Errorf("something was placed: %+v", w.nodes.Agents())
				}
				return
			}
			if !snap.Probes.Known() || !strings.HasPrefix(snap.Probes.Value[0].From.Name, c.ref.Name) {
				t.Errorf("%+v", snap.Probes)
			}
			contains(t, "announced", w.said(), "adding an ephemeral container", "to pod default/"+c.ref.Name, "its entry stays in the pod's spec")
		})
	}
}

func ref(kind, name string) collect.ClientRef {
	return collect.ClientRef{Kind: kind, Key: diagnose.Key{Namespace: ns, Name: name}}
}

// TestProbeFails: whatever happens, the pod goes, and the users' own traffic is looked at.
func TestProbeFails(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		play   podtest.Play
		break_ func(w *world)
		state  diagnose.State
		reason string
		hint   string
	}{
		"image":     {podtest.Play{Waiting: "ErrImagePull"}, nil, diagnose.Failed, "ErrImagePull (image grpclb.dev/grpclb-refresher:dev)", "--image"},
		"no report": {podtest.Play{Log: podtest.Text("panic: canary\n")}, nil, diagnose.Failed, "no whole report", "kubectl logs"},
		"vanishes":  {podtest.Play{Vanish: true}, nil, diagnose.Failed, "there is no pod grpclb-probe-", ""},
		"rbac":      {podtest.Play{}, func(w *world) { w.srv.Fail(kubetest.Fault{Verb: "create", Resource: "pods", Status: 403}) }, diagnose.Denied, "may not create pods in default", "--rbac"},
		"quota": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: exceeded quota: canary, requested: pods=1, used: pods=5, limited: pods=5`))
		}, diagnose.Denied, "a resource quota of namespace default does not allow the probe's pod", "kubectl describe resourcequota -n default"},
		"limits missing": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: failed quota: canary: must specify limits.ephemeral-storage`))
		}, diagnose.Denied, "a resource quota of namespace default", "resourcequota"},
		"limit range": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: minimum memory usage per Container is 1Gi, but request is 16Mi`))
		}, diagnose.Denied, "a limit range of namespace default does not allow the probe's pod", "kubectl describe limitrange"},
		"pod security": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: violates PodSecurity "restricted:v1.36": canary`))
		}, diagnose.Denied, "Pod Security restricted:v1.36 of namespace default does not allow the probe's pod", ""},
		"namespace goes": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: unable to create new content in namespace default because it is being terminated`))
		}, diagnose.Denied, "namespace default is being deleted", ""},
		"account": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(403, `pods "x" is forbidden: error looking up service account default/default: serviceaccount "default" not found`))
		}, diagnose.Denied, "has no default service account", "serviceaccount"},
		"other plugin": {podtest.Play{}, func(w *world) { w.srv.Fail(createFault(403, `pods "x" is forbidden: canary says no`)) }, diagnose.Denied, "admission in namespace default does not allow the probe's pod", "admission, not RBAC"},
		"policy": {podtest.Play{}, func(w *world) {
			w.srv.Fail(createFault(422, `pods "x" is forbidden: ValidatingAdmissionPolicy 'images.example' with binding 'b' denied request: canary`))
		}, diagnose.Denied, "admission policy images.example does not allow the probe's pod", "validatingadmissionpolicy"},
		"invalid":     {podtest.Play{}, func(w *world) { w.srv.Fail(createFault(422, `Pod "x" is invalid: canary`)) }, diagnose.Failed, "the API server does not accept the probe's pod (Invalid)", ""},
		"server down": {podtest.Play{}, func(w *world) { w.srv.Fail(kubetest.Fault{Verb: "create", Resource: "pods", Status: 503}) }, diagnose.Failed, "the API server failed (503)", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			socks := socketLog(t, nil, established("10.1.0.5:50051", "10.9.9.9:40000"))
			w.nodes.Play(func(a podtest.Agent) podtest.Play {
				if a.Args[0] == "sockets" {
					return podtest.Play{Log: podtest.Text(socks)}
				}
				return c.play
			})
			if c.break_ != nil {
				c.break_(w)
			}
			snap := w.run(t, context.Background(), live.Probe(w.options()))
			contains(t, "reason", snap.Probes.Reason, c.reason)
			contains(t, "hint", snap.Probes.Hint, c.hint)
			if snap.Probes.State != c.state || strings.Contains(snap.Probes.Reason+snap.Probes.Hint, "canary says") || !snap.Sockets.Known() {
				t.Errorf("%+v, sockets %+v", snap.Probes.Status, snap.Sockets.Status)
			}
			if left := probePods(t, w); len(left) != 0 || strings.Contains(w.said(), "could not delete") {
				t.Errorf("left %v; %s", left, w.said())
			}
		})
	}
}

func createFault(code int, message string) kubetest.Fault {
	f := statusFault("", code, message)
	f.Verb = "create"
	return f
}

// TestProbeLostAnswer: a pod whose creation was never confirmed is deleted all the same.
func TestProbeLostAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.working(t, nil)
	w.nodes.LoseCreates()
	snap := w.run(t, context.Background(), live.Probe(w.options()))
	if snap.Probes.State != diagnose.Failed || snap.Probes.Reason == "" {
		t.Errorf("%+v", snap.Probes.Status)
	}
	if left := probePods(t, w); len(left) != 0 || asked(w.srv, "create", "") != 1 {
		t.Errorf("left %v after %d creations", left, asked(w.srv, "create", ""))
	}
}

// TestProbeDeletedAgainstOdds: a deletion that fails in passing is made again.
func TestProbeDeletedAgainstOdds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.working(t, nil)
	w.srv.Fail(kubetest.Fault{Verb: "delete", Resource: "pods", Status: 503, Times: 2})
	w.run(t, context.Background(), live.Probe(w.options()))
	if left := probePods(t, w); len(left) != 0 || strings.Contains(w.said(), "could not delete") {
		t.Errorf("left %v; %s", left, w.said())
	}
}

func TestProbeInterrupted(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		set  func(w *world)
		when func(w *world) bool
	}{
		"creating": {func(w *world) { w.nodes.Hang("pods") }, func(w *world) bool { return asked(w.srv, "create", "") == 1 }},
		"waiting": {func(w *world) {
			w.nodes.Play(func(podtest.Agent) podtest.Play { return podtest.Play{Waiting: "ContainerCreating"} })
		}, func(w *world) bool { return len(w.nodes.Agents()) == 1 }},
		"calls": {func(w *world) { w.nodes.Play(plays(podtest.Endless(""))) }, func(w *world) bool { return asked(w.srv, "get", "log") == 1 }},
		"sockets": {func(w *world) {
			w.nodes.Play(func(a podtest.Agent) podtest.Play {
				if a.Args[0] == "probe" {
					return podtest.Play{Log: podtest.Endless(probeLog(t, a))}
				}
				return podtest.Play{Log: podtest.Endless("")}
			})
		}, func(w *world) bool { return asked(w.srv, "get", "log") == 4 }},
	} {
		for _, timeout := range []bool{false, true} {
			t.Run(title+map[bool]string{true: ", time is up"}[timeout], func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				c.set(w)
				ctx := cancelWhen(t, func() bool { return c.when(w) })
				if timeout {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(context.Background(), 1500*time.Millisecond)
					defer cancel()
				}
				var snap *diagnose.Snapshot
				within(t, 5*time.Second, func() { snap = w.run(t, ctx, live.Probe(w.options())) })
				if !snap.Probes.Known() && snap.Probes.Reason == "" || snap.Sockets.Known() || !strings.Contains(snap.Sockets.Reason, "interrupted") && !strings.Contains(snap.Sockets.Reason, "time was up") {
					t.Errorf("probes %+v, sockets %+v", snap.Probes.Status, snap.Sockets.Status)
				}
				if left := probePods(t, w); len(left) != 0 {
					t.Errorf("left %v; %s", left, w.said())
				}
			})
		}
	}
}

// TestProbeNothingToDial says why.
func TestProbeNothingToDial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.working(t, nil)
	o := w.options()
	o.Via = []string{"headless"}
	snap := w.run(t, context.Background(), live.Probe(o))
	if snap.Probes.State != diagnose.NotAsked || !snap.Sockets.Known() || asked(w.srv, "create", "") != 0 {
		t.Errorf("%+v, %+v", snap.Probes, snap.Sockets.Status)
	}
	contains(t, "reason", snap.Probes.Reason, "none of the ways asked for (headless)")
	for _, p := range w.pods {
		p.NotReady("CrashLoopBackOff")
	}
	w.srv.Set(w.svc.Slice(w.pods...))
	snap = w.run(t, context.Background(), live.Probe(w.options()))
	contains(t, "reason", snap.Probes.Reason, "no pod is ready")
}

// TestHostileReport: what an agent's image says is bounded and without control characters.
func TestHostileReport(t *testing.T) {
	t.Parallel()
	evil := strings.Repeat("x\x1b[31m\n", 40)
	r := agentapi.ProbeReport{Version: agentapi.Version, Targets: []agentapi.Target{{Name: "clusterip", Error: evil}}}
	for range 5000 {
		r.Channels = append(r.Channels, agentapi.Channel{Name: "clusterip", StartError: evil, Calls: -1, Codes: map[string]int{evil: 1, "OK": 2}})
	}
	r.Channels = append(r.Channels, agentapi.Channel{Name: "other"})
	var probe bytes.Buffer
	if err := agentapi.WriteProbe(&probe, r); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.nodes.Play(func(a podtest.Agent) podtest.Play {
		if a.Args[0] == "sockets" {
			return podtest.Play{Log: podtest.Text(socketLog(t, nil, agentapi.Socket{Local: addrPort("10.1.0.5:50051"), State: "\x1b[31mred"}))}
		}
		return podtest.Play{Log: podtest.Text(probe.String())}
	})
	snap := w.run(t, context.Background(), live.Probe(w.options()))
	if !snap.Probes.Known() || len(snap.Probes.Value) != 1 {
		t.Fatalf("%+v", snap.Probes.Status)
	}
	run := snap.Probes.Value[0]
	ch := run.Channels[0]
	if len(run.Channels) != 4096 || ch.Calls != 0 || len(ch.Codes) != 1 || ch.Codes["OK"] != 2 {
		t.Errorf("%d channels, %+v", len(run.Channels), ch)
	}
	for _, text := range []string{run.Error, ch.Error} {
		if text == "" || len(text) > 300 || strings.ContainsAny(text, "\x1b\n") {
			t.Errorf("%q", text)
		}
	}
	for _, tab := range snap.Sockets.Value {
		if len(tab.Sockets) != 0 {
			t.Errorf("%+v", tab.Sockets)
		}
	}
}
