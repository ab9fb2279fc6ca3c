package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// spec is a valid image of one script; cases change what they are about.
func spec(t *testing.T) Spec {
	t.Helper()
	src := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(src, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name: "grpclb.dev/examples:dev", Entrypoint: []string{"/bin/server"}, User: "65532:65532", Env: []string{"A=b"},
		Files: []File{{Path: "/bin/server", Source: src}, {Path: "/bin/alias", Link: "server"}},
	}
}

// untar returns the members of an archive.
func untar(t *testing.T, r io.Reader) (headers []tar.Header, contents map[string][]byte) {
	t.Helper()
	contents = map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, *h)
		contents[h.Name] = b
	}
}

// load reads an archive back as the OCI layout it claims to be.
func load(t *testing.T, file string) (v1.Image, v1.Descriptor) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, contents := untar(t, bytes.NewReader(b))
	for name, content := range contents {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d images in the archive", len(manifest.Manifests))
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img, manifest.Manifests[0]
}

func TestArchiveIsAValidImage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.tar")
	if err := spec(t).Write(out); err != nil {
		t.Fatal(err)
	}
	img, desc := load(t, out)
	// The full validation takes every layer for a compressed one.
	if err := validate.Image(img, validate.Fast); err != nil {
		t.Error(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if diff, err := l.DiffID(); err != nil || diff != digest {
			t.Errorf("an uncompressed layer's diff id is %v (%v), its digest %v", diff, err, digest)
		}
	}
	if got := desc.Annotations[nameAnnotation]; got != "grpclb.dev/examples:dev" {
		t.Errorf("containerd would call it %q", got)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/bin/server"}, User: "65532:65532", Env: []string{defaultPath, "A=b"}}
	if d := cmp.Diff(want, cfg.Config); d != "" {
		t.Error(d)
	}
	if cfg.OS != "linux" || cfg.Architecture != runtime.GOARCH {
		t.Errorf("platform %s/%s", cfg.OS, cfg.Architecture)
	}
}

func TestLayerHoldsFilesLinksAndTmp(t *testing.T) {
	img, err := spec(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	type member struct {
		Name, Link string
		Mode       int64
	}
	var got []member
	headers, _ := untar(t, r)
	for _, h := range headers {
		got = append(got, member{h.Name, h.Linkname, h.Mode})
	}
	want := []member{{"tmp/", "", 0o1777}, {"bin/", "", 0o755}, {"bin/alias", "server", 0o777}, {"bin/server", "", 0o755}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSameFilesGiveSameBytes(t *testing.T) {
	s, dir := spec(t), t.TempDir()
	var archives [][]byte
	for _, name := range []string{"a.tar", "b.tar"} {
		out := filepath.Join(dir, name)
		if err := s.Write(out); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, b)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same image differ")
	}
}

func TestWhatCannotRunIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no tag":              {func(s *Spec) { s.Name = "grpclb.dev/examples" }, "image name"},
		"no entrypoint":       {func(s *Spec) { s.Entrypoint = nil }, "needs an entrypoint"},
		"entrypoint missing":  {func(s *Spec) { s.Entrypoint = []string{"/nowhere"} }, "not among the image's files"},
		"relative path":       {func(s *Spec) { s.Files[0].Path = "bin/server" }, "is absolute"},
		"path with dots":      {func(s *Spec) { s.Files[0].Path = "/bin/../server" }, "is absolute"},
		"twice":               {func(s *Spec) { s.Files[1].Path = s.Files[0].Path }, "in the image twice"},
		"source not there":    {func(s *Spec) { s.Files[0].Source += "x" }, "no such file"},
		"source no file":      {func(s *Spec) { s.Files[0].Source = filepath.Dir(s.Files[0].Source) }, "not a regular file"},
		"dynamically linked":  {func(s *Spec) { s.Files[0].Source = dynamicProgram() }, "CGO_ENABLED=0"},
		"digest for a tag":    {func(s *Spec) { s.Name = "a/b@sha256:" + strings.Repeat("0", 64) }, "image name"},
		"name in upper cases": {func(s *Spec) { s.Name = "grpclb.dev/Examples:dev" }, "image name"},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t)
			tc.change(&s)
			if name == "dynamically linked" && s.Files[0].Source == "" {
				t.Skip("no dynamically linked program on this machine")
			}
			out := filepath.Join(t.TempDir(), "out.tar")
			err := s.Write(out)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("an archive was written all the same")
			}
		})
	}
}

// dynamicProgram returns a program of this machine that needs a loader, or "".
func dynamicProgram() string {
	if runtime.GOOS != "linux" {
		return ""
	}
	p, err := exec.LookPath("ls")
	if err != nil || mustBeStatic(p) == nil {
		return ""
	}
	return p
}

func TestParseFile(t *testing.T) {
	for in, want := range map[string]File{
		"bin/server=/server":      {Path: "/server", Source: "bin/server"},
		"link:busybox=/bin/sh":    {Path: "/bin/sh", Link: "busybox"},
		"odd=/path/with=/an/eq":   {Path: "/path/with=/an/eq", Source: "odd"},
		"link:/bin/a b=/bin/link": {Path: "/bin/link", Link: "/bin/a b"},
	} {
		got, err := ParseFile(in)
		if err != nil || got != want {
			t.Errorf("ParseFile(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "server", "=/server", "server="} {
		if _, err := ParseFile(in); err == nil {
			t.Errorf("ParseFile(%q) gave no error", in)
		}
	}
}
