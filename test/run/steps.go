package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/laws"
)

// allSteps is the suite in its order: quick answers first, the cluster last.
func allSteps(s suite) []step {
	return []step{
		{"unit", "unit tests of every module, the repository's own laws, and how much of the library the tests run", s.unit},
		{"lint", "golangci-lint, built from the pinned tools module", s.lint},
		{"grpc-versions", "the library with the two minor releases of grpc-go before ours", s.grpcVersions},
		{"generated", "generated code and documents are what their generators write", s.generated},
		{"fuzz-seeds", "fuzz targets over their seed corpora", s.fuzzSeeds},
		{"conformance", "HTTP/2 and gRPC conformance of the sidecar, and floods that it has to bear", s.conformance},
		{"supply", "licences, known vulnerabilities and pinned versions of what is linked", s.supply},
		{"release", "a snapshot of a release for all platforms, and what a user can do with it", s.release},
		{"race", "the unit tests again under the race detector", s.race},
		{"browser", "the pools page in Chromium, with and without scripts", s.browser},
		{"e2e", "what a user does, on a real cluster", s.e2e},
	}
}

// unit runs the tests of every module. In the module that compiles Kubernetes it names only packages that have tests: "./..." would
// compile all of it for the others as well.
func (s suite) unit(ctx context.Context, out io.Writer) error {
	return s.each(ctx, out, func(m module) error {
		if m.rel == "." {
			return s.unitRoot(ctx, out, m)
		}
		packages := []string{"./..."}
		if m.heavy {
			var err error
			if packages, err = m.tested(ctx); err != nil || len(packages) == 0 {
				return err
			}
		}
		argv := []string{"go", "test"}
		if m.rel == "test/lab" { // its test builds the lab first: where that is new, longer than the go command's ten minutes
			argv = append(argv, "-timeout", "45m")
		}
		return m.command(append(argv, packages...)...).run(ctx, out)
	})
}

// tested lists the packages of a module that have tests.
func (m module) tested(ctx context.Context) ([]string, error) {
	const withTests = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
	return m.command("go", "list", "-f", withTests, "./...").lines(ctx)
}

// project is the path of the root module.
const project = "github.com/grpclb/kubectl-grpclb"

// notRaced are packages for which the detector compiles for minutes and finds nothing. The repository's laws read files; the commands of the
// documents and hostile input start the programs some hundred times, as processes of their own that it does not see into; and of what we are
// measured beside there are only benchmarks.
var notRaced = []string{"", "/test/docs", "/test/security", "/bench/micro", "/bench/policy"}

// race leaves out packages without tests, which would be compiled once more for
// nothing, the modules that compile Kubernetes, and tests of programs and files.
func (s suite) race(ctx context.Context, out io.Writer) error {
	if err := needCompiler(ctx, out); err != nil {
		return err
	}
	return s.each(ctx, out, func(m module) error {
		if m.heavy {
			fmt.Fprintln(out, "left out: nothing of ours in it runs concurrently enough to compile Kubernetes twice for")
			return nil
		}
		packages, err := m.tested(ctx)
		packages = slices.DeleteFunc(packages, func(p string) bool { return slices.Contains(notRaced, strings.TrimPrefix(p, project)) })
		if err != nil || len(packages) == 0 {
			return err
		}
		// The clusters of TestCluster are programs of their own too, which the detector does not see into; once is enough. What the go
		// command vets of a test, and of all that it imports, is vetted by the unit step.
		argv := append([]string{"go", "test", "-race", "-vet=off", "-skip", "^TestCluster$"}, packages...)
		cmd := m.command(argv...)
		cmd.env = append(slices.Clone(cmd.env), "CGO_ENABLED=1")
		var said bytes.Buffer
		err = cmd.run(ctx, io.MultiWriter(out, &said))
		if err != nil && ctx.Err() == nil && detectorDied(said.String()) {
			fmt.Fprintln(out, "the race detector died of an error of its own, no test failed: those packages once more")
			err = cmd.run(ctx, out) // what passed is cached
		}
		return err
	})
}

// detectorDied reports whether the output of tests has a failed assertion in the race detector's own runtime and nothing else that failed:
// no test, no race.
func detectorDied(out string) bool {
	return strings.Contains(out, "ThreadSanitizer: CHECK failed") && !strings.Contains(out, "--- FAIL") &&
		!strings.Contains(out, "WARNING: DATA RACE") && !strings.Contains(out, "panic:")
}

// needCompiler makes sure of the C compiler that -race links with.
func needCompiler(ctx context.Context, out io.Writer) error {
	programs := []string{"gcc", "clang"}
	if cc := os.Getenv("CC"); cc != "" {
		programs = append(programs, cc)
	}
	return need(ctx, out, missing{
		what: "a C compiler", why: "the race detector needs", programs: programs, packages: []string{"gcc", "libc6-dev"},
		elsewhere: ", xcode-select --install (macOS)",
	})
}

// needCurl makes sure of curl, which commands of the documents use.
func needCurl(ctx context.Context, out io.Writer) error {
	return need(ctx, out, missing{what: "curl", why: "commands of the documents need", programs: []string{"curl"}, packages: []string{"curl"}})
}

// needClients makes sure of the languages whose gRPC clients call through the sidecar. Where one cannot be installed, its test says so by itself.
func needClients(ctx context.Context, out io.Writer) error {
	for _, m := range []missing{
		{what: "Python's pip", programs: []string{"pip3"}, packages: []string{"python3", "python3-pip"}},
		{what: "a JDK", programs: []string{"javac"}, packages: []string{"default-jdk-headless"}},
		{what: "Maven", programs: []string{"mvn"}, packages: []string{"maven"}},
		{what: "npm", programs: []string{"npm"}, packages: []string{"nodejs", "npm"}},
		{what: "gRPC for C++", programs: []string{"grpc_cpp_plugin"}, packages: []string{"g++", "pkg-config", "libgrpc++-dev", "protobuf-compiler-grpc"}},
	} {
		m.why = "clients of other languages need"
		var none skip
		if err := need(ctx, out, m); err != nil && !errors.As(err, &none) {
			return err
		}
	}
	return nil
}

// missing is something that a step cannot do without: one of programs, which the Debian packages bring.
type missing struct {
	what, why          string
	programs, packages []string
	elsewhere          string // how to get it on other systems, as a tail of the sentence
}

// need looks for a program, and as root on Debian installs it.
func need(ctx context.Context, out io.Writer, m missing) error {
	for _, p := range m.programs {
		if _, err := exec.LookPath(p); err == nil {
			return nil
		}
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return skip(fmt.Sprintf("%s %s: apt-get install %s (Debian)%s", m.why, m.what, strings.Join(m.packages, " "), m.elsewhere))
	}
	for _, argv := range [][]string{
		{"apt-get", "-q", "update"},
		append([]string{"apt-get", "-q", "install", "-y", "--no-install-recommends"}, m.packages...),
	} {
		install := command{env: []string{"DEBIAN_FRONTEND=noninteractive"}, argv: argv}
		if err := install.run(ctx, out); err != nil {
			return fmt.Errorf("install %s: %w", m.what, err)
		}
	}
	return nil
}

func (s suite) lint(ctx context.Context, out io.Writer) error {
	bin, err := s.tool(ctx, out, "tools", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint")
	if err != nil {
		return err
	}
	config := filepath.Join(s.root, ".golangci.yml")
	return s.each(ctx, out, func(m module) error {
		argv := []string{bin, "run", "--allow-parallel-runners", "--config", config}
		if m.heavy {
			// With types, a few files of ours would have all of Kubernetes analysed
			// from source: minutes. The build of the lab type-checks them anyway.
			argv = append(argv, "--enable-only", "copyloopvar,depguard,ineffassign,misspell,nolintlint")
		}
		return m.command(append(argv, "./...")...).run(ctx, out)
	})
}

// tool builds a program of one of the tools modules into bin/tools and returns
// its path. The build cache makes the second time quick.
//
// The flags are those of the release and of the lab, which so share what they compile.
func (s suite) tool(ctx context.Context, out io.Writer, mod, pkg string) (string, error) {
	dir := filepath.Join(s.root, "bin", "tools")
	build := command{
		dir:  filepath.Join(s.root, filepath.FromSlash(mod)),
		env:  []string{"CGO_ENABLED=0"},
		argv: []string{"go", "build", "-trimpath", "-buildvcs=false", "-o", dir + string(filepath.Separator), pkg},
	}
	if err := build.run(ctx, out); err != nil {
		return "", err
	}
	// The go command names a program like this, too.
	name := path.Base(pkg)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(pkg))
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name), nil
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

func (s suite) fuzzSeeds(ctx context.Context, out io.Writer) error {
	files, err := laws.ListFiles(ctx, s.root)
	if err != nil {
		return err
	}
	packages, count, err := fuzzTargets(s.root, files)
	if err != nil {
		return err
	}
	if count == 0 {
		return errors.New("no fuzz target found: the search for them is broken")
	}
	fmt.Fprintf(out, "# %d fuzz targets\n", count)
	return s.each(ctx, out, func(m module) error {
		if len(packages[m.rel]) == 0 {
			return nil
		}
		return m.command(append([]string{"go", "test", "-run", "^Fuzz"}, packages[m.rel]...)...).run(ctx, out)
	})
}

// conformance tests the sidecar as a program that stands between other programs, with h2spec and gRPC's interoperability cases.
func (s suite) conformance(ctx context.Context, out io.Writer) error {
	dir := filepath.Join(s.root, "test", "conformance")
	return command{dir: dir, argv: []string{"go", "test", "-tags", "conformance", "-count=1", "-timeout", "10m", "./..."}}.run(ctx, out)
}

// noLab says why the lab cannot run on this machine; empty when it can.
func noLab() string {
	const instead = "; any cluster will do instead: CONTEXT=name"
	switch {
	case runtime.GOOS != "linux":
		return "the lab needs Linux, this is " + runtime.GOOS + instead
	case os.Geteuid() != 0:
		return "the lab needs root for network namespaces and mounts" + instead
	}
	return ""
}

// e2e runs on the cluster that was named, or else on the lab, which it brings up
// to date first. A lab that was not running before is taken down again, unless
// told to keep it.
func (s suite) e2e(ctx context.Context, out io.Writer) (err error) {
	test := command{dir: s.root, argv: []string{"go", "test", "-tags", "e2e", "-count=1", "-timeout", "40m", "./test/e2e/..."}}
	test.env = s.distEnv()
	if why := s.noLab(); s.kubeContext == "" && why != "" {
		return skip(why)
	}
	if err := needCurl(ctx, out); err != nil {
		return err
	}
	if s.kubeContext != "" {
		test.env = append(test.env, "CONTEXT="+s.kubeContext)
		return test.run(ctx, out)
	}
	if err := needClients(ctx, out); err != nil {
		return err
	}
	wasUp, err := s.labRuns(ctx)
	if err != nil {
		return err
	}
	if !wasUp && !s.keep {
		defer func() { err = errors.Join(err, s.labDown(ctx, out)) }()
	}
	if err := s.lab("up").run(ctx, out); err != nil {
		return err
	}
	return test.run(ctx, out)
}

func (s suite) lab(args ...string) command {
	return command{dir: filepath.Join(s.root, "test", "lab"), argv: append([]string{"go", "run", "."}, args...)}
}

// labRuns reports whether somebody started the lab before; one that was left
// half started does not count.
func (s suite) labRuns(ctx context.Context) (bool, error) {
	lines, err := s.lab("status", "-o", "json").lines(ctx)
	if err != nil {
		return false, err
	}
	var status struct{ State string }
	if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), &status); err != nil {
		return false, fmt.Errorf("read the lab's status: %w", err)
	}
	return status.State == "up" || status.State == "degraded", nil
}

// labDown takes the lab down even when ctx has ended, which is when it matters.
func (s suite) labDown(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	return s.lab("down").run(ctx, out)
}
