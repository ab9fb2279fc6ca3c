package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeGoreleaser stands for the real one: a program whose path ends in a major version, which notes its calls and the
// remote that git would tell it.
const fakeGoreleaser = `// Command goreleaser pretends.
package main

import (
	"os"
	"strings"
)

func main() {
	calls, _ := os.ReadFile("calls")
	line := strings.Join(os.Args[1:], " ") + " " + os.Getenv("GIT_CONFIG_VALUE_0") + "\n"
	_ = os.WriteFile("calls", append(calls, line...), 0o644)
	if os.Getenv("FAKE_FAIL") == os.Args[1] {
		os.Exit(1)
	}
	if os.Args[1] == "release" {
		_ = os.MkdirAll("dist", 0o755)
		_ = os.WriteFile("dist/artifacts.json", []byte("[]"), 0o644)
	}
}
`

const fakeReleaseTest = `//go:build release

package release

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSnapshot(t *testing.T) {
	if os.Getenv("FAKE_FAIL") == t.Name() {
		t.Fatal("asked to fail")
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("GRPCLB_DIST"), "artifacts.json")); err != nil {
		t.Fatal(err)
	}
}
`

func TestReleaseStep(t *testing.T) {
	const check, build = "check " + repository + "\n", "release --snapshot --clean " + repository + "\n"
	tests := map[string]struct {
		fail    string
		noGit   bool
		calls   string
		wantErr string
	}{
		"everything in its order":          {calls: check + build},
		"a wrong configuration stops it":   {fail: "check", calls: check, wantErr: "goreleaser check"},
		"a build that fails stops it":      {fail: "release", calls: check + build, wantErr: "goreleaser release"},
		"both modules' tests are reported": {fail: "TestSnapshot", calls: check + build, wantErr: "./test/release/..."},
		"no checkout":                      {noGit: true, wantErr: "no git checkout"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree := map[string]string{
				"go.mod":                           "module example.com/m\n\ngo 1.26\n",
				"tools/goreleaser/go.mod":          "module github.com/goreleaser/goreleaser/v2\n\ngo 1.26\n",
				"tools/goreleaser/main.go":         fakeGoreleaser,
				"internal/release/go.mod":          "module example.com/r\n\ngo 1.26\n",
				"internal/release/release_test.go": fakeReleaseTest,
				"test/release/release_test.go":     fakeReleaseTest,
			}
			if !tt.noGit {
				tree[".git/HEAD"] = ""
			}
			write(t, dir, tree)
			t.Setenv("FAKE_FAIL", tt.fail)
			var out bytes.Buffer
			err := suite{root: dir}.release(t.Context(), &out)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q; output:\n%s", err, tt.wantErr, out.String())
			}
			var why skip
			if errors.As(err, &why) != tt.noGit {
				t.Errorf("%v: skipped %t, want %t", err, !tt.noGit, tt.noGit)
			}
			calls, err := os.ReadFile(filepath.Join(dir, "calls"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.calls, string(calls)); diff != "" {
				t.Errorf("goreleaser was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndToEndTestsLearnOfAWholeSnapshotOnly(t *testing.T) {
	dir := t.TempDir()
	s := suite{root: dir}
	if got := s.distEnv(); got != nil {
		t.Errorf("without a snapshot: %q", got)
	}
	write(t, dir, map[string]string{"dist/checksums.txt": ""})
	if got := s.distEnv(); got != nil {
		t.Errorf("one that was cut short: %q", got)
	}
	write(t, dir, map[string]string{"dist/artifacts.json": ""})
	if diff := cmp.Diff([]string{"GRPCLB_DIST=" + filepath.Join(dir, "dist")}, s.distEnv()); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}
