//go:build unix

package snapfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// TestSaveThroughALink: what the link points to is replaced, and the link stays.
func TestSaveThroughALink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")
	if err := os.WriteFile(real, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := snapfile.SaveFile(link, square(t)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is now %v, %v", info.Mode(), err)
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if _, err := snapfile.LoadFile(real); err != nil {
		t.Error(err)
	}
	nowhere := filepath.Join(dir, "nowhere.yaml")
	if err := os.Symlink("no/such/file", nowhere); err != nil {
		t.Fatal(err)
	}
	if err := snapfile.SaveFile(nowhere, square(t)); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "save snapshot to "+nowhere+": ") {
		t.Errorf("a link to nowhere: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestSaveIntoAPipe: what is no file is never replaced by one, /dev/stdout least of all.
func TestSaveIntoAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // opening either end waits for the other
		_, err := snapfile.LoadFile(pipe)
		done <- err
	}()
	if err := snapfile.SaveFile(pipe, square(t)); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe is now %v, %v", info.Mode(), err)
	}
}

// TestSaveFailsInPlainWords: the reason and the path that was given, not a name of ours.
func TestSaveFailsInPlainWords(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                               "is a directory",
		filepath.Join(dir, "no", "where"): "no such file or directory",
	} {
		if err := snapfile.SaveFile(path, square(t)); err == nil || err.Error() != "save snapshot to "+path+": "+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if os.Geteuid() == 0 {
		return // to root everything is permitted
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(locked, "x.yaml")
	if err := snapfile.SaveFile(path, square(t)); !errors.Is(err, fs.ErrPermission) || err.Error() != "save snapshot to "+path+": permission denied" {
		t.Errorf("%v", err)
	}
}
