package fix_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
)

// apply does to a live object what `kubectl apply` does: a three-way merge of the last applied manifest, the new one
// and the live object, by the same library.
func apply(t *testing.T, live, doc map[string]any, kind any) map[string]any {
	t.Helper()
	original := []byte("{}")
	if notes, ok := live["metadata"].(map[string]any)["annotations"].(map[string]any); ok {
		original = []byte(notes[corev1.LastAppliedConfigAnnotation].(string))
	}
	current, modified := encode(t, live), encode(t, doc)
	meta, err := strategicpatch.NewPatchMetaFromStruct(kind)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(original, modified, current, meta, true)
	if err != nil {
		t.Fatal(err)
	}
	return merge(t, current, patch, kind)
}

func merge(t *testing.T, current, patch []byte, kind any) map[string]any {
	t.Helper()
	out, err := strategicpatch.StrategicMergePatch(current, patch, kind)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const dialsTwin = "dns:///square-service-headless.default.svc.cluster.local:6565"

// TestApplyChangesOnlyTheTarget applies a plan in the way of kubectl, to an object of each history, and holds that
// nothing but the target is different: not the image, not the replicas that an autoscaler set, no label.
func TestApplyChangesOnlyTheTarget(t *testing.T) {
	env := func(*diagnose.Target) {}
	arg := func(tg *diagnose.Target) { tg.Source, tg.Name = "arg", "--square" }
	histories := map[string]string{
		"created, not applied": "",
		"applied":              applied,
		"applied by an earlier plan": `{apiVersion: apps/v1, kind: Deployment, metadata: {name: aggregator-app, namespace: default},
			spec: {template: {spec: {containers: [{name: aggregator, env: [{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://old:1"}]}]}}}}`,
		"applied with another source": strings.Replace(applied, `value: "static://square-service:6565"`, `valueFrom: {configMapKeyRef: {name: a, key: b}}`, 1),
		"applied, then changed by hand": strings.NewReplacer("image: aggregator:2.0.0", "image: aggregator:1.0.0", "spec:\n  selector", "spec:\n  replicas: 2\n  paused: true\n  selector",
			"- name: helper", "- {name: gone, image: gone:1}\n      - name: helper", "value: debug", "value: info").Replace(applied),
		"applied without the args": strings.Replace(applied, `        args: ["--square", "static://square-service:6565", "--other=static://square-service:65650"]`, "", 1),
	}
	for history, last := range histories {
		for source, mod := range map[string]func(*diagnose.Target){"env": env, "arg": arg} {
			t.Run(history+", "+source, func(t *testing.T) {
				before := live(t, deployment, last)
				p := build(t, square(t, target(mod)), diagnose.StrategyHeadless,
					fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
				if diff := cmp.Diff(live(t, deployment, last), before); diff != "" {
					t.Errorf("the object that was read was changed:\n%s", diff)
				}
				if len(p.Objects) != 2 || len(p.Commands) != 0 || len(p.Notes) != 0 {
					t.Fatalf("objects %d, commands %v, notes %q", len(p.Objects), p.Commands, p.Notes)
				}
				want := live(t, expected(source), last)
				if diff := cmp.Diff(want, apply(t, before, p.Objects[1].Content, appsv1.Deployment{})); diff != "" {
					t.Errorf("apply changed more, or less:\n%s", diff)
				}
				patched := merge(t, encode(t, before), encode(t, object(t, p.Patches[0].YAML)), appsv1.Deployment{})
				if diff := cmp.Diff(want, patched); diff != "" {
					t.Errorf("the patch does something else:\n%s", diff)
				}
			})
		}
	}
}

func expected(source string) string {
	if source == "env" {
		return strings.Replace(deployment, `value: "static://square-service:6565"`, `value: "`+dialsTwin+`"`, 1)
	}
	return strings.Replace(deployment, `"--square", "static://square-service:6565"`, `"--square", "`+dialsTwin+`"`, 1)
}

func TestObjectsHoldNothingOfTheServer(t *testing.T) {
	for _, last := range []string{"", applied} {
		p := build(t, square(t), diagnose.StrategyHeadless,
			fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": live(t, deployment, last)})})
		out := manifests(t, p)
		for _, bad := range []string{"resourceVersion", "uid:", "managedFields", "status:", "creationTimestamp", "generation:", "last-applied-configuration", "replicas"} {
			if strings.Contains(out, bad) {
				t.Errorf("%q is in the manifests:\n%s", bad, out)
			}
		}
	}
}

const dialsIt = `{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565"}`

// withEnv is the deployment with other variables in place of the target's, separated by bars.
func withEnv(vars string) string {
	return strings.Replace(deployment, dialsIt, strings.ReplaceAll(vars, "|", "\n        - "), 1)
}

// TestLeftToTheOwner holds that a container is left as it is, with the reason, when a target cannot be replaced as a
// whole value: the program would get something that no resolver takes.
func TestLeftToTheOwner(t *testing.T) {
	apart := func(tg *diagnose.Target) {
		tg.Scheme, tg.Token, tg.Port, tg.PortName = "", "square-service", 80, "SQUARE_PORT"
	}
	cases := map[string]struct {
		env, note string
		mod       func(*diagnose.Target)
	}{
		"a list": {`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565,other:1"}`,
			"env GRPC_CLIENT_SQUARE_ADDRESS: the value is a list, and round_robin needs one name that stands for all pods. By hand: let the client dial " + dialsTwin, nil},
		"a query": {`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565?x=1"}`,
			"only a part of the value. By hand: write " + dialsTwin + " instead of static://square-service:6565.", nil},
		"composed": {`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://$(BASE_HOST):$(BASE_PORT)"}`,
			"composed of $(BASE_HOST), $(BASE_PORT). By hand: change those, or write " + dialsTwin + " as the whole value", nil},
		"others are composed of it": {dialsIt + `|{name: HEALTH, value: "$(GRPC_CLIENT_SQUARE_ADDRESS)/healthz"}`,
			"other values of the container are put together from $(GRPC_CLIENT_SQUARE_ADDRESS): env HEALTH", nil},
		"its port is not there": {`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: square-service}`, "its port, written apart, has to change with it", apart},
		"others use the port": {`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: square-service}|{name: SQUARE_PORT, value: "80"}|{name: X, value: "x:$(SQUARE_PORT)"}`,
			"put together from $(SQUARE_PORT): env X", apart},
		"a shell command": {"", "the target is a word of a shell command", func(tg *diagnose.Target) { tg.Source, tg.Name = "arg", "--sq" }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			doc := withEnv(c.env)
			if c.env == "" {
				doc = strings.Replace(deployment, `"--square", "static://square-service:6565"`, `"exec client --sq static://square-service:6565"`, 1)
			}
			mods := []func(*diagnose.Snapshot){service(func(s *diagnose.Service) {
				s.Ports = append(s.Ports, diagnose.ServicePort{Port: 80, TargetPort: "6565", AppProtocol: "grpc", Name: "b"})
			})}
			if c.mod != nil {
				mods = append(mods, target(c.mod))
			}
			p := build(t, square(t, mods...), diagnose.StrategyHeadless,
				fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": live(t, doc, "")})})
			if len(p.Objects) != 1 || len(p.Patches) != 0 || len(p.Commands) != 0 {
				t.Errorf("objects %+v, patches %+v, commands %+v", p.Objects, p.Patches, p.Commands)
			}
			mentions(t, p.Notes, c.note)
		})
	}
}

// TestHostAndPort holds that a host and a port in two variables change together.
func TestHostAndPort(t *testing.T) {
	before := live(t, withEnv(`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: square-service}|{name: SQUARE_PORT, value: "80"}|{name: COPY, value: "$(GRPC_CLIENT_SQUARE_ADDRESS)"}`), "")
	v := square(t, service(func(s *diagnose.Service) { s.Ports[0].Port = 80 }), target(func(tg *diagnose.Target) {
		tg.Scheme, tg.Token, tg.Port, tg.PortName = "", "square-service", 80, "SQUARE_PORT"
	}))
	p := build(t, v, diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
	if len(p.Objects) != 2 {
		t.Fatalf("objects %+v, notes %q", p.Objects, p.Notes)
	}
	got := apply(t, before, p.Objects[1].Content, appsv1.Deployment{})
	want := live(t, withEnv(`{name: GRPC_CLIENT_SQUARE_ADDRESS, value: square-service-headless.default.svc.cluster.local}|{name: SQUARE_PORT, value: "6565"}|{name: COPY, value: "$(GRPC_CLIENT_SQUARE_ADDRESS)"}`), "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestServerSideApply holds that an object which is kept by server-side apply is patched: a manifest with some of its
// fields would, applied in the same way, give up all the others.
func TestServerSideApply(t *testing.T) {
	kept := strings.Replace(deployment, "managedFields: [{manager: kubectl}]",
		"managedFields: [{manager: status, operation: Apply, subresource: status}, {manager: flux, operation: Apply}, {manager: kubectl-edit, operation: Update}]", 1)
	before := live(t, kept, "")
	p := build(t, square(t), diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
	if len(p.Objects) != 1 || p.Objects[0].Ref != "svc/square-service-headless" || len(p.Commands) != 1 {
		t.Fatalf("objects %+v, commands %+v", p.Objects, p.Commands)
	}
	args := p.Commands[0].Args
	if got := strings.Join(args[:len(args)-1], " "); got != "kubectl patch deploy/aggregator-app -n default --type=strategic -p" {
		t.Errorf("command %q", got)
	}
	want := live(t, strings.Replace(kept, dialsIt, strings.Replace(dialsIt, "static://square-service:6565", dialsTwin, 1), 1), "")
	if diff := cmp.Diff(want, merge(t, encode(t, before), []byte(args[len(args)-1]), appsv1.Deployment{})); diff != "" {
		t.Error(diff)
	}
	mentions(t, p.Caveats, "deploy/aggregator-app is kept by server-side apply (field manager flux)")

	clientSide := build(t, square(t), diagnose.StrategyHeadless,
		fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": live(t, kept, applied)})})
	if len(clientSide.Objects) != 2 {
		t.Errorf("an object that kubectl apply keeps: %+v", clientSide.Objects)
	}
}

// TestNothingToApply holds that a plan without objects says so where it is read first.
func TestNothingToApply(t *testing.T) {
	itself := service(func(s *diagnose.Service) { s.ClusterIPs = []string{"None"} })
	twinOfOthers := sibling(func(*diagnose.Service) {})
	cases := map[string]struct {
		v    *diagnose.View
		s    diagnose.Strategy
		want string
	}{
		"code for servers": {square(t), diagnose.StrategyMaxAge, "strategy max-age has no manifest to apply: it is code for the servers"},
		"commands":         {square(t, itself), diagnose.StrategyHeadless, "strategy headless has no manifest to apply: its comments hold the commands to run"},
		"notes": {square(t, twinOfOthers, func(s *diagnose.Snapshot) { s.Workloads.Value = nil }), diagnose.StrategyHeadless,
			"strategy headless has no manifest to apply: what is left to do stands in its comments"},
		"a twin": {square(t), diagnose.StrategyHeadless, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := build(t, c.v, c.s, fix.Options{})
			if p.HasObjects() != (c.want == "") || p.Nothing() != c.want {
				t.Errorf("HasObjects %v, %q", p.HasObjects(), p.Nothing())
			}
			first, _, _ := strings.Cut(manifests(t, p), "\n")
			if c.want != "" && first != "# "+c.want+"." {
				t.Errorf("the first line is %q", first)
			}
		})
	}
}

const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default, uid: u}
data:
  application.yaml: |
    square: static://square-service:6565
    level: debug
  other: static://square-service:65650
`

// fromConfigMap makes the client read its target from a ConfigMap, as another workload does too.
func fromConfigMap(s *diagnose.Snapshot) {
	tg := &s.Workloads.Value[0].Targets[0]
	tg.Source, tg.ConfigMap, tg.Name, tg.ConfigMapKey = "configmap", "settings", "application.yaml", "application.yaml"
	twice := s.Workloads.Value[0]
	twice.Name, twice.Kind = "nightly", "CronJob"
	s.Workloads.Value = append(s.Workloads.Value, twice)
}

func TestConfigMap(t *testing.T) {
	before := live(t, settings, "")
	p := build(t, square(t, fromConfigMap), diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"ConfigMap/settings": before})})
	if len(p.Objects) != 2 || p.Objects[1].Ref != "configmap/settings" {
		t.Fatalf("objects %+v, notes %q", p.Objects, p.Notes)
	}
	want := live(t, strings.Replace(settings, "static://square-service:6565\n", dialsTwin+"\n", 1), "")
	if diff := cmp.Diff(want, apply(t, before, p.Objects[1].Content, corev1.ConfigMap{})); diff != "" {
		t.Error(diff)
	}
	if len(p.Commands) != 1 || strings.Join(p.Commands[0].Args, " ") != "kubectl rollout restart deploy/aggregator-app -n default" {
		t.Errorf("commands %+v", p.Commands)
	}
	if strings.Contains(manifests(t, p), "65650") {
		t.Error("keys that do not change are written")
	}
}

func TestConfigMapStays(t *testing.T) {
	cases := map[string]struct{ doc, note string }{
		"immutable": {settings + "immutable: true\n", "immutable"},
		"gone":      {strings.ReplaceAll(settings, "static://square-service:6565\n", "x\n"), "not there any more"},
		"forbidden": {"", "may not get it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			objects := map[string]map[string]any{}
			if c.doc != "" {
				objects["ConfigMap/settings"] = live(t, c.doc, "")
			}
			p := build(t, square(t, fromConfigMap), diagnose.StrategyHeadless, fix.Options{Workload: cluster(objects)})
			if len(p.Objects) != 1 {
				t.Errorf("objects %+v", p.Objects)
			}
			mentions(t, p.Notes, c.note)
		})
	}
}

func TestCronJob(t *testing.T) {
	doc := `
apiVersion: batch/v1
kind: CronJob
metadata: {name: aggregator-app, namespace: default}
spec:
  schedule: "@hourly"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, initContainers: [{name: aggregator, env: [{name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565"}]}]}}}}
`
	before := live(t, doc, "")
	v := square(t, client(func(w *diagnose.Workload) { w.Kind = "CronJob" }))
	p := build(t, v, diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"CronJob/aggregator-app": before})})
	want := live(t, strings.Replace(doc, "static://square-service:6565", dialsTwin, 1), "")
	if diff := cmp.Diff(want, apply(t, before, p.Objects[1].Content, batchv1.CronJob{})); diff != "" {
		t.Error(diff)
	}
}

func TestWorkloadStays(t *testing.T) {
	owned := strings.Replace(deployment, "  name: aggregator-app\n", "  name: aggregator-app\n  ownerReferences: [{kind: Rollout, name: agg, controller: true}]\n", 1)
	cases := map[string]struct {
		doc, note string
		mod       func(*diagnose.Snapshot)
	}{
		"owned by a controller": {owned, "belongs to Rollout/agg", nil},
		"container gone":        {strings.ReplaceAll(deployment, "name: aggregator\n", "name: renamed\n"), "container is not there any more", nil},
		"value gone":            {strings.ReplaceAll(deployment, `value: "static://square-service:6565"`, `value: other`), "target is not there any more", nil},
		"already changed":       {strings.ReplaceAll(deployment, `value: "static://square-service:6565"`, `value: "`+dialsTwin+`"`), "already", nil},
		"a job":                 {deployment, "a Job cannot be changed in place", client(func(w *diagnose.Workload) { w.Kind = "Job" })},
		"another object":        {strings.ReplaceAll(deployment, "name: aggregator-app\n", "name: else\n"), "what was read is no Deployment aggregator-app", nil},
		"forbidden":             {"", "may not get it", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			objects := map[string]map[string]any{}
			if c.doc != "" {
				objects["Deployment/aggregator-app"] = live(t, c.doc, "")
			}
			var mods []func(*diagnose.Snapshot)
			if c.mod != nil {
				mods = append(mods, c.mod)
			}
			p := build(t, square(t, mods...), diagnose.StrategyHeadless, fix.Options{Workload: cluster(objects)})
			if len(p.Objects) != 1 {
				t.Errorf("%d objects", len(p.Objects))
			}
			mentions(t, p.Notes, c.note)
			if hasCommand := len(p.Commands) == 1; hasCommand != (name == "forbidden" || name == "another object") {
				t.Errorf("commands %+v", p.Commands)
			}
		})
	}
}

func TestKeepers(t *testing.T) {
	for label, who := range map[string]string{
		"app.kubernetes.io/managed-by: Helm": "Helm", "argocd.argoproj.io/instance: x": "Argo CD", "kustomize.toolkit.fluxcd.io/name: x": "Flux",
	} {
		doc := strings.Replace(deployment, "labels: {app: aggregator-app}", "labels: {app: aggregator-app, "+label+"}", 1)
		p := build(t, square(t), diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": live(t, doc, "")})})
		mentions(t, p.Caveats, "is kept by "+who)
	}
}

func TestMeshLive(t *testing.T) {
	before := live(t, deployment, applied)
	p := build(t, square(t), diagnose.StrategyMesh, fix.Options{Mesh: "linkerd", Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
	want := live(t, strings.Replace(deployment, "    metadata: {labels: {app: aggregator-app}}",
		"    metadata: {labels: {app: aggregator-app}, annotations: {linkerd.io/inject: enabled}}", 1), applied)
	if diff := cmp.Diff(want, apply(t, before, p.Objects[0].Content, appsv1.Deployment{})); diff != "" {
		t.Error(diff)
	}
}

// FuzzLastApplied holds that no annotation, which anybody may write, brings the program down or a broken stream out.
func FuzzLastApplied(f *testing.F) {
	f.Add(`{"kind":"Deployment","metadata":{"name":"aggregator-app"},"spec":{"template":{"spec":{"containers":[{"name":["x"]},7,{"name":"aggregator","env":{}}]}}}}`)
	f.Add(`{"kind":"Deployment","metadata":{"name":"aggregator-app"},"spec":[1]}`)
	f.Add(`{"kind":"Deployment","metadata":7}`)
	f.Add(string(mustJSON(object(f, applied))))
	v := square(f)
	f.Fuzz(func(t *testing.T, last string) {
		before := live(t, deployment, "")
		before["metadata"].(map[string]any)["annotations"] = map[string]any{corev1.LastAppliedConfigAnnotation: last}
		p, err := fix.Build(v, diagnose.StrategyHeadless, fix.Options{Workload: cluster(map[string]map[string]any{"Deployment/aggregator-app": before})})
		if err != nil {
			t.Fatal(err)
		}
		manifests(t, p)
	})
}

func mustJSON(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}
