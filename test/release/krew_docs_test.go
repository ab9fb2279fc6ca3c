//go:build release

package release_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

// offlineCurl takes a file of a release from the snapshot instead of GitHub. It
// knows the one way in which the document calls it, and no other address.
const offlineCurl = `#!/bin/sh
set -eu
[ "$1" = -fsSLO ] || { echo "curl: not $1" >&2; exit 2; }
case "$2" in
"$RELEASE"/*) exec cp "$SNAPSHOT/${2##*/}" . ;;
esac
echo "curl: (22) $2: not found" >&2
exit 22
`

// TestInstallFromArchive types what docs/install.md says about archives.
func TestInstallFromArchive(t *testing.T) {
	k := newKrewBench(t)
	text, err := os.ReadFile(filepath.Join(k.root, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	marked := regexp.MustCompile("(?ms)^<!-- not run: run elsewhere, by TestInstallFromArchive[^\n]*-->\n```sh\n(.*?)^```$")
	var script strings.Builder
	blocks := marked.FindAllSubmatch(text, -1)
	for _, b := range blocks {
		script.Write(b[1])
	}
	version := regexp.MustCompile(`(?m)^version=\S+$`)
	if len(blocks) != 2 || !version.MatchString(script.String()) {
		t.Fatalf("%d blocks to run, want two that begin with a version", len(blocks))
	}
	number := strings.TrimPrefix(k.snapshot.Version, "v")
	// HOME stays: the go command writes there in the background, after it has ended.
	typed := strings.ReplaceAll(version.ReplaceAllString(script.String(), "version="+number), "~/.local/bin", `"$BIN"`)

	t.Run("intact", func(t *testing.T) {
		bin, out, err := k.typeIn(t, typed, k.snapshot.Dir)
		if err != nil || !strings.Contains(out, ": OK") || !strings.Contains(out, `"version": "`+k.snapshot.Version+`"`) {
			t.Errorf("%v\n%s", err, out)
		}
		if !strings.Contains(out, "dep\tk8s.io/client-go") {
			t.Errorf("go version -m does not list the modules:\n%s", out)
		}
		if _, err := os.Stat(filepath.Join(bin, krew.Binary)); err != nil {
			t.Error(err)
		}
	})
	t.Run("tampered with", func(t *testing.T) {
		archive := without(t, k.snapshot.Path(runtime.GOOS, runtime.GOARCH), "LICENSE")
		sums, err := os.ReadFile(filepath.Join(k.snapshot.Dir, "checksums.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(archive), "checksums.txt"), sums, 0o644); err != nil {
			t.Fatal(err)
		}
		bin, out, err := k.typeIn(t, typed, filepath.Dir(archive))
		wantRefusal(t, out, err, "FAILED")
		if _, err := os.Stat(filepath.Join(bin, krew.Binary)); err == nil {
			t.Error("it was installed all the same")
		}
	})
}

// typeIn runs commands in a new folder, with the files of a release from another.
// BIN, which it returns, is a folder of PATH that does not exist yet.
func (k *krewBench) typeIn(t *testing.T, script, snapshot string) (bin, out string, err error) {
	t.Helper()
	desk, programs := t.TempDir(), t.TempDir()
	bin = filepath.Join(desk, "bin")
	if err := os.WriteFile(filepath.Join(programs, "curl"), []byte(offlineCurl), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir = desk
	path := []string{programs, bin, os.Getenv("PATH")}
	cmd.Env = append(os.Environ(), "BIN="+bin, "PATH="+strings.Join(path, string(os.PathListSeparator)),
		"SNAPSHOT="+snapshot, "RELEASE="+krew.Downloads+k.snapshot.Version)
	text, err := cmd.CombinedOutput()
	return bin, string(text), err
}
