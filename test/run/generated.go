package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/internal/laws"
)

// generated runs every generator in a copy of the work tree and compares: the
// work tree itself is never touched, so that a check changes nothing.
func (s suite) generated(ctx context.Context, out io.Writer) (err error) {
	files, err := laws.ListFiles(ctx, s.root)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "grpclb-generated-")
	if err != nil {
		return fmt.Errorf("copy the work tree: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	for _, f := range files {
		if err := copyFile(filepath.Join(scratch, filepath.FromSlash(f)), filepath.Join(s.root, filepath.FromSlash(f))); err != nil {
			return fmt.Errorf("copy the work tree: %w", err)
		}
	}
	if err := generate(ctx, out, scratch, files); err != nil {
		return err
	}
	stale, err := differences(s.root, scratch, files)
	if err != nil {
		return err
	}
	for _, f := range stale {
		fmt.Fprintf(out, "%s is not what its generator writes\n", f)
	}
	if len(stale) > 0 {
		return errors.New("run make generate, look at the change and commit it")
	}
	return nil
}

// generate runs every generator in the work tree.
func (s suite) generate(ctx context.Context, out io.Writer) error {
	files, err := laws.ListFiles(ctx, s.root)
	if err != nil {
		return err
	}
	return generate(ctx, out, s.root, files)
}

// generate runs buf where there is a buf.gen.yaml, then "go generate" in the
// root module.
func generate(ctx context.Context, out io.Writer, root string, files []string) error {
	for _, f := range files {
		if path.Base(f) != "buf.gen.yaml" {
			continue
		}
		dir := filepath.Join(root, filepath.FromSlash(path.Dir(f)))
		up, err := filepath.Rel(dir, filepath.Join(root, "tools", "buf", "go.mod"))
		if err != nil {
			return fmt.Errorf("generate: %w", err)
		}
		buf := command{dir: dir, argv: []string{"go", "tool", "-modfile=" + up, "buf", "generate"}}
		fmt.Fprintf(out, "# %s: buf generate\n", path.Dir(f))
		if err := buf.run(ctx, out); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "# go generate")
	return command{dir: root, argv: []string{"go", "generate", "./..."}}.run(ctx, out)
}

// differences lists the files of the copy that differ from the original or are
// not in it, sorted.
func differences(root, scratch string, files []string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(scratch, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(scratch, name)
		if err != nil {
			return err
		}
		slashed := filepath.ToSlash(rel)
		if strings.HasPrefix(slashed, "bin/") {
			return nil
		}
		made, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		kept, err := os.ReadFile(filepath.Join(root, rel))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !slices.Contains(files, slashed) || !bytes.Equal(made, kept) {
			out = append(out, slashed)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare generated files: %w", err)
	}
	return out, nil
}

// copyFile copies one regular file with its mode; one that was deleted and not
// committed so is left out.
func copyFile(to, from string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}
