package golden_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
)

// judged is a test that may fail without failing this one.
type judged struct {
	testing.TB
	name, said string
}

func (j *judged) Helper()      {}
func (j *judged) Name() string { return j.name }
func (j *judged) Errorf(format string, args ...any) {
	j.said += fmt.Sprintf(format, args...) + "\n"
}

func (j *judged) Fatalf(format string, args ...any) {
	j.Errorf(format, args...)
	runtime.Goexit()
}
func (j *judged) Fatal(args ...any) { j.Fatalf("%s", fmt.Sprint(args...)) }

// run returns what a test says that is run with or without -update, and whether it got to its end.
func run(t *testing.T, update bool, test func(testing.TB)) (said string, ended bool) {
	t.Helper()
	was := *golden.Update
	defer func() { *golden.Update = was }()
	*golden.Update = update
	j, done := &judged{TB: t, name: "TestPage/of_many"}, make(chan struct{})
	go func() {
		defer close(done)
		test(j)
		ended = true
	}()
	<-done
	return j.said, ended
}

// command is what is to be typed, when TestPage/of_many is the one that fails.
const command = `go test github.com/grpclb/kubectl-grpclb/internal/testkit/golden -run "^TestPage$" -update`

func TestText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "page.txt")
	kept := ""
	text := func(got string) func(testing.TB) {
		return func(t testing.TB) { kept = golden.Text(t, path, got) }
	}

	said, ended := run(t, false, text("one\n"))
	if ended || !strings.Contains(said, path) || !strings.Contains(said, command) {
		t.Errorf("without the file: ended %t, said\n%s", ended, said)
	}
	if said, ended = run(t, true, text("one\n")); !ended || said != "" || kept != "one\n" {
		t.Errorf("with -update: ended %t, kept %q, said\n%s", ended, kept, said)
	}
	if said, ended = run(t, false, text("one\n")); !ended || said != "" || kept != "one\n" {
		t.Errorf("the same: ended %t, kept %q, said\n%s", ended, kept, said)
	}
	said, ended = run(t, false, text("two\n"))
	if !ended || kept != "one\n" {
		t.Errorf("another text: ended %t, kept %q", ended, kept)
	}
	for _, want := range []string{path, "one", "two", command} {
		if !strings.Contains(said, want) {
			t.Errorf("another text: no %q in\n%s", want, said)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one\n" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	var kept []byte
	document := func(v any) func(testing.TB) {
		return func(t testing.TB) { kept = golden.JSON(t, path, v) }
	}
	const want = "{\n  \"a\": [\n    1\n  ]\n}\n"
	if said, ended := run(t, true, document(map[string]any{"a": []int{1}})); !ended || said != "" || string(kept) != want {
		t.Errorf("ended %t, kept %q, said\n%s", ended, kept, said)
	}
	if said, ended := run(t, false, document(map[string]any{"a": []int{2}})); !ended || !strings.Contains(said, command) || string(kept) != want {
		t.Errorf("another value: ended %t, kept %q, said\n%s", ended, kept, said)
	}
	if said, ended := run(t, true, document(func() {})); ended || !strings.Contains(said, path) {
		t.Errorf("no JSON: ended %t, said\n%s", ended, said)
	}
}

func TestPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	golden.Write(t, path, []byte("by hand\n<!-- generated: codes -->\nold\n<!-- end: codes -->\n<!-- generated: flags -->\nopen\n"))
	part := func(name, got string) func(testing.TB) {
		return func(t testing.TB) { golden.Part(t, path, name, got) }
	}
	if said, ended := run(t, false, part("codes", "old\n")); !ended || said != "" {
		t.Errorf("the same: ended %t, said\n%s", ended, said)
	}
	if said, ended := run(t, false, part("codes", "new\n")); !ended || !strings.Contains(said, path+", codes") || !strings.Contains(said, command) {
		t.Errorf("another text: ended %t, said\n%s", ended, said)
	}
	if said, ended := run(t, true, part("codes", "new\n")); !ended || said != "" {
		t.Errorf("with -update: ended %t, said\n%s", ended, said)
	}
	for _, name := range []string{"nowhere", "flags"} {
		if said, ended := run(t, true, part(name, "new\n")); ended || !strings.Contains(said, `"<!-- end: `+name) {
			t.Errorf("%s: ended %t, said\n%s", name, ended, said)
		}
	}
	const want = "by hand\n<!-- generated: codes -->\nnew\n<!-- end: codes -->\n<!-- generated: flags -->\nopen\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

func TestWriteSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	golden.Write(t, path, nil)
	for _, below := range []string{filepath.Join(path, "x"), filepath.Dir(path)} {
		if said, ended := run(t, true, func(t testing.TB) { golden.Write(t, below, nil) }); ended || said == "" {
			t.Errorf("%s: ended %t, said %q", below, ended, said)
		}
	}
}
