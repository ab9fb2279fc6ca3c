package admin

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/prometheus"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// busy has a value for every metric, and text that no label may hold.
func busy(s *sidecar.Stats) {
	s.Waiting, s.Refused, s.Retried, s.RejectedClients, s.LastError, s.Panic = 1, 2, 3, 4, "SERVFAIL", true
	s.Passthrough = sidecar.Passthrough{Open: 1, Total: 3, Failed: 1, Bytes: 512, Kinds: map[string]uint64{"tls": 2, "http1": 1}, LastPod: "10.0.0.1:6565"}
	s.GuardDecisions["held"] = 2
	s.RefreshOutcomes["dns/nxdomain"] = 1
	s.Pods[0].Name = "quote \" slash \\ line\nend \xff" + strings.Repeat("long", 100)
	s.Pods[1].State, s.Pods[1].Ejections = sidecar.StateEjected, 3
	s.Pods[1].Failed, s.Pods[1].Erred, s.Pods[1].Codes = 10, 5, map[string]uint64{"OK": 2985, "UNAVAILABLE": 10, "47": 2, "HTTP 404": 3}
	s.Pods[2].State = sidecar.StateHeld
	s.Pods[1].Passthrough, s.Pods[1].PassthroughBytes = 1, 500
	// It was removed before, and its last calls end.
	again := member("10.0.0.2:6565")
	again.State, again.Calls, again.InFlight, again.Passthrough, again.PassthroughBytes = sidecar.StateDraining, 100, 2, 1, 12
	s.Pods = append(s.Pods, again)
}

func scrape(t *testing.T, f fixed) string {
	t.Helper()
	return get(t, Public(f), "/metrics").Body.String()
}

func TestMetricsLint(t *testing.T) {
	for name, f := range map[string]fixed{"busy": daemon(busy, same), "empty": daemon(), "first": daemon(func(s *sidecar.Stats) { *s = sidecar.Stats{Name: "new"} })} {
		problems, err := promlint.New(strings.NewReader(scrape(t, f))).Lint()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

// TestMetricsText: what a scrape of a busy daemon is, but for what the process
// itself is like, which changes. The linter's parser read it above.
func TestMetricsText(t *testing.T) {
	text, _, _ := strings.Cut(scrape(t, daemon(busy)), "# HELP go_goroutines")
	golden.Text(t, "testdata/metrics.txt", text)
	// A label is cut in characters, and its text is what comes out of the quotes again.
	m := regexp.MustCompile(`endpoint_in_flight\{target="square",endpoint="10.0.0.1:6565",name=("(?:[^"\\]|\\.)*")\}`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no series of the pod with the hostile name")
	}
	name, err := strconv.Unquote(m[1])
	if err != nil || !strings.HasPrefix(name, "quote \" slash \\ line\nend ?long") || utf8.RuneCountInString(name) != maxLabel+1 {
		t.Errorf("the name reads %q (%v)", name, err)
	}
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`^([a-z_0-9]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(?:^|,)([a-z_]+)="`)
)

// TestMetricsTable: the table that documents are written from is what a scrape
// has, labels included, each series once.
func TestMetricsTable(t *testing.T) {
	table := map[string]Metric{}
	for _, m := range Metrics() {
		if _, twice := table[m.Name]; twice || m.Help == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s stands twice, or its help %q is no sentence", m.Name, m.Help)
		}
		table[m.Name] = m
	}
	seen := map[string]bool{}
	lines := map[string]bool{}
	for line := range strings.Lines(scrape(t, daemon(busy, same))) {
		line = strings.TrimSuffix(line, "\n")
		if lines[line] {
			t.Errorf("twice: %s", line)
		}
		lines[line] = true
		if m := typeLine.FindStringSubmatch(line); m != nil && table[m[1]].Type != m[2] {
			t.Errorf("%s is a %s, in the table %q", m[1], m[2], table[m[1]].Type)
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not a sample: %s", line)
			continue
		}
		name := m[1]
		if _, ok := table[name]; !ok {
			name = strings.TrimSuffix(strings.Fields(strings.ReplaceAll(line, "{", " "))[0], "")
		}
		seen[name] = true
		var labels []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		if diff := cmp.Diff(table[name].Labels, labels); diff != "" {
			t.Errorf("%s: labels (-table +scrape):\n%s", name, diff)
		}
	}
	for name := range table {
		if !seen[name] {
			t.Errorf("%s is in the table and not in the scrape", name)
		}
	}
}

// TestMetricsBounded: what is not there any more has no series, and a pool that
// is large has none for each pod.
func TestMetricsBounded(t *testing.T) {
	one := scrape(t, daemon(func(s *sidecar.Stats) { s.Pods = s.Pods[:1] }))
	if strings.Contains(one, "10.0.0.2") || !strings.Contains(one, "10.0.0.1") {
		t.Error("series of pods that are gone, or none of the one that is there")
	}
	pods := func(n int) string {
		return scrape(t, daemon(func(s *sidecar.Stats) {
			s.Pods = nil
			for i := range n {
				s.Pods = append(s.Pods, member(fmt.Sprintf("10.0.%d.%d:1", i/200, i%200)))
			}
		}))
	}
	if got := pods(MaxEndpointSeries); strings.Count(got, "_endpoint_in_flight{") != MaxEndpointSeries || !strings.Contains(got, "endpoints_without_series{target=\"square\"} 0\n") {
		t.Error("series are missing up to the largest number")
	}
	got := pods(MaxEndpointSeries + 1)
	if strings.Contains(got, "endpoint=") || !strings.Contains(got, fmt.Sprintf("endpoints_without_series{target=\"square\"} %d\n", MaxEndpointSeries+1)) {
		t.Error("a pool that is too large has series for each pod, or does not say that it has none")
	}
	if !strings.Contains(got, `grpclb_refresher_endpoints_connected{target="square"} 257`) {
		t.Error("the target's own metrics are missing")
	}
}

// TestMetricsOfTwoTargets: the same name twice is told apart by the addresses.
func TestMetricsOfTwoTargets(t *testing.T) {
	got := scrape(t, daemon(same, func(s *sidecar.Stats) { s.Listen = []string{"127.0.0.11:6565"} }))
	for _, want := range []string{`calls_total{target="square"} 9000`, `calls_total{target="square on 127.0.0.11:6565"} 9000`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
}

type library struct{}

func (library) Stats() refresher.Stats { return refresher.Stats{} }

// TestMetricsAsTheLibrary: what has the library's name is the library's metric.
func TestMetricsAsTheLibrary(t *testing.T) {
	table := map[string]Metric{}
	for _, m := range Metrics() {
		table[m.Name] = m
	}
	descs := make(chan *client.Desc, 100)
	prometheus.NewCollector(library{}, prometheus.WithEndpoints()).Describe(descs)
	close(descs)
	form := regexp.MustCompile(`fqName: "(.*?)", help: "(.*?)",.*variableLabels: \{(.*?)\}`)
	shared := 0
	for d := range descs {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		ours, ok := table[m[1]]
		if !ok {
			continue
		}
		shared++
		if ours.Help != m[2] {
			t.Errorf("%s is %q here and %q in the library", m[1], ours.Help, m[2])
		}
		for _, l := range strings.Split(m[3], ",") {
			if !slices.Contains(ours.Labels, l) {
				t.Errorf("%s has not the library's label %q", m[1], l)
			}
		}
	}
	if shared < 15 {
		t.Errorf("only %d metrics are shared: the comparison is broken", shared)
	}
}
