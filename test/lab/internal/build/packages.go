package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
)

// Purpose says what packages are for.
type Purpose int

// ForRunning is a cluster that is built; ForBuilding is the rest.
const (
	ForRunning Purpose = iota
	ForBuilding
)

// need is something the lab uses of the machine, and the Debian package it is in.
type need struct {
	pkg     string
	purpose Purpose
	// there says whether the machine has it.
	there func() bool
}

var needs = []need{
	{"nftables", ForRunning, program("nft")},
	{"iptables", ForRunning, program("iptables")},
	{"libseccomp2", ForRunning, library("libseccomp.so.2")},
	{"gcc", ForBuilding, program("gcc")},
	{"libc6-dev", ForBuilding, file("/usr/include/stdio.h")},
	{"pkg-config", ForBuilding, program("pkg-config")},
	{"libseccomp-dev", ForBuilding, file("/usr/include/seccomp.h")},
	{"busybox-static", ForBuilding, file(busyBox)},
}

// sbin is where Debian keeps what is not in everybody's PATH.
var sbin = []string{"/usr/sbin", "/sbin"}

func program(name string) func() bool {
	return func() bool {
		if _, err := exec.LookPath(name); err == nil {
			return true
		}
		return slices.ContainsFunc(sbin, func(dir string) bool { return file(filepath.Join(dir, name))() })
	}
}

// library looks where Debian and others keep shared libraries.
func library(name string) func() bool {
	return func() bool {
		for _, dir := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib64", "/usr/lib64", "/usr/lib"} {
			if found, err := filepath.Glob(filepath.Join(dir, name)); err == nil && len(found) > 0 {
				return true
			}
		}
		return false
	}
}

func file(path string) func() bool {
	return func() bool {
		_, err := os.Stat(path)
		return err == nil
	}
}

// missing returns the packages that the machine lacks.
func missing(purpose Purpose) []string {
	var pkgs []string
	for _, n := range needs {
		if n.purpose == purpose && !n.there() {
			pkgs = append(pkgs, n.pkg)
		}
	}
	return pkgs
}

// Packages makes sure that the tools and libraries for a purpose are there. As root on a machine with apt it installs what is missing; else its
// error holds the one line to run.
func Packages(ctx context.Context, purpose Purpose, log *steps.Log) error {
	pkgs := missing(purpose)
	if len(pkgs) == 0 {
		return nil
	}
	line := "apt-get install -y --no-install-recommends " + strings.Join(pkgs, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine lacks what Debian packages as %s, and has no apt: install them its own way", strings.Join(pkgs, ", "))
	}
	if os.Geteuid() != 0 {
		return errors.New("some packages are missing; run: sudo " + line)
	}
	step := log.Begin("install " + strings.Join(pkgs, " "))
	err := install(ctx, pkgs, step)
	if left := missing(purpose); err == nil && len(left) > 0 {
		err = fmt.Errorf("the packages are installed, yet the files of %s are not where they should be", strings.Join(left, ", "))
	}
	return step.End(err, "")
}

func install(ctx context.Context, pkgs []string, step *steps.Step) error {
	if !haveLists("/var/lib/apt/lists") {
		step.Update("apt-get update")
		if err := apt(ctx, "update"); err != nil {
			return err
		}
	}
	args := append([]string{"install", "-y", "--no-install-recommends"}, pkgs...)
	err := apt(ctx, args...)
	if err != nil && ctx.Err() == nil {
		// Lists that are old name files that are gone from the mirrors.
		step.Update("apt-get update")
		if err := apt(ctx, "update"); err != nil {
			return err
		}
		err = apt(ctx, args...)
	}
	return err
}

// haveLists says whether apt knows of any package.
func haveLists(dir string) bool {
	found := errors.New("found")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), "_Packages") {
			return found
		}
		return nil
	})
	return errors.Is(err, found)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "Dpkg::Use-Pty=0"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w:\n%s", args[0], err, tail(string(out), 10))
	}
	return nil
}

// tail returns the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
