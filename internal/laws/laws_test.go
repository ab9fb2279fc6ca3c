package laws

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// tree makes a Tree of the archive's files below prefix.
func tree(t *testing.T, archive *txtar.Archive, prefix string) *Tree {
	t.Helper()
	fsys := fstest.MapFS{}
	var names []string
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, prefix); ok {
			fsys[name] = &fstest.MapFile{Data: f.Data}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("the archive has no files below %s", prefix)
	}
	loaded, err := Load(fsys, names)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Each law has an archive in testdata: below "sound/" a tree that it accepts,
// below "broken/" one that it rejects with exactly the lines of the comment.
func TestEachLawAcceptsAndRejects(t *testing.T) {
	exempt := Exempt{"excused/": "the case says so"}
	laws := map[string]Law{
		"packagedocs":    PackageDocs(),
		"sizes":          Sizes(Limits{Func: 5, File: 12, TestFile: 14}),
		"librarymanners": LibraryManners("pkg/"),
		"nosleep":        NoSleep([]string{"test/"}, exempt),
		"noclock":        NoClock([]string{"pure/"}, Exempt{"pure/collect/": "it asks the world"}),
		"noinit":         NoInit(exempt),
		"packagenames":   PackageNames("util", "helper"),
		"changelog":      Changelog("CHANGELOG.md"),
		"dependencies":   Dependencies("deps.md", "## Root", []string{"example.org/a", "example.org/b"}),
		"commands":       Commands("Makefile", "README.md"),
		"links":          Links(exempt),
		"machinepaths":   MachinePaths([]string{"/srv/checkout"}, exempt),
		"pinned":         Pinned(),
		"fuzztargets":    FuzzTargets("SECURITY.md", "### Fuzzed"),
	}
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) != len(laws) {
		t.Errorf("%d archives (%v) for %d laws: each law has one", len(archives), err, len(laws))
	}
	for name, law := range laws {
		t.Run(name, func(t *testing.T) {
			if law.Name == "" || law.Why == "" {
				t.Error("a law without a name or a reason")
			}
			archive, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range law.Check(tree(t, archive, "sound/")) {
				t.Errorf("sound tree rejected: %s", v)
			}
			var got []string
			for _, v := range law.Check(tree(t, archive, "broken/")) {
				got = append(got, v.String())
			}
			want := strings.Split(strings.TrimSpace(string(archive.Comment)), "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("violations of the broken tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadReportsAFileThatDoesNotParse(t *testing.T) {
	fsys := fstest.MapFS{"a.go": {Data: []byte("package a\n\nfunc {")}}
	if _, err := Load(fsys, []string{"a.go"}); err == nil || !strings.Contains(err.Error(), "a.go:3") {
		t.Errorf("error = %v, want one that names a.go:3", err)
	}
}

func TestLoadRepoSeesWhatGitWouldTrack(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".gitignore", "ignored\n")
	write("ignored", "")
	write("untracked.md", "text")
	write("binary", "\x00")
	got, err := LoadRepo(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".gitignore", "binary", "untracked.md"}, got.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, ok := got.Text("binary"); ok {
		t.Error("a binary file was taken for text")
	}
}

func TestLoadRepoWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	for _, name := range []string{"bin", "kept"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "a.go"), []byte("package a\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadRepo(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kept/a.go"}, got.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if !got.Has("kept") || got.Has("kep") || got.Has("bin") {
		t.Error("Has is wrong about folders")
	}
	if !bytes.Contains(got.content["kept/a.go"], []byte("package a")) {
		t.Error("content is missing")
	}
}
