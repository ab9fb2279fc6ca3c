package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/internal/laws"
)

// module is one of the repository's Go modules that has Go files of its own.
type module struct {
	// rel is its folder relative to the root, slash-separated; "." for the root.
	rel string
	// dir is the same as a path that works from anywhere.
	dir string
	// env is what the go command needs there.
	env []string
	// heavy is true where compiling means compiling Kubernetes.
	heavy bool
}

func (m module) name() string {
	if m.rel == "." {
		return "root"
	}
	return m.rel
}

// command runs in the module's folder with its environment.
func (m module) command(argv ...string) command {
	return command{dir: m.dir, env: m.env, argv: argv}
}

// modules finds the modules to test and lint, the root first. The tools are
// other people's code, pinned; the files below testdata are input.
func modules(root string, files []string) []module {
	var out []module
	for _, f := range files {
		rel := path.Dir(f)
		if path.Base(f) != "go.mod" || strings.Contains(f, "testdata/") || strings.HasPrefix(f, "tools/") {
			continue
		}
		if !slices.ContainsFunc(files, func(f string) bool { return path.Ext(f) == ".go" && owner(files, f) == rel }) {
			continue
		}
		m := module{rel: rel, dir: filepath.Join(root, filepath.FromSlash(rel))}
		if rel == clusterModule {
			// The flags with which the lab builds: another set would compile
			// all of Kubernetes a second time.
			m.env = []string{"CGO_ENABLED=0", "GOFLAGS=" + strings.TrimSpace(os.Getenv("GOFLAGS")+" -trimpath")}
			m.heavy = true
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b module) int { return strings.Compare(a.rel, b.rel) })
	return out
}

// clusterModule holds the lab's cluster: Kubernetes itself, etcd, CoreDNS.
const clusterModule = "test/lab/cluster"

// owner is the folder of the module that a file belongs to.
func owner(files []string, file string) string {
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if slices.Contains(files, path.Join(dir, "go.mod")) || dir == "." {
			return dir
		}
	}
}

// suite is what the steps know of this run.
type suite struct {
	root        string
	keep        bool
	kubeContext string
	// noLab says why the lab cannot run here; empty when it can.
	noLab func() string
}

// each runs do for every module this machine can build, and goes on after a
// failure so that one run shows all there is to mend.
func (s suite) each(ctx context.Context, out io.Writer, do func(m module) error) error {
	files, err := laws.ListFiles(ctx, s.root)
	if err != nil {
		return err
	}
	var failed []string
	for _, m := range modules(s.root, files) {
		if why := s.noLab(); m.heavy && why != "" {
			fmt.Fprintf(out, "# %s: left out, it is built where the lab runs: %s\n", m.name(), why)
			continue
		}
		fmt.Fprintf(out, "# %s\n", m.name())
		if err := do(m); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintln(out, err)
			failed = append(failed, m.name())
		}
	}
	if failed != nil {
		return fmt.Errorf("module %s", strings.Join(failed, ", "))
	}
	return nil
}

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// fuzzTargets maps modules to the packages with fuzz targets ("./pkg/x") and
// counts the targets.
func fuzzTargets(root string, files []string) (map[string][]string, int, error) {
	packages := map[string][]string{}
	count := 0
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f)))
		if os.IsNotExist(err) {
			continue // deleted, not committed so
		}
		if err != nil {
			return nil, 0, fmt.Errorf("look for fuzz targets: %w", err)
		}
		n := len(fuzzFunc.FindAll(data, -1))
		if n == 0 {
			continue
		}
		count += n
		mod := owner(files, f)
		rel := "./" + strings.TrimPrefix(strings.TrimPrefix(path.Dir(f), mod), "/")
		if !slices.Contains(packages[mod], rel) {
			packages[mod] = append(packages[mod], rel)
		}
	}
	return packages, count, nil
}
