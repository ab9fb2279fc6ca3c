package checks_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
)

// outcome is what one case expects of the check that it belongs to, run together with all others.
type outcome struct {
	Findings []shown        `json:"findings,omitempty"`
	Skipped  *diagnose.Skip `json:"skipped,omitempty"`
	// Others are the other checks' findings, so that noise is noticed when a check learns to fire.
	Others  []string `json:"others,omitempty"`
	Verdict string   `json:"verdict"`
}

// shown is a finding as a case's want.yaml shows it: the same facts, with each command on one line.
type shown struct {
	Is       string     `json:"is"` // severity, confidence and subject
	Summary  string     `json:"summary"`
	Evidence []string   `json:"evidence"`
	Fixes    []shownFix `json:"fixes,omitempty"`
}

type shownFix struct {
	Title   string   `json:"title"`
	Run     []string `json:"run,omitempty"`
	Apply   []string `json:"apply,omitempty"` // manifests, and patches with what they are for
	Caveats []string `json:"caveats,omitempty"`
}

func shorten(f diagnose.Finding) shown {
	g := shown{Is: fmt.Sprintf("%s %s %s", f.Severity, f.Confidence, f.Subject), Summary: f.Summary, Evidence: f.Evidence}
	for _, x := range f.Fixes {
		gf := shownFix{Title: x.Title, Apply: slices.Clone(x.Manifests), Caveats: x.Caveats}
		for _, c := range x.Commands {
			line := strings.Join(c.Args, " ")
			if c.Note != "" {
				line += "  # " + c.Note
			}
			gf.Run = append(gf.Run, line)
		}
		for _, p := range x.Patches {
			gf.Apply = append(gf.Apply, "# "+p.Subject+" in "+p.Namespace+"\n"+p.YAML)
		}
		g.Fixes = append(g.Fixes, gf)
	}
	return g
}

// testCase is one txtar file: scenario.yaml and want.yaml; the comment says what it is about.
type testCase struct {
	check, kind, path string
	archive           *txtar.Archive
	scenario          scenario
}

func (c testCase) name() string {
	return c.check + "/" + strings.TrimSuffix(filepath.Base(c.path), ".txtar")
}

func (c testCase) file(t testing.TB, name string) []byte {
	t.Helper()
	for _, f := range c.archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// allCases reads every case; the kind is the first word of the file name: fires, quiet, skipped or muted.
func allCases(t testing.TB) []testCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	out := make([]testCase, len(paths))
	for i, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(p), ".txtar"), "-")
		if !slices.Contains([]string{"fires", "quiet", "skipped", "muted"}, kind) {
			t.Fatalf("%s: the name does not begin with fires, quiet, skipped or muted", p)
		}
		out[i] = testCase{check: filepath.Base(filepath.Dir(p)), kind: kind, path: p, archive: a}
		if err := yaml.UnmarshalStrict(out[i].file(t, "scenario.yaml"), &out[i].scenario); err != nil {
			t.Fatalf("%s: scenario.yaml: %v", p, err)
		}
	}
	return out
}

func TestCases(t *testing.T) {
	for _, c := range allCases(t) {
		t.Run(c.name(), func(t *testing.T) {
			got, ran := run(t, c)
			switch {
			case c.kind == "fires" && len(got.Findings) == 0:
				t.Errorf("%s did not fire (skipped: %+v)", c.check, got.Skipped)
			case c.kind == "quiet" && !ran:
				t.Errorf("%s is not among the checks that passed (findings %d, skipped %+v)", c.check, len(got.Findings), got.Skipped)
			case c.kind == "skipped" && (got.Skipped == nil || got.Skipped.Kind == diagnose.SkipMuted || got.Skipped.Reason == ""):
				t.Errorf("%s was not skipped with a reason: %+v", c.check, got.Skipped)
			case c.kind == "muted" && (got.Skipped == nil || got.Skipped.Kind != diagnose.SkipMuted):
				t.Errorf("%s was not muted: %+v", c.check, got.Skipped)
			}
			compare(t, c, got)
		})
	}
}

// run diagnoses a case with all checks and picks out what concerns its own; ran is true when that check passed.
func run(t testing.TB, c testCase) (out outcome, ran bool) {
	t.Helper()
	r := diagnose.Run(c.scenario.snapshot(t), diagnose.Options{Checks: checks.All()})
	s := r.Services[0]
	for _, f := range s.Findings {
		if f.Check == c.check {
			out.Findings = append(out.Findings, shorten(f))
			continue
		}
		out.Others = append(out.Others, fmt.Sprintf("%s %s %s", f.Check, f.Severity, f.Confidence))
	}
	for _, sk := range s.Skipped {
		if sk.Check == c.check {
			out.Skipped = &sk
		}
	}
	out.Verdict = fmt.Sprintf("%s: %s", s.Verdict.State, s.Verdict.Headline)
	return out, slices.Contains(s.Passed, c.check)
}

func compare(t *testing.T, c testCase, got outcome) {
	t.Helper()
	b, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if *golden.Update && !t.Failed() {
		c.archive.Files = []txtar.File{{Name: "scenario.yaml", Data: c.file(t, "scenario.yaml")}, {Name: "want.yaml", Data: b}}
		golden.Write(t, c.path, txtar.Format(c.archive))
		return
	}
	if diff := cmp.Diff(string(c.file(t, "want.yaml")), string(b)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", c.path, diff)
	}
}

// TestEveryCheckIsComplete demands what CONTRIBUTING promises of a check.
func TestEveryCheckIsComplete(t *testing.T) {
	if err := diagnose.Validate(checks.All()); err != nil {
		t.Error(err)
	}
	cases := map[string][]string{}
	for _, c := range allCases(t) {
		cases[c.check] = append(cases[c.check], c.kind)
		if len(bytes.TrimSpace(c.archive.Comment)) == 0 {
			t.Errorf("%s: no comment says what the case is about", c.path)
		}
	}
	sections := []string{"## What happens", "## Why", "## How it shows", "## Confirm by hand", "## Fix", "## What may fool this check"}
	for _, c := range checks.All() {
		for _, kind := range []string{"fires", "quiet", "skipped"} {
			if !slices.Contains(cases[c.ID], kind) {
				t.Errorf("%s: no case testdata/%s/%s-*.txtar", c.ID, c.ID, kind)
			}
		}
		if len(c.DependsOn) > 0 && !slices.Contains(cases[c.ID], "muted") {
			t.Errorf("%s: depends on %v and has no case muted-*.txtar", c.ID, c.DependsOn)
		}
		if c.Doc == "" {
			t.Errorf("%s: it has no page: write pages/%s.md", c.ID, c.ID)
			continue
		}
		if !strings.HasPrefix(c.Doc, "# "+c.ID+"\n") {
			t.Errorf("%s: its page does not begin with its ID as heading", c.ID)
		}
		at := 0
		for _, s := range sections {
			i := strings.Index(c.Doc[at:], "\n"+s+"\n")
			if i < 0 {
				t.Errorf("%s: its page lacks %q, or has it out of order", c.ID, s)
				continue
			}
			at += i
		}
		if !strings.Contains(c.Doc, "https://") {
			t.Errorf("%s: its page names no source", c.ID)
		}
		for n, line := range strings.Split(c.Doc, "\n") {
			if len(line) > 130 && !strings.Contains(line, "https://") {
				t.Errorf("%s: line %d of its page is longer than 130", c.ID, n+1)
			}
		}
	}
	files, _ := filepath.Glob("pages/*.md")
	for _, f := range files {
		if id := strings.TrimSuffix(filepath.Base(f), ".md"); !known(id) {
			t.Errorf("%s belongs to no check: add its check to All in all.go, or remove the page", f)
		}
	}
	for id := range cases {
		if !known(id) {
			t.Errorf("testdata/%s belongs to no check: add its check to All in all.go, or remove the cases", id)
		}
	}
}

func known(id string) bool {
	c, ok := checks.ByID(id)
	return ok && c.ID == id
}

func TestByID(t *testing.T) {
	if c, ok := checks.ByID("dns-truncated"); !ok || c.ID != "dns-truncated" {
		t.Errorf("ByID(dns-truncated) = %q, %v", c.ID, ok)
	}
	if c, ok := checks.ByID("no-such-check"); ok {
		t.Errorf("ByID(no-such-check) = %q", c.ID)
	}
}

// TestOrderIsCanonical pins the order of released checks: reports, docs and DependsOn rely on it. A release adds its new ones here; until
// then they may stand anywhere.
func TestOrderIsCanonical(t *testing.T) {
	want := []string{
		"clusterip-pinned", "headless-port-mismatch", "selector-matches-nothing", "named-port-missing", "no-ready-endpoints",
		"not-ready-published", "session-affinity", "single-endpoint", "pods-on-one-node", "pods-on-one-zone", "dns-disagrees",
		"dns-truncated", "client-ip-target", "client-passthrough", "client-target-unknown-service", "scale-out-blind",
		"server-not-grpc", "linkerd-headless", "mesh-one-sided", "readiness-missing", "sidecar-broken", "client-sidecar",
	}
	var got []string
	for _, c := range checks.All() {
		if slices.Contains(want, c.ID) || c.Since == "0.1.0" {
			got = append(got, c.ID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFindingsAreWellFormed holds every finding of every case against the rules of Finding and Fix.
func TestFindingsAreWellFormed(t *testing.T) {
	subject := regexp.MustCompile(`^(svc|deploy|sts|ds|rs|cj|job|pod|check)/[^ ]+$`)
	for _, c := range allCases(t) {
		s := c.scenario.snapshot(t)
		for _, f := range diagnose.Run(s, diagnose.Options{Checks: checks.All()}).Services[0].Findings {
			at := c.name() + ": " + f.Check + ": "
			if strings.HasPrefix(f.Subject, "check/") {
				t.Errorf("%sit failed with %v", at, f.Evidence)
			}
			if !subject.MatchString(f.Subject) {
				t.Errorf("%ssubject %q", at, f.Subject)
			}
			if f.Summary == "" || strings.HasSuffix(f.Summary, ".") || strings.Contains(f.Summary, "\n") {
				t.Errorf("%ssummary %q", at, f.Summary)
			}
			if !slices.Contains([]diagnose.Confidence{diagnose.Observed, diagnose.Configured, diagnose.Inferred}, f.Confidence) {
				t.Errorf("%sconfidence %q", at, f.Confidence)
			}
			if len(f.Evidence) == 0 {
				t.Errorf("%sno evidence", at)
			}
			for _, e := range f.Evidence {
				if !strings.HasSuffix(e, ".") || strings.HasSuffix(e, "..") || strings.Contains(e, "  ") || strings.Contains(e, "%!") {
					t.Errorf("%sevidence %q", at, e)
				}
			}
			if f.Severity >= diagnose.Low && len(f.Fixes) == 0 {
				t.Errorf("%sno fix", at)
			}
			for _, x := range f.Fixes {
				checkFix(t, at, s.Targets[0].Namespace, x)
			}
		}
	}
}

func checkFix(t *testing.T, at, ns string, x diagnose.Fix) {
	t.Helper()
	if x.Title == "" || strings.HasSuffix(x.Title, ".") {
		t.Errorf("%sfix title %q", at, x.Title)
	}
	if len(x.Commands)+len(x.Manifests)+len(x.Patches)+len(x.Snippets) == 0 {
		t.Errorf("%sfix %q is prose alone", at, x.Title)
	}
	for _, c := range x.Commands {
		i := slices.Index(c.Args, "-n")
		if c.Args[0] != "kubectl" || ns == "default" && i >= 0 && c.Args[i+1] == ns {
			t.Errorf("%scommand %q", at, c.Args)
		}
		if mine := slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "svc/") }); mine && ns != "default" && i < 0 {
			t.Errorf("%scommand %q does not say -n %s", at, c.Args, ns)
		}
	}
	for _, c := range x.Caveats {
		if !strings.HasSuffix(c, ".") {
			t.Errorf("%scaveat %q", at, c)
		}
	}
	for _, m := range x.Manifests {
		var any map[string]any
		if err := yaml.Unmarshal([]byte(m), &any); err != nil {
			t.Errorf("%smanifest: %v", at, err)
		}
	}
	for _, p := range x.Patches {
		var any map[string]any
		if err := yaml.Unmarshal([]byte(p.YAML), &any); err != nil || p.Subject == "" || p.Namespace == "" {
			t.Errorf("%spatch of %q in %q: %v", at, p.Subject, p.Namespace, err)
		}
	}
}

// TestOrderOfObjectsDoesNotMatter shuffles the lists of every case: an API server promises no order.
func TestOrderOfObjectsDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range allCases(t) {
		want := diagnose.Run(c.scenario.snapshot(t), diagnose.Options{Checks: checks.All()})
		s := c.scenario.snapshot(t)
		shuffle(rng, s.Services.Value)
		shuffle(rng, s.Pods.Value)
		shuffle(rng, s.Slices.Value)
		for i := range s.Slices.Value {
			shuffle(rng, s.Slices.Value[i].Endpoints)
		}
		shuffle(rng, s.Nodes.Value)
		shuffle(rng, s.DNS.Value)
		shuffle(rng, s.Ports.Value)
		shuffle(rng, s.Sockets.Value)
		shuffle(rng, s.Metrics.Value)
		got := diagnose.Run(s, diagnose.Options{Checks: checks.All()})
		if diff := cmp.Diff(want.Services[0].Findings, got.Services[0].Findings); diff != "" {
			t.Errorf("%s: another order of objects changes the findings:\n%s", c.name(), diff)
		}
	}
}

func shuffle[T any](rng *rand.Rand, xs []T) {
	rng.Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
}

// TestMissingFactsAreSurvived takes one group of facts after another out of every case: no check may panic, and none
// may run without what it needs.
func TestMissingFactsAreSurvived(t *testing.T) {
	facts := []diagnose.FactName{
		diagnose.FactSlices, diagnose.FactPods, diagnose.FactNodes, diagnose.FactWorkloads, diagnose.FactMetrics, diagnose.FactDNS,
		diagnose.FactPorts, diagnose.FactSockets, diagnose.FactProbes,
	}
	for _, c := range allCases(t) {
		base := c.scenario.snapshot(t)
		for _, n := range facts {
			s := *base
			withdraw(t, &s, n, diagnose.Status{State: diagnose.Denied, Reason: "may not look"})
			r := diagnose.Run(&s, diagnose.Options{Checks: checks.All()}).Services[0]
			for _, f := range r.Findings {
				if strings.HasPrefix(f.Subject, "check/") {
					t.Errorf("%s without %s: %s: %v", c.name(), n, f.Check, f.Evidence)
				}
			}
			for _, id := range r.Passed {
				if k, _ := checks.ByID(id); slices.Contains(k.Needs, n) {
					t.Errorf("%s without %s: %s passed", c.name(), n, id)
				}
			}
		}
	}
}
