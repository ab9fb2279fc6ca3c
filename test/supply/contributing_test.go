//go:build supply

package supply

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/laws"
)

const root = "../.."

// walk is what CONTRIBUTING.md asks a newcomer to do, in its own order.
type walk struct {
	files    []file   // to create
	line     string   // to add to All
	commands []string // to run
}

type file struct{ name, body string }

// steps reads the section "Add a check": a code block below a line that is just
// a path is that file, the Go block elsewhere is the line for the list, and the
// shell block holds the commands.
func steps(t *testing.T) walk {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Add a check\n")
	if !ok {
		t.Fatal("CONTRIBUTING.md has no section \"Add a check\"")
	}
	section, _, _ = strings.Cut(section+"\n", "\n## Work on the code")
	block := regexp.MustCompile("(?ms)^(?:`([^`\n]+)`:\n\n)?```(\\w*)\n(.*?)^```$")
	var w walk
	for _, m := range block.FindAllStringSubmatch(section, -1) {
		switch name, kind, body := m[1], m[2], m[3]; {
		case name != "":
			w.files = append(w.files, file{name, body})
		case kind == "go" && w.line == "":
			w.line = body
		case kind == "sh":
			w.commands = append(w.commands, strings.Split(strings.TrimSpace(body), "\n")...)
		default:
			t.Fatalf("CONTRIBUTING.md: a block that is neither a file, nor the line of the list, nor commands:\n%s", body)
		}
	}
	if len(w.files) < 5 || w.line == "" || len(w.commands) == 0 {
		t.Fatalf("CONTRIBUTING.md: found %d files, the line %q and %d commands: a page, a check, three cases, a line and commands are wanted",
			len(w.files), w.line, len(w.commands))
	}
	return w
}

// scratch copies the work tree without what git ignores.
func scratch(t *testing.T) string {
	t.Helper()
	names, err := laws.ListFiles(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		from := filepath.Join(root, filepath.FromSlash(name))
		data, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not committed so
		}
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, file{name, string(data)})
	}
	return dir
}

func put(t *testing.T, dir string, f file) {
	t.Helper()
	to := filepath.Join(dir, filepath.FromSlash(f.name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(f.body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listed adds the line at the end of All, as the document says.
func listed(t *testing.T, dir, line string) {
	t.Helper()
	const name = "pkg/diagnose/checks/all.go"
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(data), "\n\t}\n}\n")
	if !ok || !strings.Contains(before, "func All()") {
		t.Fatalf("%s: no end of All found", name)
	}
	put(t, dir, file{name, before + "\n" + strings.TrimRight(line, "\n") + "\n\t}\n}\n" + after})
}

func sh(t *testing.T, dir, command string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestAddACheck follows the document in a copy of the repository.
func TestAddACheck(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles and runs the tests of the diagnosis again")
	}
	w, dir := steps(t), scratch(t)
	for _, f := range w.files {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.name))); err == nil {
			t.Fatalf("%s exists already: the document's example has become a real check, it needs another", f.name)
		}
		put(t, dir, f)
	}
	listed(t, dir, w.line)
	for _, c := range w.commands {
		if out, err := sh(t, dir, c); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	if out, err := sh(t, dir, "gofmt -l pkg/diagnose/checks"); err != nil || out != "" {
		t.Errorf("gofmt: %v, not formatted: %s", err, out)
	}
	for name, want := range map[string]string{
		"pkg/diagnose/checks/testdata/two-families/fires-both.txtar":          "-- want.yaml --\nfindings:\n",
		"pkg/diagnose/checks/testdata/two-families/skipped-no-services.txtar": "skipped:\n  check: two-families\n",
		"docs/checks.md": "## two-families",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %v, want %q in it:\n%s", name, err, want, got)
		}
	}
	if out, err := sh(t, dir, "go run ./cmd/kubectl-grpclb explain two-families"); err != nil || !strings.HasPrefix(out, "# two-families") {
		t.Errorf("explain two-families: %v\n%s", err, out)
	}
	t.Run("left out", func(t *testing.T) { leaveOut(t, dir, w) })
}

// leaveOut takes one step back after the other, in the tree where all was done,
// and demands that the tests say what is missing.
func leaveOut(t *testing.T, dir string, w walk) {
	const tests = "go test ./pkg/diagnose/checks"
	find := func(part string) file {
		i := slices.IndexFunc(w.files, func(f file) bool { return strings.Contains(f.name, part) })
		if i < 0 {
			t.Fatalf("CONTRIBUTING.md has no file %s", part)
		}
		done, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(w.files[i].name)))
		if err != nil {
			t.Fatal(err)
		}
		return file{w.files[i].name, string(done)}
	}
	page := find("/pages/")
	refused := func(t *testing.T, wants ...string) {
		out, err := sh(t, dir, tests)
		if err == nil {
			t.Fatalf("%s passed", tests)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("want %q in:\n%s", want, out)
			}
		}
	}
	without := func(f file, wants ...string) {
		t.Run(f.name, func(t *testing.T) {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(f.name))); err != nil {
				t.Fatal(err)
			}
			defer put(t, dir, f)
			refused(t, wants...)
		})
	}
	without(page, "two-families", "pages/two-families.md")
	for _, kind := range []string{"fires-", "quiet-", "skipped-"} {
		without(find("/two-families/"+kind), "two-families: no case testdata/two-families/"+kind)
	}
	t.Run("a section of the page", func(t *testing.T) {
		defer put(t, dir, page)
		put(t, dir, file{page.name, strings.Replace(page.body, "## What may fool this check", "## Notes", 1)})
		refused(t, `two-families: its page lacks "## What may fool this check"`)
	})
	t.Run("the line in the list", func(t *testing.T) {
		all := file{name: "pkg/diagnose/checks/all.go"}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(all.name)))
		if err != nil {
			t.Fatal(err)
		}
		all.body = string(data)
		defer put(t, dir, all)
		put(t, dir, file{all.name, strings.Replace(all.body, w.line, "", 1)})
		refused(t, "pages/two-families.md belongs to no check", "add its check to All in all.go")
	})
	t.Run("the catalogue", func(t *testing.T) {
		catalogue := file{name: "docs/checks.md"}
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(catalogue.name)))
		if err != nil {
			t.Fatal(err)
		}
		catalogue.body = string(data)
		put(t, dir, catalogue)
		refused(t, "docs/checks.md is not what the test makes now", `/pkg/diagnose/checks -run "^TestCatalogueIsFresh$" -update`)
	})
}
