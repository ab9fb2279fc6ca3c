package inject_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// client is a Deployment that is injected without a remark, changed by replacements of pairs.
func client(t testing.TB, pairs ...string) inject.Workload {
	t.Helper()
	doc := strings.NewReplacer(pairs...).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: default}
spec:
  template:
    metadata: {labels: {app: client}}
    spec:
      containers:
      - name: app
        image: app:1
        env: [{name: SQUARE, value: "dns:///square-service:6565"}]
        ports: [{containerPort: 8080}]
`)
	return read(t, doc)
}

func read(t testing.TB, doc string) inject.Workload {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
		t.Fatal(err)
	}
	w, err := inject.Read(obj, "default")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const secure = `securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}, capabilities: {drop: [ALL]}}
        image: app:1`

func TestRemarks(t *testing.T) {
	restricted := inject.Facts{Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}
	env := func(o *inject.Options) { o.Mode = inject.ModeEnv }
	plain := func(o *inject.Options) { o.Native = false }
	none := func(*inject.Options) {}
	cases := map[string]struct {
		pairs []string
		mod   func(*inject.Options)
		facts inject.Facts
		want  string // "LEVEL code"; empty when nothing is remarked
		says  string
	}{
		"in order":            {nil, none, inject.Facts{}, "", ""},
		"host network":        {[]string{"    spec:\n", "    spec:\n      hostNetwork: true\n"}, none, inject.Facts{}, "refusal host-network", "--strategy headless"},
		"windows by name":     {[]string{"    spec:\n", "    spec:\n      os: {name: windows}\n"}, none, inject.Facts{}, "refusal windows", "Windows"},
		"windows by selector": {[]string{"    spec:\n", "    spec:\n      nodeSelector: {kubernetes.io/os: windows}\n"}, none, inject.Facts{}, "refusal windows", "Windows"},
		"node's resolver":     {[]string{"    spec:\n", "    spec:\n      dnsPolicy: Default\n"}, none, inject.Facts{}, "warning own-dns", "ClusterFirst"},
		"a name that is ours": {[]string{"name: app\n", "name: grpclb-refresher\n"}, none, inject.Facts{}, "refusal name-taken", "rename"},
		"its own port":        {[]string{"8080", "6565"}, none, inject.Facts{}, "refusal port-conflict", "--mode env"},
		"its own port, udp":   {[]string{"containerPort: 8080", "containerPort: 6565, protocol: UDP"}, none, inject.Facts{}, "", ""},
		"its own port, env":   {[]string{"8080", "6565"}, env, inject.Facts{}, "note authority", ":authority"},
		"port of the sidecar": {[]string{"8080", "15661"}, env, inject.Facts{}, "refusal port-conflict", "listen elsewhere"},
		"admin port":          {[]string{"8080", "15650"}, none, inject.Facts{}, "refusal port-conflict", "--admin-port"},
		"debug port":          {[]string{"8080", "15651"}, none, inject.Facts{}, "refusal port-conflict", "pools page"},
		"another admin port":  {[]string{"8080", "15650"}, func(o *inject.Options) { o.AdminPort = 9000 }, inject.Facts{}, "", ""},
		"admin port twice":    {nil, func(o *inject.Options) { o.AdminPort = 6565 }, inject.Facts{}, "refusal port-conflict", "needs port 6565 for svc/square-service, and for its health"},
		"istio container":     {[]string{"      - name: app\n", "      - {name: istio-proxy, image: p}\n      - name: app\n"}, none, inject.Facts{}, "refusal meshed", "ClusterIP"},
		"linkerd annotation":  {[]string{"{labels:", "{annotations: {linkerd.io/inject: enabled}, labels:"}, none, inject.Facts{}, "refusal meshed", "Linkerd"},
		"linkerd namespace":   {nil, none, inject.Facts{Annotations: map[string]string{"linkerd.io/inject": "enabled"}}, "refusal meshed", "namespace"},
		"opted out":           {[]string{"{labels:", "{annotations: {linkerd.io/inject: disabled}, labels:"}, none, inject.Facts{Annotations: map[string]string{"linkerd.io/inject": "enabled"}}, "", ""},
		"istio namespace":     {nil, none, inject.Facts{Labels: map[string]string{"istio-injection": "enabled"}}, "refusal meshed", "Istio"},
		"istio revision":      {nil, none, inject.Facts{Labels: map[string]string{"istio.io/rev": "x"}}, "refusal meshed", "Istio"},
		"istio label":         {[]string{"{app: client}", "{app: client, sidecar.istio.io/inject: \"true\"}"}, none, inject.Facts{}, "refusal meshed", "Istio"},
		"istio opted out":     {[]string{"{app: client}", "{app: client, sidecar.istio.io/inject: \"false\"}"}, none, inject.Facts{Labels: map[string]string{"istio-injection": "enabled"}}, "", ""},
		"ambient":             {nil, none, inject.Facts{Labels: map[string]string{"istio.io/dataplane-mode": "ambient"}}, "warning ambient", "waypoint"},
		"final dot":           {[]string{"square-service:6565", "square-service.default.svc.cluster.local.:6565"}, none, inject.Facts{}, "refusal trailing-dot", "final dot"},
		"final dot, env":      {[]string{"square-service:6565", "square-service.default.svc.cluster.local.:6565"}, env, inject.Facts{}, "note authority", ""},
		"final dot, not all": {[]string{"env: [", `env: [{name: OTHER, value: "square-service.default.svc.cluster.local.:6565"}, `}, none, inject.Facts{},
			"warning trailing-dot", "env OTHER of container app"},
		"node resolver":   {[]string{"env: [", `env: [{name: GRPC_NODE_USE_ALTERNATIVE_RESOLVER, value: "true"}, `}, none, inject.Facts{}, "refusal node-resolver", "--mode env"},
		"node resolver 0": {[]string{"env: [", `env: [{name: GRPC_NODE_USE_ALTERNATIVE_RESOLVER, value: "false"}, `}, none, inject.Facts{}, "", ""},
		"proxy":           {[]string{"env: [", `env: [{name: https_proxy, value: "http://p:1"}, `}, none, inject.Facts{}, "warning http-proxy", "NO_PROXY"},
		"proxy, excepted": {[]string{"env: [", `env: [{name: HTTPS_PROXY, value: "http://p:1"}, {name: NO_PROXY, value: "10.0.0.0/8,.cluster.local"}, `}, none, inject.Facts{}, "", ""},
		"alias taken": {[]string{"    spec:\n", "    spec:\n      hostAliases: [{ip: 10.0.0.1, hostnames: [square-service.default]}]\n"}, none, inject.Facts{},
			"refusal alias-taken", "10.0.0.1"},
		"a server": {nil, none, inject.Facts{Selected: []diagnose.Key{{Namespace: "default", Name: "square-service"}}}, "refusal server", "workloads that call it"},
		"a server with its port": {[]string{"8080", "6565"}, none, inject.Facts{KeptBy: "Helm", Selected: []diagnose.Key{{Namespace: "default", Name: "square-service"}}},
			"refusal server", "workloads that call it"},
		"kept elsewhere": {nil, none, inject.Facts{KeptBy: "Helm"}, "warning kept-elsewhere", "Helm"},
		"no gRPC":        {nil, func(o *inject.Options) { o.Services[0].Ports[0].Other = true }, inject.Facts{}, "note spliced", "6565"},
		"plain":          {nil, plain, inject.Facts{}, "warning plain-container", "1.29"},
		"plain job":      {[]string{"apps/v1", "batch/v1", "Deployment", "Job"}, plain, inject.Facts{}, "refusal job", "1.29"},
		"restricted":     {[]string{"image: app:1", secure}, none, restricted, "note pod-security", "meet"},
		"not restricted": {nil, none, restricted, "warning pod-security", "allowPrivilegeEscalation"},
		"host path": {[]string{"image: app:1", secure, "    spec:\n", "    spec:\n      volumes: [{name: v, hostPath: {path: /}}]\n"}, none, restricted,
			"warning pod-security", "hostPath"},
		"baseline":          {nil, none, inject.Facts{Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}}, "note pod-security", "baseline"},
		"env names nothing": {[]string{"square-service:6565", "other:1"}, env, inject.Facts{}, "refusal nothing-to-rewrite", "127.0.0.1:15661 (for port 6565)"},
		"env with a list": {[]string{"dns:///square-service:6565", "square-service:6565,other:1"}, env, inject.Facts{},
			"refusal nothing-to-rewrite", "ConfigMap"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in, remarks := inject.Decide(client(t, c.pairs...), options(c.mod), c.facts)
			got, says := "", ""
			if len(remarks) > 0 {
				got = []string{"note", "warning", "refusal"}[remarks[0].Level] + " " + remarks[0].Code
				says = remarks[0].Text + " " + remarks[0].Instead
			}
			if got != c.want || !strings.Contains(says, c.says) {
				t.Errorf("%q (%s), want %q with %q", got, says, c.want, c.says)
			}
			if refused := strings.HasPrefix(c.want, "refusal"); refused != (in == nil) {
				t.Errorf("an injection: %v", in != nil)
			}
			for _, r := range remarks {
				if r.Text == "" || strings.HasSuffix(r.Text, ".") || r.Level == inject.Refusal && r.Instead == "" {
					t.Errorf("the remark %+v", r)
				}
			}
		})
	}
}

// TestListening holds which sockets of a running pod are in the sidecar's way: those on its address, and those on all of them.
func TestListening(t *testing.T) {
	aliases, env := options(), options(func(o *inject.Options) { o.Mode = inject.ModeEnv })
	for _, c := range []struct {
		at       string
		o        inject.Options
		conflict string // what the refusal says; empty when there is none
	}{
		{"0.0.0.0:6565", aliases, "a running pod of deploy/client listens on 0.0.0.0:6565: the sidecar could not listen on 127.0.0.10:6565, as it does for svc/square-service"},
		{"[::]:6565", aliases, "listens on [::]:6565"},
		{"127.0.0.10:6565", aliases, "listens on 127.0.0.10:6565"},
		{"[::ffff:127.0.0.10]:6565", aliases, "for svc/square-service"},
		{"127.0.0.1:6565", aliases, ""},
		{"[::1]:6565", aliases, ""},
		{"10.1.0.9:6565", aliases, ""},
		{"0.0.0.0:6566", aliases, ""},
		{"0.0.0.0:8080", aliases, ""},
		{"127.0.0.1:15650", aliases, "for its health and metrics"}, // the sidecar listens on all addresses there
		{"127.0.0.1:15651", aliases, "for its pools page"},
		{"127.0.0.2:15651", aliases, ""},
		{"0.0.0.0:6565", env, ""},
		{"127.0.0.1:15661", env, "127.0.0.1:15661, as it does for svc/square-service"},
		{"127.0.0.2:15661", env, ""},
	} {
		_, remarks := inject.Decide(client(t), c.o, inject.Facts{Listening: []netip.AddrPort{netip.MustParseAddrPort(c.at)}})
		got := ""
		for _, r := range remarks {
			if r.Level == inject.Refusal {
				got += r.Code + ": " + r.Text
			}
		}
		if (got == "") != (c.conflict == "") || !strings.Contains(got, c.conflict) {
			t.Errorf("%s, mode %q: %q, want %q", c.at, c.o.Mode, got, c.conflict)
		}
	}
	// One fault is told once: a port that is declared, too, says the container's name.
	_, remarks := inject.Decide(client(t, "8080", "6565"), aliases, inject.Facts{Listening: []netip.AddrPort{netip.MustParseAddrPort("[::]:6565")}})
	if len(remarks) != 1 || !strings.Contains(remarks[0].Text, "container app") {
		t.Errorf("%+v", remarks)
	}
}

func TestPorts(t *testing.T) {
	o := options(ways["two services"])
	in, remarks := inject.Decide(client(t), o, inject.Facts{})
	if in == nil || !slices.Equal(in.Ports(), []int32{80, 6565, 9090, 15650, 15651}) {
		t.Errorf("%v, %+v", in.Ports(), remarks)
	}
}

// TestServiceDropped: an injection is made anew as a whole.
func TestServiceDropped(t *testing.T) {
	two := put(t, corpus(t)["plain.yaml"], options(ways["two services"]))
	s, err := inject.Parse([]byte(two))
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := s.Workload(s.Objects()[0], "default")
	if err != nil || !w.Injected || len(w.Services) != 2 {
		t.Fatalf("%+v, %v", w.Services, err)
	}
	_, remarks := inject.Decide(w, options(), inject.Facts{})
	if len(remarks) != 1 || remarks[0].Code != "service-dropped" || !strings.Contains(remarks[0].Text, "cart of shop") {
		t.Errorf("%+v", remarks)
	}
}

// TestNewAddress: addresses that hostAliases use for something else are left alone.
func TestNewAddress(t *testing.T) {
	w := client(t, "    spec:\n", "    spec:\n      hostAliases: [{ip: 127.0.0.10, hostnames: [db]}, {ip: 127.0.0.11, hostnames: [db2]}]\n")
	in, remarks := inject.Decide(w, options(), inject.Facts{})
	if in == nil || len(remarks) > 0 {
		t.Fatalf("%+v", remarks)
	}
	out, err := inject.Add(map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}, in)
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := json.Marshal(out); !strings.Contains(string(raw), `"ip":"127.0.0.12"`) || !strings.Contains(string(raw), "127.0.0.12:6565") {
		t.Errorf("%s", raw)
	}
}

// TestRewrites holds which words of a pod change in mode env.
func TestRewrites(t *testing.T) {
	doc := `
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default}
spec:
  initContainers:
  - {name: wait, image: w, command: [wait, "square-service:6565"]}
  containers:
  - name: app
    image: a
    args: ["--square=dns:///square-service.default.svc.cluster.local.:6565", --other, "square-service:80"]
    env: [{name: A, value: "http://square-service:6565"}, {name: B, value: "$(A)/x"}, {name: C, value: "square-service"}]
`
	src := strings.TrimPrefix(doc, "\n")
	out := put(t, src, options(func(o *inject.Options) {
		o.Mode = inject.ModeEnv
		o.Services[0].Ports = append(o.Services[0].Ports, inject.Port{Name: "web", Number: 80, Target: 8080})
	}))
	for _, want := range []string{`"127.0.0.1:15661"]}`, `"--square=dns:///127.0.0.1:15661"`, `"127.0.0.1:15662"`, `value: "square-service"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
	if take(t, out) != src {
		t.Errorf("back again it is another:\n%s", take(t, out))
	}
}

// TestForms: what cannot be edited as text is refused, and never damaged.
func TestForms(t *testing.T) {
	cases := map[string]string{
		"alias":       "x: &s {containers: [{name: c, image: c}]}\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: *s}}\n",
		"merged list": "x: &m\n  initContainers: [{name: i, image: i}]\napiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec:\n  <<: *m\n  containers: [{name: c, image: c}]\n",
		"shared list": "apiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec:\n  initContainers: &i\n  - {name: i, image: i}\n  containers: *i\n",
		"null":        "apiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec:\n  hostAliases: null\n  containers: [{name: c, image: c}]\n",
		"explicit":    "apiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec:\n  ? initContainers\n  :\n  - {name: i, image: i}\n  containers: [{name: c, image: c}]\n",
	}
	for name, src := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := inject.Parse([]byte(src))
			if err != nil {
				t.Fatal(err)
			}
			obj := s.Objects()[0]
			w, _, err := s.Workload(obj, "default")
			if err != nil {
				t.Fatal(err)
			}
			in, _ := inject.Decide(w, options(), inject.Facts{})
			if err := s.Add(obj, in); err == nil {
				if got := take(t, s.String()); got != src {
					t.Errorf("it was edited, and is another back again:\n%s", got)
				}
				return
			}
			if s.String() != src {
				t.Errorf("it was refused and changed all the same:\n%s", s.String())
			}
		})
	}
}

// TestHandEdits: what somebody changed after the injection does not keep it from being taken out.
func TestHandEdits(t *testing.T) {
	src := corpus(t)["plain.yaml"]
	once := put(t, src, options())
	cases := map[string][]string{
		"another image":            {"image: grpclb.dev/grpclb-refresher:dev", "image: other:1 # ours"},
		"another argument":         {"            - --target\n", "            - --interval\n            - 2s\n            - --target\n"},
		"reordered":                {"        - name: grpclb-refresher\n          image: grpclb.dev/grpclb-refresher:dev\n", "        - image: grpclb.dev/grpclb-refresher:dev\n          name: grpclb-refresher\n"},
		"a text of several lines":  {"imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent\n          lifecycle:\n            postStart:\n              exec:\n                command:\n                  - |\n                    one\n                    two"},
		"the annotation went away": {"        grpclb.dev/injected: '{", "        grpclb.dev/other: '{"},
		"the annotation is broken": {"grpclb.dev/injected: '{", "grpclb.dev/injected: '{{"},
	}
	for name, pair := range cases {
		t.Run(name, func(t *testing.T) {
			edited := strings.Replace(once, pair[0], pair[1], 1)
			if edited == once {
				t.Fatal("the edit does not apply")
			}
			got := take(t, edited)
			for _, left := range []string{"name: grpclb-refresher", "127.0.0.10", "initContainers", "hostAliases"} {
				if strings.Contains(got, left) && !strings.Contains(got, "grpclb.dev/other") {
					t.Errorf("%q is left:\n%s", left, got)
				}
			}
			if !strings.Contains(got, "# the main container") || !strings.Contains(got, "# pinned") {
				t.Errorf("comments are lost:\n%s", got)
			}
		})
	}
	// A second init container that came later stays.
	more := strings.Replace(once, "      # the main container\n", "        - {name: later, image: l}\n      # the main container\n", 1)
	if got := take(t, more); !strings.Contains(got, "initContainers:\n        - {name: later, image: l}\n") {
		t.Errorf("what came later:\n%s", got)
	}
}

func TestNotWorkloads(t *testing.T) {
	src := "apiVersion: example.com/v1\nkind: Deployment\nmetadata: {name: theirs}\n---\njust a text\n---\n- a list\n---\n---\n# nothing\n"
	s, err := inject.Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range s.Objects() {
		if _, ok, err := s.Workload(o, "default"); ok || err != nil {
			t.Errorf("%v is a workload, %v", o.Content()["kind"], err)
		}
		if had, err := s.Remove(o); had || err != nil {
			t.Errorf("%v, %v", had, err)
		}
	}
	if s.String() != src {
		t.Errorf("it changed:\n%s", s.String())
	}
	if _, err := inject.Read(map[string]any{"kind": "ConfigMap"}, "x"); err == nil {
		t.Error("a ConfigMap is read as a workload")
	}
	if _, err := inject.Read(map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "p"}}, "x"); err == nil {
		t.Error("a pod without containers is read")
	}
}

// TestTwinAtTheEnd: a file whose last text ends without a line end would get another text.
func TestTwinAtTheEnd(t *testing.T) {
	s, err := inject.Parse([]byte("a: |\n  text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddTwin(twin, writeYAML, "twin"); err == nil {
		t.Errorf("appended:\n%s", s.String())
	}
	empty, err := inject.Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.AddTwin(twin, writeYAML, "twin"); err != nil || !slices.Contains(empty.RemoveTwins(), diagnose.Key{Namespace: "default", Name: "square-service-headless"}) {
		t.Errorf("%v:\n%s", err, empty.String())
	}
}

// TestHostileStrings: names and values of all kinds go into a manifest as text and come back as they were.
func TestHostileStrings(t *testing.T) {
	for _, evil := range []string{"a\nb", "'\"", "{{x}}", "# no comment", "yes", "0x10", "1e3", "~", "é\u2028x", "\x1b[31m", "a: b", "- a", "*x", "&x", "!x", "%x", "@x", "`x`", "$(x)", "C:\\x", "a'b", ""} {
		o := options(func(o *inject.Options) {
			o.Image, o.Resources.CPURequest, o.PullPolicy = evil, evil, "Always"
		})
		for _, name := range []string{"plain.yaml", "flow-no-newline.yaml", "pretty.json"} {
			src := corpus(t)[name]
			out := put(t, src, o)
			var docs []map[string]any
			s, err := inject.Parse([]byte(out))
			if err != nil {
				t.Fatalf("%q in %s: %v", evil, name, err)
			}
			for _, obj := range s.Objects() {
				docs = append(docs, obj.Content())
			}
			raw, err := json.Marshal(docs)
			if err != nil {
				t.Fatal(err)
			}
			var image strings.Builder
			if err := json.NewEncoder(&image).Encode(evil); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(raw), `"image":`+strings.TrimSpace(image.String())) {
				t.Errorf("%q is not the image in %s:\n%s", evil, name, out)
			}
			if take(t, out) != src {
				t.Errorf("%q in %s does not come out again", evil, name)
			}
		}
	}
}
