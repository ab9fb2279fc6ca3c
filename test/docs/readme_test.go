package docs_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
)

//go:generate go test . -run TestReadme -update

// TestReadmeLength: a stranger reads it in five minutes.
func TestReadmeLength(t *testing.T) {
	const most = 250
	if n := strings.Count(readme(t), "\n"); n >= most {
		t.Errorf("README.md has %d lines, it may have %d: move what is not for strangers into docs/", n, most-1)
	}
}

// TestReadmeParts: the table of checks is what the catalogue says, and each
// number stands in docs/performance.md, as the benchmarks wrote it.
func TestReadmeParts(t *testing.T) {
	file := filepath.Join(root, "README.md")
	golden.Part(t, file, "checks", checkTable(t))
	golden.Part(t, file, "numbers", numberTable(t))
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// groups sort the checks for a reader who does not know them.
var groups = []struct {
	title string
	ids   []string
}{
	{"Calls stay on one pod", []string{"clusterip-pinned", "session-affinity", "client-passthrough", "client-ip-target", "single-endpoint"}},
	{"New pods get nothing", []string{"scale-out-blind", "dns-truncated", "dns-disagrees"}},
	{"Calls fail", []string{"headless-port-mismatch", "client-target-unknown-service", "server-not-grpc", "selector-matches-nothing",
		"named-port-missing", "no-ready-endpoints"}},
	{"Pods that are not ready", []string{"readiness-missing", "not-ready-published"}},
	{"The sidecar", []string{"client-sidecar", "sidecar-broken"}},
	{"Meshes", []string{"mesh-one-sided", "linkerd-headless"}},
	{"Placement", []string{"pods-on-one-node", "pods-on-one-zone"}},
}

// checkTable is the README's table of checks.
func checkTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| | checks |\n|-|-|\n")
	shown := map[string]bool{}
	for _, g := range groups {
		var cells []string
		for _, id := range g.ids {
			c, ok := checks.ByID(id)
			if !ok {
				t.Fatalf("test/docs groups the check %s, which does not exist", id)
			}
			shown[id] = true
			cells = append(cells, fmt.Sprintf("[`%s`](docs/checks.md#%s): %s", id, id, c.Title))
		}
		fmt.Fprintf(&b, "| **%s** | %s |\n", g.title, strings.Join(cells, "<br>"))
	}
	for _, c := range checks.All() {
		if !shown[c.ID] {
			t.Errorf("the check %s is in no group: add it to groups in test/docs/readme_test.go", c.ID)
		}
	}
	return b.String()
}

// numbers are the rows that the README takes over: the part of
// docs/performance.md, the row there, and what it is called here.
var numbers = []struct{ part, row, name string }{
	{"diagnose", "--depth observe (default)", "`diagnose svc/square-service`, 3 pods, on the lab"},
	{"diagnose", "--depth static", "the same with `--depth static`"},
	{"endpoints", "--depth static", "1,000 endpoints, `--depth static`"},
	{"endpoints", "--depth static, peak memory", "and its peak memory"},
	{"pods", "requests at --depth observe, 3 and 300 pods", "requests to the API server, 3 pods or 300"},
	{"start", "kubectl-grpclb version", "start of the plugin"},
	{"start", "kubectl version --client (peer)", "start of kubectl, for scale"},
	{"size", "kubectl-grpclb", "size of the plugin"},
}

// numberTable is the README's table of measured numbers.
func numberTable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| measured | median | target |\n|-|-|-|\n")
	for _, n := range numbers {
		measured, target := measurement(t, string(text), n.part, n.row)
		fmt.Fprintf(&b, "| %s | %s | %s |\n", n.name, measured, target)
	}
	machine, _, _ := strings.Cut(strings.TrimPrefix(line(part(t, string(text), "diagnose"), "Measured on: "), "Measured on: "), ", load average")
	fmt.Fprintf(&b, "\nPrinted by `make bench` (%s); spread, samples and method are in [docs/performance.md](docs/performance.md).\n", machine)
	return b.String()
}

// part is what one benchmark wrote.
func part(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "<!-- measured: "+name+" -->")
	body, _, ok2 := strings.Cut(rest, "<!-- end: "+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("docs/performance.md has no part %q: change numbers in test/docs/readme_test.go with the benchmarks", name)
	}
	return body
}

// line is the first line that begins so.
func line(text, begin string) string {
	lines := strings.Split(text, "\n")
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, begin) }); i >= 0 {
		return lines[i]
	}
	return ""
}

func measurement(t *testing.T, text, name, row string) (measured, target string) {
	t.Helper()
	cells := strings.Split(line(part(t, text, name), "| "+row+" |"), "|")
	if len(cells) < 6 {
		t.Fatalf("docs/performance.md has no row %q in its part %q: change numbers in test/docs/readme_test.go with the benchmarks", row, name)
	}
	return strings.TrimSpace(cells[2]), cmp.Or(strings.TrimSpace(cells[4]), "–")
}
