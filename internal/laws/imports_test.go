package laws

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// graph reads "importer: imported imported" lines; "./" stands for the module.
func graph(t *testing.T, text string) Graph {
	t.Helper()
	g := Graph{Module: "example.com/m", Imports: map[string][]string{}}
	full := func(p string) string { return strings.Replace(p, "./", g.Module+"/", 1) }
	for line := range strings.Lines(text) {
		pkg, imports, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		list := []string{}
		for imp := range strings.FieldsSeq(imports) {
			list = append(list, full(imp))
		}
		g.Imports[full(pkg)] = list
	}
	return g
}

func TestCheckImports(t *testing.T) {
	tests := map[string]struct {
		graph   string
		rule    Rule
		pending []string
		want    []string
	}{
		"only: all on the list": {
			graph: "./leaf: fmt net/netip ./other\n./other:",
			rule:  Rule{Packages: []string{"./leaf"}, Only: []string{"std", "./other"}, Reason: "a leaf"},
		},
		"only: something else": {
			graph: "./leaf: fmt example.org/lib ./other\n./other:",
			rule:  Rule{Packages: []string{"./leaf"}, Only: []string{"std"}, Reason: "a leaf"},
			want:  []string{"./leaf: imports ./other: a leaf", "./leaf: imports example.org/lib: a leaf"},
		},
		"never: reached through another, shortest chain told": {
			graph: "./a: ./b ./long\n./b: heavy.example/client/rest\n./long: ./b",
			rule:  Rule{Packages: []string{"./a"}, Never: []string{"heavy.example/client/..."}, Reason: "58 MB"},
			want:  []string{"./a: reaches ./b -> heavy.example/client/rest: 58 MB"},
		},
		"never: a longer name is another package": {
			graph: "./a: heavy.example/client-types",
			rule:  Rule{Packages: []string{"./a"}, Never: []string{"heavy.example/client/..."}, Reason: "58 MB"},
		},
		"never directly: through another is fine": {
			graph: "./a: ./b\n./b: os",
			rule:  Rule{Packages: []string{"./a"}, NeverDirectly: []string{"os"}, Reason: "pure"},
		},
		"never directly: by itself is not": {
			graph: "./a: os",
			rule:  Rule{Packages: []string{"./a"}, NeverDirectly: []string{"os"}, Reason: "pure"},
			want:  []string{"./a: imports os: pure"},
		},
		"packages below, with an exception": {
			graph: "./r: heavy.example/x\n./r/one: heavy.example/x\n./r/kube: heavy.example/x",
			rule:  Rule{Packages: []string{"./r/..."}, Except: []string{"./r/kube"}, Never: []string{"heavy.example/..."}, Reason: "light"},
			want:  []string{"./r/one: reaches heavy.example/x: light", "./r: reaches heavy.example/x: light"},
		},
		"importers: a stranger": {
			graph: "./cmd/tool: ./internal/cli\n./internal/cli: ./internal/cli/sub\n./internal/cli/sub:\n./pkg/x: ./internal/cli",
			rule:  Rule{Packages: []string{"./internal/cli/..."}, Importers: []string{"./cmd/tool"}, Reason: "an edge"},
			want:  []string{"./pkg/x: imports ./internal/cli: an edge"},
		},
		"a rule about nothing": {
			graph: "./a:",
			rule:  Rule{Packages: []string{"./gone"}, Never: []string{"os"}, Reason: "pure"},
			want:  []string{"./gone: an import rule names it, but no such package exists: renamed? mend the rule, or list it as pending"},
		},
		"a rule about a planned package": {
			graph:   "./a:",
			rule:    Rule{Packages: []string{"./soon/..."}, Never: []string{"os"}, Reason: "pure"},
			pending: []string{"./soon"},
		},
		"a planned package that came": {
			graph:   "./soon: os",
			rule:    Rule{Packages: []string{"./soon"}, Never: []string{"os"}, Reason: "pure"},
			pending: []string{"./soon"},
			want: []string{
				"./soon: exists now: take it off the pending list, so that its rules may never lose it again",
				"./soon: reaches os: pure",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range CheckImports(graph(t, tt.graph), []Rule{tt.rule}, tt.pending) {
				got = append(got, v.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// The graph of a real module on disk, with a file for one system only.
func TestLoadGraph(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                "module example.com/m\n\ngo 1.26\n",
		"a/a.go":                "package a\n\nimport _ \"strings\"\n",
		"a/a_windows.go":        "package a\n\nimport _ \"example.com/m/b\"\n",
		"a/a_test.go":           "package a\n\nimport _ \"os/exec\"\n",
		"b/b.go":                "package b\n",
		"b/testdata/c/c.go":     "package c\n\nimport _ \"log\"\n",
		"nested/go.mod":         "module example.com/nested\n",
		"nested/d/d.go":         "package d\n",
		"broken/missing/dep.go": "package missing\n\nimport (\n\t_ \"example.com/m/gone\"\n\t_ \"example.com/not/there\"\n)\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"linux": "[strings]", "windows": "[example.com/m/b strings]"}
	for goos, imports := range want {
		g, err := LoadGraph(t.Context(), dir, goos)
		if err != nil {
			t.Fatal(err)
		}
		if g.Module != "example.com/m" {
			t.Errorf("%s: module %q", goos, g.Module)
		}
		if diff := cmp.Diff(strings.Fields(strings.Trim(imports, "[]")), g.Imports["example.com/m/a"]); diff != "" {
			t.Errorf("%s: imports of a (-want +got):\n%s", goos, diff)
		}
		own := g.matching([]string{"./..."}, nil)
		if diff := cmp.Diff([]string{"example.com/m/a", "example.com/m/b", "example.com/m/broken/missing"}, own); diff != "" {
			t.Errorf("%s: own packages (-want +got):\n%s", goos, diff)
		}
	}
}

func TestLoadGraphOutsideAModule(t *testing.T) {
	if _, err := LoadGraph(context.Background(), t.TempDir(), "linux"); err == nil || !strings.Contains(err.Error(), "go list for linux") {
		t.Errorf("error = %v, want one that names the operation", err)
	}
}
