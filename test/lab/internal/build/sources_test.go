package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files below a fresh directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func driver() map[string]string {
	return map[string]string{
		"go.mod":                "module " + modulePath + "\n",
		"cluster/go.mod":        "module c\n",
		"cluster/kube/main.go":  "package main\n",
		"runtime/go.mod":        "module r\n",
		"runtime/pause/pause.c": "int main(void) {}\n",
	}
}

func TestFindSources(t *testing.T) {
	lab := tree(t, driver())
	repo := t.TempDir()
	if err := os.Mkdir(filepath.Join(repo, "test"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(lab, filepath.Join(repo, "test", "lab")); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvSource, "")
	for from, want := range map[string]string{
		lab:                                  lab,
		filepath.Join(lab, "cluster"):        lab,
		repo:                                 filepath.Join(repo, "test", "lab"),
		filepath.Join(repo, "test"):          filepath.Join(repo, "test", "lab"),
		filepath.Join(repo, "not", "there"):  filepath.Join(repo, "test", "lab"),
		filepath.Join(lab, "cluster", "dir"): lab,
	} {
		if got, err := FindSources(from); err != nil || string(got) != want {
			t.Errorf("from %s: %q, %v; want %q", from, got, err, want)
		}
	}
	if _, err := FindSources(t.TempDir()); err == nil || !strings.Contains(err.Error(), EnvSource) {
		t.Errorf("outside of any repository: error %v", err)
	}
	t.Setenv(EnvSource, lab)
	if got, err := FindSources("/"); err != nil || string(got) != lab {
		t.Errorf("by the environment: %q, %v", got, err)
	}
	t.Setenv(EnvSource, repo)
	if _, err := FindSources(lab); err == nil {
		t.Error("a wrong environment variable was passed over in silence")
	}
}

func TestKeyChangesWithWhatIsBuiltAndNothingElse(t *testing.T) {
	key := func(change map[string]string) string {
		t.Helper()
		files := driver()
		for name, content := range change {
			files[name] = content
		}
		k, err := Sources(tree(t, files)).Key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(nil)
	for name, tc := range map[string]struct {
		change  map[string]string
		differs bool
	}{
		"nothing":              {nil, false},
		"go file":              {map[string]string{"cluster/kube/main.go": "package main // x\n"}, true},
		"new go file":          {map[string]string{"cluster/kube/new.go": "package main\n"}, true},
		"version":              {map[string]string{"runtime/go.mod": "module r\n\nrequire x v1.0.0\n"}, true},
		"sums":                 {map[string]string{"cluster/go.sum": "x\n"}, true},
		"C file":               {map[string]string{"runtime/pause/pause.c": "int main(void) { return 1; }\n"}, true},
		"test":                 {map[string]string{"cluster/kube/main_test.go": "package main\n"}, false},
		"prose":                {map[string]string{"cluster/README.md": "x\n"}, false},
		"the driver":           {map[string]string{"main.go": "package main\n"}, false},
		"contents swapped":     {map[string]string{"cluster/go.mod": "module r\n", "runtime/go.mod": "module c\n"}, true},
		"boundary of files":    {map[string]string{"cluster/kube/main.go": "package main\n\n"}, true},
		"file moved elsewhere": {map[string]string{"cluster/kube/main.go": "", "cluster/other/main.go": "package main\n"}, true},
	} {
		if got := key(tc.change); (got != base) != tc.differs {
			t.Errorf("%s: the key differs: %v, want %v", name, got != base, tc.differs)
		}
	}
}

// The modules beside this one are what a build is made from: their versions
// must be readable and the Kubernetes one stampable.
func TestComponentsOfTheRealModules(t *testing.T) {
	t.Setenv(EnvSource, "")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	src, err := FindSources(wd)
	if err != nil {
		t.Fatal(err)
	}
	components, err := src.Components()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range components {
		if !strings.HasPrefix(c.Version, "v") {
			t.Errorf("%s has version %q", c.Name, c.Version)
		}
	}
	if _, err := modules(components); err != nil {
		t.Error(err)
	}
}

func TestComponentsNamesWhatIsMissing(t *testing.T) {
	_, err := Sources(tree(t, driver())).Components()
	if err == nil || !strings.Contains(err.Error(), "does not require k8s.io/kubernetes") {
		t.Errorf("error %v", err)
	}
}
