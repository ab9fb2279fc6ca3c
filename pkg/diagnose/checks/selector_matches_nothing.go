package checks

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func selectorMatchesNothing() diagnose.Check {
	return diagnose.Check{
		ID:       "selector-matches-nothing",
		Title:    "the Service's selector matches no pod",
		Severity: diagnose.Critical,
		Doc:      page("selector-matches-nothing"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactPods},
		Run:      runSelectorMatchesNothing,
	}
}

func runSelectorMatchesNothing(v *diagnose.View) []diagnose.Finding {
	svc := v.Service
	if len(svc.Selector) == 0 || svc.Type == "ExternalName" || len(v.Selected()) > 0 {
		return nil
	}
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Critical, Confidence: diagnose.Configured,
		Summary: "no pod in " + svc.Namespace + " has the labels that the Service selects: " + labels(svc.Selector),
	}
	if near, ok := nearest(v); ok {
		f.Evidence = append(f.Evidence, near.sentence(svc.Selector))
		f.Fixes = append(f.Fixes, near.fix(v))
	}
	if zero := scaledToZero(v); len(zero) > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s %s scaled to 0: the pods meant may just not run now.", list(zero), either(len(zero), "is", "are")))
		if len(f.Fixes) == 0 {
			f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
		}
	}
	live, finished := podsIn(v)
	if finished > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s with these labels ran to completion; such pods are no endpoints.", count(finished, "pod")))
	}
	if len(f.Evidence) == 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("Nothing in %s comes near (%s seen).", svc.Namespace, count(live, "pod")))
	}
	f.Fixes = append(f.Fixes, diagnose.Fix{
		Title:    "compare the selector with the pods' labels",
		Commands: []diagnose.Command{kubectl(svc.Namespace, "get", "pods", "--show-labels")},
	})
	return []diagnose.Finding{f}
}

// miss is a set of pods that would match but for some labels.
type miss struct {
	owner    string
	pod      *diagnose.Pod
	pods     int
	matched  int
	wrong    []string // keys that differ, sorted
	distance int      // edits between the values of the wrong keys
}

// nearest returns the pods that come closest to the selector: most labels right, then fewest edits. Pods that share
// nothing with it, not even most letters of a value, are no miss.
func nearest(v *diagnose.View) (miss, bool) {
	var live []*diagnose.Pod
	for i := range v.Pods.Value {
		if p := &v.Pods.Value[i]; p.Namespace == v.Service.Namespace && p.Phase != "Succeeded" && p.Phase != "Failed" {
			live = append(live, p)
		}
	}
	var best miss
	found := false
	order, byOwner := owners(live)
	for _, o := range order {
		m, ok := missOf(v.Service.Selector, byOwner[o][0])
		m.owner, m.pods = ownerRef(o), len(byOwner[o])
		if ok && (!found || cmp.Or(best.matched-m.matched, m.distance-best.distance) < 0) {
			best, found = m, true
		}
	}
	return best, found
}

func missOf(selector map[string]string, p *diagnose.Pod) (miss, bool) {
	m := miss{pod: p}
	near := false
	for _, k := range slices.Sorted(maps.Keys(selector)) {
		got, ok := p.Labels[k]
		if ok && got == selector[k] {
			m.matched++
			continue
		}
		m.wrong = append(m.wrong, k)
		d := distance(selector[k], got)
		m.distance += d
		near = near || ok && similar(selector[k], got, d)
	}
	return m, m.matched > 0 || near
}

// similar reports whether two values are most likely meant to be the same: few edits, or one begins with the other.
func similar(a, b string, edits int) bool {
	if len(a) >= 3 && len(b) >= 3 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
		return true
	}
	return edits <= max(1, min(len(a), len(b))/4)
}

func (m miss) sentence(selector map[string]string) string {
	var diffs []string
	for _, k := range m.wrong {
		if got, ok := m.pod.Labels[k]; ok {
			diffs = append(diffs, fmt.Sprintf("%s=%s instead of %s", k, got, selector[k]))
		} else {
			diffs = append(diffs, fmt.Sprintf("no label %s (wanted: %s)", k, selector[k]))
		}
	}
	return fmt.Sprintf("Nearest %s the %s of %s, which %s %s.", either(m.pods, "is", "are"), count(m.pods, "pod"), m.owner, either(m.pods, "has", "have"), list(diffs))
}

// fix patches the selector to what the nearest pods have; a label that they lack is taken out of it.
func (m miss) fix(v *diagnose.View) diagnose.Fix {
	want := map[string]any{}
	for _, k := range m.wrong {
		want[k] = nil
		if got, ok := m.pod.Labels[k]; ok {
			want[k] = got
		}
	}
	return diagnose.Fix{
		Title:    "select the pods of " + m.owner,
		Commands: []diagnose.Command{patchService(v, map[string]any{"selector": want})},
		Caveats:  []string{"Right only if these are the pods meant: compare with what deploys the Service."},
	}
}

// patchService is a strategic-merge patch of the Service's spec; a nil value deletes.
func patchService(v *diagnose.View, spec map[string]any) diagnose.Command {
	b, err := json.Marshal(map[string]any{"spec": spec}) // maps of strings, numbers and nil: cannot fail
	if err != nil {
		b = []byte("{}")
	}
	return kubectl(v.Service.Namespace, "patch", subject(v), "-p", string(b))
}

func scaledToZero(v *diagnose.View) []string {
	var out []string
	for _, w := range v.Workloads.Value {
		if w.Namespace == v.Service.Namespace && idle(w) {
			out = append(out, w.Ref())
		}
	}
	return out
}

// podsIn counts the namespace's pods: those that live, and those that have the labels and are finished.
func podsIn(v *diagnose.View) (live, finished int) {
	for i := range v.Pods.Value {
		p := &v.Pods.Value[i]
		if p.Namespace != v.Service.Namespace {
			continue
		}
		if p.Phase != "Succeeded" && p.Phase != "Failed" {
			live++
		} else if m, _ := missOf(v.Service.Selector, p); len(m.wrong) == 0 {
			finished++
		}
	}
	return live, finished
}

func labels(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

// distance is the number of single-character edits between two words (Levenshtein 1966).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
