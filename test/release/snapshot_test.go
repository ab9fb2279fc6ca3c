//go:build release

package release_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// snapshot is the folder that goreleaser wrote, and what it says of it.
type snapshot struct {
	root    string // the repository
	dir     string
	version string // without v
	commit  string
	date    time.Time // the commit's
}

// openSnapshot reads what the suite's release step built. By hand: make release.
func openSnapshot(t *testing.T) snapshot {
	t.Helper()
	root, err := filepath.Abs(filepath.FromSlash("../.."))
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot{root: root, dir: os.Getenv("GRPCLB_DIST")}
	if s.dir == "" {
		s.dir = filepath.Join(root, "dist")
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "metadata.json"))
	if err != nil {
		t.Fatalf("%v; make a snapshot first, or name its folder in GRPCLB_DIST", err)
	}
	var meta struct{ Version, Commit string }
	if err := json.Unmarshal(data, &meta); err != nil {
		t.Fatal(err)
	}
	s.version, s.commit = meta.Version, meta.Commit
	if s.date, err = time.Parse(time.RFC3339, strings.TrimSpace(git(t, root, "show", "-s", "--format=%cI", s.commit))); err != nil {
		t.Fatal(err)
	}
	return s
}

// archive is one of the files for users.
type archive struct {
	name         string
	program      string
	goos, goarch string
}

// archives are what every release has.
func (s snapshot) archives() []archive {
	var out []archive
	add := func(program, binary, goos, goarch, suffix string) {
		name := fmt.Sprintf("%s_%s_%s_%s.%s", program, s.version, goos, goarch, suffix)
		out = append(out, archive{name, binary, goos, goarch})
	}
	for _, arch := range []string{"amd64", "arm64"} {
		add("kubectl-grpclb", "kubectl-grpclb", "linux", arch, "tar.gz")
		add("kubectl-grpclb", "kubectl-grpclb", "darwin", arch, "tar.gz")
		add("kubectl-grpclb", "kubectl-grpclb.exe", "windows", arch, "zip")
		add("grpclb-refresher", "grpclb-refresher", "linux", arch, "tar.gz")
	}
	return out
}

// images are the names of the image archives.
func (s snapshot) images() []string {
	var out []string
	for _, arch := range []string{"amd64", "arm64"} {
		out = append(out, fmt.Sprintf("grpclb-refresher_%s_linux_%s.image.tar", s.version, arch))
	}
	return out
}

// member is a file of an archive.
type member struct {
	name    string
	mode    fs.FileMode
	time    time.Time
	owner   string // "root:root"; empty where the format has none
	content []byte
}

// open reads a whole archive.
func (s snapshot) open(t *testing.T, name string) []member {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []member
	if strings.HasSuffix(name, ".zip") {
		out, err = openZip(data)
	} else {
		out, err = openTar(data)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// program returns the bytes of the program in an archive.
func (s snapshot) program(t *testing.T, a archive) []byte {
	t.Helper()
	for _, m := range s.open(t, a.name) {
		if m.name == a.program {
			return m.content
		}
	}
	t.Fatalf("no %s in %s", a.program, a.name)
	return nil
}

func openTar(data []byte) ([]member, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var out []member
	for tr := tar.NewReader(unzipped); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		out = append(out, member{h.Name, h.FileInfo().Mode(), h.ModTime, h.Uname + ":" + h.Gname, content})
	}
}

func openZip(data []byte) ([]member, error) {
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	var out []member
	for _, f := range zr.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		out = append(out, member{f.Name, f.Mode(), f.Modified, "", content})
	}
	return out, nil
}
