package build

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/addons"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
)

func TestModulesStampTheVersion(t *testing.T) {
	mods, err := modules([]Component{{"kubernetes", "v1.36.3"}, {"containerd", "v2.3.7"}})
	if err != nil {
		t.Fatal(err)
	}
	flags := strings.Join(mods[0].args, " ")
	for _, want := range []string{"version.gitVersion=v1.36.3", "version.gitMajor=1", "version.gitMinor=36", "version.Version=v2.3.7"} {
		if !strings.Contains(flags, want) {
			t.Errorf("%q lacks %q", flags, want)
		}
	}
	if _, err := modules([]Component{{"kubernetes", "latest"}}); err == nil {
		t.Error("a version that cannot be stamped was taken")
	}
}

func TestOutputOfGoBuildBecomesProgressAndItsErrorsStay(t *testing.T) {
	out := strings.Join([]string{
		"go: downloading k8s.io/api v0.36.3",
		"k8s.io/api/core/v1",
		"internal/abi",
		"# example.org/broken",
		"./main.go:3:1: syntax error: non-declaration statement outside function body",
		strings.Repeat("x", 2<<20),
		"after a line that is too long",
	}, "\n")
	step := steps.New(io.Discard).Begin("build")
	defer step.Done("")
	last := show(strings.NewReader(out), step)
	want := []string{"# example.org/broken", "./main.go:3:1: syntax error: non-declaration statement outside function body"}
	if d := cmp.Diff(want, last); d != "" {
		t.Error(d)
	}
}

func TestRunShownReturnsTheReason(t *testing.T) {
	step := steps.New(io.Discard).Begin("build")
	defer step.Done("")
	err := runShown(exec.Command("sh", "-c", "echo internal/abi; echo '# broken: no'; exit 3"), step)
	if err == nil || !strings.Contains(err.Error(), "exit status 3:\n# broken: no") {
		t.Errorf("error %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	err = runShown(exec.Command("go", "version"), step)
	if err == nil || !strings.Contains(err.Error(), "not in PATH") {
		t.Errorf("without go: error %v", err)
	}
}

func TestPruneKeepsWhatIsInUse(t *testing.T) {
	d := state.Dir(t.TempDir())
	for _, name := range []string{"new", "running", "old", "old" + partial + "99"} {
		if err := os.MkdirAll(filepath.Join(d.Builds(), name, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	prune(d, "new", "running")
	entries, err := os.ReadDir(d.Builds())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if d := cmp.Diff([]string{"new", "running"}, left); d != "" {
		t.Error(d)
	}
}

func TestUseMovesTheLink(t *testing.T) {
	d := state.Dir(t.TempDir())
	for _, key := range []string{"a", "b", "b"} {
		if err := Use(d, key); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(d.Bin()); err != nil || got != filepath.Join("builds", key, "bin") {
			t.Errorf("bin -> %q, %v", got, err)
		}
	}
}

func TestKeptIsAWholeBuildOnly(t *testing.T) {
	d := state.Dir(t.TempDir())
	if err := os.MkdirAll(d.Build("k")+partial+"1", 0o755); err != nil {
		t.Fatal(err)
	}
	if Kept(d, "k") {
		t.Error("a build under way counts as kept")
	}
	if err := os.Rename(d.Build("k")+partial+"1", d.Build("k")); err != nil {
		t.Fatal(err)
	}
	if !Kept(d, "k") {
		t.Error("a whole build does not count as kept")
	}
}

func TestEveryImageThatNodesGetIsBuilt(t *testing.T) {
	var built []string
	for file := range nodeImages("/bin") {
		built = append(built, file+".tar")
	}
	var loaded []string
	for _, f := range Images("/state", "k") {
		loaded = append(loaded, filepath.Base(f))
	}
	slices.Sort(built)
	slices.Sort(loaded)
	if d := cmp.Diff(built, loaded); d != "" {
		t.Error(d)
	}
	specs := nodeImages("/bin")
	for file, want := range map[string]string{
		"pause": node.PauseImage, "coredns": addons.CoreDNSImage, "metrics-server": addons.MetricsServerImage, "busybox": BusyBoxImage,
	} {
		if got := specs[file].Name; got != want {
			t.Errorf("%s.tar holds %s, want %s", file, got, want)
		}
	}
}
