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
	"path/filepath"
	"slices"
	"strings"
)

// program is one shipped command with the platforms it is released for.
type program struct {
	name      string
	platforms []string // GOOS/GOARCH
}

// shipped is what a release consists of.
var shipped = []program{
	{"kubectl-grpclb", []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}},
	{"grpclb-refresher", []string{"linux/amd64", "linux/arm64"}},
}

// standard is the name under which the standard library stands in the report.
// It has no version there: every toolchain from go.mod's on builds the same.
const standard = "Go standard library and runtime"

// module is one module that packages of a shipped program come from.
type module struct {
	path    string
	version string // empty for the standard library
	dir     string // its folder on this machine
	// folders are those of the linked packages.
	folders []string
	// programs are the commands that link it, in the order of shipped.
	programs []string
	// texts are its licence and notice files; read fills them.
	texts []text
}

// listed is what "go list -deps -json" says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// linkedModules asks the go command which modules are linked into the programs
// on their platforms. The main module is not among them.
func linkedModules(ctx context.Context, root string, programs []program) ([]module, error) {
	goroot, err := goroot(ctx, root)
	if err != nil {
		return nil, err
	}
	found := map[string]*module{}
	for _, p := range programs {
		for _, platform := range p.platforms {
			packages, err := list(ctx, root, "./cmd/"+p.name, platform)
			if err != nil {
				return nil, err
			}
			for _, pkg := range packages {
				if m := add(found, pkg, goroot); m != nil && !slices.Contains(m.programs, p.name) {
					m.programs = append(m.programs, p.name)
				}
			}
		}
	}
	var out []module
	for _, m := range found {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// add notes a package under its module; nil when it is the project's own.
func add(found map[string]*module, pkg listed, goroot string) *module {
	// Of the standard library only the root's files count: the one licence below it is that of BoringCrypto, whose object
	// file is linked with cgo and an experiment alone, and we build without both.
	m, folder := module{path: standard, dir: goroot}, goroot
	if !pkg.Standard {
		folder = pkg.Dir
		if pkg.Module == nil || pkg.Module.Main {
			return nil
		}
		m = module{path: pkg.Module.Path, version: pkg.Module.Version, dir: pkg.Module.Dir}
		if r := pkg.Module.Replace; r != nil {
			m.version, m.dir = r.Version, r.Dir
		}
	}
	if found[m.path] == nil {
		found[m.path] = &m
	}
	known := found[m.path]
	if !slices.Contains(known.folders, folder) {
		known.folders = append(known.folders, folder)
	}
	return known
}

func list(ctx context.Context, root, pkg, platform string) ([]listed, error) {
	goos, goarch, _ := strings.Cut(platform, "/")
	out, err := goCommand(ctx, root, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "list", "-deps", "-json=ImportPath,Dir,Standard,Module", pkg)
	if err != nil {
		return nil, err
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("list the packages of %s: %w", pkg, err)
		}
		packages = append(packages, p)
	}
}

func goroot(ctx context.Context, root string) (string, error) {
	out, err := goCommand(ctx, root, nil, "env", "GOROOT")
	return filepath.Clean(strings.TrimSpace(string(out))), err
}

func goCommand(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
