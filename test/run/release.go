package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// dist is where goreleaser writes, and distVariable tells tests where that is.
const (
	dist         = "dist"
	distVariable = "GRPCLB_DIST"
)

// repository is what goreleaser would read from a clone's remote. It wants one even for a snapshot, and invents the
// commit without it.
const repository = "https://github.com/grpclb/kubectl-grpclb"

// supply runs the tests of what we link and with what it is built, and asks for known vulnerabilities of it.
func (s suite) supply(ctx context.Context, out io.Writer) error {
	return errors.Join(
		command{dir: s.root, argv: []string{"go", "test", "-tags", "supply", "-count=1", "-timeout", "20m", "./test/supply/..."}}.run(ctx, out),
		command{dir: s.root, argv: []string{"go", "run", "./test/supply/vuln"}}.run(ctx, out),
	)
}

// release builds a snapshot and tests it: what is in the archives here, images and bills of materials where they are made.
func (s suite) release(ctx context.Context, out io.Writer) error {
	if err := s.snapshot(ctx, out); err != nil {
		return err
	}
	env := []string{distVariable + "=" + filepath.Join(s.root, dist)}
	// The second build starts from an empty cache.
	test := []string{"go", "test", "-tags", "release", "-count=1", "-timeout", "40m"}
	var failures []error
	for _, part := range []command{
		{dir: filepath.Join(s.root, "internal", "release"), env: env, argv: append(test[:len(test):len(test)], "./...")},
		{dir: s.root, env: env, argv: append(test[:len(test):len(test)], "./test/release/...")},
	} {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(out, "# %s\n", part)
		failures = append(failures, part.run(ctx, out))
	}
	return errors.Join(failures...)
}

// snapshot writes what a release of this commit would consist of to dist.
func (s suite) snapshot(ctx context.Context, out io.Writer) error {
	if _, err := os.Stat(filepath.Join(s.root, ".git")); errors.Is(err, fs.ErrNotExist) {
		return skip("a release is made from a git commit, and this is no git checkout: git clone " + repository)
	}
	fmt.Fprintln(out, "# goreleaser, built from the pinned tools module")
	bin, err := s.tool(ctx, out, "tools/goreleaser", "github.com/goreleaser/goreleaser/v2")
	if err != nil {
		return err
	}
	for _, argv := range [][]string{{bin, "check"}, {bin, "release", "--snapshot", "--clean"}} {
		goreleaser := command{dir: s.root, env: append(gitRemote(), "NO_COLOR=1"), argv: argv}
		if err := goreleaser.run(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

// gitRemote gives every git below us a remote beside those that the clone may have.
func gitRemote() []string {
	return []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=remote.origin.url", "GIT_CONFIG_VALUE_0=" + repository}
}

// distEnv tells tests of the snapshot when there is a whole one.
func (s suite) distEnv() []string {
	folder := filepath.Join(s.root, dist)
	// Written last.
	if _, err := os.Stat(filepath.Join(folder, "artifacts.json")); err != nil {
		return nil
	}
	return []string{distVariable + "=" + folder}
}
