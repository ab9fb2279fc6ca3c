package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModules(t *testing.T) {
	files := []string{
		"go.mod", "main.go",
		"bench/go.mod", "bench/x_test.go",
		"test/lab/go.mod", "test/lab/main.go",
		"test/lab/cluster/go.mod", "test/lab/cluster/kube/main.go",
		"test/lab/runtime/go.mod", "test/lab/runtime/pause.c", // nothing in Go
		"tools/go.mod", "tools/x.go",
		"internal/x/testdata/go.mod", "internal/x/testdata/a.go",
	}
	var got []string
	for _, m := range modules("top", files) {
		if want := filepath.Join("top", filepath.FromSlash(m.rel)); m.dir != want {
			t.Errorf("%s: folder %s, want %s", m.rel, m.dir, want)
		}
		if m.heavy != (m.rel == clusterModule) || m.heavy != (len(m.env) > 0) {
			t.Errorf("%s: heavy %t with environment %q", m.rel, m.heavy, m.env)
		}
		got = append(got, m.name())
	}
	want := []string{"root", "bench", "test/lab", "test/lab/cluster"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func TestFuzzTargets(t *testing.T) {
	dir := t.TempDir()
	const one = "package a\n\nfunc FuzzParse(f *testing.F) {}\n"
	tree := map[string]string{
		"go.mod":             "",
		"pkg/a/a_test.go":    one + "func FuzzOther(f *testing.F) {}\n",
		"pkg/a/b_test.go":    one,
		"pkg/b/b_test.go":    "package b\n\n// func FuzzNot is only talked about.\nfunc TestFuzz(t *testing.T) {}\n",
		"bench/go.mod":       "",
		"bench/c/c_test.go":  one,
		"pkg/c/notatest.go":  one,
		"bench/root_test.go": one,
	}
	write(t, dir, tree)
	files := []string{"deleted/gone_test.go"}
	for name := range tree {
		files = append(files, name)
	}
	got, count, err := fuzzTargets(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range got {
		if len(list) == 2 && list[0] > list[1] {
			list[0], list[1] = list[1], list[0]
		}
	}
	want := map[string][]string{".": {"./pkg/a"}, "bench": {"./", "./c"}}
	if diff := cmp.Diff(want, got); diff != "" || count != 5 {
		t.Errorf("%d targets, want 5; packages (-want +got):\n%s", count, diff)
	}
}

func TestGeneratedFindsWhatIsStale(t *testing.T) {
	dir := t.TempDir()
	const program = `// Command gen writes out.txt.
package main

import "os"

func main() {
	if err := os.WriteFile("out.txt", []byte("fresh"), 0o644); err != nil {
		os.Exit(1)
	}
}
`
	write(t, dir, map[string]string{
		"go.mod":     "module example.com/m\n\ngo 1.26\n",
		"doc.go":     "// Package m is generated from.\npackage m\n\n//go:generate go run ./gen\n",
		"gen/gen.go": program,
		"out.txt":    "stale",
	})
	s := suite{root: dir}
	var out bytes.Buffer
	err := s.generated(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "make generate") || !strings.Contains(out.String(), "out.txt is not what") {
		t.Fatalf("stale file: error %v, output:\n%s", err, out.String())
	}
	if err := s.generate(t.Context(), &out); err != nil {
		t.Fatalf("generate: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := s.generated(t.Context(), &out); err != nil {
		t.Errorf("fresh files: %v\n%s", err, out.String())
	}
}
