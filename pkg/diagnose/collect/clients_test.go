package collect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const target = "dns:///square-service:50051"

// clientLines writes each target in one line: workload container/source name[@configmap] token, and a star when it is a part.
func clientLines(snap *diagnose.Snapshot) []string {
	var out []string
	for _, w := range snap.Workloads.Value {
		for _, tg := range w.Targets {
			s := fmt.Sprintf("%s/%s %s %s", w.Namespace, w.Ref(), tg.Source, tg.Name)
			if tg.ConfigMap != "" {
				s += "@" + tg.ConfigMap + "." + tg.ConfigMapKey
			}
			if s += " " + tg.Token; tg.Part {
				s += " *"
			}
			out = append(out, s)
		}
	}
	return out
}

func withEnv(s corev1.PodSpec) corev1.PodSpec {
	s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: "TARGET", Value: target})
	return s
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }

func TestEveryKindOfWorkload(t *testing.T) {
	spec := func() corev1.PodSpec { return withEnv(kubetest.Pod(ns, "x").Spec) }
	tmpl := func() corev1.PodTemplateSpec { return corev1.PodTemplateSpec{Spec: spec()} }
	controlled := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly", Controller: new(true)}
	cron := &batchv1.CronJob{ObjectMeta: meta("nightly")}
	cron.Spec.JobTemplate.Spec.Template = tmpl()
	cronJob := &batchv1.Job{ObjectMeta: meta("nightly-123"), Spec: batchv1.JobSpec{Template: tmpl()}}
	cronJob.OwnerReferences = []metav1.OwnerReference{controlled}
	done := &batchv1.Job{ObjectMeta: meta("done"), Spec: batchv1.JobSpec{Template: tmpl()}}
	done.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	finished := kubetest.Pod(ns, "finished").Env("TARGET", target)
	finished.Status.Phase = corev1.PodSucceeded
	rollout := func(name, env string) kubetest.PodBuilder {
		return kubetest.Pod(ns, name).Env("TARGET", env).Owner("apps/v1", "ReplicaSet", "rollout-7f8d")
	}
	newer := rollout("rollout-7f8d-b", target)
	newer.CreationTimestamp.Time = newer.CreationTimestamp.Add(1)
	newer.CreationTimestamp = metav1.NewTime(kubetest.Epoch.Add(1e9))
	snap := mustRun(t, []runtime.Object{
		kubetest.Service(ns, "square-service"),
		kubetest.Deployment(ns, "deployed").Env("TARGET", target),
		&appsv1.StatefulSet{ObjectMeta: meta("stateful"), Spec: appsv1.StatefulSetSpec{Template: tmpl()}},
		&appsv1.DaemonSet{ObjectMeta: meta("everywhere"), Spec: appsv1.DaemonSetSpec{Template: tmpl()}},
		cron, cronJob, done,
		&batchv1.Job{ObjectMeta: meta("once"), Spec: batchv1.JobSpec{Template: tmpl()}},
		kubetest.Pod(ns, "nightly-123-x").Owner("batch/v1", "Job", "nightly-123"),
		kubetest.Pod(ns, "bare").Env("TARGET", target), finished,
		rollout("rollout-7f8d-a", "dns:///elsewhere.example.com:1"), newer,
	}, options("square-service"))
	want := []string{
		"default/pod/bare env TARGET " + target, "default/deploy/deployed env TARGET " + target, "default/ds/everywhere env TARGET " + target,
		"default/cj/nightly env TARGET " + target, "default/job/once env TARGET " + target, "default/rs/rollout-7f8d env TARGET " + target,
		"default/sts/stateful env TARGET " + target,
	}
	if diff := cmp.Diff(want, clientLines(snap)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	owners := map[string]string{}
	for _, p := range snap.Pods.Value {
		owners[p.Name] = p.Owner.Kind + "/" + p.Owner.Name
	}
	for pod, want := range map[string]string{
		"nightly-123-x": "CronJob/nightly", "bare": "Pod/bare", "rollout-7f8d-a": "ReplicaSet/rollout-7f8d", "deployed-5d9c8f7b6-00000": "Deployment/deployed",
	} {
		if owners[pod] != want {
			t.Errorf("%s belongs to %q, want %q", pod, owners[pod], want)
		}
	}
	for _, w := range snap.Workloads.Value {
		if w.Kind == "ReplicaSet" && w.Replicas != 2 {
			t.Errorf("%s has %d replicas, want 2", w.Ref(), w.Replicas)
		}
	}
}

// TestOwnerWithoutDeployment: a ReplicaSet that only looks like a Deployment's keeps its own name.
func TestOwnerWithoutDeployment(t *testing.T) {
	pod := kubetest.Pod(ns, "odd").Label("pod-template-hash", "abc").Owner("apps/v1", "ReplicaSet", "odd-abc")
	objs := []runtime.Object{kubetest.Service(ns, "square-service"), pod}
	snap := mustRun(t, objs, options("square-service"))
	if o := snap.Pods.Value[0].Owner; o.Kind != "ReplicaSet" {
		t.Errorf("%+v", o)
	}
	// When Deployments may not be listed, the name is the best there is.
	snap = mustRun(t, objs, options("square-service"), kubetest.Fault{Resource: "deployments", Status: 403})
	if o := snap.Pods.Value[0].Owner; o != (diagnose.Owner{Kind: "Deployment", Name: "odd"}) {
		t.Errorf("%+v", o)
	}
}

func TestConfigMaps(t *testing.T) {
	objs := []runtime.Object{
		kubetest.Service(ns, "square-service"),
		kubetest.ConfigMap(ns, "vars", "SQUARE_ADDRESS", "square-service:50051"),
		kubetest.ConfigMap(ns, "files", "app.yaml", "grpc:\n  square:\n    target: "+target+"\n"),
		kubetest.ConfigMap(ns, "unused", "TARGET", target),
		kubetest.Deployment(ns, "from").EnvFrom("vars"),
		kubetest.Deployment(ns, "key").EnvKey("ADDR", "vars", "SQUARE_ADDRESS").EnvKey("OTHER_ADDR", "gone", "x"),
		kubetest.Deployment(ns, "file").Mount("files"),
		kubetest.Deployment(ns, "over").EnvFrom("vars").Env("SQUARE_ADDRESS", "square-service.default:1"),
		kubetest.Deployment(ns, "part").Env("SQUARE_URL", "http://square-service:1/healthz"),
	}
	srv := kubetest.NewServer(t, objs...)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"default/deploy/file configmap app.yaml@files.app.yaml " + target,
		"default/deploy/from env SQUARE_ADDRESS@vars.SQUARE_ADDRESS square-service:50051",
		"default/deploy/key env ADDR@vars.SQUARE_ADDRESS square-service:50051",
		"default/deploy/over env SQUARE_ADDRESS square-service.default:1",
		"default/deploy/part env SQUARE_URL http://square-service:1 *",
	}
	if diff := cmp.Diff(want, clientLines(snap)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]diagnose.Key{{Namespace: ns, Name: "files"}, {Namespace: ns, Name: "vars"}}, snap.ConfigMaps.Value); diff != "" {
		t.Error(diff)
	}
	var got []string
	for _, r := range srv.Requests() {
		if r.Resource == "configmaps" {
			got = append(got, r.Verb+" "+r.Name)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"get files", "get gone", "get vars"}, got); diff != "" {
		t.Errorf("only what workloads refer to, by name, once (-want +got):\n%s", diff)
	}
	if len(snap.Gaps) != 0 {
		t.Errorf("a reference to nothing is no gap: %+v", snap.Gaps)
	}
}

func TestForbiddenConfigMap(t *testing.T) {
	snap := mustRun(t, []runtime.Object{
		kubetest.Service(ns, "square-service"), kubetest.ConfigMap(ns, "a", "A_ADDR", "square-service:1"), kubetest.ConfigMap(ns, "b", "B_ADDR", "square-service:2"),
		kubetest.Deployment(ns, "client").EnvFrom("a").EnvFrom("b"),
	}, options("square-service"), kubetest.Fault{Resource: "configmaps", Name: "a", Status: 403})
	want := []diagnose.Gap{{Fact: diagnose.FactConfigMaps, Subject: "configmap default/a", Status: diagnose.Status{
		State: diagnose.Denied, Reason: "may not get configmap a in default", Hint: "kubectl grpclb diagnose --rbac prints the Role that is needed",
	}}}
	if diff := cmp.Diff(want, snap.Gaps); diff != "" {
		t.Error(diff)
	}
	if got := clientLines(snap); len(got) != 1 {
		t.Errorf("the other ConfigMap is lost too: %v", got)
	}
}

func TestTooManyConfigMaps(t *testing.T) {
	objs := []runtime.Object{kubetest.Service(ns, "square-service")}
	client := kubetest.Deployment(ns, "client")
	for i := range collect.MaxConfigMaps + 7 {
		name := fmt.Sprintf("cm-%03d", i)
		objs = append(objs, kubetest.ConfigMap(ns, name, fmt.Sprintf("ADDR_%d", i), fmt.Sprintf("square-service:%d", i+1)))
		client.EnvFrom(name)
	}
	srv := kubetest.NewServer(t, append(objs, client)...)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	if n := srv.Count("get", "configmaps"); n != collect.MaxConfigMaps || len(clientLines(snap)) != n {
		t.Errorf("%d ConfigMaps read, %d targets", n, len(clientLines(snap)))
	}
	if len(snap.Gaps) != 1 || snap.Gaps[0].Subject != "7 of 57 configmaps" {
		t.Errorf("%+v", snap.Gaps)
	}
}

func TestClientsOfOtherNamespaces(t *testing.T) {
	objs := append(square(1),
		kubetest.Deployment("shop", "cart").Env("SQUARE", "dns:///square-service.default:6565").EnvFrom("app"),
		kubetest.ConfigMap("shop", "app", "X_ADDR", "square-service.default.svc:6565"),
		kubetest.Deployment("shop", "other").Env("SQUARE", "dns:///square-service.default:6565").Env("NOPE", "dns:///nope:1"),
	)
	own := "default/deploy/aggregator env GRPC_CLIENT_SQUARE_ADDRESS static://square-service:6565"
	cart := []string{"shop/deploy/cart env X_ADDR@app.X_ADDR square-service.default.svc:6565", "shop/deploy/cart env SQUARE dns:///square-service.default:6565"}
	other := "shop/deploy/other env SQUARE dns:///square-service.default:6565"
	pods := func(snap *diagnose.Snapshot) (out []string) {
		for _, p := range snap.Pods.Value {
			out = append(out, p.Namespace+"/"+p.Owner.Name)
		}
		return out
	}

	snap := mustRun(t, objs, options("square-service"))
	if diff := cmp.Diff([]string{own}, clientLines(snap)); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}

	all := options("square-service")
	all.AllClients = true
	snap = mustRun(t, objs, all)
	if diff := cmp.Diff([]string{own, cart[0], cart[1], other}, clientLines(snap)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"default/aggregator", "default/square", "shop/cart", "shop/other"}, pods(snap)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if len(snap.Services.Value) != 1 {
		t.Errorf("Services of other namespaces are none of the question: %+v", snap.Services.Value)
	}

	named := options("square-service")
	for _, s := range []string{"shop/deploy/cart", "deploy/aggregator", "shop/deploy/gone"} {
		ref, err := collect.ParseClient(s, ns)
		if err != nil {
			t.Fatal(err)
		}
		named.Clients = append(named.Clients, ref)
	}
	snap = mustRun(t, objs, named)
	if diff := cmp.Diff([]string{own, cart[0], cart[1]}, clientLines(snap)); diff != "" {
		t.Errorf("named (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"default/aggregator", "default/square", "shop/cart"}, pods(snap)); diff != "" {
		t.Errorf("named (-want +got):\n%s", diff)
	}
	if len(snap.Gaps) != 1 || snap.Gaps[0].Reason != "there is no deploy/gone in shop" {
		t.Errorf("%+v", snap.Gaps)
	}
}

// TestAllClientsForbidden: not being allowed to look everywhere is no reason to look nowhere.
func TestAllClientsForbidden(t *testing.T) {
	opt := options("square-service")
	opt.AllClients = true
	snap := mustRun(t, square(1), opt, kubetest.Fault{Verb: "list", AllNamespaces: true, Group: "apps", Status: 403}, kubetest.Fault{Verb: "list", AllNamespaces: true, Resource: "pods", Group: "core", Status: 403})
	if len(clientLines(snap)) != 1 || len(snap.Pods.Value) != 2 {
		t.Errorf("%v, %d pods", clientLines(snap), len(snap.Pods.Value))
	}
	var subjects []string
	for _, g := range snap.Gaps {
		subjects = append(subjects, g.Subject+": "+g.Reason)
	}
	want := []string{
		"pods of other namespaces: may not list pods in all namespaces", "daemonsets of other namespaces: may not list daemonsets in all namespaces",
		"deployments of other namespaces: may not list deployments in all namespaces", "statefulsets of other namespaces: may not list statefulsets in all namespaces",
	}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMesh(t *testing.T) {
	native := func(p *corev1.PodSpec) {
		p.InitContainers = append(p.InitContainers, corev1.Container{Name: "linkerd-proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)})
	}
	initOnly := kubetest.Deployment(ns, "j")
	initOnly.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "linkerd-proxy"}}
	nativeLinkerd := kubetest.Deployment(ns, "d").Annotate("config.linkerd.io/opaque-ports", "3306, 25-30,secret")
	native(&nativeLinkerd.Spec.Template.Spec)
	gateway := kubetest.Deployment(ns, "g")
	gateway.Spec.Template.Spec.Containers[0].Name = "istio-proxy"
	labelled := kubetest.Deployment(ns, "i").Replicas(0)
	labelled.Spec.Template.Labels["istio.io/dataplane-mode"] = "ambient"
	snap := mustRun(t, []runtime.Object{
		kubetest.Service(ns, "square-service"),
		kubetest.Deployment(ns, "a"),
		kubetest.Deployment(ns, "b").Sidecar("linkerd-proxy").Annotate("config.linkerd.io/skip-outbound-ports", "6565,8000-9000"),
		kubetest.Deployment(ns, "c").Sidecar("istio-proxy").Annotate("traffic.sidecar.istio.io/excludeOutboundPorts", "15001"),
		nativeLinkerd,
		kubetest.Deployment(ns, "e").Annotate("ambient.istio.io/redirection", "enabled"),
		kubetest.Deployment(ns, "f").Replicas(0).Annotate("linkerd.io/inject", "enabled"),
		gateway,
		kubetest.Deployment(ns, "h").Annotate("linkerd.io/inject", "enabled"), // asked for, and its pod shows that it did not happen
		labelled, initOnly,
	}, options("square-service"))
	got := map[string]string{}
	for _, w := range snap.Workloads.Value {
		m := w.Mesh
		got[w.Name] = strings.Trim(fmt.Sprint(m.Kind, " ", m.Mode, " ", strings.Join(m.SkipOutbound, ","), " ", strings.Join(m.Opaque, ",")), " ")
	}
	want := map[string]string{
		"a": "", "b": "linkerd sidecar 6565,8000-9000", "c": "istio sidecar 15001", "d": "linkerd native-sidecar  3306,25-30", "e": "istio ambient",
		"f": "linkerd sidecar", "g": "", "h": "", "i": "istio ambient", "j": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMeshProxiesAreNotSearched(t *testing.T) {
	d := kubetest.Deployment(ns, "client").Sidecar("linkerd-proxy")
	d.Spec.Template.Spec.Containers[1].Env = []corev1.EnvVar{{Name: "LINKERD_ADDR", Value: "square-service:80"}}
	if got := clientLines(mustRun(t, []runtime.Object{kubetest.Service(ns, "square-service"), d}, options("square-service"))); got != nil {
		t.Error(got)
	}
}

func TestParseClient(t *testing.T) {
	for in, want := range map[string]string{
		"deploy/a": "Deployment default/a", "Deployment/a": "Deployment default/a", "deployments.apps/a": "Deployment default/a", "shop/sts/b": "StatefulSet shop/b",
		"ds/c": "DaemonSet default/c", "cj/d": "CronJob default/d", "job/e": "Job default/e", "po/f": "Pod default/f",
		"a": "", "svc/a": "", "deploy/": "", "a/b/c/d": "", "": "",
	} {
		got := ""
		if ref, err := collect.ParseClient(in, ns); err == nil {
			got = ref.Kind + " " + ref.Key.String()
		}
		if got != want {
			t.Errorf("ParseClient(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSelection(t *testing.T) {
	objs := append(square(1),
		kubetest.Service(ns, "cube-service").Label("team", "cubes"),
		kubetest.Service(ns, "redis").Port("redis", 6379, kubetest.Service(ns, "x").Spec.Ports[0].TargetPort),
		kubetest.Service("shop", "cart"),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "void"}},
	)
	names := func(opt collect.Options) string {
		snap, err := run(t, objs, opt)
		if err != nil {
			hinted, ok := errors.AsType[collect.Hinted](err)
			if !ok {
				t.Fatalf("%T has no hint", err)
			}
			return hinted.Error() + " / " + hinted.Hint()
		}
		var out []string
		for _, k := range snap.Targets {
			out = append(out, k.String())
		}
		return strings.Join(out, " ")
	}
	for name, c := range map[string]struct {
		opt  collect.Options
		want string
	}{
		"all that look like gRPC": {collect.Options{Namespace: ns}, "default/cube-service default/square-service"},
		"assumed":                 {collect.Options{Namespace: ns, AssumeGRPC: true}, "default/cube-service default/redis default/square-service"},
		"a selector":              {collect.Options{Namespace: ns, Selector: "team=cubes"}, "default/cube-service"},
		"all namespaces":          {collect.Options{AllNamespaces: true}, "default/cube-service default/square-service shop/cart"},
		"two names":               {collect.Options{Namespace: ns, Names: []string{"redis", "cube-service"}}, "default/redis default/cube-service"},
		"no match": {collect.Options{Namespace: ns, Selector: "team=none"},
			`no service in namespace default matches the selector "team=none" / kubectl get services -A lists what is there`},
		"an empty namespace":          {collect.Options{Namespace: "void"}, "no service in namespace void / kubectl get services -A lists what is there"},
		"no such namespace":           {collect.Options{Namespace: "viod"}, `there is no namespace "viod" / kubectl get namespaces lists them`},
		"a name in no such namespace": {collect.Options{Namespace: "viod", Names: []string{"x"}}, `there is no namespace "viod" / kubectl get namespaces lists them`},
		"the same with all clients":   {collect.Options{Namespace: "viod", AllClients: true}, `there is no namespace "viod" / kubectl get namespaces lists them`},
		"a typing mistake": {collect.Options{Namespace: ns, Names: []string{"squrae-service"}},
			`no service "squrae-service" in namespace "default" / did you mean square-service?`},
		"another namespace": {collect.Options{Namespace: ns, Names: []string{"cart"}}, `no service "cart" in namespace "default" / namespace shop has one: add -n shop`},
		"nothing like it":   {collect.Options{Namespace: ns, Names: []string{"zzzzzz"}}, `no service "zzzzzz" in namespace "default" / kubectl get services -n default lists what is there`},
		"no name at all":    {collect.Options{Namespace: ns, Names: []string{"a,b=c"}}, `no service "a,b=c" in namespace "default" / kubectl get services -n default lists what is there`},
		"names everywhere":  {collect.Options{AllNamespaces: true, Names: []string{"x"}}, "a service cannot be named together with all namespaces / "},
		"name and selector": {collect.Options{Namespace: ns, Selector: "a=b", Names: []string{"x"}}, "a service cannot be named together with a selector / "},
		"a broken selector": {collect.Options{Namespace: ns, Selector: "a=="}, ""},
		"no namespace":      {collect.Options{}, "no namespace was given / "},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a broken selector" {
				c.opt.Selector, c.want = "a in (", `the selector "a in (" cannot be read / `
			}
			if got := names(c.opt); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNothingLooksLikeGRPC(t *testing.T) {
	_, err := run(t, []runtime.Object{kubetest.Service(ns, "redis").Port("redis", 6379, kubetest.Service(ns, "x").Spec.Ports[0].TargetPort)}, options())
	var nt *collect.NoTargetError
	if !errors.As(err, &nt) || nt.Error() != "no service in namespace default looks like gRPC (1 looked at)" || !strings.Contains(nt.Hint(), "--assume-grpc") {
		t.Errorf("%v", err)
	}
}

// TestElsewhereForbidden: the hint is a courtesy; not being allowed to look for it changes nothing.
func TestElsewhereForbidden(t *testing.T) {
	_, err := run(t, append(square(1), kubetest.Service("shop", "cart")), options("cart"), kubetest.Fault{Verb: "list", Resource: "services", AllNamespaces: true, Status: 403})
	var nf *collect.NotFoundError
	if !errors.As(err, &nf) || len(nf.Elsewhere) != 0 {
		t.Errorf("%v", err)
	}
}
