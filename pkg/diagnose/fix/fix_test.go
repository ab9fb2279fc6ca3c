package fix_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// square returns the view of the square example, changed by mods.
func square(t testing.TB, mods ...func(*diagnose.Snapshot)) *diagnose.View {
	t.Helper()
	s, err := snapfile.LoadFile("../snapfile/testdata/square.snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mods {
		m(s)
	}
	v, ok := s.View(s.Targets[0])
	if !ok {
		t.Fatal("the Service is not in the snapshot")
	}
	return v
}

func service(change func(*diagnose.Service)) func(*diagnose.Snapshot) {
	return func(s *diagnose.Snapshot) { change(&s.Services.Value[0]) }
}

func client(change func(*diagnose.Workload)) func(*diagnose.Snapshot) {
	return func(s *diagnose.Snapshot) { change(&s.Workloads.Value[0]) }
}

func target(change func(*diagnose.Target)) func(*diagnose.Snapshot) {
	return client(func(w *diagnose.Workload) { change(&w.Targets[0]) })
}

// sibling adds a Service with the same selector.
func sibling(change func(*diagnose.Service)) func(*diagnose.Snapshot) {
	return func(s *diagnose.Snapshot) {
		o := s.Services.Value[0]
		o.Name, o.ClusterIPs = "square-service-headless", []string{"None"}
		change(&o)
		s.Services.Value = append(s.Services.Value, o)
	}
}

// deployment is the aggregator as the API server has it: defaults filled in, scaled by somebody, status and all.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: aggregator-app
  namespace: default
  uid: 7c1f2c1e-0d0c-4b0e-9b43-3c41c1e0a099
  resourceVersion: "4711"
  generation: 3
  creationTimestamp: "2026-11-21T11:00:00Z"
  labels: {app: aggregator-app}
  managedFields: [{manager: kubectl}]
spec:
  replicas: 4
  revisionHistoryLimit: 10
  selector: {matchLabels: {app: aggregator-app}}
  template:
    metadata: {labels: {app: aggregator-app}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: aggregator
        image: aggregator:2.0.0
        args: ["--square", "static://square-service:6565", "--other=static://square-service:65650"]
        terminationMessagePath: /dev/termination-log
        env:
        - {name: LEVEL, value: debug}
        - {name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565"}
      - name: helper
        image: helper:1
status: {replicas: 4, readyReplicas: 4}
`

// applied is what the owner once applied: less than what is there now.
const applied = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: aggregator-app, namespace: default, labels: {app: aggregator-app}}
spec:
  selector: {matchLabels: {app: aggregator-app}}
  template:
    metadata: {labels: {app: aggregator-app}}
    spec:
      containers:
      - name: aggregator
        image: aggregator:2.0.0
        args: ["--square", "static://square-service:6565", "--other=static://square-service:65650"]
        env:
        - {name: LEVEL, value: debug}
        - {name: GRPC_CLIENT_SQUARE_ADDRESS, value: "static://square-service:6565"}
      - name: helper
        image: helper:1
`

func object(t testing.TB, doc string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// live returns the object as a cluster holds it, applied by its owner when lastApplied is given.
func live(t testing.TB, doc, lastApplied string) map[string]any {
	t.Helper()
	m := object(t, doc)
	if lastApplied != "" {
		raw, err := json.Marshal(object(t, lastApplied))
		if err != nil {
			t.Fatal(err)
		}
		m["metadata"].(map[string]any)["annotations"] = map[string]any{corev1.LastAppliedConfigAnnotation: string(raw)}
	}
	return m
}

// cluster answers with objects by kind/name; what is not there is an error.
func cluster(objects map[string]map[string]any) func(kind, ns, name string) (map[string]any, error) {
	return func(kind, _, name string) (map[string]any, error) {
		if o, ok := objects[kind+"/"+name]; ok {
			return o, nil
		}
		return nil, errors.New("may not get it")
	}
}

func build(t testing.TB, v *diagnose.View, s diagnose.Strategy, o fix.Options) fix.Plan {
	t.Helper()
	p, err := fix.Build(v, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func manifests(t testing.TB, p fix.Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteManifests(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGoldens(t *testing.T) {
	meshed := func(s *diagnose.Snapshot) {
		for i := range s.Pods.Value[:3] {
			s.Pods.Value[i].Mesh = diagnose.Mesh{Kind: "linkerd", Mode: "sidecar"}
		}
	}
	tls := func(s *diagnose.Snapshot) {
		s.Ports.Value[0].TLS = &diagnose.TLSInfo{ALPN: "h2", DNSNames: []string{"square.acme.example"}}
	}
	here := cluster(map[string]map[string]any{"Deployment/aggregator-app": live(t, deployment, applied)})
	cases := map[string]struct {
		mods []func(*diagnose.Snapshot)
		s    diagnose.Strategy
		o    fix.Options
	}{
		"headless-offline": {nil, diagnose.StrategyHeadless, fix.Options{}},
		"headless-live":    {nil, diagnose.StrategyHeadless, fix.Options{Workload: here}},
		"headless-tls":     {[]func(*diagnose.Snapshot){tls}, diagnose.StrategyHeadless, fix.Options{}},
		"mesh-offline":     {[]func(*diagnose.Snapshot){meshed}, diagnose.StrategyMesh, fix.Options{}},
		"mesh-live":        {nil, diagnose.StrategyMesh, fix.Options{Mesh: "istio", Workload: here}},
		"max-age":          {nil, diagnose.StrategyMaxAge, fix.Options{}},
		"sidecar-offline":  {nil, diagnose.StrategySidecar, fix.Options{}},
		"sidecar-live":     {nil, diagnose.StrategySidecar, fix.Options{Workload: here, Image: "registry.example/refresher:1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := manifests(t, build(t, square(t, c.mods...), c.s, c.o))
			golden.Text(t, filepath.Join("testdata", name+".golden"), got)
		})
	}
}

func TestTwin(t *testing.T) {
	v := square(t, service(func(s *diagnose.Service) {
		s.Ports = []diagnose.ServicePort{
			{Name: "grpc", Protocol: "TCP", Port: 80, TargetPort: "grpc", AppProtocol: "grpc"},
			{Name: "grpc-alias", Protocol: "TCP", Port: 81, TargetPort: "6565"},
			{Name: "metrics", Protocol: "TCP", Port: 9090, TargetPort: "9090"},
			{Name: "gossip", Protocol: "UDP", Port: 7946},
		}
		s.IPFamilies = []string{"IPv6", "IPv4"}
		s.PublishNotReady = true
		s.SessionAffinity = "ClientIP"
	}), target(func(tg *diagnose.Target) { tg.Port, tg.Token = 80, "square-service:80" }))
	p := build(t, v, diagnose.StrategyHeadless, fix.Options{})
	want := object(t, `
apiVersion: v1
kind: Service
metadata:
  name: square-service-headless
  namespace: default
  labels: {app.kubernetes.io/managed-by: kubectl-grpclb, grpclb.dev/twin-of: square-service}
spec:
  clusterIP: None
  ipFamilies: [IPv6, IPv4]
  ipFamilyPolicy: PreferDualStack
  ports: [{name: grpc, protocol: TCP, port: 6565, targetPort: grpc, appProtocol: grpc}]
  selector: {app: square-app}
`)
	if diff := cmp.Diff(want, p.Objects[0].Content); diff != "" {
		t.Error(diff)
	}
	if c := p.Commands[0].Args; c[len(c)-1] != "GRPC_CLIENT_SQUARE_ADDRESS=dns:///square-service-headless.default.svc.cluster.local:6565" {
		t.Errorf("port 80 of the Service is not translated: %v", c)
	}
	mentions(t, p.Notes, "grpc-alias", "publishes addresses that are not ready")
}

func mentions(t testing.TB, texts []string, wants ...string) {
	t.Helper()
	all := strings.Join(texts, "\n")
	for _, w := range wants {
		if !strings.Contains(all, w) {
			t.Errorf("%q is not said in:\n%s", w, all)
		}
	}
}

func TestTwinOfOthers(t *testing.T) {
	t.Run("ours is made again", func(t *testing.T) {
		p := build(t, square(t, sibling(func(s *diagnose.Service) { s.Ours = true })), diagnose.StrategyHeadless, fix.Options{})
		if len(p.Objects) != 1 || p.Objects[0].Ref != "svc/square-service-headless" {
			t.Errorf("objects %+v", p.Objects)
		}
	})
	t.Run("another's is used as it is", func(t *testing.T) {
		for _, name := range []string{"square-service-headless", "square-lb"} {
			p := build(t, square(t, sibling(func(s *diagnose.Service) { s.Name = name })), diagnose.StrategyHeadless, fix.Options{})
			if len(p.Objects) != 0 {
				t.Errorf("objects %+v", p.Objects)
			}
			mentions(t, p.Commands[0].Args, "dns:///"+name+".default.svc.cluster.local:6565")
		}
	})
	t.Run("a name that was asked for is made", func(t *testing.T) {
		p := build(t, square(t, sibling(func(s *diagnose.Service) { s.Name = "square-lb" })), diagnose.StrategyHeadless, fix.Options{Name: "mine"})
		if len(p.Objects) != 1 || p.Objects[0].Ref != "svc/mine" {
			t.Errorf("objects %+v", p.Objects)
		}
	})
	t.Run("itself when it is headless", func(t *testing.T) {
		p := build(t, square(t, service(func(s *diagnose.Service) { s.ClusterIPs = []string{"None"} })), diagnose.StrategyHeadless, fix.Options{})
		if len(p.Objects) != 0 {
			t.Errorf("objects %+v", p.Objects)
		}
		mentions(t, p.Commands[0].Args, "dns:///square-service.default.svc.cluster.local:6565")
	})
	t.Run("clients of the twin are left", func(t *testing.T) {
		p := build(t, square(t, sibling(func(s *diagnose.Service) { s.Ours = true }), target(func(tg *diagnose.Target) {
			tg.Service.Name, tg.Token = "square-service-headless", "dns:///square-service-headless:6565"
		})), diagnose.StrategyHeadless, fix.Options{})
		if len(p.Commands) != 0 {
			t.Errorf("commands %+v", p.Commands)
		}
		mentions(t, p.Notes, "deploy/aggregator-app dials svc/square-service-headless already")
	})
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name string
		mod  func(*diagnose.Snapshot)
		s    diagnose.Strategy
		o    fix.Options
		code string
	}{
		{"no such strategy", nil, "xds", fix.Options{}, fix.CodeUnknownStrategy},
		{"http", service(func(s *diagnose.Service) { s.Ports[0].AppProtocol = "http" }), diagnose.StrategyMaxAge, fix.Options{}, fix.CodeNotGRPC},
		{"external", service(func(s *diagnose.Service) { s.Type = "ExternalName" }), diagnose.StrategyHeadless, fix.Options{}, fix.CodeExternalName},
		{"udp", service(func(s *diagnose.Service) { s.Ports[0].Protocol = "UDP" }), diagnose.StrategyHeadless, fix.Options{}, fix.CodeNoTCPPort},
		{"no selector", service(func(s *diagnose.Service) { s.Selector = nil }), diagnose.StrategyHeadless, fix.Options{}, fix.CodeNoSelector},
		{"name taken", func(s *diagnose.Snapshot) {
			s.Services.Value = append(s.Services.Value, diagnose.Service{Key: diagnose.Key{Namespace: "default", Name: "square-service-headless"}})
		}, diagnose.StrategyHeadless, fix.Options{}, fix.CodeNameTaken},
		{"name taken by another headless", sibling(func(s *diagnose.Service) { s.Selector = map[string]string{"app": "other"} }), diagnose.StrategyHeadless, fix.Options{}, fix.CodeNameTaken},
		{"name too long", nil, diagnose.StrategyHeadless, fix.Options{Name: strings.Repeat("a", 64)}, fix.CodeNameInvalid},
		{"name no label", nil, diagnose.StrategyHeadless, fix.Options{Name: "A_b"}, fix.CodeNameInvalid},
		{"ports differ", func(s *diagnose.Snapshot) {
			more := s.Slices.Value[0]
			more.Name, more.Ports = "b", []diagnose.SlicePort{{Name: "grpc", Port: 6566}}
			more.Endpoints = []diagnose.SliceEndpoint{{Addresses: []string{"10.244.1.77"}, Ready: true, Pod: diagnose.Key{Namespace: "default", Name: "x"}}}
			s.Slices.Value = append(s.Slices.Value, more)
		}, diagnose.StrategyHeadless, fix.Options{}, fix.CodePortsDiffer},
		{"port unknown", func(s *diagnose.Snapshot) {
			s.Services.Value[0].Ports[0].TargetPort = "nowhere"
			s.Slices.Value = nil
		}, diagnose.StrategyHeadless, fix.Options{}, fix.CodePortUnknown},
		{"meshed", client(func(w *diagnose.Workload) { w.Mesh = diagnose.Mesh{Kind: "istio", Mode: "sidecar"} }), diagnose.StrategyHeadless, fix.Options{}, fix.CodeMeshed},
		{"no mesh", nil, diagnose.StrategyMesh, fix.Options{}, fix.CodeNoMesh},
		{"no such mesh", nil, diagnose.StrategyMesh, fix.Options{Mesh: "consul"}, fix.CodeBadOption},
		{"age below zero", nil, diagnose.StrategyMaxAge, fix.Options{MaxAge: -1}, fix.CodeBadOption},
		{"age too short", nil, diagnose.StrategyMaxAge, fix.Options{MaxAge: 1}, fix.CodeBadOption},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var mods []func(*diagnose.Snapshot)
			if c.mod != nil {
				mods = append(mods, c.mod, func(s *diagnose.Snapshot) { s.Ports = diagnose.Fact[[]diagnose.PortProbe]{} })
			}
			p, err := fix.Build(square(t, mods...), c.s, c.o)
			var r *fix.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("got plan %+v, error %v", p, err)
			}
			if r.Code != c.code || r.Reason == "" || r.Strategy != c.s || !strings.Contains(err.Error(), r.Reason) {
				t.Errorf("got %+v, want code %s", r, c.code)
			}
			if r.Hint == "" && c.name != "age below zero" {
				t.Errorf("no hint with: %v", err)
			}
		})
	}
}

func TestNamedPortFromContainers(t *testing.T) {
	p := build(t, square(t, func(s *diagnose.Snapshot) {
		s.Services.Value[0].Ports[0].TargetPort = "grpc"
		s.Slices.Value = nil
	}), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, p.Commands[0].Args, ":6565")
}

func TestTargets(t *testing.T) {
	const twin = "square-service-headless.default.svc.cluster.local"
	cases := []struct {
		name string
		tg   diagnose.Target
		want string // empty: not changed
		note string
	}{
		{"short name", diagnose.Target{Token: "square-service:6565", Port: 6565}, "dns:///" + twin + ":6565", ""},
		{"https", diagnose.Target{Token: "https://square-service:6565", Scheme: "https", Port: 6565}, "dns:///" + twin + ":6565", ""},
		{"scheme without port", diagnose.Target{Token: "dns:///square-service", Scheme: "dns"}, "dns:///" + twin + ":6565", ""},
		{"bare host", diagnose.Target{Token: "square-service"}, twin, ""},
		{"another port", diagnose.Target{Token: "square-service:9", Port: 9}, "", "names no gRPC port"},
		{"xds", diagnose.Target{Token: "xds:///square-service:6565", Scheme: "xds", Port: 6565}, "", "xDS"},
		{"done", diagnose.Target{Token: "dns:///" + twin + ":6565", Scheme: "dns", Port: 6565}, "", "already"},
		{"a part of a value", diagnose.Target{Token: "square-service:6565", Port: 6565, Part: true}, "", "write dns:///" + twin + ":6565 instead of square-service:6565 (kubectl edit deploy/aggregator-app)"},
		{"pick_first", diagnose.Target{Token: "square-service:6565", Port: 6565, Policy: "pick_first"}, "dns:///" + twin + ":6565", "has to become round_robin"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := square(t, target(func(tg *diagnose.Target) {
				c.tg.Container, c.tg.Source, c.tg.Name, c.tg.Kind, c.tg.Service, c.tg.Host = tg.Container, "env", tg.Name, tg.Kind, tg.Service, "square-service"
				*tg = c.tg
			}))
			p := build(t, v, diagnose.StrategyHeadless, fix.Options{})
			var got string
			if len(p.Commands) > 0 {
				_, got, _ = strings.Cut(p.Commands[0].Args[len(p.Commands[0].Args)-1], "=")
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			mentions(t, p.Notes, c.note)
		})
	}
}

func TestBareHostWithAnotherPort(t *testing.T) {
	p := build(t, square(t, service(func(s *diagnose.Service) { s.Ports[0].Port = 80 }), target(func(tg *diagnose.Target) {
		tg.Scheme, tg.Token, tg.Port = "", "square-service", 0
	})), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, p.Notes, "has to be 6565, not 80")
}

func TestPortWrittenApart(t *testing.T) {
	apart := target(func(tg *diagnose.Target) {
		tg.Scheme, tg.Token, tg.Port, tg.PortName = "", "square-service", 80, "SQUARE_PORT"
	})
	eighty := service(func(s *diagnose.Service) { s.Ports[0].Port = 80 })
	p := build(t, square(t, eighty, apart), diagnose.StrategyHeadless, fix.Options{})
	if len(p.Commands) != 1 {
		t.Fatalf("not both at once: %+v", p.Commands)
	}
	mentions(t, p.Commands[0].Args, "GRPC_CLIENT_SQUARE_ADDRESS=square-service-headless.default.svc.cluster.local", "SQUARE_PORT=6565")
	arg := target(func(tg *diagnose.Target) { tg.Source, tg.PortName = "arg", "--square-port" })
	mentions(t, build(t, square(t, eighty, apart, arg), diagnose.StrategyHeadless, fix.Options{}).Notes, "and 6565 as its port (--square-port)")
	same := build(t, square(t, target(func(tg *diagnose.Target) { tg.Scheme, tg.Token, tg.PortName = "", "square-service", "SQUARE_PORT" })), diagnose.StrategyHeadless, fix.Options{})
	if len(same.Commands) != 1 {
		t.Errorf("commands %+v", same.Commands)
	}
}

func TestClientsNotSeen(t *testing.T) {
	unknown := build(t, square(t, func(s *diagnose.Snapshot) {
		s.Workloads = diagnose.Unknown[[]diagnose.Workload](diagnose.Denied, "may not list deployments in default", "")
	}), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, unknown.Notes, "may not list deployments in default", "dns:///square-service-headless.default.svc.cluster.local:6565")
	none := build(t, square(t, func(s *diagnose.Snapshot) { s.Workloads.Value = nil }), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, none.Notes, "No client in reach names svc/square-service")
	if len(none.Snippets) != len(fix.Languages()) {
		t.Errorf("%d snippets", len(none.Snippets))
	}
	half := build(t, square(t, func(s *diagnose.Snapshot) {
		s.Gaps = append(s.Gaps, diagnose.Gap{Fact: diagnose.FactConfigMaps, Subject: "configmap default/app",
			Status: diagnose.Status{State: diagnose.Denied, Reason: "may not get configmaps in default"}})
	}), diagnose.StrategyHeadless, fix.Options{})
	mentions(t, half.Notes, "may not get configmaps in default", "dns:///square-service-headless")
}

func TestTLS(t *testing.T) {
	cert := func(names ...string) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) { s.Ports.Value[0].TLS = &diagnose.TLSInfo{ALPN: "h2", DNSNames: names} }
	}
	cases := []struct {
		name, authority, caveat string
		mod                     func(*diagnose.Snapshot)
	}{
		{"plaintext", "", "", func(*diagnose.Snapshot) {}},
		{"not looked at", "", "was not seen", func(s *diagnose.Snapshot) { s.Ports = diagnose.Fact[[]diagnose.PortProbe]{} }},
		{"wildcard", "", "", cert("*.default.svc.cluster.local")},
		{"wildcard too short", "a.example", "is not valid for", cert("*.svc.cluster.local", "a.example")},
		{"the Service's name", "square-service.default.svc.cluster.local", "is not valid for", cert("square-service.default.svc.cluster.local")},
		{"declared", "square-service.default.svc.cluster.local", "is not valid for", service(func(s *diagnose.Service) { s.Ports[0].AppProtocol = "grpcs" })},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := build(t, square(t, c.mod), diagnose.StrategyHeadless, fix.Options{})
			code := p.Snippets[0].Code
			if c.authority == "" && strings.Contains(code, "WithAuthority") || c.authority != "" && !strings.Contains(code, `WithAuthority("`+c.authority+`")`) {
				t.Errorf("code:\n%s", code)
			}
			if said := strings.Contains(strings.Join(p.Caveats, "\n"), "certificate"); said != (c.caveat != "") {
				t.Errorf("caveats %q", p.Caveats)
			}
			mentions(t, p.Caveats, c.caveat)
		})
	}
}
