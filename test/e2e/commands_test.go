//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// withCaller is a space with two servers behind a ClusterIP and a client that calls them.
func withCaller(t *testing.T) *space {
	t.Helper()
	s := newSpace(t)
	s.apply(server("backend"), service("backend"), client("caller", "static://backend:6565"))
	s.rollout("backend", "caller")
	s.settled()
	return s
}

// probePods lists the short-lived pods that the plugin made.
func (s *space) probePods() []corev1.Pod {
	s.Helper()
	list, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if strings.HasPrefix(p.Name, "grpclb-probe-") {
			out = append(out, p)
		}
	}
	return out
}

// wantNoProbePod fails when a short-lived pod outlives the command.
func (s *space) wantNoProbePod() {
	s.Helper()
	s.eventually("the probe's pod to be gone", 20*time.Second, func() (bool, string) {
		var left []string
		for _, p := range s.probePods() {
			left = append(left, p.Name)
		}
		return len(left) == 0, strings.Join(left, ", ")
	})
}

func TestSpread(t *testing.T) {
	s := withCaller(t)
	pod := s.pods("caller")[0].Name
	var spread diagnose.Spread
	s.eventually("traffic", time.Minute, func() (bool, string) {
		o := s.grpclb("spread", "svc/backend", "--interval", "1s", "-o", "json")
		if err := json.Unmarshal([]byte(o.stdout), &spread); err != nil || o.code != 0 {
			t.Fatalf("%v: %s", err, o)
		}
		return spread.State == diagnose.SpreadOnePod, o.String()
	})
	if len(spread.Rows) != 2 || len(spread.Flows) != 1 {
		t.Fatalf("%d pods and %d flows: %s", len(spread.Rows), len(spread.Flows), jsonText(spread))
	}
	f := spread.Flows[0]
	if f.Client != s.ns+"/"+pod || f.Workload != "deploy/caller" || f.Conns != 1 || f.Hidden || f.Rate == nil || *f.Rate <= 0 {
		t.Errorf("the flow is %s, want one connection of %s with a rate", jsonText(f), pod)
	}
	text := s.grpclb("spread", "svc/backend", "--interval", "1s")
	for _, want := range []string{"CLIENT", "WORKLOAD", s.ns + "/" + pod, "deploy/caller"} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("the table does not show %q: %s", want, text)
		}
	}
	if s.grpclb("spread", "svc/backend", "--depth", "static"); len(s.probePods()) > 0 {
		t.Error("a pod was made at depth static")
	}
}

func TestProbe(t *testing.T) {
	s := withCaller(t)
	s.apply(service("backend-headless", headless, selecting("app", "backend")))
	s.endpoints("backend-headless", 2)
	since := int64(0)
	if s.bed.Audit != "" {
		since = s.auditPosition()
	}
	probe := func(args ...string) map[string]diagnose.ProbeSpread {
		t.Helper()
		o := s.grpclb(append([]string{"probe", "svc/backend", "--interval", "1s", "--calls", "200", "-o", "json"}, args...)...)
		var list []diagnose.ProbeSpread
		if err := json.Unmarshal([]byte(o.stdout), &list); err != nil || o.code != 0 {
			t.Fatalf("%v: %s", err, o)
		}
		out := map[string]diagnose.ProbeSpread{}
		for _, p := range list {
			out[p.Via] = p
			if p.Failed != 0 || p.Unassigned != 0 || p.Error != "" {
				t.Errorf("via %s: %s", p.Via, jsonText(p))
			}
		}
		return out
	}

	got := probe("--via", "clusterip,headless,pods")
	for via, want := range map[string]diagnose.SpreadState{
		"clusterip": diagnose.SpreadOnePod, "headless": diagnose.SpreadEven, "pods": diagnose.SpreadEven,
	} {
		if got[via].State != want {
			t.Errorf("via %s the calls land %s, want %s: %s", via, got[via].State, want, jsonText(got[via]))
		}
	}
	if p := got["clusterip"]; p.Calls != 200 || p.Channels != 1 || !strings.HasPrefix(p.From, s.ns+"/grpclb-probe-") {
		t.Errorf("via clusterip: %s", jsonText(p))
	}
	s.wantNoProbePod()

	from := probe("--from", "deploy/caller", "--via", "clusterip", "--channels", "30")["clusterip"]
	if from.From != s.ns+"/"+s.pods("caller")[0].Name || from.Channels != 30 || from.Statistic == nil || from.Statistic.Active != 2 {
		t.Errorf("30 connections from the client's own pod reach both pods: %s", jsonText(from))
	}
	s.wantNoProbePod()
	if s.bed.Audit != "" {
		made := s.audited(since, func(r request) bool { return r.Object.Namespace == s.ns && r.what() == "create pods" })
		if len(made) != 1 {
			t.Errorf("%d pods were made, want 1: with --from there is none", len(made))
		}
	}
}

func TestDNSCommand(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend"), service("backend"), service("backend-headless", headless, selecting("app", "backend")))
	s.rollout("backend")
	s.endpoints("backend-headless", 2)
	for _, svc := range []string{"backend", "backend-headless"} {
		s.eventually("agreement about "+svc, time.Minute, func() (bool, string) {
			o := s.grpclb("dns", "svc/"+svc)
			return o.code == 0 && strings.Contains(o.stdout, "DNS pods agree with the endpoints"), o.String()
		})
	}
	o := s.grpclb("dns", "svc/backend-headless", "-o", "json")
	var doc struct {
		DNS struct{ Value []diagnose.DNSAnswer }
	}
	if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil || len(doc.DNS.Value) == 0 {
		t.Fatalf("%v: %s", err, o)
	}
	types := map[string]bool{}
	for _, a := range doc.DNS.Value {
		types[a.Type] = true
		if a.Error != "" || a.Rcode != "NOERROR" || a.Transport != "tcp" || a.TTL == 0 || len(a.Predicted) == 0 {
			t.Errorf("an answer: %s", jsonText(a))
		}
		if a.Type == "A" && len(a.Addresses) != 2 {
			t.Errorf("addresses: %s", jsonText(a))
		}
		if a.Type == "SRV" && (len(a.SRV) != 2 || a.SRV[0].Port != port) {
			t.Errorf("SRV records: %s", jsonText(a))
		}
	}
	if !types["A"] || !types["SRV"] {
		t.Errorf("asked for %v, want A and SRV", types)
	}
}

// TestFixStrategies: what each strategy writes is accepted by the API server.
func TestFixStrategies(t *testing.T) {
	s := withCaller(t)
	for _, tt := range []struct {
		args []string
		want []string
		made int // objects
	}{
		{[]string{"--strategy", "headless"}, []string{"clusterIP: None", "dns:///backend-headless." + s.ns + ".svc.cluster.local:6565"}, 2},
		{[]string{"--strategy", "headless", "--name", "backend-all"}, []string{"name: backend-all"}, 2},
		{[]string{"--strategy", "mesh", "--mesh", "linkerd"}, []string{"linkerd.io/inject: enabled"}, 1},
		{[]string{"--strategy", "mesh", "--mesh", "istio"}, []string{"sidecar.istio.io/inject: \"true\""}, 1},
		{[]string{"--strategy", "max-age", "--max-age", "2m"}, []string{"MaxConnectionAge:      120000 * time.Millisecond", "maxConnectionAge(120000"}, 0},
	} {
		o := s.grpclb(append([]string{"fix", "svc/backend"}, tt.args...)...)
		if o.code != 0 {
			t.Errorf("%s", o)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%v does not write %q: %s", tt.args, want, o)
			}
		}
		if tt.made == 0 {
			continue
		}
		out := s.kubectlIn([]byte(o.stdout), "apply", "--dry-run=server", "-f", "-")
		if n := strings.Count(out, "(server dry run)"); n != tt.made {
			t.Errorf("%v: the API server takes %d objects, want %d:\n%s", tt.args, n, tt.made, out)
		}
	}
	for _, language := range []string{"go", "java", "python", "node", "cpp", "csharp"} {
		o := s.grpclb("fix", "svc/backend", "--code", language)
		if o.code != 0 || !strings.Contains(o.stdout, "dns:///backend-headless.") || strings.Contains(o.stdout, "apiVersion") {
			t.Errorf("code for %s: %s", language, o)
		}
	}
	if o := s.grpclb("fix", "svc/backend", "--strategy", "mesh"); o.code != 3 || !strings.Contains(o.stderr, "--mesh linkerd or --mesh istio") {
		t.Errorf("a mesh that is not there: %s", o)
	}
}

// TestSavedRunReplays: a snapshot gives the same report without the cluster,
// and a redacted one the same findings without the names.
func TestSavedRunReplays(t *testing.T) {
	s := withCaller(t)
	file := filepath.Join(t.TempDir(), "run.yaml")
	live := s.grpclb("diagnose", "svc/backend", "--sockets", "--interval", "1s", "--save", file, "-o", "json")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatalf("%v: %s", err, live)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot has mode %v, want 0600", info.Mode().Perm())
	}
	replay := func(args ...string) outcome {
		cmd := s.command(append([]string{"diagnose", "--from"}, args...)...)
		cmd.Env = append(cmd.Env, "KUBECONFIG="+filepath.Join(t.TempDir(), "none")) // the last one counts
		return s.finish(cmd, append([]string{"diagnose", "--from"}, args...))
	}
	again := replay(file, "-o", "json")
	if diff := cmp.Diff(s.report(live), s.report(again)); diff != "" || live.code != again.code {
		t.Errorf("exit codes %d and %d; live and replayed differ (-live +replayed):\n%s", live.code, again.code, diff)
	}

	hidden := filepath.Join(t.TempDir(), "redacted.yaml")
	redacted := s.grpclb("diagnose", "svc/backend", "--sockets", "--interval", "1s", "--save", hidden, "--redact", "-q")
	b, err := os.ReadFile(hidden)
	if err != nil {
		t.Fatalf("%v: %s", err, redacted)
	}
	for _, secret := range append(s.addresses(), s.ns, "backend", "caller") {
		if regexp.MustCompile(`\b` + regexp.QuoteMeta(secret) + `\b`).Match(b) {
			t.Errorf("the redacted snapshot holds %s", secret)
		}
	}
	told := s.report(replay(hidden, "-o", "json"))
	if len(told.Services) != 1 || !cmp.Equal(found(told.Services[0]), found(s.report(live).Services[0])) {
		t.Errorf("the redacted snapshot tells %s", jsonText(told))
	}
}

// addresses lists the names and addresses of the pods.
func (s *space) addresses() []string {
	s.Helper()
	var out []string
	for _, p := range append(s.pods("backend"), s.pods("caller")...) {
		out = append(out, p.Name, p.Status.PodIP)
	}
	return out
}

// TestSelection: without a name every gRPC-looking Service, with -l those that match.
func TestSelection(t *testing.T) {
	s := newSpace(t)
	labelled := func(svc *corev1.Service) { svc.Labels = map[string]string{"team": "a"} }
	s.apply(server("backend"), service("backend"), service("other", selecting("app", "backend"), labelled),
		service("web", plainPort("http", 8080), selecting("app", "backend"), labelled))
	s.rollout("backend")
	names := func(args ...string) []string {
		o := s.grpclb(append([]string{"diagnose", "svc", "--depth", "static", "-o", "json"}, args...)...)
		var out []string
		for _, r := range s.report(o).Services {
			out = append(out, r.Name)
		}
		return out
	}
	if diff := cmp.Diff([]string{"backend", "other"}, names()); diff != "" {
		t.Errorf("svc without a name (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"other", "web"}, names("-l", "team=a")); diff != "" {
		t.Errorf("-l team=a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"web", "backend"}, names("web", "backend")); diff != "" {
		t.Errorf("two names (-want +got):\n%s", diff)
	}
	if o := s.grpclb("diagnose", "svc", "-l", "team=b"); o.code != 3 || !strings.Contains(o.stderr, `no service in namespace `+s.ns+` matches the selector "team=b"`) {
		t.Errorf("-l that matches nothing: %s", o)
	}
}
