package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/load"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

const ms = time.Millisecond

var zero = time.Unix(1000, 0)

// stageOf is a run of 10 s with the fault after 4 s, on victim 10.0.0.1.
func stageOf(s scenario) *stage {
	return &stage{
		cluster: &cluster{options: options{rate: 200}}, scenario: s,
		from: zero, hit: zero.Add(4 * time.Second), to: zero.Add(10 * time.Second), victims: []string{"10.0.0.1"},
	}
}

// healthy is 200 calls a second of 5 ms, by turns on two peers.
func healthy() report.Report {
	r := report.Report{Began: zero, Peers: []string{"10.0.0.1", "10.0.0.2"}}
	for i := range 2000 {
		r.Calls = append(r.Calls, report.NewCall(time.Duration(i)*5*ms, 5*ms, codes.OK, i%2))
	}
	return r
}

// fail lets calls on the victim fail from one number to another.
func fail(r report.Report, from, to int) report.Report {
	for i := from; i < to; i++ {
		if r.Calls[i].Peer() == 0 {
			r.Calls[i] = report.NewCall(r.Calls[i].Start(), ms, codes.Unavailable, 0)
		}
	}
	return r
}

func slow(r report.Report, share int) report.Report {
	for i := 800; i < len(r.Calls); i += share {
		r.Calls[i] = report.NewCall(r.Calls[i].Start(), 205*ms, codes.OK, r.Calls[i].Peer())
	}
	return r
}

func streams(r report.Report, s ...report.Stream) report.Report {
	r.Streams = s
	return r
}

func TestBudgets(t *testing.T) {
	cases := []struct {
		name string
		b    budget
		r    report.Report
		kept bool
	}{
		{"none failed", noneFailed, healthy(), true},
		{"one failed", noneFailed, fail(healthy(), 1000, 1001), false},
		{"one in flight", inFlight, fail(healthy(), 800, 801), true},
		{"more than in flight", inFlight, fail(healthy(), 800, 900), false},
		{"1.4 s of the share", nodeShare, fail(healthy(), 800, 1080), true},
		{"1.6 s of the share", nodeShare, fail(healthy(), 800, 1120), false},
		{"five failures", threshold, fail(healthy(), 800, 810), true},
		{"six failures, one after the other", threshold, fail(healthy(), 800, 812), false},
		{"p99 as before", nearBaseline, slow(healthy(), 200), true},
		{"p99 is the slow pod's", nearBaseline, slow(healthy(), 50), false},
		{"back soon", backSoon, fail(healthy(), 800, 1790), true},
		{"not back", backSoon, fail(healthy(), 800, 1810), false},
		{"streams live", noStreamBroken, streams(healthy(), report.Stream{}), true},
		{"a stream is ended by the server", noStreamBroken, streams(healthy(), report.Stream{Ended: time.Second}), true},
		{"a stream breaks", noStreamBroken, streams(healthy(), report.Stream{}, report.Stream{Ended: time.Second, Code: codes.Unavailable}), false},
		{"there were no streams", noStreamBroken, healthy(), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			promise, kept := c.b(stageOf(scenario{}), load.Variant{}, c.r)
			if kept != c.kept {
				t.Errorf("%q kept: %v, want %v", promise, kept, c.kept)
			}
		})
	}
}

func TestFirstCall(t *testing.T) {
	watch, asks := load.Variant{Name: "watch", Ours: true}, load.Variant{Name: "asks", Ours: true, Interval: 5 * time.Second}
	cases := []struct {
		name  string
		v     load.Variant
		dns   string
		ready time.Duration // before the first call on the new pod, at 5 s
		kept  bool
	}{
		{"a watch, soon", watch, "", 900 * ms, true},
		{"a watch, late", watch, "", 1100 * ms, false},
		{"DNS within its interval", asks, "", 4900 * ms, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			st := stageOf(scenario{dns: c.dns})
			r := healthy()
			r.Peers = append(r.Peers, "10.0.0.3")
			r.Calls = append(r.Calls, report.NewCall(5*time.Second, ms, codes.OK, 2))
			st.fresh = map[string]time.Time{"10.0.0.3": zero.Add(5*time.Second - c.ready)}
			if promise, kept := firstCall(st, c.v, r); kept != c.kept {
				t.Errorf("%q kept: %v, want %v", promise, kept, c.kept)
			}
			st.fresh["10.0.0.4"] = zero
			if promise, kept := firstCall(st, c.v, r); kept {
				t.Errorf("%q is kept though one pod was never called", promise)
			}
			if got := st.firstText(r); !strings.Contains(got, "1 of 2 never") {
				t.Errorf("the table says %q", got)
			}
		})
	}
}

func TestRows(t *testing.T) {
	for _, sidecar := range []bool{false, true} {
		st := stageOf(scenario{title: "a fault", replicas: 3, budgets: []budget{noneFailed}})
		st.sidecar = sidecar
		wantRows(t, st)
	}
}

func wantRows(t *testing.T, st *stage) {
	t.Helper()
	st.reports = map[string]report.Report{}
	for _, v := range st.variants() {
		st.reports[v.Name] = fail(healthy(), 1000, 1001)
	}
	missed := 0
	for _, row := range st.rows() {
		if len(row) != len(head()) {
			t.Errorf("%d cells, want %d: %q", len(row), len(head()), row)
		}
		if row[3] != "1 (1 Unavailable)" {
			t.Errorf("failed: %q", row[3])
		}
		if row[len(row)-1] == "MISSED" {
			missed++
		}
	}
	ours := 0
	for _, v := range st.variants() {
		if v.Ours {
			ours++
		}
	}
	if missed != ours {
		t.Errorf("%d rows are MISSED, want those of ours: %d", missed, ours)
	}
	delete(st.reports, st.variants()[0].Name)
	if row := st.rows()[0]; row[2] != "no report" {
		t.Errorf("a client without a report has %q", row)
	}
}

// TestPinnedIsLeftOut: addresses in slices written by hand have no Service with a ClusterIP.
func TestPinnedIsLeftOut(t *testing.T) {
	st := stageOf(scenario{})
	st.sidecar = true
	if got := st.variants(); len(got) != 2 || slices.ContainsFunc(got, func(v load.Variant) bool { return v.Pinned }) {
		t.Errorf("%d clients take part: %+v", len(got), got)
	}
}

func TestMerge(t *testing.T) {
	row := func(title, client, failed string) []string {
		cells := make([]string, len(head()))
		cells[0], cells[1], cells[3] = title, client, failed
		return cells
	}
	all := scenarios()
	s := result.Section{ID: "faults", Title: "t", Tables: []result.Table{{Head: head(), Rows: [][]string{
		row(all[0].title, "a", "1"), row("", "b", "2"), row(all[2].title, "a", "3"), row("", "b", "4"),
	}}}}
	doc, err := result.Replace("<!-- measured: faults -->\n<!-- end: faults -->\n", s)
	if err != nil {
		t.Fatal(err)
	}
	got := merge(earlier(doc, "faults"), [][]string{row(all[1].title, "a", "5"), row("", "b", "6"), row(all[2].title, "a", "7"), row("", "b", "8")})
	var failed []string
	for _, cells := range got {
		failed = append(failed, cells[3])
	}
	if want := []string{"1", "2", "5", "6", "7", "8"}; !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
	if got[1][0] != "" || got[2][0] != all[1].title {
		t.Errorf("titles: %q, %q", got[1][0], got[2][0])
	}
}

func TestScenarios(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range scenarios() {
		if s.name == "" || s.title == "" || s.fault == nil || len(s.budgets) == 0 || seen[s.name] {
			t.Errorf("%q is incomplete or there twice", s.name)
		}
		seen[s.name] = true
	}
}

func TestCorefiles(t *testing.T) {
	const cluster = ".:53 {\n    cache 30 {\n       disable success cluster.local\n       disable denial cluster.local\n    }\n}\n"
	for _, f := range corefiles() {
		text, err := f.text(cluster, "ns.svc.cluster.local")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, ".:53 {") || strings.Count(text, "{") != strings.Count(text, "}") {
			t.Errorf("%s:\n%s", f.name, text)
		}
		if want := f.name != dnsCached; strings.Contains(text, "disable") != want {
			t.Errorf("%s: cache of the cluster's names off: want %v:\n%s", f.name, want, text)
		}
	}
	if _, err := cached(".:53 {\n}\n", ""); err == nil {
		t.Error("a Corefile without a word about the cache makes no difference, and nobody says so")
	}
}
