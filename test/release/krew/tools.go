package krew

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tools are krew's own programs, under the names by which they are started.
type Tools struct {
	// Dir holds them; in front of PATH it makes "kubectl krew" work.
	Dir string
	// Krew is kubectl-krew, the plugin manager.
	Krew string
	// Validate is validate-krew-manifest, which krew's index runs on every change.
	Validate string
}

// Build compiles the programs of tools/krew into dir. root is the repository's
// folder. The flags are those of a release's own builds, so that both share what
// they compile.
func Build(ctx context.Context, root, dir string) (Tools, error) {
	t := Tools{Dir: dir, Krew: filepath.Join(dir, "kubectl-krew"), Validate: filepath.Join(dir, "validate-krew-manifest")}
	for out, pkg := range map[string]string{t.Krew: "krew", t.Validate: "validate-krew-manifest"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, "sigs.k8s.io/krew/cmd/"+pkg)
		cmd.Dir = filepath.Join(root, "tools", "krew")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return t, fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
		}
	}
	return t, nil
}

// Home is a clean place for krew to install into.
type Home struct {
	// Root is KREW_ROOT. Its bin folder belongs on PATH.
	Root string
	// Temp is for unpacking. It lies beside Root, because krew moves files from
	// one to the other and takes the error of a move across file systems from the
	// system that it installs for, not from the one that it runs on.
	Temp string
}

// NewHome makes the two folders in dir.
func NewHome(dir string) (Home, error) {
	h := Home{Root: filepath.Join(dir, "krew"), Temp: filepath.Join(dir, "tmp")}
	for _, d := range []string{h.Root, h.Temp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return h, fmt.Errorf("make a home for krew: %w", err)
		}
	}
	return h, nil
}

// Bin is the folder with the links to installed plugins.
func (h Home) Bin() string { return filepath.Join(h.Root, "bin") }

// Environ is the environment of krew for one platform, in addition to the
// process's: "NAME=value". The user's git configuration stays out of it.
func (h Home) Environ(goos, goarch string) []string {
	return []string{
		"KREW_ROOT=" + h.Root, "KREW_OS=" + goos, "KREW_ARCH=" + goarch, "KREW_NO_UPGRADE_CHECK=1", "TMPDIR=" + h.Temp,
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
	}
}

// Files lists what is in the home, except the indexes: files, links and
// leftovers of unpacking, relative to the folder that NewHome got, with
// slashes, in lexical order. Folders are not listed.
func (h Home) Files() ([]string, error) {
	base := filepath.Dir(h.Root)
	var out []string
	err := filepath.WalkDir(base, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == filepath.Join(h.Root, "index") {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(base, name)
		out = append(out, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list krew's home: %w", err)
	}
	return out, nil
}

// Index is a plugin index of our own: a git repository with a folder "plugins".
type Index struct{ Dir string }

// NewIndex makes an index without plugins in dir, which must exist.
func NewIndex(ctx context.Context, dir string) (Index, error) {
	i := Index{Dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o755); err != nil {
		return i, fmt.Errorf("make a plugin index: %w", err)
	}
	return i, i.git(ctx, "init", "-q")
}

// URL is the address for "krew index add".
func (i Index) URL() string { return "file://" + filepath.ToSlash(i.Dir) }

// Publish commits a manifest as the index's newest.
func (i Index) Publish(ctx context.Context, manifest []byte, subject string) error {
	name := filepath.Join("plugins", Name+".yaml")
	if err := os.WriteFile(filepath.Join(i.Dir, name), manifest, 0o644); err != nil {
		return fmt.Errorf("publish a manifest: %w", err)
	}
	if err := i.git(ctx, "add", name); err != nil {
		return err
	}
	return i.git(ctx, "-c", "user.name=index", "-c", "user.email=index@example.com", "commit", "-q", "-m", subject)
}

func (i Index) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", i.Dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
