package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	sampleStart = "<!-- sample: diagnose --from examples/square/pinned.snapshot.yaml -->\n```text\n"
	sampleEnd   = "```\n<!-- /sample -->"
)

// TestReadmeSample demands that the sample in the README is what the plugin says of the snapshot that the demo saved on a real cluster.
func TestReadmeSample(t *testing.T) {
	root := filepath.Join("..", "..")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("COLUMNS", "130")
	var out, errs bytes.Buffer
	args := []string{"diagnose", "--from", filepath.Join(root, "examples", "square", "pinned.snapshot.yaml")}
	if code := Main(context.Background(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); code != int(ExitFindings) {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	want := "$ kubectl grpclb diagnose svc/square-service -n grpclb-demo --probe\n" + strings.TrimRight(out.String(), "\n") + "\n"
	path := filepath.Join(root, "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), sampleStart)
	got, after, ok2 := strings.Cut(rest, sampleEnd)
	if !ok || !ok2 {
		t.Fatalf("README.md has no block between %q and %q", sampleStart, sampleEnd)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+sampleStart+want+sampleEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the sample in README.md is not what the plugin prints: run `make generate`\ngot:\n%s\nwant:\n%s", got, want)
	}
}
