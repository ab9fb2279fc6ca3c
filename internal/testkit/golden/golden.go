// Package golden compares what a test makes with what a file of the repository holds. It owns the flag -update, with which
// the files are written instead.
//
//	golden.Text(t, "testdata/page.html", page)
//
// A package whose tests import it has the flag; its tests must not define one of that name. A test that keeps its files in
// another way, such as several in one archive, asks [Update] and calls [Write].
//
// Paths may be written with slashes on every system.
package golden

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Update is the flag -update: the files are to be written, not compared with. It is never nil, and read once the flags are
// parsed.
var Update = flag.Bool("update", false, "write the files that tests compare with, instead of comparing")

// Text compares got with a file, byte for byte, and returns what the file holds, which is got with -update. A file that is
// not there ends the test.
func Text(t testing.TB, path, got string) (kept string) {
	t.Helper()
	if *Update {
		Write(t, path, []byte(got))
	}
	kept = read(t, path)
	compare(t, path, kept, got)
	return kept
}

// JSON is Text for a value as indented JSON, with a newline at the end.
func JSON(t testing.TB, path string, v any) (kept json.RawMessage) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return json.RawMessage(Text(t, path, string(got)+"\n"))
}

// Part is Text for one part of a document that is written by hand elsewhere: what stands between the lines
// "<!-- generated: NAME -->" and "<!-- end: NAME -->". A part that is not there ends the test, with -update too.
func Part(t testing.TB, path, name, got string) {
	t.Helper()
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->"
	text := read(t, path)
	before, rest, ok := strings.Cut(text, begin)
	kept, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no part between %q and %q", path, begin, end)
	}
	if *Update {
		Write(t, path, []byte(before+begin+got+end+after))
		return
	}
	compare(t, path+", "+name, kept, got)
}

// Write makes a file and the folder that it lies in, or replaces what it holds. It does not ask whether that is wanted.
func Write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v\nIf it is new, this writes it:\n\t%s", err, command(t))
	}
	return string(kept)
}

func compare(t testing.TB, what, kept, got string) {
	t.Helper()
	if diff := cmp.Diff(kept, got); diff != "" {
		t.Errorf("%s is not what the test makes now (-kept +made):\n%s\nIf that is meant, this writes it:\n\t%s", what, diff, command(t))
	}
}

// command runs the test once more, from anywhere in its module, and has it write.
func command(t testing.TB) string {
	pkg := "."
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasSuffix(info.Path, ".test") {
		pkg = strings.TrimSuffix(info.Path, ".test")
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	return `go test ` + pkg + ` -run "^` + name + `$" -update`
}
