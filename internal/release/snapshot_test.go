//go:build release

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
	"github.com/grpclb/kubectl-grpclb/internal/release/sbom"
)

// distFiles are the files of the snapshot that match a pattern, of which there must be count.
func distFiles(t *testing.T, pattern string, count int) []string {
	t.Helper()
	dir := os.Getenv("GRPCLB_DIST")
	if dir == "" {
		dir = filepath.FromSlash("../../dist")
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != count {
		t.Fatalf("%s in %s: %d files, want %d; make a snapshot first, or name its folder in GRPCLB_DIST", pattern, dir, len(files), count)
	}
	return files
}

func TestSnapshotImages(t *testing.T) {
	var members []image.Member
	for _, file := range distFiles(t, "*.image.tar", len(architectures)) {
		m, err := image.Read(file, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
		t.Run(m.Platform.String(), func(t *testing.T) {
			if !strings.HasSuffix(file, "_linux_"+m.Platform.Architecture+".image.tar") {
				t.Errorf("%s is for %s", file, m.Platform)
			}
			if err := validate.Image(m.Image); err != nil {
				t.Error(err)
			}
			wantSameInDocker(t, file, m.Image)
			cfg, err := m.Image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if cfg.OS+"/"+cfg.Architecture != m.Platform.String() || cfg.Config.User != "65532:65532" {
				t.Errorf("configuration %+v", cfg)
			}
			if diff := cmp.Diff([]string{"/" + program}, cfg.Config.Entrypoint); diff != "" {
				t.Errorf("entrypoint (-want +got):\n%s", diff)
			}
			files := contents(t, m.Image)
			released, err := os.ReadFile(distFiles(t, program+"_linux_"+m.Platform.Architecture+"_*/"+program, 1)[0])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(files["/"+program], released) {
				t.Error("the image's program is not the one that was released")
			}
			if len(files["/LICENSE"]) == 0 || len(files["/THIRD_PARTY_LICENSES.txt"]) == 0 {
				t.Error("licences are missing")
			}
		})
	}
	index, err := image.Index(members...)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	// The linker puts a stamp into the program's data as it is.
	for _, plugin := range distFiles(t, "kubectl-grpclb_*/kubectl-grpclb*", 6) {
		b, err := os.ReadFile(plugin)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(Repository+"@"+digest.String())) {
			t.Errorf("%s is not stamped with %s, which is what the archives make", plugin, digest)
		}
	}
}

// wantSameInDocker reads the archive as "docker load" does and compares the image's ID.
func wantSameInDocker(t *testing.T, file string, img v1.Image) {
	t.Helper()
	docker, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := docker.ConfigName(); err != nil || got != want {
		t.Errorf("docker would load %s (%v), containerd %s", got, err, want)
	}
}

// contents are the regular files of an image by their path in it.
func contents(t *testing.T, img v1.Image) map[string][]byte {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	out := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if out["/"+h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSnapshotBillsOfMaterials compares each document with what the go command reads in the program itself.
func TestSnapshotBillsOfMaterials(t *testing.T) {
	for _, file := range distFiles(t, "*.spdx.json", 8) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := json.Read(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := spdxlib.ValidateDocument(doc); err != nil {
				t.Error(err)
			}
			described, err := spdxlib.GetDescribedPackageIDs(doc)
			if err != nil || len(described) != 1 {
				t.Errorf("it describes %v, %v; want the archive alone", described, err)
			}
			var got []string
			for _, p := range doc.Packages {
				if p.PrimaryPackagePurpose == "LIBRARY" {
					got = append(got, p.PackageName+" "+p.PackageVersion)
				}
				if p.PackageFileName == filepath.Base(strings.TrimSuffix(file, ".spdx.json")) {
					wantHash(t, strings.TrimSuffix(file, ".spdx.json"), p.PackageChecksums[0].Value)
				}
			}
			slices.Sort(got)
			want := linked(t, programOf(t, strings.TrimSuffix(filepath.Base(file), ".spdx.json")))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("modules (-want, by go version -m; +got, in the document):\n%s", diff)
			}
			if len(got) < 4 {
				t.Errorf("only %q: the comparison is broken", got)
			}
		})
	}
}

func wantHash(t *testing.T, archive, sum string) {
	t.Helper()
	a, err := sbom.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	if a.SHA256 != sum {
		t.Errorf("the document is of an archive with hash %s, this one has %s", sum, a.SHA256)
	}
}

// programOf is the program that an archive was made from, in goreleaser's folder for its platform.
func programOf(t *testing.T, archive string) string {
	t.Helper()
	m := regexp.MustCompile(`^([a-z-]+)_.*_([a-z]+)_([a-z0-9]+)\.(tar\.gz|zip)$`).FindStringSubmatch(archive)
	if m == nil {
		t.Fatalf("%s: no platform in the name", archive)
	}
	return distFiles(t, m[1]+"_"+m[2]+"_"+m[3]+"_*/"+m[1]+"*", 1)[0]
}

// linked lists the modules in a program, sorted, and the standard library under the name that documents use for it.
func linked(t *testing.T, program string) []string {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		switch {
		case len(fields) == 1:
			_, version, _ := strings.Cut(line, ": ")
			out = append(out, sbom.Stdlib+" "+strings.TrimSpace(version))
		case fields[1] == "mod" || fields[1] == "dep":
			out = append(out, fields[2]+" "+fields[3])
		case fields[1] == "=>":
			out[len(out)-1] = fields[2] + " " + fields[3]
		}
	}
	slices.Sort(out)
	return out
}
