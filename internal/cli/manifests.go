package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// maxManifest is how much of a file or of standard input is read.
const maxManifest = 64 << 20

// manifestEndings are those of the files that kubectl takes out of a folder.
var manifestEndings = []string{".yaml", ".yml", ".json"}

// readStream reads all files as one stream of manifests.
func (a *app) readStream(o changeOptions) (*inject.Stream, error) {
	names, err := manifestFiles(o.files, o.recursive)
	if err != nil {
		return nil, err
	}
	var all *inject.Stream
	last := ""
	for _, name := range names {
		b, err := a.readManifest(name)
		if err != nil {
			return nil, couldNot(fmt.Errorf("-f %s: %w", name, err), "")
		}
		if len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		s, err := inject.Parse(b)
		switch {
		case err != nil:
			return nil, couldNot(fmt.Errorf("-f %s: %w", name, err), parseHint(b, err))
		case all == nil:
			all = s
		default:
			if err := all.Append(s); err != nil {
				return nil, couldNot(fmt.Errorf("-f %s: %w", last, err), "")
			}
		}
		last = name
	}
	if all == nil {
		return nil, couldNot(errors.New("the manifests are empty"), "see whether the command that writes them failed")
	}
	return all, nil
}

// parseHint is what to do about a manifest that cannot be read.
func parseHint(text []byte, err error) string {
	switch {
	case errors.Is(err, inject.ErrNotUTF8):
		return "save it as UTF-8: what Windows PowerShell writes with > is UTF-16, and with `| Out-File -Encoding utf8 FILE` it is not"
	case strings.Contains(err.Error(), "already defined"):
		return "two documents have a line --- between them; -f FILE,FILE puts it there"
	case bytes.Contains(text, []byte("{{")):
		return "a template has to be rendered first (helm template, kustomize build)"
	case bytes.Contains(text, []byte("\t")):
		return "YAML is indented with spaces, and this has tabs"
	}
	return "`kubectl create --dry-run=client -f FILE` reads it without this plugin"
}

func (a *app) readManifest(name string) ([]byte, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, bare(err)
		}
		defer func() { _ = f.Close() }() // nothing was written to it
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("it is longer than %d MiB", maxManifest>>20)
	}
	return b, bare(err)
}

// bare is an error of a file without the operation and the path, which stand beside it.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// manifestFiles puts in the place of folders what kubectl reads of them: the manifests by name, with -R those of the folders in them, too.
func manifestFiles(names []string, recursive bool) ([]string, error) {
	var out []string
	for _, name := range names {
		if strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://") {
			return nil, usage("curl -fsSL "+name+" writes it to standard output, and -f - reads it", "-f takes files and folders, and no address")
		}
		if info, err := os.Stat(name); name == "-" || err != nil || !info.IsDir() { // what is wrong with a file shows when it is opened
			out = append(out, name)
			continue
		}
		found, err := folder(name, recursive)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// rendered are the files by which one knows a folder whose manifests a program has to write, and that program.
var rendered = map[string]string{"Chart.yaml": "helm template", "kustomization.yaml": "kubectl kustomize", "kustomization.yml": "kubectl kustomize", "Kustomization": "kubectl kustomize"}

func folder(name string, recursive bool) ([]string, error) {
	var out []string
	var below bool
	err := fs.WalkDir(os.DirFS(name), ".", func(path string, e fs.DirEntry, err error) error {
		full := filepath.Join(name, filepath.FromSlash(path))
		if err != nil {
			return couldNot(fmt.Errorf("-f %s: %w", full, bare(err)), "")
		}
		switch program := rendered[e.Name()]; {
		case e.IsDir() && path != "." && !recursive:
			below = true
			return fs.SkipDir
		case e.IsDir():
		case program != "":
			dir := filepath.Dir(full)
			return couldNot(fmt.Errorf("-f %s: %s makes its manifests of %s", dir, program, e.Name()), program+" "+dir+" writes them, and -f - reads them")
		case slices.Contains(manifestEndings, filepath.Ext(path)):
			out = append(out, full)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		hint := "name the file itself: its ending does not matter then"
		if below {
			hint = "-R looks into the folders in it, too"
		}
		err = couldNot(fmt.Errorf("-f %s: nothing in it ends in %s", name, strings.Join(manifestEndings, ", ")), hint)
	}
	return out, err
}
