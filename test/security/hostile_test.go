package security

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// hostile are texts by what they attack. Each is put before and behind every
// name of a snapshot, the same everywhere, so that what belongs together still
// finds itself.
var hostile = map[string]string{
	"escape sequences":   "\x1b[31m\x1b[2J\u009b2J",
	"hyperlink":          "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
	"clipboard":          "\x1b]52;c;cm0gLXJmIC8=\x07",
	"overwriting":        "\r\b\b\b\x7f\v\f",
	"direction":          "\u202e\u2066\u2067\u200f",
	"invisible":          "\u200b\u200d\ufeff\u2060\u00ad\u115f\ufe0f\U000e0041",
	"line breaks":        "a\nb\r\nc\u2028d\u2029e\u0085f",
	"nul":                "a\x00b",
	"GitHub":             "::error::boom",
	"GitHub on a line":   "\n::set-output name=a::b\n::stop-commands::x\n",
	"GitHub of old":      "##[error]x",
	"Azure":              "##vso[task.setvariable variable=x]y",
	"TeamCity":           "##teamcity[buildStatus status='FAILURE']",
	"shell":              "$(touch pwned)`touch pwned`;touch pwned|touch pwned&&touch pwned>pwned #",
	"shell quotes":       `'"\'$(touch pwned)"'`,
	"shell on a line":    "\ntouch pwned\n",
	"an option":          "--kubeconfig=evil",
	"short options":      "-rf",
	"template":           "{{.}}{{template \"x\"}}%s%d%!n%%",
	"markup":             "<script>alert(1)</script><!--[x](javascript:y)`**b**|",
	"documents":          "\n---\nkind: Secret\nmetadata: {name: x}\n...\n",
	"YAML":               "a: b # c\t- *x &y !!z | > % @ {[",
	"JSON":               `"},{"a":["b\u0000\ud800`,
	"wide and combining": "漢字👩‍👩‍👧e" + strings.Repeat("\u0301", 40),
	"96 KiB":             strings.Repeat("x", 96<<10), // a shell takes arguments of up to 128
}

// orders are what build systems obey wherever it stands on a line; GitHub's
// newer form has to begin one.
var (
	orders     = []string{"##[", "##vso[", "##teamcity["}
	githubLine = regexp.MustCompile(`(?m)^\s*::[A-Za-z]`)
)

// harmless fails for text that does more than be read.
func harmless(t *testing.T, r result) {
	t.Helper()
	for name, text := range map[string]string{"standard output": r.stdout, "standard error": r.stderr} {
		if !utf8.ValidString(text) {
			t.Errorf("%s is no UTF-8", name)
		}
		for i, c := range text {
			if c != '\n' && (unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)) {
				t.Errorf("%s holds %U:\n%q", name, c, around(text, i))
				break
			}
		}
		for _, o := range orders {
			if i := strings.Index(text, o); i >= 0 {
				t.Errorf("%s holds an order to a build system:\n%q", name, around(text, i))
			}
		}
		if at := githubLine.FindStringIndex(text); at != nil {
			t.Errorf("%s holds a line that GitHub obeys:\n%q", name, around(text, at[0]))
		}
		if strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
			t.Errorf("%s: it broke down:\n%s", name, clip(text))
		}
	}
}

// baseline collects a snapshot of everything, once, from a cluster where a good
// part of the checks has something to say.
func baseline(t *testing.T) *diagnose.Snapshot {
	t.Helper()
	w := secretWorld(t, newCanaries(t))
	r := plugin(t, w.kubeconfig(plainUser), "diagnose", "svc/square-service", "--probe", "--interval", "500ms", "--save", "s.yaml")
	if r.files["s.yaml"] == "" {
		t.Fatalf("nothing was saved:\n%s", r)
	}
	snap, err := snapfile.Load(strings.NewReader(r.files["s.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// fixed are fields whose words steer the diagnosis and are chosen by the
// program or from a list of the API's; another word there is another fact, not
// a hostile one.
var fixed = []string{"APIVersion", "Depth", "State", "Type", "Protocol", "AddressType", "Proto", "Source", "Rcode", "Transport", "Domain", "SessionAffinity",
	"ClusterIPs", "IPFamilies", "Addresses", "IPs", "CIDRs", "DNSPolicy", "Phase", "Fact", "Scheme", "Via", "TargetPort"}

// infect puts change over the free words of a value.
func infect(v reflect.Value, field string, change func(string) string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !(f.Name == "Kind" && v.Type() == reflect.TypeFor[diagnose.Snapshot]()) {
				infect(v.Field(i), f.Name, change)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			infect(v.Elem(), field, change)
		}
	case reflect.Slice:
		for i := range v.Len() {
			infect(v.Index(i), field, change)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			key, val := reflect.New(k.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(k)
			val.Set(v.MapIndex(k))
			infect(key, field, change)
			infect(val, field, change)
			v.SetMapIndex(k, reflect.Value{})
			v.SetMapIndex(key, val)
		}
	case reflect.String:
		if v.Len() > 0 && !slices.Contains(fixed, field) && !(field == "Kind" || v.Type() == reflect.TypeFor[diagnose.FactName]()) {
			v.SetString(change(v.String()))
		}
	}
}

// TestHostileSnapshots replays a snapshot with hostile words in every free field through every command and format.
func TestHostileSnapshots(t *testing.T) {
	base, err := json.Marshal(baseline(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range hostile {
		for place, change := range map[string]func(string) string{
			"before": func(s string) string { return text + s },
			"behind": func(s string) string { return s + text },
		} {
			if len(text) > 1<<16 && place == "before" {
				continue // one of each is enough
			}
			t.Run(name+" "+place, func(t *testing.T) {
				t.Parallel()
				var snap diagnose.Snapshot
				if err := json.Unmarshal(base, &snap); err != nil {
					t.Fatal(err)
				}
				infected := 0
				infect(reflect.ValueOf(&snap).Elem(), "", func(s string) string {
					if infected++; len(text) > 1<<16 && infected%40 != 0 {
						return s // in every field it would be beyond what a snapshot may hold
					}
					return change(s)
				})
				replayed(t, &snap)
			})
		}
	}
}

// replayed saves the snapshot and runs what can look at one.
func replayed(t *testing.T, snap *diagnose.Snapshot) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.json")
	if err := snapfile.SaveFile(file, snap); err != nil {
		t.Fatal(err)
	}
	const none = "apiVersion: v1\nkind: Config\n"
	text := plugin(t, none, "diagnose", "--from", file)
	if text.code > 1 && text.code != 3 {
		t.Fatalf("the snapshot was not taken:\n%s", text)
	}
	harmless(t, text)
	for _, args := range [][]string{
		{"diagnose", "-o", "wide"}, {"diagnose", "-o", "name"}, {"diagnose", "--color", "never", "-v", "2"}, {"spread"}, {"dns"}, {"fix", "--strategy", "headless"},
		{"fix", "--strategy", "max-age"}, {"fix", "--strategy", "mesh", "--mesh", "linkerd"}, {"diagnose", "svc/other\x1b[31m"},
	} {
		r := plugin(t, none, append(args, "--from", file)...)
		harmless(t, r)
		if args[0] == "fix" {
			documents(t, r)
		}
	}
	asJSON, asYAML := plugin(t, none, "diagnose", "--from", file, "-o", "json"), plugin(t, none, "diagnose", "--from", file, "-o", "yaml")
	harmless(t, result{stderr: asJSON.stderr + asYAML.stderr})
	var report diagnose.Report
	if err := json.Unmarshal([]byte(asJSON.stdout), &report); err != nil {
		t.Fatalf("JSON does not parse: %v", err)
	}
	again, err := yaml.YAMLToJSON([]byte(asYAML.stdout))
	if err != nil {
		t.Fatalf("YAML does not parse: %v", err)
	}
	var one, other any
	if json.Unmarshal([]byte(asJSON.stdout), &one) != nil || json.Unmarshal(again, &other) != nil || !cmp.Equal(one, other) {
		t.Errorf("JSON and YAML say different things:\n%s", clip(cmp.Diff(one, other)))
	}
	if len(report.Services) != 1 || report.Services[0].Name != snap.Targets[0].Name || report.Services[0].Namespace != snap.Targets[0].Namespace {
		t.Errorf("the Service does not come back as it was: %.300q", report.Services)
	}
	commands(t, text, report)
}

// documents demands that the fix is YAML in which nothing was smuggled.
func documents(t *testing.T, r result) {
	t.Helper()
	for doc := range strings.SplitSeq(r.stdout, "\n---\n") {
		var o struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Errorf("no YAML: %v\n%s", err, clip(doc))
		}
		if o.Kind == "Secret" {
			t.Errorf("a document was smuggled in:\n%s", clip(r.stdout))
		}
	}
}

// commands gives every command line of the text report to a shell that knows
// no program but a kubectl which notes its arguments, and demands that they are
// those of a command of the report.
func commands(t *testing.T, text result, report diagnose.Report) {
	t.Helper()
	dir := t.TempDir()
	bin, here := filepath.Join(dir, "bin"), filepath.Join(dir, "here")
	for _, d := range []string{bin, here} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\0' \"$a\" >>" + filepath.Join(dir, "args") + "; done\n"
	syscall.ForkLock.RLock() // a child that another case starts just now would hold the file open, and it could not be run
	err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)(?:^ +|: {2,})(kubectl [^\n]+)$`)
	for _, m := range line.FindAllStringSubmatch(text.stdout, -1) {
		if strings.HasPrefix(m[1], "kubectl apply -f -, with") {
			continue // a heading
		}
		if err := os.RemoveAll(filepath.Join(dir, "args")); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", m[1])
		cmd.Dir, cmd.Env = here, []string{"PATH=" + bin}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: a shell takes this for more than a kubectl command: %q\n%s", err, clip(m[1]), out)
			continue
		}
		noted, err := os.ReadFile(filepath.Join(dir, "args"))
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Split(strings.TrimSuffix(string(noted), "\x00"), "\x00")
		if args[0] != "grpclb" && !known(report, args) {
			t.Errorf("the shell sees other arguments than the report: %q", args)
		}
	}
	if left, err := os.ReadDir(here); err != nil || len(left) > 0 {
		t.Errorf("the commands left something behind: %v, %v", left, err)
	}
}

func known(report diagnose.Report, args []string) bool {
	for _, s := range report.Services {
		for _, f := range s.Findings {
			for _, x := range f.Fixes {
				for _, c := range x.Commands {
					if slices.Equal(c.Args[1:], args) {
						return true
					}
				}
				for _, p := range x.Patches {
					if slices.Contains(args, p.Subject) {
						return true
					}
				}
			}
		}
	}
	return false
}

// TestHostileCluster serves hostile words where the API lets them be (and in
// some places where it does not) to every command that talks to a cluster.
func TestHostileCluster(t *testing.T) {
	var all bytes.Buffer
	for _, name := range []string{"escape sequences", "hyperlink", "direction", "line breaks", "GitHub on a line", "GitHub of old", "Azure", "shell", "documents"} {
		all.WriteString(hostile[name])
	}
	w := hostileWorld(t, all.String())
	config := strings.Replace(w.kubeconfig(plainUser), "name: test", "name: "+`"test\e[31m\n::error::x"`, 1)
	config = strings.Replace(config, "current-context: test", `current-context: "test\e[31m\n::error::x"`, 1)
	const svc = "svc/square-service"
	for _, args := range [][]string{
		{"diagnose", svc, "-v", "9"}, {"diagnose", svc, "--probe", "--interval", "500ms", "-o", "wide"}, {"spread", svc, "--interval", "500ms"},
		{"dns", svc}, {"probe", svc, "--interval", "500ms"}, {"fix", svc, "--strategy", "headless"}, {"diagnose", "svc", "-o", "name"},
		{"diagnose", "svc/" + all.String()}, {"diagnose", svc, "--client", "deploy/" + all.String()}, {"diagnose", svc, "-n", all.String()},
		{"diagnose", svc, "--image", all.String(), "--sockets", "--interval", "500ms"}, {"explain", all.String()}, {all.String()},
		{"diagnose", svc, "--from", "/nowhere/" + strings.ReplaceAll(all.String(), "\x00", "")}, {"diagnose", svc, "--context", all.String()},
	} {
		t.Run(strings.Join(args, " ")[:min(30, len(strings.Join(args, " ")))], func(t *testing.T) {
			r := plugin(t, config, args...)
			if r.stdout+r.stderr == "" {
				t.Errorf("it said nothing:\n%s", r)
			}
			if args[0] != "fix" || r.code != 0 {
				harmless(t, r)
				return
			}
			harmless(t, result{stderr: r.stderr})
			documents(t, r)
		})
	}
	if !w.served("\x1b[31m") {
		t.Error("nothing hostile was served")
	}
}

func hostileWorld(t *testing.T, text string) *world {
	t.Helper()
	square := kubetest.Deployment("default", "square-app").Replicas(3).Env("X"+text, text)
	tmpl := &square.Spec.Template
	tmpl.Labels["label"] = text
	tmpl.Annotations = map[string]string{text: text, "linkerd.io/inject": text, "config.linkerd.io/skip-outbound-ports": text}
	app := &tmpl.Spec.Containers[0]
	app.Image, app.Args = "example.test/"+text, []string{text}
	app.Ports[0].Name = "grpc" + text
	app.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: text, Port: intstr.FromString(text)}}}
	tmpl.Spec.InitContainers = []corev1.Container{{Name: "init" + text, Image: text}}
	client := kubetest.Deployment("default", "aggregator-app").Env("ADDR"+text, "square-service:6565").EnvFrom("client-config")
	client.Spec.Template.Spec.Containers[0].Name = "app" + text
	config := kubetest.ConfigMap("default", "client-config", "KEY"+text, "dns:///square-service:6565")
	svc := kubetest.Service("default", "square-service").Selects("app", "square-app").Port("grpc", 6565, intstr.FromInt32(50051)).
		Annotate(diagnose.IgnoreAnnotation, "session-affinity: "+text).Label("label", text)
	pods := square.Pods()
	for i := range pods {
		pods[i].Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: text, Message: text}}
		pods[i].Status.Reason, pods[i].Status.Message = text, text
	}
	slice := svc.Slice(pods...)
	for i := range slice.Endpoints {
		slice.Endpoints[i].Hostname, slice.Endpoints[i].Zone = &text, &text
	}
	node := kubetest.Node("n1").Zone(text)
	node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: text})
	owned := kubetest.Pod("default", "bare").Owner("apps/v1", text, text)
	owned.Labels["app"] = "square-app"
	w := newWorld(t, svc, square, slice, client, config, owned, node, kubetest.Node("n2"),
		kubetest.Pod("kube-system", "coredns-a").Label("k8s-app", "kube-dns"))
	for _, p := range pods {
		w.srv.Set(p)
	}
	w.agents(t, text)
	var sent flag
	for i, p := range pods {
		w.nodes.Listen("default/"+p.Name, 50051, talker(t, &sent, []string{text, "HTTP/1.1 200 " + text, "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + text}[i]))
	}
	w.nodes.Complain("kube-system/coredns-a", 53, text)
	w.srv.Fail(kubetest.Fault{Group: "metrics.k8s.io", Status: 503, ContentType: "text/plain", Body: text})
	return w
}
