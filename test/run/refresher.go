package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The library that applications embed is held to more than the rest: every
// package of it has most of its statements run by tests, and it works with
// earlier releases of grpc-go.

// refresherPackages are the packages of the library, as a pattern and as the
// beginning of an import path within the module.
const (
	refresherPackages = "./pkg/refresher/..."
	refresherPrefix   = "/pkg/refresher"
)

// leastCovered is the share of statements, in percent, that the tests of the
// library run in each of its packages.
const leastCovered = 90

// earlierGRPC are the newest patches of the two minor releases of grpc-go before
// the one in go.mod; a test keeps them so. An application may not be able to
// take the newest the week it comes out.
var earlierGRPC = []string{"v1.84.0", "v1.83.2"}

const grpcModule = "google.golang.org/grpc"

// unitRoot runs the unit tests of the root module, those of the library with
// their coverage.
func (s suite) unitRoot(ctx context.Context, out io.Writer, m module) (err error) {
	packages, err := m.command("go", "list", "./...").lines(ctx)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(packages, inRefresher)
	err = m.command(append([]string{"go", "test"}, rest...)...).run(ctx, out)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	scratch, mkErr := os.MkdirTemp("", "grpclb-coverage-")
	if mkErr != nil {
		return fmt.Errorf("measure coverage: %w", mkErr)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	profile := filepath.Join(scratch, "profile")
	tests := m.command("go", "test", "-coverpkg="+refresherPackages, "-coverprofile="+profile, refresherPackages)
	if testErr := tests.run(ctx, out); testErr != nil {
		return errors.Join(err, testErr)
	}
	return errors.Join(err, checkCoverage(profile, out))
}

func inRefresher(importPath string) bool {
	_, below, ok := strings.Cut(importPath, refresherPrefix)
	return ok && (below == "" || below[0] == '/')
}

// checkCoverage prints the share of each package and fails with those below
// leastCovered.
func checkCoverage(profile string, out io.Writer) error {
	f, err := os.Open(profile)
	if err != nil {
		return fmt.Errorf("measure coverage: %w", err)
	}
	defer func() { _ = f.Close() }()
	packages, err := readProfile(f)
	if err != nil {
		return fmt.Errorf("measure coverage: %w", err)
	}
	if len(packages) == 0 {
		return errors.New("measure coverage: the profile is empty")
	}
	var low []string
	var all covered
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		c := packages[name]
		all.run += c.run
		all.total += c.total
		fmt.Fprintf(out, "%5.1f %%  %s\n", c.percent(), name)
		if c.percent() < leastCovered {
			low = append(low, fmt.Sprintf("%s (%.1f %%)", name, c.percent()))
		}
	}
	fmt.Fprintf(out, "%5.1f %%  of all %d statements\n", all.percent(), all.total)
	if low != nil {
		return fmt.Errorf("less than %d %% of the statements are run by tests in %s", leastCovered, strings.Join(low, ", "))
	}
	return nil
}

// covered counts statements.
type covered struct{ run, total int }

func (c covered) percent() float64 { return 100 * float64(c.run) / float64(max(c.total, 1)) }

// readProfile counts the statements of each package in a profile of "go test
// -coverprofile". Each test binary writes all blocks, so one is there many
// times, and was run when any of them says so. Contract suites, packages whose
// name ends in "test", are tests themselves: what they have no complaint for
// does not run.
func readProfile(r io.Reader) (map[string]covered, error) {
	type block struct {
		statements int
		run        bool
	}
	blocks := map[string]block{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 3 {
			return nil, fmt.Errorf("not a line of a coverage profile: %q", line)
		}
		statements, err := strconv.Atoi(words[1])
		if err != nil {
			return nil, fmt.Errorf("not a line of a coverage profile: %q", line)
		}
		b := blocks[words[0]]
		blocks[words[0]] = block{statements, b.run || words[2] != "0"}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	out := map[string]covered{}
	for place, b := range blocks {
		file, _, _ := strings.Cut(place, ":")
		name := path.Dir(file)
		if strings.HasSuffix(name, "test") {
			continue
		}
		c := out[name]
		c.total += b.statements
		if b.run {
			c.run += b.statements
		}
		out[name] = c
	}
	return out, nil
}

// grpcVersions builds and tests the packages of the library that use grpc-go
// with earlier releases of it. The go.mod that says so is a copy: the project's
// own is not touched.
func (s suite) grpcVersions(ctx context.Context, out io.Writer) (err error) {
	root := module{rel: ".", dir: s.root}
	packages, err := usersOf(ctx, root, grpcModule)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return errors.New("no package of the library uses grpc-go: the search for them is broken")
	}
	scratch, err := os.MkdirTemp("", "grpclb-versions-")
	if err != nil {
		return fmt.Errorf("earlier versions of grpc-go: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var failed []string
	for _, version := range earlierGRPC {
		fmt.Fprintf(out, "# %s %s\n", grpcModule, version)
		if err := s.withGRPC(ctx, out, scratch, version, packages); err != nil {
			if why := skip(""); errors.As(err, &why) || ctx.Err() != nil {
				return err
			}
			fmt.Fprintln(out, err)
			failed = append(failed, version)
		}
	}
	if failed != nil {
		return fmt.Errorf("with grpc-go %s", strings.Join(failed, ", "))
	}
	return nil
}

// withGRPC tests packages with one version of grpc-go. It stands in the copy as
// a replacement, because a requirement of anybody's for a newer one would win.
func (s suite) withGRPC(ctx context.Context, out io.Writer, scratch, version string, packages []string) error {
	mod := filepath.Join(scratch, version+".mod")
	for _, ext := range []string{".mod", ".sum"} {
		if err := copyFile(filepath.Join(scratch, version+ext), filepath.Join(s.root, "go"+ext)); err != nil {
			return fmt.Errorf("copy go%s: %w", ext, err)
		}
	}
	in := func(argv ...string) command { return command{dir: s.root, argv: argv} }
	if err := in("go", "mod", "edit", "-replace="+grpcModule+"="+grpcModule+"@"+version, mod).run(ctx, out); err != nil {
		return err
	}
	if err := in("go", "mod", "download", "-modfile="+mod, grpcModule).run(ctx, out); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return skip(fmt.Sprintf("needs grpc-go %s, which is neither in the module cache nor to be had: %v", version, err))
	}
	argv := append([]string{"go", "test", "-mod=mod", "-modfile=" + mod}, packages...)
	return in(argv...).run(ctx, out)
}

// usersOf lists the packages of the library that are linked with a module.
func usersOf(ctx context.Context, m module, dependency string) ([]string, error) {
	lines, err := m.command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", refresherPackages).lines(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range lines {
		words := strings.Fields(line)
		if slices.ContainsFunc(words[1:], func(d string) bool { return d == dependency || strings.HasPrefix(d, dependency+"/") }) {
			out = append(out, words[0])
		}
	}
	return out, nil
}
