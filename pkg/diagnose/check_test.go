package diagnose_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestValidate(t *testing.T) {
	ok := func() diagnose.Check { return fires("some-check-2", diagnose.High) }
	tests := map[string]struct {
		change func(*diagnose.Check)
		want   string // part of the error; empty: valid
	}{
		"valid":          {func(*diagnose.Check) {}, ""},
		"every fact":     {func(c *diagnose.Check) { c.Needs = allFacts }, ""},
		"earlier cause":  {func(c *diagnose.Check) { c.DependsOn = []string{"earlier"} }, ""},
		"upper case":     {func(c *diagnose.Check) { c.ID = "Some" }, "no slug"},
		"trailing dash":  {func(c *diagnose.Check) { c.ID = "some-" }, "no slug"},
		"leading digit":  {func(c *diagnose.Check) { c.ID = "2nd" }, "no slug"},
		"empty":          {func(c *diagnose.Check) { c.ID = "" }, "no slug"},
		"used twice":     {func(c *diagnose.Check) { c.ID = "earlier" }, "used twice"},
		"no title":       {func(c *diagnose.Check) { c.Title = "" }, "needs a title"},
		"no doc":         {func(c *diagnose.Check) { c.Doc = "" }, "needs a title"},
		"no since":       {func(c *diagnose.Check) { c.Since = "" }, "needs a title"},
		"no run":         {func(c *diagnose.Check) { c.Run = nil }, "needs a title"},
		"no severity":    {func(c *diagnose.Check) { c.Severity = 0 }, "no severity"},
		"severity 6":     {func(c *diagnose.Check) { c.Severity = 6 }, "no severity"},
		"unknown fact":   {func(c *diagnose.Check) { c.Needs = []diagnose.FactName{"weather"} }, `unknown fact "weather"`},
		"unknown cause":  {func(c *diagnose.Check) { c.DependsOn = []string{"later"} }, `depends on "later"`},
		"its own cause":  {func(c *diagnose.Check) { c.DependsOn = []string{"some-check-2"} }, "does not stand earlier"},
		"several errors": {func(c *diagnose.Check) { c.Severity, c.Title = 0, "" }, "no severity"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := ok()
			tc.change(&c)
			err := diagnose.Validate([]diagnose.Check{fires("earlier", diagnose.Low), c})
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if name == "several errors" && !strings.Contains(err.Error(), "needs a title") {
				t.Errorf("only one of two mistakes is told: %v", err)
			}
		})
	}
}

func TestSeverity(t *testing.T) {
	order := []diagnose.Severity{diagnose.Info, diagnose.Low, diagnose.Medium, diagnose.High, diagnose.Critical}
	for i, s := range order {
		if i > 0 && order[i-1] >= s {
			t.Errorf("%s is not above %s", s, order[i-1])
		}
		b, err := json.Marshal(s)
		if err != nil || string(b) != `"`+s.String()+`"` {
			t.Errorf("%s marshals to %s, %v", s, b, err)
		}
		var back diagnose.Severity
		if err := json.Unmarshal(b, &back); err != nil || back != s {
			t.Errorf("%s comes back as %s, %v", s, back, err)
		}
	}
	if _, err := diagnose.ParseSeverity("urgent"); err == nil || !strings.Contains(err.Error(), "critical") {
		t.Errorf("error %v does not name what is allowed", err)
	}
	if got := diagnose.Severity(9).String(); got != "severity(9)" {
		t.Error(got)
	}
}

var allFacts = []diagnose.FactName{
	diagnose.FactServices, diagnose.FactSlices, diagnose.FactPods, diagnose.FactNodes, diagnose.FactWorkloads, diagnose.FactConfigMaps,
	diagnose.FactMetrics, diagnose.FactDNS, diagnose.FactPorts, diagnose.FactSockets, diagnose.FactProbes,
}

// TestStatusKnowsEveryFact sets one group after the other and asks for all: each name has to lead to its own group.
func TestStatusKnowsEveryFact(t *testing.T) {
	st := diagnose.Status{State: diagnose.Denied, Reason: "may not"}
	set := map[diagnose.FactName]func(*diagnose.Snapshot){
		diagnose.FactServices:   func(s *diagnose.Snapshot) { s.Services.Status = st },
		diagnose.FactSlices:     func(s *diagnose.Snapshot) { s.Slices.Status = st },
		diagnose.FactPods:       func(s *diagnose.Snapshot) { s.Pods.Status = st },
		diagnose.FactNodes:      func(s *diagnose.Snapshot) { s.Nodes.Status = st },
		diagnose.FactWorkloads:  func(s *diagnose.Snapshot) { s.Workloads.Status = st },
		diagnose.FactConfigMaps: func(s *diagnose.Snapshot) { s.ConfigMaps.Status = st },
		diagnose.FactMetrics:    func(s *diagnose.Snapshot) { s.Metrics.Status = st },
		diagnose.FactDNS:        func(s *diagnose.Snapshot) { s.DNS.Status = st },
		diagnose.FactPorts:      func(s *diagnose.Snapshot) { s.Ports.Status = st },
		diagnose.FactSockets:    func(s *diagnose.Snapshot) { s.Sockets.Status = st },
		diagnose.FactProbes:     func(s *diagnose.Snapshot) { s.Probes.Status = st },
	}
	if len(set) != len(allFacts) {
		t.Fatalf("%d setters for %d facts", len(set), len(allFacts))
	}
	for _, n := range allFacts {
		var s diagnose.Snapshot
		set[n](&s)
		for _, m := range allFacts {
			if got := s.Status(m); (got == st) != (m == n) {
				t.Errorf("with %s set, the status of %s is %+v", n, m, got)
			}
		}
	}
	if got := (&diagnose.Snapshot{}).Status("weather"); got.Known() || got.Reason == "" {
		t.Errorf("an unknown fact has the status %+v", got)
	}
}

// TestFactsSurviveJSON: "there is none" must not turn into "not looked", nor the other way round.
func TestFactsSurviveJSON(t *testing.T) {
	in := diagnose.Snapshot{
		Pods: diagnose.Know([]diagnose.Pod{}), Slices: diagnose.Unknown[[]diagnose.Slice](diagnose.Failed, "time was up", "try again"),
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out diagnose.Snapshot
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if !out.Pods.Known() || out.Pods.Value == nil || out.Slices.Status != in.Slices.Status || out.Nodes.State != diagnose.NotAsked {
		t.Errorf("%s came back as %+v", b, out)
	}
	if strings.Contains(string(b), `"nodes"`) {
		t.Errorf("a fact that was not asked for is written: %s", b)
	}
}
