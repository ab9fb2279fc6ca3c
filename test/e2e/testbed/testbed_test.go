package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadInto(t *testing.T) {
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	tests := map[string]struct {
		context   string
		installed func(string) bool
		want      string
	}{
		"kind":             {"kind-dev", all, "kind load image-archive a.tar --name dev"},
		"k3d":              {"k3d-dev", all, "k3d image import a.tar --cluster dev"},
		"minikube":         {"minikube", all, "minikube image load a.tar --profile minikube"},
		"kind, no tool":    {"kind-dev", none, ""},
		"a cloud's":        {"gke_project_zone_name", all, ""},
		"kind in the name": {"mankind-dev", all, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(loadInto(tt.context, "a.tar", tt.installed), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEnvironHasTheClusterAndNoMake(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	t.Setenv("KUBECONFIG", "/etc/kube/config")
	t.Setenv("MAKEFLAGS", "-n")
	environ := func(b Bed) map[string]string {
		m := map[string]string{}
		for _, kv := range b.Environ() {
			name, value, _ := strings.Cut(kv, "=")
			if slices.Contains([]string{"PATH", "KUBECONFIG", "MAKEFLAGS"}, name) {
				m[name] += value
			}
		}
		return m
	}
	want := map[string]string{"PATH": strings.Join([]string{"/lab/bin", "/usr/bin"}, string(os.PathListSeparator)), "KUBECONFIG": "/lab/config"}
	if diff := cmp.Diff(want, environ(Bed{Kubeconfig: "/lab/config", Path: []string{"/lab/bin"}})); diff != "" {
		t.Errorf("the lab's (-want +got):\n%s", diff)
	}
	want = map[string]string{"PATH": "/usr/bin", "KUBECONFIG": "/etc/kube/config"}
	if diff := cmp.Diff(want, environ(Bed{Context: "kind"})); diff != "" {
		t.Errorf("the user's (-want +got):\n%s", diff)
	}
}

func TestCommandsComeFromThePathOfTheBed(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := Bed{Root: dir, Path: []string{dir}, Context: "kind"}
	cmd := b.Command(context.Background(), b.Kubectl("get", "pods")...)
	if cmd.Path != program || strings.Join(cmd.Args, " ") != "kubectl get pods --context kind" {
		t.Errorf("would run %s with %q, want %s", cmd.Path, cmd.Args, program)
	}
}

// TestUnfitMachine: the reason is the lab's own sentence; anything else that
// goes wrong is not taken for one.
func TestUnfitMachine(t *testing.T) {
	const lab = `// Command lab pretends.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, %q)
	os.Exit(1)
}
`
	for name, tt := range map[string]struct {
		says, want string
		unfit      bool
	}{
		"unfit":  {"lab: the lab needs root; any cluster will do", "the lab needs root; any cluster will do", true},
		"broken": {"no such thing", "no such thing", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"go.mod": "module example.com/lab\n\ngo 1.26\n", "main.go": fmt.Sprintf(lab, tt.says)} {
				path := filepath.Join(dir, "test", "lab", file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := (&Bed{Root: dir}).check(t.Context(), false)
			var unfit *UnfitError
			if err == nil || errors.As(err, &unfit) != tt.unfit || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFindRoot(t *testing.T) {
	root, err := FindRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "examples", "square")); err != nil {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	if _, err := FindRoot(); err == nil || !strings.Contains(err.Error(), "inside the repository") {
		t.Errorf("outside of it: %v", err)
	}
}
