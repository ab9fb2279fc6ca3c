//go:build release

package release_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// TestSecondBuildIsTheSame builds this machine's platform again: another clone at another path, an empty build cache so that everything is
// compiled anew, another umask, another time zone. Programs, archives, bills of materials and the image must be the same files. It costs what
// compiling the plugin once costs, four minutes of one core.
func TestSecondBuildIsTheSame(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("both programs are for Linux only")
	}
	s := openSnapshot(t)
	clone := filepath.Join(t.TempDir(), "elsewhere")
	git(t, ".", "clone", "-q", "--shared", s.root, clone)
	copyChanges(t, s.root, clone)

	cmd := exec.CommandContext(t.Context(), "sh", "-c", `umask 077; exec "$@"`, "sh",
		filepath.Join(s.root, "bin", "tools", "goreleaser"), "release", "--snapshot", "--clean", "--config", onePlatform(t, s.root))
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "GOCACHE="+filepath.Join(t.TempDir(), "cache"), "TZ=Asia/Kathmandu",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=remote.origin.url", "GIT_CONFIG_VALUE_0=https://github.com/grpclb/kubectl-grpclb")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("second build: %v\n%s", err, out)
	}

	compared := 0
	sums := hashes(t, filepath.Join(clone, "dist"))
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		first, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("only the second build has %v", err)
			continue
		}
		compared++
		if want := fmt.Sprintf("%x", sha256.Sum256(first)); sums[name] != want {
			t.Errorf("%s is %s, and %s in the second build; did the work tree change since the snapshot?", name, want, sums[name])
		}
	}
	const want = 7 // two programs, their archives, a bill of materials for each of these, one image
	if compared != want {
		t.Errorf("%d files were compared, want %d: %q", compared, want, slices.Sorted(maps.Keys(sums)))
	}
}

// hashes are those of programs and of what is for users, except the list of checksums, which is of all platforms.
func hashes(t *testing.T, dist string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*/*", "*.tar.gz", "*.image.tar", "*.spdx.json"} {
		files, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(dist, f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(rel)] = fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
	return out
}

// onePlatform is the repository's configuration for this machine's platform alone.
func onePlatform(t *testing.T, root string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	builds, ok := config["builds"].([]any)
	if !ok || len(builds) != 2 {
		t.Fatalf("builds: %v", config["builds"])
	}
	for _, b := range builds {
		build, ok := b.(map[string]any)
		if !ok {
			t.Fatalf("build: %v", b)
		}
		build["goos"], build["goarch"] = []string{runtime.GOOS}, []string{runtime.GOARCH}
	}
	if text, err = yaml.Marshal(config); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "one.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// copyChanges makes a clone's work tree equal to root's, where somebody may be at work.
func copyChanges(t *testing.T, root, clone string) {
	t.Helper()
	for line := range strings.SplitSeq(git(t, root, "status", "--porcelain", "--no-renames", "--untracked-files=all", "-z"), "\x00") {
		if len(line) < 4 {
			continue
		}
		from, to := filepath.Join(root, line[3:]), filepath.Join(clone, line[3:])
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			if err := os.Remove(to); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}
