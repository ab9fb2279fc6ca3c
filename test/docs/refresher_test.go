package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/prometheus"
	"github.com/grpclb/kubectl-grpclb/test/docs"
)

//go:generate go test . -run TestRefresherParts -update

const refresherPage = "docs/refresher.md"

// TestRefresherParts: the tables of fields and metrics are what the code says.
func TestRefresherParts(t *testing.T) {
	file := filepath.Join(root, filepath.FromSlash(refresherPage))
	golden.Part(t, file, "fields", fieldTable())
	golden.Part(t, file, "metrics", metricTable(t))
}

// cell is text for a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func fieldTable() string {
	var b strings.Builder
	b.WriteString("| field | what | default | takes | why that default |\n|-|-|-|-|-|\n")
	for _, f := range config.Fields() {
		what := f.What
		if f.Only != "" {
			what += " (`" + f.Only + "` alone)"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", f.Path, cell(what), f.Default, cell(f.Range), cell(f.Why))
	}
	return b.String()
}

var described = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)", unit: "[^"]*", constLabels: \{\}, variableLabels: \{([^}]*)\}`)

func metricTable(t *testing.T) string {
	t.Helper()
	r, err := refresher.New()
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *client.Desc)
	go func() {
		defer close(descs)
		prometheus.NewCollector(r, prometheus.WithEndpoints()).Describe(descs)
	}()
	var b strings.Builder
	b.WriteString("| metric | labels | says |\n|-|-|-|\n")
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("the library describes metrics in another way now: %s", d)
		}
		var labels []string
		for label := range strings.SplitSeq(m[3], ",") {
			if label != "" {
				labels = append(labels, "`"+label+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m[1], strings.Join(labels, ", "), cell(m[2]))
	}
	return b.String()
}

// TestRefresherTables: every option and every event is on the page, and the page
// has none that does not exist.
func TestRefresherTables(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(refresherPage)))
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, tc := range []struct {
		about, section string
		want           []string
	}{
		{"options of pkg/refresher", section(t, page, "## Options", "### The pool"), options(t, "pkg/refresher")},
		{"options of the pool", section(t, page, "### The pool", "## Service config"), options(t, "pkg/refresher/pool")},
		{"options of the sources", section(t, page, "### Options of the sources", "### What is believed"),
			slices.Concat(options(t, "pkg/refresher/source/dns"), options(t, "pkg/refresher/source/kube"), options(t, "pkg/refresher/source/auto"))},
		{"events", section(t, page, "## Events", "## Metrics"), events(t)},
	} {
		var got []string
		for row := range strings.Lines(tc.section) {
			first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			if first == row || strings.Contains(first, "TCP_USER_TIMEOUT") || strings.Contains(first, "option of") {
				continue
			}
			for _, m := range named.FindAllStringSubmatch(first, -1) {
				got = append(got, m[1])
			}
		}
		slices.Sort(got)
		slices.Sort(tc.want)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s has the %s\n%s\nthe code has\n%s", refresherPage, tc.about, strings.Join(got, " "), strings.Join(tc.want, " "))
		}
	}
}

// named is what a table's row is about.
var named = regexp.MustCompile("`(\\w+)")

func section(t *testing.T, page, begin, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+begin+"\n")
	body, _, ok2 := strings.Cut(rest, "\n"+end+"\n")
	if !ok || !ok2 {
		t.Fatalf("%s has nothing between %q and %q", refresherPage, begin, end)
	}
	return body
}

// declarations calls do for every declaration of a package that is no test.
func declarations(t *testing.T, dir string, do func(ast.Decl)) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(filepath.Join(root, filepath.FromSlash(dir))), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(dir), name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			do(d)
		}
	}
}

// options are the exported functions that return an Option.
func options(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	declarations(t, dir, func(d ast.Decl) {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
			return
		}
		if result, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "Option" {
			out = append(out, f.Name.Name)
		}
	})
	return out
}

// events are the types with the method that makes them an endpoint.Event.
func events(t *testing.T) []string {
	t.Helper()
	var out []string
	declarations(t, "pkg/refresher/endpoint", func(d ast.Decl) {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != "event" {
			return
		}
		if typ, ok := f.Recv.List[0].Type.(*ast.Ident); ok {
			out = append(out, typ.Name)
		}
	})
	return out
}

// TestReadmeProgram builds the program that the README shows, and runs it against
// a server.
func TestReadmeProgram(t *testing.T) {
	program := ""
	for _, b := range blocks(load(t), docs.Go) {
		if b.Page == "README.md" && strings.Contains(b.Text, "refresher.DialOption()") {
			program = b.Text
		}
	}
	if program == "" {
		t.Fatal("README.md has no program with refresher.DialOption()")
	}
	pod, err := grpcpod.Start("square-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.Stop)
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "run", file, "refresh:///"+pod.Addr().String())
	run.Dir = root
	out, err := run.CombinedOutput()
	if err != nil || string(out) != "SERVING <nil>\n" {
		t.Errorf("%v: it printed\n%s", err, out)
	}
}
