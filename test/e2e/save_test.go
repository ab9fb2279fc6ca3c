//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// wantReportInSpite fails unless the report was printed though nothing could be saved, and why not was said.
func (s *space) wantReportInSpite(o outcome, code int, why string) {
	s.Helper()
	if o.code != code || !strings.Contains(o.stdout, "backend ("+s.ns+")") || !strings.Contains(o.stderr, why) {
		s.Errorf("want exit code %d, the report, and %q: %s", code, why, o)
	}
}

// wantFiles fails unless a folder holds just these files: no half one under the final name, and nothing left of ours.
func (s *space) wantFiles(dir string, want ...string) {
	s.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		s.Errorf("in %s are %q, want %q", dir, got, want)
	}
}

// TestSaveOnAFullDisk: the report is printed, the old file is whole, nothing of a new one is there.
func TestSaveOnAFullDisk(t *testing.T) {
	s := newSpace(t)
	if os.Geteuid() != 0 {
		t.Skip("a file system of two pages needs root")
	}
	s.apply(server("backend"), service("backend", headless))
	s.rollout("backend")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8192"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	page := make([]byte, 4096)
	for _, name := range []string{"filler", "more"} {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "run.yaml")
	args := []string{"diagnose", "svc/backend", "--depth", "static", "--allow-partial", "--save"}
	s.wantReportInSpite(s.grpclb(append(args, file)...), 3, "error: save snapshot to "+file+": no space left on device")
	s.wantFiles(dir, "filler", "more")

	if err := os.Remove(filepath.Join(dir, "more")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.wantReportInSpite(s.grpclb(append(args, file)...), 3, "no space left on device")
	s.wantFiles(dir, "filler", "run.yaml")
	if b, err := os.ReadFile(file); err != nil || string(b) != "old" {
		t.Errorf("the old file holds %q, %v", b, err)
	}
}

// TestSavePlaces: where a snapshot goes, and where it cannot, as far as that shows only when it is written.
func TestSavePlaces(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend"), service("backend", headless))
	s.rollout("backend")
	args := []string{"diagnose", "svc/backend", "--depth", "static", "--allow-partial", "--save"}
	whole := func(path string) {
		t.Helper()
		if o := s.grpclb(append(args, path)...); o.code != 0 || !strings.Contains(o.stderr, "saved what was collected to "+path) {
			t.Errorf("%s", o)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
		if _, err := snapfile.LoadFile(path); err != nil {
			t.Error(err)
		}
	}
	dir := t.TempDir()
	old := filepath.Join(dir, "old.yaml")
	if err := os.WriteFile(old, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	whole(old)
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("old.yaml", link); err != nil {
		t.Fatal(err)
	}
	whole(link)
	s.wantFiles(dir, "link.yaml", "old.yaml")
	if target, err := os.Readlink(link); err != nil || target != "old.yaml" {
		t.Errorf("the link leads to %q, %v", target, err)
	}

	// Root is stopped by nothing but a read-only file system.
	locked, want := filepath.Join(dir, "locked"), "permission denied"
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := syscall.Mount("tmpfs", locked, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
			t.Skipf("mount a tmpfs: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(locked, 0) })
		want = "read-only file system"
	}
	s.wantReportInSpite(s.grpclb(append(args, filepath.Join(locked, "run.yaml"))...), 3, want)
}

// TestSaveInterrupted: what an interrupted run had seen is saved whole, or not at all.
func TestSaveInterrupted(t *testing.T) {
	s := withCaller(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "run.yaml")
	cmd, wait := s.started("diagnose", "svc/backend", "--probe", "--interval", "1m", "--timeout", "3m", "--save", file)
	for range 3 { // an impatient reader
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	if o := wait(); o.code != 130 || !strings.Contains(o.stdout, "backend ("+s.ns+")") {
		t.Errorf("%s", o)
	}
	s.wantFiles(dir, "run.yaml")
	if snap, err := snapfile.LoadFile(file); err != nil || !snap.Services.Known() {
		t.Errorf("the saved run: %v", err)
	}
	s.wantNoProbePod()
}
