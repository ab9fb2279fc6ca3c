package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mattn/go-runewidth"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// pinned returns the square snapshot and its report, with findings of every form.
func pinned(t testing.TB) (*diagnose.Snapshot, diagnose.Report) {
	t.Helper()
	s, err := snapfile.LoadFile("../snapfile/testdata/square.snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s, diagnose.Run(s, diagnose.Options{Checks: someChecks()})
}

// someChecks are fixed stand-ins for the catalogue: the goldens are about form, not about the checks' words.
func someChecks() []diagnose.Check {
	quiet := func(*diagnose.View) []diagnose.Finding { return nil }
	return []diagnose.Check{
		{ID: "clusterip-pinned", Severity: diagnose.Critical, Run: func(v *diagnose.View) []diagnose.Finding { return []diagnose.Finding{pinnedFinding(v)} }},
		{ID: "readiness-missing", Severity: diagnose.High, Run: func(*diagnose.View) []diagnose.Finding { return []diagnose.Finding{patchFinding()} }},
		{ID: "session-affinity", Severity: diagnose.High, Run: quiet},
		{ID: "single-endpoint", Severity: diagnose.Info, Run: quiet},
		{ID: "scale-out-blind", Severity: diagnose.Critical, DependsOn: []string{"clusterip-pinned"}, Run: func(*diagnose.View) []diagnose.Finding { return []diagnose.Finding{patchFinding()} }},
		{ID: "dns-disagrees", Severity: diagnose.High, Needs: []diagnose.FactName{"none"}, Run: quiet},
	}
}

func pinnedFinding(v *diagnose.View) diagnose.Finding {
	return diagnose.Finding{
		Confidence: diagnose.Observed, Subject: "svc/" + v.Service.Name,
		Summary:  "each connection of deploy/aggregator-app stays on 1 of 3 ready pods: a ClusterIP balances connections, not calls",
		Evidence: []string{"deploy/aggregator-app dials static://square-service:6565 (env GRPC_CLIENT_SQUARE_ADDRESS); its 1 connection ends on square-app-5d9c-4x2lq."},
		Fixes: []diagnose.Fix{
			{Title: "headless + round_robin", Strategy: diagnose.StrategyHeadless, Caveats: []string{"Clients have to choose round_robin."}},
			{Title: "bring the clients into a mesh", Strategy: diagnose.StrategyMesh, Commands: []diagnose.Command{
				{Args: []string{"kubectl", "grpclb", "fix", "svc/" + v.Service.Name, "--strategy", "mesh"}},
				{Args: []string{"kubectl", "set", "env", "deploy/aggregator-app", "A=b"}},
			}},
		},
	}
}

func patchFinding() diagnose.Finding {
	return diagnose.Finding{
		Severity: diagnose.Medium, Confidence: diagnose.Configured, Subject: "deploy/square-app", Summary: "the pods take calls before they can answer",
		Fixes: []diagnose.Fix{
			{Title: "probe it", Patches: []diagnose.Patch{{Namespace: "default", Subject: "deploy/square-app", YAML: "spec:\n  minReadySeconds: 5\n"}},
				Caveats: []string{"The patch replaces the pods, by the workload's own rollout rules.", "The second sentence."}},
			{Title: "patch it with a command of its own", Patches: []diagnose.Patch{{Namespace: "other", Subject: "deploy/a", YAML: "spec: {a: 1}\n"}, {Namespace: "other", Subject: "deploy/b", YAML: "spec: {b: 'x y'}\n"}},
				Commands: []diagnose.Command{{Args: []string{"kubectl", "patch", "deploy/a", "-n", "other", "-p", `{"spec":{"a":1}}`}}}},
			{Title: "patch it with what no line can hold", Patches: []diagnose.Patch{{Namespace: "default", Subject: "deploy/c", YAML: "- no object\n"}}},
			{Title: "make a copy", Manifests: []string{"kind: Service\n"}, Snippets: []diagnose.Snippet{{Language: "go", Where: "server", Code: "x :=\t1\n"}}},
			{Title: "see what it says and then change it in the way that the page describes", Commands: []diagnose.Command{
				{Args: []string{"kubectl", "describe", "deploy/square-app"}, PipeTo: []string{"less", "-S"}, Note: "look for Events"},
				{Args: []string{"kubectl", "delete", "pod", "\x1b[2J"}},
			}},
		},
	}
}

func render(t testing.TB, f func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGoldens(t *testing.T) {
	s, r := pinned(t)
	v, _ := s.View(s.Targets[0])
	wide := report.TextOptions{Width: 100, Wide: true, Facts: s, Namespace: "default"}
	text := func(o report.TextOptions, r diagnose.Report) func(io.Writer) error {
		return func(w io.Writer) error { return report.Text(w, r, o) }
	}
	cases := map[string]func(io.Writer) error{
		"text.golden":    text(report.TextOptions{Width: 100, Namespace: "default"}, r),
		"unwrapped.txt":  text(report.TextOptions{}, r),
		"narrow.golden":  text(report.TextOptions{Width: 50, Namespace: "default"}, r),
		"color.golden":   text(report.TextOptions{Width: 100, Color: true, Namespace: "default"}, r),
		"ascii.golden":   text(report.TextOptions{Width: 80, ASCII: true, Namespace: "other"}, r),
		"wide.golden":    text(wide, r),
		"several.golden": text(report.TextOptions{Width: 100, Namespace: "default"}, several(r)),
		"many.golden":    text(report.TextOptions{Width: 100}, many(r)),
		"denied.golden":  text(report.TextOptions{Width: 100}, denied()),
		"spread.golden":  func(w io.Writer) error { return report.SpreadTable(w, many(r).Services[0], report.TextOptions{}) },
		"probe.golden":   func(w io.Writer) error { return report.ProbeTable(w, r.Services[0], report.TextOptions{Width: 100}) },
		"dns.golden":     func(w io.Writer) error { return report.DNSTable(w, v, report.TextOptions{}) },
		"headless.golden": func(w io.Writer) error {
			return report.DNSTable(w, headless(t, v), report.TextOptions{Width: 100})
		},
		"nodns.golden": func(w io.Writer) error { return report.DNSTable(w, noDNS(v), report.TextOptions{}) },
		"report.json":  func(w io.Writer) error { return report.JSON(w, r) },
		"report.yaml":  func(w io.Writer) error { return report.YAML(w, r) },
		"name.golden":  func(w io.Writer) error { return report.Name(w, several(r)) },
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) { golden.Text(t, filepath.Join("testdata", name), render(t, f)) })
	}
}

// several has one Service of each verdict.
func several(r diagnose.Report) diagnose.Report {
	for _, v := range []diagnose.Verdict{
		{State: diagnose.VerdictOK, Headline: "traffic is spread evenly over 3 ready pods"},
		{State: diagnose.VerdictUneven, Headline: "traffic is uneven: the busiest of 4 ready pods gets 70%, an even share is 25%"},
		{State: diagnose.VerdictBroken, Headline: "no ready pod behind it: every call fails"},
		{State: diagnose.VerdictSuspect, Headline: "the client never asks DNS again"},
		{State: diagnose.VerdictUnknown, Headline: "cannot tell: may not list endpointslices in default"},
		{State: diagnose.VerdictNotGRPC, Headline: "does not speak gRPC: port 80 is named http"},
	} {
		two := 2
		r.Services = append(r.Services, diagnose.ServiceReport{
			Key: diagnose.Key{Namespace: "default", Name: "svc-" + string(v.State)}, Verdict: v,
			Summary: diagnose.Summary{Type: "headless", Ready: &two, NotReady: 1, Nodes: 1, Mesh: "linkerd", Ports: []diagnose.SummaryPort{
				{Port: 80}, {Name: "a", Port: 1, Targets: []int32{1}}, {Name: "b", Port: 2, Targets: []int32{2, 3}}, {Port: 3}, {Port: 4}, {Port: 5},
			}},
			Passed: []string{"single-endpoint"},
		})
	}
	r.Services[3].Findings = []diagnose.Finding{{Check: "no-ready-endpoints", Severity: diagnose.Critical, Confidence: diagnose.Configured, Subject: "svc/svc-broken", Summary: "no pod is ready"}}
	return r
}

// many has more pods and clients than a table shows.
func many(r diagnose.Report) diagnose.Report {
	svc := r.Services[0]
	svc.Findings = nil
	svc.Spread.Rows, svc.Spread.Flows, svc.Spread.Probes, svc.Spread.Unseen = nil, nil, nil, 3
	svc.Spread.Note = "2 of 40 ready pods are behind a proxy of their own"
	for i := range 40 {
		conns, rate, cpu := 40-i, float64(40-i)*1234.5, int64(i)
		row := diagnose.SpreadRow{Pod: diagnose.Key{Namespace: "default", Name: fmt.Sprintf("square-app-%02d", i)}, Node: fmt.Sprintf("n%d", i%3), Ready: i != 2, Conns: &conns, CPU: &cpu}
		if i < 37 {
			row.Rate = &rate
		}
		svc.Spread.Rows = append(svc.Spread.Rows, row)
		svc.Spread.Flows = append(svc.Spread.Flows,
			diagnose.Flow{Client: fmt.Sprintf("default/web-%02d", i), Workload: "deploy/web", Pod: row.Pod, Conns: conns, Rate: row.Rate},
			diagnose.Flow{Client: "node n1", Hidden: true, Pod: row.Pod, Conns: 1, Rate: row.Rate})
	}
	svc.Spread.Rows[1].Pod = diagnose.Key{}
	return diagnose.Report{Services: []diagnose.ServiceReport{svc}}
}

// TestQuietPodsOfMany holds that a table of many pods shows those that get nothing, and not only the busy ones.
func TestQuietPodsOfMany(t *testing.T) {
	svc := diagnose.ServiceReport{Key: diagnose.Key{Namespace: "default", Name: "s"}}
	for i := range 60 {
		conns, rate := 2, 1000.0+float64(i)
		if i == 30 {
			conns, rate = 0, 0
		}
		svc.Spread.Rows = append(svc.Spread.Rows, diagnose.SpreadRow{Pod: diagnose.Key{Name: fmt.Sprintf("p%02d", i)}, Ready: i != 31, Conns: &conns, Rate: &rate})
	}
	none := 0
	svc.Spread.Rows = append(svc.Spread.Rows, diagnose.SpreadRow{Pod: diagnose.Key{Name: "gone"}, Conns: &none})
	out := render(t, func(w io.Writer) error { return report.SpreadTable(w, svc, report.TextOptions{}) })
	for _, want := range []string{"p59 ", "p52 ", "… 50 more pods (2 not ready), 0 to 2 connections, 1.0 kB/s to 1.1 kB/s", "p00 ", "p01 ", "p30 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	for _, bad := range []string{"p51 ", "p02 ", "gone"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is there:\n%s", bad, out)
		}
	}
}

// TestServiceWithoutPods holds that endpoints made by hand show their addresses, and an ExternalName what it stands for.
func TestServiceWithoutPods(t *testing.T) {
	snap, _ := pinned(t)
	svc := &snap.Services.Value[0]
	svc.Selector = nil
	for i := range snap.Slices.Value {
		for j := range snap.Slices.Value[i].Endpoints {
			snap.Slices.Value[i].Endpoints[j].Pod = diagnose.Key{}
		}
	}
	text := func() string {
		r := diagnose.Run(snap, diagnose.Options{})
		return render(t, func(w io.Writer) error { return report.Text(w, r, report.TextOptions{}) })
	}
	ip := snap.Slices.Value[0].Endpoints[0].Addresses[0]
	if out := text(); !strings.Contains(out, ip) || strings.Contains(out, "(no pod)") {
		t.Errorf("no %s in:\n%s", ip, out)
	}
	svc.Type, svc.ExternalName, svc.ClusterIPs, snap.Slices.Value = "ExternalName", "db.example.com", nil, nil
	if out := text(); !strings.Contains(out, "ExternalName → db.example.com · port") || strings.Contains(out, "ready") || strings.Contains(out, "mesh") {
		t.Errorf("the name is missing, or facts of pods are there:\n%s", out)
	}
}

// denied is a run that saw nothing.
func denied() diagnose.Report {
	r := diagnose.Report{Status: diagnose.StatusPartial, Gaps: []diagnose.Gap{
		{Subject: "pods", Status: diagnose.Status{State: diagnose.Denied, Reason: "may not list pods in default", Hint: "see --rbac"}},
	}}
	s := diagnose.ServiceReport{Key: diagnose.Key{Namespace: "default", Name: "square-service"}, Summary: diagnose.Summary{Type: "ClusterIP"},
		Verdict: diagnose.Verdict{State: diagnose.VerdictUnknown, Headline: "cannot tell: may not list endpointslices in default"}}
	for _, id := range []string{"a-check", "b-check", "c-check", "d-check"} {
		s.Skipped = append(s.Skipped, diagnose.Skip{Check: id, Kind: diagnose.SkipNotAsked, Reason: "sockets not asked for", Hint: "--sockets"})
	}
	s.Skipped = append(s.Skipped, diagnose.Skip{Check: "e-check", Kind: diagnose.SkipNoFact, Reason: "may not list pods in default", Hint: "see --rbac"})
	r.Services = []diagnose.ServiceReport{s}
	return r
}

// headless is a view of a headless Service whose DNS pods disagree, one of them in two ways.
func headless(t *testing.T, v *diagnose.View) *diagnose.View {
	t.Helper()
	s := *v.Snapshot
	svc := v.Service
	svc.ClusterIPs = []string{"None"}
	s.Services = diagnose.Know([]diagnose.Service{svc})
	answer := func(server string, round int, as ...string) diagnose.DNSAnswer {
		return diagnose.DNSAnswer{Server: diagnose.Key{Namespace: "kube-system", Name: server}, Name: "square-service.default.svc.cluster.local.", Type: "A",
			Round: round, Rcode: "NOERROR", Addresses: as, TTL: 5, Transport: "tcp", Size: 900, RTTMicros: 12345,
			Predicted: []diagnose.Truncation{{UDPSize: 512, Truncated: true, Fits: 1}, {UDPSize: 1232, Fits: 3}}}
	}
	all := []string{"10.244.1.4", "10.244.2.5", "10.244.2.6"}
	s.DNS = diagnose.Know([]diagnose.DNSAnswer{
		answer("coredns-1", 0, all[:1]...), answer("coredns-1", 1, all...),
		answer("coredns-2", 0, all...), answer("coredns-2", 1, "10.244.1.4", "10.244.9.9", "10.244.1.9"),
		{Server: diagnose.Key{Namespace: "kube-system", Name: "coredns-3"}, Name: "square-service.default.svc.cluster.local.", Type: "AAAA", Rcode: "NXDOMAIN"},
		{Server: diagnose.Key{Namespace: "kube-system", Name: "coredns-3"}, Name: "square-service.default.svc.cluster.local.", Type: "A", Rcode: "SERVFAIL"},
		{Server: diagnose.Key{Namespace: "kube-system", Name: "coredns-3"}, Name: "_grpc._tcp.square-service.default.svc.cluster.local.", Type: "SRV", Rcode: "NOERROR", SRV: []diagnose.SRV{{Target: "a.", Port: 1}}},
	})
	out, ok := s.View(svc.Key)
	if !ok {
		t.Fatal("the Service is gone")
	}
	return out
}

func noDNS(v *diagnose.View) *diagnose.View {
	s := *v.Snapshot
	s.DNS = diagnose.Unknown[[]diagnose.DNSAnswer](diagnose.Denied, "may not port-forward in kube-system", "see --rbac")
	s.Gaps = nil
	out, _ := s.View(v.Service.Key)
	return out
}

// TestColorIsOnlyColor holds that colour adds nothing but SGR sequences.
func TestColorIsOnlyColor(t *testing.T) {
	_, r := pinned(t)
	with := render(t, func(w io.Writer) error { return report.Text(w, r, report.TextOptions{Width: 90, Color: true}) })
	without := render(t, func(w io.Writer) error { return report.Text(w, r, report.TextOptions{Width: 90}) })
	if !strings.Contains(with, "\x1b[31m") {
		t.Error("no colour was used")
	}
	if got := sgr.ReplaceAllString(with, ""); got != without {
		t.Error(cmp.Diff(without, got))
	}
}

var sgr = regexp.MustCompile(`\x1b\[\d*m`)

func TestWidth(t *testing.T) {
	_, r := pinned(t)
	for _, width := range []int{40, 60, 80, 120} {
		out := render(t, func(w io.Writer) error {
			return report.Text(w, several(r), report.TextOptions{Width: width, Namespace: "default"})
		})
		for line := range strings.Lines(out) {
			line = strings.TrimSuffix(line, "\n")
			// Commands, tables and single words may be wider: cutting them would spoil them.
			if runewidth.StringWidth(line) > width && !strings.Contains(line, "kubectl") && !strings.Contains(line, "square-app-") &&
				!strings.Contains(line, "POD") && !heading.MatchString(line) && !strings.Contains(line, "# ") && !strings.Contains(line, "patch of") && len(strings.Fields(line)) > 4 {
				t.Errorf("width %d: %q has %d columns", width, line, runewidth.StringWidth(line))
			}
		}
	}
}

// heading is the first line of a finding.
var heading = regexp.MustCompile(`^  . [a-z-]+  (critical|high|medium|low|info) `)

// TestDataFormats holds that JSON and YAML carry the whole report.
func TestDataFormats(t *testing.T) {
	_, r := pinned(t)
	for name, f := range map[string]func(io.Writer, diagnose.Report) error{"json": report.JSON, "yaml": report.YAML} {
		var back diagnose.Report
		out := render(t, func(w io.Writer) error { return f(w, r) })
		if err := yaml.UnmarshalStrict([]byte(out), &back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(r, back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s lost something:\n%s", name, diff)
		}
	}
	var any map[string]any
	if err := json.Unmarshal([]byte(render(t, func(w io.Writer) error { return report.JSON(w, r) })), &any); err != nil {
		t.Fatal(err)
	}
	if any["apiVersion"] != "grpclb.dev/v1alpha1" || any["kind"] != "Report" {
		t.Errorf("got %v %v", any["apiVersion"], any["kind"])
	}
}

// TestNotMeasured: a pod without a sample is not a pod without load.
func TestNotMeasured(t *testing.T) {
	busy, idle := int64(900), int64(0)
	row := func(name string, cpu *int64) diagnose.SpreadRow {
		return diagnose.SpreadRow{Pod: diagnose.Key{Namespace: "default", Name: name}, Ready: true, CPU: cpu}
	}
	r := diagnose.ServiceReport{Key: diagnose.Key{Namespace: "default", Name: "s"}, Spread: diagnose.Spread{Rows: []diagnose.SpreadRow{
		row("busy", &busy), row("idle", &idle), row("no-sample", nil),
	}}}
	lines := map[string]string{}
	for l := range strings.Lines(render(t, func(w io.Writer) error { return report.SpreadTable(w, r, report.TextOptions{}) })) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(l), " "); ok {
			lines[name] = strings.TrimSpace(rest)
		}
	}
	if !strings.HasPrefix(lines["busy"], "900m  █") || lines["idle"] != "0m" || lines["no-sample"] != "not measured" {
		t.Errorf("got %q", lines)
	}
	r.Spread.Rows[1].CPU = nil
	if out := render(t, func(w io.Writer) error { return report.SpreadTable(w, r, report.TextOptions{}) }); strings.Contains(out, "█") || strings.Count(out, "not measured") != 2 {
		t.Errorf("one pod alone is compared with nothing:\n%s", out)
	}
	for i := range r.Spread.Rows {
		r.Spread.Rows[i].CPU = nil
	}
	if out := render(t, func(w io.Writer) error { return report.SpreadTable(w, r, report.TextOptions{}) }); strings.Contains(out, "not measured") {
		t.Errorf("nothing was measured at all, and each pod says so:\n%s", out)
	}
}

// TestNoTraffic: nothing has no index and no largest share.
func TestNoTraffic(t *testing.T) {
	none := 0.0
	r := diagnose.ServiceReport{Key: diagnose.Key{Namespace: "default", Name: "s"}, Spread: diagnose.Spread{
		Rows:  []diagnose.SpreadRow{{Ready: true, Rate: &none}, {Ready: true, Rate: &none}},
		State: diagnose.SpreadIdle, Basis: "bytes", IntervalSeconds: 4, Statistic: &diagnose.Statistic{Name: "jain", Unit: "bytes/s", Pods: 2},
	}}
	out := render(t, func(w io.Writer) error { return report.SpreadTable(w, r, report.TextOptions{}) })
	if !strings.Contains(out, "spread  too little to judge by bytes: nothing in 4 s over 2 pods") {
		t.Errorf("got\n%s", out)
	}
}

// TestReadinessWords: pods that are published though they are not ready are told from those that are left out.
func TestReadinessWords(t *testing.T) {
	two := 2
	for want, s := range map[string]diagnose.Summary{
		"2 ready on 1 node":                                                {},
		"2 ready, 3 not ready on 1 node":                                   {NotReady: 3},
		"2 ready, 3 not ready but published all the same on 1 node":        {NotReady: 3, Published: 3},
		"2 ready, 3 not ready, 1 of them published all the same on 1 node": {NotReady: 3, Published: 1},
	} {
		s.Type, s.Ready, s.Nodes = "headless", &two, 1
		r := diagnose.ServiceReport{Key: diagnose.Key{Namespace: "default", Name: "s"}, Summary: s}
		if out := render(t, func(w io.Writer) error { return report.SpreadTable(w, r, report.TextOptions{}) }); !strings.Contains(out, want+" ·") {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteErrors(t *testing.T) {
	s, r := pinned(t)
	v, _ := s.View(s.Targets[0])
	for name, err := range map[string]error{
		"text":   report.Text(full{}, r, report.TextOptions{}),
		"json":   report.JSON(full{}, r),
		"yaml":   report.YAML(full{}, r),
		"name":   report.Name(full{}, r),
		"spread": report.SpreadTable(full{}, r.Services[0], report.TextOptions{}),
		"probe":  report.ProbeTable(full{}, r.Services[0], report.TextOptions{}),
		"dns":    report.DNSTable(full{}, v, report.TextOptions{}),
	} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
