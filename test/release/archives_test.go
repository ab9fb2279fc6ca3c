//go:build release

package release_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSnapshotHoldsWhatUsersAreTold(t *testing.T) {
	s := openSnapshot(t)
	want := append(s.images(), "checksums.txt")
	for _, a := range s.archives() {
		want = append(want, a.name, a.name+".spdx.json")
	}
	slices.Sort(want)
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	// goreleaser's notes to itself.
	own := []string{"artifacts.json", "config.yaml", "metadata.json"}
	var got []string
	for _, e := range entries {
		if !e.IsDir() && !slices.Contains(own, e.Name()) {
			got = append(got, e.Name())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestChecksumsCoverEveryFile(t *testing.T) {
	s := openSnapshot(t)
	text, err := os.ReadFile(filepath.Join(s.dir, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if _, twice := got[name]; !ok || twice {
			t.Errorf("line %q", line)
		}
		got[name] = sum
	}
	want := map[string]string{}
	names := s.images()
	for _, a := range s.archives() {
		names = append(names, a.name, a.name+".spdx.json")
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want[name] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checksums (-want +got):\n%s", diff)
	}
}

// What differs from machine to machine, a clock, an owner or an umask, must not be in an archive.
func TestArchives(t *testing.T) {
	s := openSnapshot(t)
	license, err := os.ReadFile(filepath.Join(s.root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range s.archives() {
		t.Run(a.name, func(t *testing.T) {
			modes := map[string]fs.FileMode{a.program: 0o755, "LICENSE": 0o644, "THIRD_PARTY_LICENSES.txt": 0o644}
			if strings.HasPrefix(a.name, "kubectl-grpclb_") {
				modes["README.md"] = 0o644
			}
			got := map[string]fs.FileMode{}
			for _, m := range s.open(t, a.name) {
				got[m.name] = m.mode
				if !m.time.Equal(s.date) {
					t.Errorf("%s is of %s, the commit of %s", m.name, m.time, s.date)
				}
				if m.owner != "root:root" && a.goos != "windows" {
					t.Errorf("%s belongs to %s", m.name, m.owner)
				}
				if m.name == "LICENSE" && !bytes.Equal(m.content, license) {
					t.Error("LICENSE is not the repository's")
				}
			}
			if diff := cmp.Diff(modes, got); diff != "" {
				t.Errorf("files and modes (-want +got):\n%s", diff)
			}
		})
	}
}
