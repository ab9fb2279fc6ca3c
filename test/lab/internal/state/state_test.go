package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
)

func TestLocate(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("HOME", "/home/u")
	t.Setenv(EnvDir, "")
	d, err := Locate()
	if err != nil || filepath.Base(string(d)) != "kubectl-grpclb-lab" {
		t.Errorf("Locate() = %q, %v", d, err)
	}
	t.Setenv(EnvDir, "relative")
	if d, err = Locate(); err != nil || !filepath.IsAbs(string(d)) || filepath.Base(string(d)) != "relative" {
		t.Errorf("Locate() = %q, %v", d, err)
	}
}

func TestRecordSurvivesSaveAndLoad(t *testing.T) {
	d := Dir(t.TempDir())
	if c, err := d.Load(); c != nil || err != nil {
		t.Fatalf("an empty directory holds a cluster: %v, %v", c, err)
	}
	want := &Cluster{
		Nodes: 2, ProxyMode: "iptables", Build: "k", APIAddress: "127.0.0.1:1", Complete: true,
		Processes: map[string]proc.ID{"n1": {PID: 7, Start: 9}},
	}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRecordCutShortIsNoCluster(t *testing.T) {
	d := Dir(t.TempDir())
	if err := WriteFile(d.record(), []byte(`{"nodes": 2, "proc`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Load(); c != nil || err != nil {
		t.Errorf("Load() = %v, %v", c, err)
	}
}

func TestWriteFileLeavesNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	for _, content := range []string{"one", "two"} {
		if err := WriteFile(filepath.Join(dir, "f"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("%d files instead of one: %v", len(entries), entries)
	}
	info, err := os.Stat(filepath.Join(dir, "f"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "two" {
		t.Errorf("content %q, %v", b, err)
	}
}

func TestEveryPathIsBelowTheDirectory(t *testing.T) {
	d := Dir("/state")
	for _, p := range []string{
		d.Builds(), d.Build("k"), d.Bin(), d.Kubeconfig(), d.Logs(), d.AuditLog(), d.Run(), d.PKI(), d.Control(), d.Node("n1"), d.LockFile(),
	} {
		if !strings.HasPrefix(p, "/state/") {
			t.Error(p)
		}
	}
}
