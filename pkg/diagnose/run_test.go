package diagnose_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// fires is a check that always finds something.
func fires(id string, sev diagnose.Severity) diagnose.Check {
	return diagnose.Check{
		ID: id, Title: "t", Severity: sev, Doc: "d", Since: "0.1.0",
		Run: func(v *diagnose.View) []diagnose.Finding {
			return []diagnose.Finding{{Subject: "svc/" + v.Service.Name, Summary: id + " found it", Confidence: diagnose.Configured}}
		},
	}
}

func quiet(id string, sev diagnose.Severity) diagnose.Check {
	c := fires(id, sev)
	c.Run = func(*diagnose.View) []diagnose.Finding { return nil }
	return c
}

func run(s *diagnose.Snapshot, checks ...diagnose.Check) (diagnose.Report, diagnose.ServiceReport) {
	r := diagnose.Run(s, diagnose.Options{Checks: checks})
	return r, r.Services[0]
}

func TestRunSkips(t *testing.T) {
	needs := func(c diagnose.Check, n ...diagnose.FactName) diagnose.Check { c.Needs = n; return c }
	grpcOnly := func(c diagnose.Check) diagnose.Check { c.GRPCOnly = true; return c }
	after := func(c diagnose.Check, ids ...string) diagnose.Check { c.DependsOn = ids; return c }
	http := func(s *diagnose.Snapshot) {
		port(s, diagnose.ServicePort{Name: "http", Protocol: "TCP", Port: 80, TargetPort: "80"})
	}
	tests := map[string]struct {
		change func(*diagnose.Snapshot)
		opt    map[string]string
		checks []diagnose.Check
		want   diagnose.Skip
	}{
		"on request": {
			opt: map[string]string{"a": "known"}, checks: []diagnose.Check{fires("a", diagnose.High)},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipSuppressed, Severity: diagnose.High, Reason: "known"},
		},
		"on request without a reason": {
			opt: map[string]string{"a": ""}, checks: []diagnose.Check{fires("a", diagnose.High)},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipSuppressed, Severity: diagnose.High, Reason: "skipped on request"},
		},
		"by annotation": {
			change: func(s *diagnose.Snapshot) { s.Services.Value[0].Ignore = map[string]string{"a": "on purpose"} },
			checks: []diagnose.Check{fires("a", diagnose.High)},
			want:   diagnose.Skip{Check: "a", Kind: diagnose.SkipSuppressed, Severity: diagnose.High, Reason: "on purpose"},
		},
		"denied": {
			change: func(s *diagnose.Snapshot) {
				s.Pods = diagnose.Unknown[[]diagnose.Pod](diagnose.Denied, "may not list pods in default", "ask for the Role")
			},
			checks: []diagnose.Check{needs(fires("a", diagnose.High), diagnose.FactSlices, diagnose.FactPods)},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipNoFact, Severity: diagnose.High, Reason: "may not list pods in default",
				Hint: "ask for the Role"},
		},
		"failed": {
			change: func(s *diagnose.Snapshot) {
				s.Slices = diagnose.Unknown[[]diagnose.Slice](diagnose.Failed, "time was up", "")
			},
			checks: []diagnose.Check{needs(fires("a", diagnose.Low), diagnose.FactSlices)},
			want:   diagnose.Skip{Check: "a", Kind: diagnose.SkipNoFact, Severity: diagnose.Low, Reason: "time was up"},
		},
		"not asked": {
			checks: []diagnose.Check{needs(fires("a", diagnose.High), diagnose.FactSockets)},
			want:   diagnose.Skip{Check: "a", Kind: diagnose.SkipNotAsked, Severity: diagnose.High, Reason: "sockets not asked for"},
		},
		"not asked, with the reason": {
			change: func(s *diagnose.Snapshot) {
				s.Sockets = diagnose.Unknown[[]diagnose.SocketTable](diagnose.NotAsked, "sockets need --sockets", "add it")
			},
			checks: []diagnose.Check{needs(fires("a", diagnose.High), diagnose.FactSockets)},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipNotAsked, Severity: diagnose.High, Reason: "sockets need --sockets",
				Hint: "add it"},
		},
		"not gRPC": {
			change: http, checks: []diagnose.Check{grpcOnly(fires("a", diagnose.High))},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipNotGRPC, Severity: diagnose.High, Reason: "not judged to speak gRPC"},
		},
		"cannot tell whether it is gRPC": {
			change: func(s *diagnose.Snapshot) {
				port(s, diagnose.ServicePort{Protocol: "TCP", Port: 8443, TargetPort: "8443"})
			},
			checks: []diagnose.Check{grpcOnly(fires("a", diagnose.High))},
			want: diagnose.Skip{Check: "a", Kind: diagnose.SkipNotGRPC, Severity: diagnose.High, Reason: "cannot tell whether it speaks gRPC",
				Hint: "--assume-grpc forces the check"},
		},
		"muted": {
			checks: []diagnose.Check{fires("cause", diagnose.High), after(fires("a", diagnose.High), "cause")},
			want:   diagnose.Skip{Check: "a", Kind: diagnose.SkipMuted, Severity: diagnose.High, Reason: "follows from cause"},
		},
		"a request comes before everything else": {
			change: http, opt: map[string]string{"a": "known"},
			checks: []diagnose.Check{grpcOnly(needs(fires("a", diagnose.High), diagnose.FactSockets))},
			want:   diagnose.Skip{Check: "a", Kind: diagnose.SkipSuppressed, Severity: diagnose.High, Reason: "known"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := healthy(3)
			if tc.change != nil {
				tc.change(s)
			}
			r := diagnose.Run(s, diagnose.Options{Checks: tc.checks, Skip: tc.opt}).Services[0]
			if diff := cmp.Diff([]diagnose.Skip{tc.want}, r.Skipped); diff != "" {
				t.Error(diff)
			}
			if slices.Contains(r.Passed, "a") {
				t.Error("a skipped check is among those that passed")
			}
		})
	}
}

func TestRunMutesOnlyWhenTheCauseFired(t *testing.T) {
	a := fires("a", diagnose.High)
	a.DependsOn = []string{"cause"}
	_, r := run(healthy(3), quiet("cause", diagnose.High), a)
	if len(r.Findings) != 1 || len(r.Skipped) != 0 {
		t.Errorf("findings %v, skipped %v", r.Findings, r.Skipped)
	}
	// What would have found something follows from the cause; what finds nothing passed all the same.
	b := quiet("b", diagnose.High)
	b.DependsOn = []string{"cause"}
	_, r = run(healthy(3), fires("cause", diagnose.High), a, b)
	if len(r.Findings) != 1 || !slices.Equal(r.Passed, []string{"b"}) || len(r.Skipped) != 1 ||
		r.Skipped[0].Check != "a" || r.Skipped[0].Kind != diagnose.SkipMuted || r.Skipped[0].Reason != "follows from cause" {
		t.Errorf("findings %v, passed %v, skipped %+v", r.Findings, r.Passed, r.Skipped)
	}
	// A cause that was itself skipped is no cause.
	r = diagnose.Run(healthy(3), diagnose.Options{
		Checks: []diagnose.Check{fires("cause", diagnose.High), a}, Skip: map[string]string{"cause": ""},
	}).Services[0]
	if len(r.Findings) != 1 || r.Findings[0].Check != "a" {
		t.Errorf("findings %v", r.Findings)
	}
}

func TestRunSortsAndFillsFindings(t *testing.T) {
	milder := fires("milder", diagnose.Critical)
	milder.Run = func(*diagnose.View) []diagnose.Finding {
		return []diagnose.Finding{{Severity: diagnose.Low, Summary: "b"}, {Summary: "a"}}
	}
	_, r := run(healthy(3), fires("first", diagnose.Medium), milder, fires("second", diagnose.Medium), quiet("none", diagnose.High))
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Check+" "+f.Severity.String())
	}
	want := []string{"milder critical", "first medium", "second medium", "milder low"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"none"}, r.Passed); diff != "" {
		t.Error(diff)
	}
}

func TestRunTurnsAPanicIntoAFinding(t *testing.T) {
	bug := fires("bug", diagnose.Critical)
	bug.Run = func(v *diagnose.View) []diagnose.Finding {
		return []diagnose.Finding{{Summary: v.Pod(key("not-there")).Name}} // a nil pointer
	}
	rep, r := run(healthy(3), bug, fires("after", diagnose.Medium))
	if len(r.Findings) != 2 || r.Findings[0].Check != "after" {
		t.Fatalf("findings %+v", r.Findings)
	}
	f := r.Findings[1]
	if f.Check != "bug" || f.Severity != diagnose.Info || f.Subject != "check/bug" || !strings.Contains(strings.Join(f.Evidence, " "), "nil pointer") {
		t.Errorf("finding %+v", f)
	}
	if rep.Status != diagnose.StatusOK {
		t.Errorf("status %s: our own bug must not fail the user's run", rep.Status)
	}
}

func TestRunStatus(t *testing.T) {
	lack := fires("lack", diagnose.High)
	lack.Needs = []diagnose.FactName{diagnose.FactPods}
	lackLow := lack
	lackLow.ID, lackLow.Severity = "lack-low", diagnose.Low
	denied := healthy(3)
	denied.Pods = diagnose.Unknown[[]diagnose.Pod](diagnose.Denied, "may not", "")
	deep := quiet("deep", diagnose.Critical)
	deep.Needs = []diagnose.FactName{diagnose.FactSockets}
	tests := map[string]struct {
		snap   *diagnose.Snapshot
		failOn diagnose.Severity
		checks []diagnose.Check
		want   diagnose.ReportStatus
	}{
		"nothing":                             {healthy(3), 0, nil, diagnose.StatusOK},
		"below the default threshold":         {healthy(3), 0, []diagnose.Check{fires("a", diagnose.Medium)}, diagnose.StatusOK},
		"at the default threshold":            {healthy(3), 0, []diagnose.Check{fires("a", diagnose.High)}, diagnose.StatusFindings},
		"a lower threshold":                   {healthy(3), diagnose.Low, []diagnose.Check{fires("a", diagnose.Low)}, diagnose.StatusFindings},
		"a higher threshold":                  {healthy(3), diagnose.Critical, []diagnose.Check{fires("a", diagnose.High)}, diagnose.StatusOK},
		"could not look":                      {denied, 0, []diagnose.Check{lack}, diagnose.StatusPartial},
		"could not look at something small":   {denied, 0, []diagnose.Check{lackLow}, diagnose.StatusOK},
		"findings win over not having looked": {denied, 0, []diagnose.Check{lack, fires("a", diagnose.High)}, diagnose.StatusFindings},
		"not asked is not partial":            {healthy(3), 0, []diagnose.Check{deep}, diagnose.StatusOK},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := diagnose.Run(tc.snap, diagnose.Options{Checks: tc.checks, FailOn: tc.failOn})
			if r.Status != tc.want {
				t.Errorf("status %s, want %s", r.Status, tc.want)
			}
		})
	}
}

func TestRunWithATargetThatIsNotThere(t *testing.T) {
	s := healthy(3)
	s.Targets = append([]diagnose.Key{key("gone")}, s.Targets...)
	r := diagnose.Run(s, diagnose.Options{Checks: []diagnose.Check{quiet("a", diagnose.High)}})
	gone := r.Services[0]
	if r.Status != diagnose.StatusPartial || gone.Verdict.State != diagnose.VerdictUnknown || gone.Findings == nil || len(gone.Skipped) != 1 {
		t.Errorf("status %s, report %+v", r.Status, gone)
	}
	if len(r.Services) != 2 || len(r.Services[1].Passed) != 1 {
		t.Errorf("the other target was not judged: %+v", r.Services)
	}
	s.Services = diagnose.Unknown[[]diagnose.Service](diagnose.Denied, "may not get services", "use another context")
	r = diagnose.Run(s, diagnose.Options{})
	if sk := r.Services[0].Skipped[0]; sk.Reason != "may not get services" || sk.Hint != "use another context" {
		t.Errorf("skip %+v", sk)
	}
}

// TestReportJSON pins that the JSON of a report is the same each time, and that empty findings are a list.
func TestReportJSON(t *testing.T) {
	s := healthy(3)
	s.Sockets = diagnose.Know([]diagnose.SocketTable{table("p1", conn("10.0.0.99:1", 10), conn("10.0.0.98:1", 10)), table("p2"), table("p3")})
	var first string
	for range 20 {
		b, err := json.Marshal(diagnose.Run(s, diagnose.Options{Checks: []diagnose.Check{quiet("a", diagnose.High)}}))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Fatalf("two runs differ:\n%s\n%s", first, b)
		}
	}
	if !strings.Contains(first, `"findings":[]`) || !strings.Contains(first, `"failOn":"high"`) {
		t.Error(first)
	}
}

func TestSummary(t *testing.T) {
	s := healthy(3)
	s.Slices.Value[0].Endpoints[2].Ready = false
	s.Pods.Value[0].Mesh = diagnose.Mesh{Kind: "linkerd", Mode: "sidecar"}
	two := 2
	_, r := run(s)
	want := diagnose.Summary{
		Type: "ClusterIP", ClusterIP: "10.96.0.7", Ready: &two, NotReady: 1, Nodes: 2, Zones: 2, Mesh: "linkerd",
		Ports: []diagnose.SummaryPort{{Name: "grpc", Port: 6565, Targets: []int32{6565}, GRPC: true}},
	}
	if diff := cmp.Diff(want, r.Summary); diff != "" {
		t.Error(diff)
	}
	s.Services.Value[0].ClusterIPs = []string{"None"}
	s.Slices = diagnose.Unknown[[]diagnose.Slice](diagnose.Denied, "may not", "")
	if _, r = run(s); r.Summary.Type != "headless" || r.Summary.ClusterIP != "" || r.Summary.Ready != nil {
		t.Errorf("summary %+v", r.Summary)
	}
}

// TestPublishedIsNotReady: a Service may publish pods that are not ready, and nothing says of them that they are.
func TestPublishedIsNotReady(t *testing.T) {
	s := healthy(3)
	s.Services.Value[0].PublishNotReady = true
	s.Pods.Value[1].Ready = false
	s.Slices.Value[0].Endpoints[1].Serving = false
	s.Slices.Value[0].Endpoints[2].Serving = false // the pod says that it is ready: between two moments the stricter word counts
	_, r := run(s)
	if *r.Summary.Ready != 1 || r.Summary.NotReady != 2 || r.Summary.Published != 2 || r.Summary.Nodes != 1 {
		t.Errorf("summary %+v, %d ready", r.Summary, *r.Summary.Ready)
	}
	var ready []bool
	for _, row := range r.Spread.Rows {
		ready = append(ready, row.Ready)
	}
	if !slices.Equal(ready, []bool{true, false, false}) {
		t.Errorf("rows are ready: %v", ready)
	}
	if n := len(view(s).Ready()); n != 3 {
		t.Errorf("%d endpoints get traffic, want all 3", n)
	}

	s.Services.Value[0].PublishNotReady = false // then the slices' word holds
	if _, r = run(s); *r.Summary.Ready != 3 || r.Summary.Published != 0 {
		t.Errorf("summary %+v, %d ready", r.Summary, *r.Summary.Ready)
	}
}

// TestTerminatingService: a Service that is being deleted is called so, and no fix goes without the word.
func TestTerminatingService(t *testing.T) {
	fixed := fires("a", diagnose.High)
	find := fixed.Run
	fixed.Run = func(v *diagnose.View) []diagnose.Finding {
		f := find(v)
		f[0].Fixes = []diagnose.Fix{{Title: "patch it"}, {Title: "or change the clients", Caveats: []string{"They restart."}}}
		return f
	}
	s := healthy(3)
	if _, r := run(s, fixed); r.Summary.Terminating || strings.Contains(r.Verdict.Headline, "deleted") || len(r.Findings[0].Fixes[0].Caveats) > 0 {
		t.Errorf("a Service that stays: %+v", r)
	}
	s.Services.Value[0].Terminating = true
	_, r := run(s, fixed)
	if !r.Summary.Terminating || r.Verdict.Headline != "is being deleted; a found it" {
		t.Errorf("summary %+v, headline %q", r.Summary, r.Verdict.Headline)
	}
	for _, f := range r.Findings[0].Fixes {
		if n := len(f.Caveats); n == 0 || !strings.HasPrefix(f.Caveats[n-1], "svc/square is being deleted") {
			t.Errorf("%s: %q", f.Title, f.Caveats)
		}
	}
}

func TestClientRefs(t *testing.T) {
	s := healthy(2)
	s.Services.Value = append(s.Services.Value, diagnose.Service{
		Key: key("square-headless"), ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "square"},
	})
	tgt := func(token, svc string) diagnose.Target {
		return diagnose.Target{Token: token, Kind: diagnose.TargetService, Service: key(svc), Port: 6565}
	}
	s.Workloads = diagnose.Know([]diagnose.Workload{
		{Kind: "Deployment", Key: key("a"), Targets: []diagnose.Target{tgt("square:6565", "square"), tgt("square:6565", "square")}},
		{Kind: "CronJob", Key: key("b"), Mesh: diagnose.Mesh{Kind: "istio"}, Targets: []diagnose.Target{tgt("dns:///square-headless:6565", "square-headless")}},
		{Kind: "Deployment", Key: key("c"), Targets: []diagnose.Target{tgt("other:1", "other")}},
	})
	_, r := run(s)
	want := []diagnose.ClientRef{
		{Namespace: "default", Workload: "deploy/a", Targets: []string{"square:6565"}},
		{Namespace: "default", Workload: "cj/b", Targets: []string{"dns:///square-headless:6565"}, Mesh: "istio"},
	}
	if diff := cmp.Diff(want, r.Clients); diff != "" {
		t.Error(diff)
	}
}
