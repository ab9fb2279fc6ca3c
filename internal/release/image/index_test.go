package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func member(t *testing.T, arch string) Member {
	t.Helper()
	s := spec(t)
	s.Arch, s.Compress = arch, true
	img, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	return Member{Image: img, Platform: s.Platform()}
}

func TestIndexDoesNotDependOnTheOrder(t *testing.T) {
	amd, arm := member(t, "amd64"), member(t, "arm64")
	var digests []v1.Hash
	for _, members := range [][]Member{{amd, arm}, {arm, amd}} {
		index, err := Index(members...)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var platforms []string
		for _, d := range manifest.Manifests {
			platforms = append(platforms, d.Platform.String())
		}
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
			t.Errorf("platforms (-want +got):\n%s", diff)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("the order of the members gives %s and %s", digests[0], digests[1])
	}
	if _, err := Index(amd, amd); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same platform twice: %v", err)
	}
}

func TestReadGivesBackWhatWasWritten(t *testing.T) {
	for _, compress := range []bool{false, true} {
		s := spec(t)
		s.Arch, s.Compress = "arm64", compress
		want, err := s.Build()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "out.tar")
		if err := s.Write(file); err != nil {
			t.Fatal(err)
		}
		got, err := Read(file, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		wantDigest, err := want.Digest()
		if err != nil {
			t.Fatal(err)
		}
		// Uncompressed layers are taken for compressed ones by the full validation.
		level := []validate.Option{validate.Fast}
		if compress {
			level = nil
		}
		if err := validate.Image(got.Image, level...); err != nil {
			t.Errorf("compressed %t: %v", compress, err)
		}
		if digest, err := got.Image.Digest(); err != nil || digest != wantDigest {
			t.Errorf("compressed %t: digest %s, %v; want %s", compress, digest, err, wantDigest)
		}
		if got.Platform.String() != "linux/arm64" {
			t.Errorf("compressed %t: platform %s", compress, got.Platform)
		}
	}
}

// docker load reads manifest.json; go-containerregistry's tarball package reads it in the same way.
func TestDockerFindsTheSameImage(t *testing.T) {
	for _, compress := range []bool{false, true} {
		s := spec(t)
		s.Compress = compress
		file := filepath.Join(t.TempDir(), "out.tar")
		if err := s.Write(file); err != nil {
			t.Fatal(err)
		}
		manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) })
		if err != nil {
			t.Fatal(err)
		}
		if len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"grpclb.dev/examples:dev"}) {
			t.Fatalf("docker's manifest: %+v", manifest)
		}
		docker, err := tarball.ImageFromPath(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		oci, _ := load(t, file)
		want, err := oci.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		// The image's ID in docker is the hash of its configuration.
		if got, err := docker.ConfigName(); err != nil || got != want {
			t.Errorf("compressed %t: docker's image is %s (%v), the layout's %s", compress, got, err, want)
		}
		if err := validate.Image(docker); err != nil {
			t.Errorf("compressed %t: %v", compress, err)
		}
	}
}

func TestReadRefusesOtherArchives(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"outside": {Name: "../escape", Typeflag: tar.TypeReg},
		"link":    {Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"empty":   {Name: "file", Typeflag: tar.TypeReg},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if err := tw.Close(); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "in.tar")
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			into := filepath.Join(dir, "into")
			if err := os.Mkdir(into, 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(file, into); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want one that names the file", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "escape")); err == nil {
				t.Error("a file was written outside of the folder")
			}
		})
	}
}
