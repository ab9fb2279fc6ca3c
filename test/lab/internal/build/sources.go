// Package build makes the lab's binaries and images from the modules beside
// the driver's, and keeps them between runs.
//
// A build is known by a key: a hash of the modules' files and of the Go
// version. The same key is never built twice, and a build that was killed is
// never taken for a whole one. It asks no registry but Go's module proxy, and
// no package manager but apt, and that only when something is missing.
package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/modfile"
)

// modulePath is the driver's module, by which its directory is recognised.
const modulePath = "github.com/grpclb/kubectl-grpclb/test/lab"

// EnvSource is the environment variable that names the sources' directory
// when the driver is run from outside of the repository.
const EnvSource = "GRPCLB_LAB_SOURCE"

// recipe changes when this package builds otherwise from the same sources.
const recipe = "2"

// Sources is the directory of the driver's module.
type Sources string

// FindSources looks for the driver's module in the directory that EnvSource
// names or, without it, at dir and upwards; test/lab below each counts too.
func FindSources(dir string) (Sources, error) {
	if env := os.Getenv(EnvSource); env != "" {
		if !isDriver(env) {
			return "", fmt.Errorf("%s=%s is not the directory of module %s", EnvSource, env, modulePath)
		}
		return Sources(env), nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		for _, candidate := range []string{at, filepath.Join(at, "test", "lab")} {
			if isDriver(candidate) {
				return Sources(candidate), nil
			}
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("the lab's sources are neither in %s nor above it: run it inside the repository or set %s", dir, EnvSource)
		}
	}
}

func isDriver(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(b) == modulePath
}

// moduleDirs are the modules a build is made from, below the driver's.
var moduleDirs = []string{"cluster", "runtime"}

// Key hashes everything a build depends on.
func (s Sources) Key() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, recipe, runtime.Version(), runtime.GOARCH)
	for _, m := range moduleDirs {
		root := filepath.Join(string(s), m)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !matters(d.Name()) {
				return err
			}
			rel, err := filepath.Rel(string(s), path)
			if err != nil {
				return err
			}
			return hashFile(h, filepath.ToSlash(rel), path)
		})
		if err != nil {
			return "", fmt.Errorf("hash the lab's sources: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// matters says whether a file's content can change a build.
func matters(name string) bool {
	if strings.HasSuffix(name, "_test.go") {
		return false
	}
	switch filepath.Ext(name) {
	case ".go", ".mod", ".sum", ".c":
		return true
	}
	return false
}

func hashFile(h io.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%s %d\n", name, info.Size())
	_, err = io.Copy(h, f)
	return err
}

// Component is a program of the lab and its version.
type Component struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// shown are the modules whose versions are worth telling, by module directory.
var shown = []struct{ dir, path, name string }{
	{"cluster", "k8s.io/kubernetes", "kubernetes"},
	{"cluster", "go.etcd.io/etcd/server/v3", "etcd"},
	{"cluster", "github.com/containerd/containerd/v2", "containerd"},
	{"cluster", "github.com/coredns/coredns", "coredns"},
	{"cluster", "sigs.k8s.io/metrics-server", "metrics-server"},
	{"runtime", "github.com/opencontainers/runc", "runc"},
	{"runtime", "github.com/containernetworking/plugins", "cni-plugins"},
}

// Components returns the versions a build of these sources has.
func (s Sources) Components() ([]Component, error) {
	files := map[string]*modfile.File{}
	for _, dir := range moduleDirs {
		path := filepath.Join(string(s), dir, "go.mod")
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if files[dir], err = modfile.Parse(path, b, nil); err != nil {
			return nil, err
		}
	}
	var all []Component
	for _, m := range shown {
		v, err := required(files[m.dir], m.path)
		if err != nil {
			return nil, err
		}
		all = append(all, Component{Name: m.name, Version: v})
	}
	return all, nil
}

func required(f *modfile.File, path string) (string, error) {
	for _, r := range f.Require {
		if r.Mod.Path == path {
			return r.Mod.Version, nil
		}
	}
	return "", errors.New(f.Syntax.Name + " does not require " + path)
}
