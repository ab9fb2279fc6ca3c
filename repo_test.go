// Package repo_test holds the repository to its own laws: who may import whom
// and why, how long a file may be, what library code must not do, what the
// documents must say. The laws themselves, and the proof that each can fail,
// are in internal/laws; here stand the tables that a change has to answer to.
//
// A failing law prints the place, what is wrong there and why the law exists.
// To change a law, change its table here and say why in the commit.
package repo_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/laws"
)

// Why an embedded library must stay small. Measured as stripped programs that
// do nothing else.
const weight = "a program weighs 10 MB with grpc-go, 12 MB with a DNS library beside it and 58 MB with Kubernetes informers; " +
	"who embeds the refresher must not pay for what it does not use"

// importRules is the table of docs/design/architecture.md. Paths with "./" are
// this module's.
var importRules = []laws.Rule{
	{
		Packages: []string{"./pkg/refresher/endpoint", "./pkg/refresher/policy", "./pkg/refresher/reconcile"},
		Only:     []string{"std", "./pkg/refresher/endpoint", "./pkg/refresher/policy", "./pkg/refresher/reconcile"},
		Reason:   "these are the leaves that every surface shares: a dependency here is a dependency of everybody",
	},
	{
		Packages: []string{"./pkg/dnsprobe"},
		Only:     []string{"std", "github.com/miekg/dns"},
		Reason:   "one question to one server needs a DNS codec and a connection; the connection is the caller's",
	},
	{
		Packages: []string{"./pkg/h2probe"},
		Never:    []string{"google.golang.org/grpc/...", "k8s.io/...", "./pkg/diagnose/..."},
		Reason:   "the probe looks at frames, which a gRPC client hides, and is linked into the small in-pod agent",
	},
	{
		Packages: []string{"./pkg/refresher/source/dns"},
		Only:     []string{"std", "./pkg/dnsprobe", "./pkg/refresher/endpoint"},
		Reason:   weight,
	},
	{
		Packages: []string{"./pkg/refresher/..."},
		Except:   []string{"./pkg/refresher/source/kube", "./pkg/refresher/source/auto"},
		Never:    []string{"k8s.io/...", "sigs.k8s.io/..."},
		Reason:   weight,
	},
	{
		Packages: []string{"./pkg/refresher/..."},
		Except:   []string{"./pkg/refresher/prometheus"},
		Never:    []string{"github.com/prometheus/..."},
		Reason:   "who wants no metrics links no metrics library: Stats are plain values, and the collector is imported by name",
	},
	{
		Packages: []string{"./pkg/refresher"},
		Never:    []string{"./pkg/refresher/source/kube", "./pkg/refresher/source/auto", "./pkg/refresher/xds", "./pkg/refresher/sidecar"},
		Reason:   "the facade holds what every application needs; the rest is imported by name. " + weight,
	},
	{
		Packages: []string{"./cmd/grpclb-refresher", "./internal/agent/...", "./pkg/refresher/sidecar/...", "./internal/daemon/..."},
		Never:    []string{"google.golang.org/grpc/...", "k8s.io/...", "sigs.k8s.io/..."},
		Reason:   "it runs in other people's pods, where every megabyte is multiplied by their number: linking grpc-go idles at 11 MB, x/net frames at 5",
	},
	{
		Packages: []string{"./pkg/refresher/sidecar/relay"},
		Only:     []string{"std", "golang.org/x/net/http2/hpack", "./pkg/refresher/policy"},
		Reason:   "bytes in, bytes out: what knows no socket can be fuzzed whole, and the frames of a call cost no more than they must",
	},
	{
		Packages: []string{"./cmd/grpclb-refresher", "./internal/daemon/..."},
		Never:    []string{"html/template", "text/template", "github.com/prometheus/...", "github.com/VictoriaMetrics/..."},
		Reason:   "templates cost each client's pod 1.7 MB of memory, Prometheus' client 6: what was measured is in docs/design/dependencies.md",
	},
	{
		Packages: []string{"./pkg/diagnose/..."},
		Except:   []string{"./pkg/diagnose/collect/..."},
		Never:    []string{"k8s.io/client-go/...", "k8s.io/cli-runtime/...", "k8s.io/metrics/pkg/client/..."},
		Reason:   "a diagnosis is a pure function of a snapshot: only collect talks to a cluster, so a saved snapshot replays anywhere with the same words",
	},
	{
		Packages:      []string{"./pkg/diagnose/checks"},
		Never:         []string{"./pkg/diagnose/collect/...", "./pkg/diagnose/report/..."},
		NeverDirectly: []string{"context", "log/slog", "net", "net/http", "os", "os/exec", "math/rand", "math/rand/v2"},
		Reason:        "a check gets a snapshot and nothing else, no network, files or randomness of its own: the same snapshot gives the same findings for ever",
	},
	{
		Packages:      []string{"./pkg/diagnose/report", "./pkg/diagnose/fix"},
		Never:         []string{"./pkg/diagnose/collect/..."},
		NeverDirectly: []string{"net", "net/http", "os", "os/exec"},
		Reason:        "a reporter sees the report and a writer; a new format must touch no check and no cluster",
	},
	{
		Packages: []string{"./pkg/diagnose/..."},
		Never:    []string{"./pkg/refresher/..."},
		Reason:   "finding a fault and avoiding it are of use without each other: neither half may drag the other in",
	},
	{
		Packages: []string{"./pkg/refresher/..."},
		Never:    []string{"./pkg/diagnose/..."},
		Reason:   "finding a fault and avoiding it are of use without each other: neither half may drag the other in",
	},
	{
		Packages:  []string{"./internal/cli/..."},
		Importers: []string{"./cmd/kubectl-grpclb"},
		Reason:    "the command line is an edge: what others need from it belongs in a package of its own below pkg",
	},
	{
		Packages:  []string{"./internal/daemon/..."},
		Importers: []string{"./cmd/grpclb-refresher", "./internal/agent", "./internal/daemon/..."},
		Reason:    "the daemon's wiring is an edge: what others need from it belongs in a package of its own below pkg",
	},
	{
		Packages:  []string{"./internal/testkit/..."},
		Importers: []string{"./examples/internal/...", "./test/..."},
		Reason:    "fakes are for tests: they must not ship in a binary",
	},
	{
		Packages:  []string{"./internal/laws"},
		Importers: []string{"./test/run"},
		Reason:    "the repository's rules about itself must not ship in a binary",
	},
	{
		Packages: []string{"./cmd/...", "./pkg/...", "./internal/..."},
		Never:    []string{"./examples/...", "./test/..."},
		Reason:   "examples and tests use the product, never the other way round",
	},
}

// pendingPackages are planned and ruled already, but not written yet. A package
// leaves the list in the commit that creates it.
var pendingPackages = []string{
	"./pkg/refresher/xds",
}

// Exemptions, each with its reason. An entry that excuses nothing fails.
var (
	maySleep = laws.Exempt{}
	mayInit  = laws.Exempt{
		"pkg/refresher/grpcresolver/balance.go": "a load-balancing policy can only be registered with grpc-go before main",
	}
	mayAskTheTime = laws.Exempt{
		"pkg/diagnose/collect/": "it stamps the snapshot and bounds its own questions",
	}
	mayNamePath = laws.Exempt{
		"internal/laws/testdata/": "cases of the law about paths",
	}
	mayLinkNowhere = laws.Exempt{}
)

func TestLaws(t *testing.T) {
	tree, err := laws.LoadRepo(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	all := []laws.Law{
		laws.PackageDocs(),
		laws.Sizes(laws.Limits{Func: 80, File: 500, TestFile: 800}),
		laws.LibraryManners("pkg/"),
		laws.NoSleep([]string{"test/", "internal/testkit/"}, maySleep),
		laws.NoClock([]string{"pkg/diagnose/"}, mayAskTheTime),
		laws.NoInit(mayInit),
		laws.PackageNames("util", "utility", "common", "helper", "manager", "misc", "shared"),
		laws.Changelog("CHANGELOG.md"),
		laws.Commands("Makefile", "README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/design/architecture.md"),
		laws.Links(mayLinkNowhere),
		laws.MachinePaths(machineFolders(t), mayNamePath),
		laws.Pinned(),
		laws.FuzzTargets("SECURITY.md", "### Fuzz targets"),
		laws.Dependencies("docs/design/dependencies.md", "## The project", directDependencies(t, ".")),
		laws.Dependencies("docs/design/dependencies.md", "## The lab's driver", directDependencies(t, "test/lab")),
		laws.Dependencies("docs/design/dependencies.md", "## The release", directDependencies(t, "internal/release")),
		laws.Dependencies("docs/design/dependencies.md", "## The benchmarks", directDependencies(t, "bench")),
		laws.Dependencies("docs/design/dependencies.md", "## The conformance tests", directDependencies(t, "test/conformance")),
		laws.Dependencies("docs/design/dependencies.md", "## The browser's tests", directDependencies(t, "test/browser")),
		laws.Dependencies("docs/design/dependencies.md", "## The licence report", directDependencies(t, "test/supply/licenses")),
		laws.Dependencies("docs/design/dependencies.md", "## Tools", toolsOfAll(t, "tools", "tools/*")),
	}
	for _, law := range all {
		t.Run(strings.ReplaceAll(law.Name, " ", "-"), func(t *testing.T) {
			complain(t, law.Check(tree), law.Why)
		})
	}
}

// TestImports judges the builds for all systems: a file for Windows alone can
// break a rule as well.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			graph, err := laws.LoadGraph(t.Context(), ".", goos)
			if err != nil {
				t.Fatal(err)
			}
			complain(t, laws.CheckImports(graph, importRules, pendingPackages),
				"what a package may know is decided in docs/design/architecture.md, with reasons; see importRules in repo_test.go")
		})
	}
	t.Logf("ruled already, not written yet: %s", strings.Join(pendingPackages, " "))
}

func complain(t *testing.T, violations []laws.Violation, why string) {
	t.Helper()
	for _, v := range violations {
		t.Errorf("%s", v)
	}
	if len(violations) > 0 {
		t.Logf("why: %s", why)
	}
}

// machineFolders are the folders that only this machine has: the checkout, what
// it lies in, and the home of whoever runs the test. Folders that every machine
// has, such as /tmp, would accuse honest text.
func machineFolders(t *testing.T) []string {
	t.Helper()
	everywhere := map[string]bool{
		"/": true, ".": true, "/tmp": true, "/var/tmp": true, "/opt": true, "/srv": true, "/src": true, "/app": true,
		"/home": true, "/Users": true, "/go/src": true, "/usr/src": true, "/mnt": true, "/builds": true,
		// Root's home is root's home on every Linux machine.
		"/root": true,
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{here, filepath.Dir(here)}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, home)
	}
	var out []string
	for _, f := range folders {
		if !everywhere[f] && filepath.IsAbs(f) {
			out = append(out, f)
		}
	}
	return out
}

// modFile is the part of "go mod edit -json" that the laws need.
type modFile struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

func readMod(t *testing.T, dir string) modFile {
	t.Helper()
	edit := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	edit.Dir = dir
	out, err := edit.Output()
	if err != nil {
		t.Fatalf("go mod edit in %s: %v", dir, err)
	}
	var mod modFile
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatalf("go mod edit in %s: %v", dir, err)
	}
	return mod
}

func directDependencies(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, r := range readMod(t, dir).Require {
		if !r.Indirect {
			out = append(out, r.Path)
		}
	}
	return out
}

// toolsOfAll are the modules that the tool lines below some folders come from.
func toolsOfAll(t *testing.T, folders ...string) []string {
	t.Helper()
	var out []string
	for _, folder := range folders {
		mods, err := filepath.Glob(filepath.Join(folder, "go.mod"))
		if err != nil || mods == nil {
			t.Fatalf("no tools in %s: %v", folder, err)
		}
		for _, mod := range mods {
			out = append(out, toolModules(t, filepath.Dir(mod))...)
		}
	}
	return out
}

// toolModules are the modules that the tool lines of a go.mod come from.
func toolModules(t *testing.T, dir string) []string {
	t.Helper()
	mod := readMod(t, dir)
	var out []string
	for _, tool := range mod.Tool {
		best := ""
		for _, r := range mod.Require {
			if strings.HasPrefix(tool.Path+"/", r.Path+"/") && len(r.Path) > len(best) {
				best = r.Path
			}
		}
		out = append(out, best)
	}
	return out
}
