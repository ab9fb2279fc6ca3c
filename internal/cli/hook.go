package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// hookName is the executable that kubectl runs to complete the arguments of `kubectl grpclb`: the plugin's name with "_complete" before
// the first dash (k8s.io/kubectl, pkg/cmd/plugin). It prints completions as cobra does.
const hookName = "kubectl_complete-grpclb"

// hookMark stands in every file that install wrote: only such a file is replaced or removed unasked.
const hookMark = "Written by `kubectl grpclb completion install`"

// hook is the file for one operating system.
type hook struct {
	file    string
	content string
}

// hookFor returns the file as an operating system runs it. It finds the plugin through PATH at each call: the file outlives upgrades that
// move the plugin, as those of krew do. On Windows kubectl finds a .cmd as well (PATHEXT), where the shell must be kept from taking a
// plugin out of the folder that it happens to stand in.
func hookFor(goos string) hook {
	if goos == "windows" {
		return hook{hookName + ".cmd", strings.Join([]string{
			"@echo off",
			"rem " + hookMark + ".",
			"rem kubectl runs it to complete the arguments of the plugin, which it looks up on PATH.",
			"setlocal",
			"set NoDefaultCurrentDirectoryInExePath=1",
			binary + " __complete %*",
			"",
		}, "\r\n")}
	}
	return hook{hookName, "#!/bin/sh\n# " + hookMark + ".\n" +
		"# kubectl runs it to complete the arguments of the plugin, which it looks up on PATH.\n" +
		"exec " + binary + " __complete \"$@\"\n"}
}

// searchPath is where programs are found: the folders of PATH, foremost first, and the plugin there (empty when it is not).
type searchPath struct {
	hook
	dirs   []string
	plugin string
}

// folders are those of PATH that can be relied upon: a relative one is another folder in each place.
func (p searchPath) folders() []string {
	var out []string
	for _, d := range p.dirs {
		if filepath.IsAbs(d) && !slices.Contains(out, filepath.Clean(d)) {
			out = append(out, filepath.Clean(d))
		}
	}
	return out
}

// first is the file of the hook's name that kubectl finds.
func (p searchPath) first() (string, bool) {
	for _, d := range p.folders() {
		path := filepath.Join(d, p.file)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	return "", false
}

// candidates are the folders to write to, best first.
func (p searchPath) candidates(f hookFlags) ([]string, error) {
	if f.dir != "" {
		dir, err := filepath.Abs(f.dir)
		if err != nil {
			return nil, couldNot(fmt.Errorf("--dir %s: %w", f.dir, err), "")
		}
		if info, err := os.Stat(dir); err != nil {
			return nil, couldNot(fmt.Errorf("--dir: %w", err), "make the folder first")
		} else if !info.IsDir() {
			return nil, usage("", "--dir: %s is not a folder", dir)
		}
		return []string{dir}, nil
	}
	if found, ok := p.first(); ok {
		return []string{filepath.Dir(found)}, nil // another one beside it would never be called, or hide it
	}
	if p.plugin == "" {
		return nil, couldNot(errors.New(binary+" is not on PATH: kubectl finds neither the plugin nor what completes it"),
			"put the plugin into a folder of PATH, then run this again")
	}
	own := filepath.Dir(p.plugin)
	rest := slices.DeleteFunc(p.folders(), func(d string) bool { return d == own })
	if !filepath.IsAbs(own) {
		return rest, nil
	}
	return append([]string{own}, rest...), nil
}

// write puts the file into the first folder that takes it and returns its path and what was done.
func (p searchPath) write(dirs []string, force bool) (path, done string, err error) {
	var refused error
	for _, d := range dirs {
		path = filepath.Join(d, p.file)
		state, err := p.look(path)
		if err != nil {
			return "", "", err
		}
		switch {
		case state == hookCurrent:
			return path, "already there:", nil
		case state == hookForeign && !force:
			return "", "", foreignHook(path)
		}
		if err := replaceFile(path, []byte(p.content)); err == nil {
			return path, map[hookState]string{hookNone: "wrote", hookOld: "updated", hookForeign: "replaced"}[state], nil
		} else if refused == nil {
			refused = err
		}
	}
	if len(dirs) == 1 {
		return "", "", couldNot(fmt.Errorf("write %s: %w", p.file, refused), "name a folder of PATH that you may write to: --dir FOLDER")
	}
	return "", "", couldNot(fmt.Errorf("no folder of PATH may be written to: %w", refused),
		"make one (mkdir -p ~/.local/bin), put it on PATH, and name it: --dir ~/.local/bin")
}

// remove deletes the files that install wrote, and with force those that it did not; foreign are those left alone.
func (p searchPath) remove(f hookFlags) (removed, foreign []string, err error) {
	dirs := p.folders()
	if f.dir != "" {
		dirs = []string{f.dir}
	}
	for _, d := range dirs {
		path := filepath.Join(d, p.file)
		state, err := p.look(path)
		if err != nil {
			return removed, foreign, err
		}
		switch {
		case state == hookNone:
			continue
		case state == hookForeign && !f.force:
			foreign = append(foreign, path)
			continue
		}
		if err := os.Remove(path); err != nil {
			return removed, foreign, couldNot(err, "")
		}
		removed = append(removed, path)
	}
	return removed, foreign, nil
}

// hookState is what stands where the file belongs.
type hookState int

const (
	hookNone    hookState = iota
	hookCurrent           // what install would write
	hookOld               // what another version wrote, or what cannot be executed
	hookForeign           // somebody else's
)

func (h hook) look(path string) (hookState, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR): // PATH may hold anything
		return hookNone, nil
	case err != nil:
		return hookNone, couldNot(err, "")
	case info.IsDir():
		return hookNone, couldNot(fmt.Errorf("%s is a folder", path), "")
	case !info.Mode().IsRegular():
		return hookForeign, nil // a link leads to a file that install did not write
	}
	b, err := os.ReadFile(path)
	switch {
	case err != nil:
		return hookForeign, nil // what cannot be read cannot be told to be ours
	case !bytes.Contains(b, []byte(hookMark)):
		return hookForeign, nil
	case string(b) == h.content && executable(info):
		return hookCurrent, nil
	}
	return hookOld, nil
}

// executable holds on Windows too, where the name alone decides.
func executable(info fs.FileInfo) bool {
	return info.Mode().Perm()&0o111 == 0o111 || strings.HasSuffix(info.Name(), ".cmd")
}

// replaceFile writes a whole file or nothing: a half-written one would be run at the next TAB.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// samePath reports whether two paths lead to one file.
func samePath(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
