// Package image builds an OCI image archive from static binaries: no base
// image, no registry, no daemon, no root.
//
// The same files give the same archive, byte for byte. What it refuses: a
// dynamically linked program, which in an image of its own fails with a "no
// such file" that names the wrong file.
//
//	err := image.Spec{
//		Name:       "grpclb.dev/examples:dev",
//		Entrypoint: []string{"/square-server"},
//		Files:      []image.File{{Path: "/square-server", Source: "bin/square-server"}},
//	}.Write("examples.tar")
//
// An archive is an OCI image layout with docker's own manifest beside it: containerd's importer reads the one, every
// "docker load" the other.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one file of an image: a copy of Source or, when Link is set, a
// symbolic link.
type File struct {
	// Path is where it is in the image, absolute and slash-separated.
	Path string
	// Source is the file to copy. It becomes executable for all if it is for its owner.
	Source string
	// Link is the target of a symbolic link.
	Link string
}

// Spec describes an image. Name, Entrypoint and Files are needed.
type Spec struct {
	// Name is the reference with a tag: "grpclb.dev/examples:dev".
	Name string
	// Entrypoint and Cmd are as in a Dockerfile's exec form.
	Entrypoint, Cmd []string
	// User is "UID:GID". A numeric one lets a kubelet check runAsNonRoot.
	User string
	// Env is added to a PATH of the usual directories.
	Env []string
	// Files are what the image holds beside an empty /tmp.
	Files []File
	// Arch is GOARCH of the binaries; this machine's when empty.
	Arch string
	// Labels are what a registry shows of the image, such as org.opencontainers.image.source.
	Labels map[string]string
	// Created is the time that the image claims. The zero value claims none.
	Created time.Time
	// Compress gzips the layer: worth it for what is pulled over a network.
	Compress bool
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// nameAnnotation is where containerd's importer looks for an image's full name.
const nameAnnotation = "io.containerd.image.name"

// refAnnotation is the OCI image layout's own, which holds the tag.
const refAnnotation = "org.opencontainers.image.ref.name"

// Write builds the image and writes it to file as an OCI layout in a tar
// archive, whole or not at all.
func (s Spec) Write(file string) error {
	tag, err := name.NewTag(s.Name, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	img, err := s.Build()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "oci-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the image's layout: %w", err)
	}
	err = out.AppendImage(img,
		layout.WithPlatform(s.Platform()),
		layout.WithAnnotations(map[string]string{nameAnnotation: tag.Name(), refAnnotation: tag.TagStr()}))
	if err != nil {
		return fmt.Errorf("write the image's layout: %w", err)
	}
	if err := writeDockerManifest(dir, tag.Name(), img); err != nil {
		return err
	}
	return archive(dir, file)
}

func (s Spec) arch() string {
	if s.Arch != "" {
		return s.Arch
	}
	return runtime.GOARCH
}

// Platform is the system that the image is for.
func (s Spec) Platform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: s.arch()}
}

// Build returns the image itself: one layer.
func (s Spec) Build() (v1.Image, error) {
	if len(s.Entrypoint) == 0 {
		return nil, errors.New("an image needs an entrypoint")
	}
	files := map[string]File{}
	for _, f := range s.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("%q: a path in an image is absolute and has no dots to resolve", f.Path)
		}
		if _, dup := files[f.Path]; dup {
			return nil, fmt.Errorf("%s is in the image twice", f.Path)
		}
		files[f.Path] = f
	}
	if _, ok := files[s.Entrypoint[0]]; !ok {
		return nil, fmt.Errorf("the entrypoint %s is not among the image's files", s.Entrypoint[0])
	}
	content, err := pack(files)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	layer, err := s.layer(content)
	if err != nil {
		return nil, err
	}
	img, err = mutate.AppendLayers(img, layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", s.arch()
	cfg.Created = v1.Time{Time: s.Created.UTC()}
	cfg.Config = v1.Config{
		Entrypoint: s.Entrypoint, Cmd: s.Cmd, User: s.User, Env: append([]string{defaultPath}, s.Env...), Labels: s.Labels,
	}
	return mutate.ConfigFile(img, cfg)
}

func (s Spec) layer(content []byte) (v1.Layer, error) {
	if !s.Compress {
		return static.NewLayer(content, types.OCIUncompressedLayer), nil
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	// Compressed once and kept: it is read for its digest and again for its bytes.
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression),
		tarball.WithCompressedCaching)
}

// pack makes a layer: the files in the order of their names, each directory
// before what it holds.
func pack(files map[string]File) ([]byte, error) {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	made := map[string]bool{"/": true}
	mkdir := func(dir string, mode int64) error {
		made[dir] = true
		return tw.WriteHeader(header(dir+"/", tar.TypeDir, mode))
	}
	if err := mkdir("/tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		var missing []string
		for dir := path.Dir(p); !made[dir]; dir = path.Dir(dir) {
			missing = append(missing, dir)
		}
		for _, dir := range slices.Backward(missing) {
			if err := mkdir(dir, 0o755); err != nil {
				return nil, err
			}
		}
		if err := add(tw, files[p]); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// header is a tar header without owner and time, which would differ from run to run.
func header(name string, kind byte, mode int64) *tar.Header {
	return &tar.Header{Name: strings.TrimPrefix(name, "/"), Typeflag: kind, Mode: mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func add(tw *tar.Writer, f File) error {
	if f.Link != "" {
		h := header(f.Path, tar.TypeSymlink, 0o777)
		h.Linkname = f.Link
		return tw.WriteHeader(h)
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Source)
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
		if err := mustBeStatic(f.Source); err != nil {
			return err
		}
	}
	h := header(f.Path, tar.TypeReg, mode)
	h.Size = info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, src)
	return err
}

// mustBeStatic refuses a program that asks for a dynamic loader. A file that
// is not ELF, a script say, passes.
func mustBeStatic(file string) error {
	bin, err := elf.Open(file)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	if err != nil {
		return err
	}
	defer bin.Close()
	for _, p := range bin.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked and cannot run in an image of its own: build it with CGO_ENABLED=0", file)
		}
	}
	return nil
}

// archive packs a directory into a tar file.
func archive(dir, file string) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer func() { err = errors.Join(err, out.Close()) }()
	tw := tar.NewWriter(out)
	// WalkDir goes in lexical order, so the result does not depend on the disk.
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		h := header(filepath.ToSlash(rel), tar.TypeReg, 0o644)
		h.Size = int64(len(b))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err = tw.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

// ParseFile reads a command line's HOST=PATH or link:TARGET=PATH.
func ParseFile(arg string) (File, error) {
	from, to, ok := strings.Cut(arg, "=")
	if !ok || from == "" || to == "" {
		return File{}, fmt.Errorf("%q: want HOST=PATH or link:TARGET=PATH", arg)
	}
	if target, ok := strings.CutPrefix(from, "link:"); ok {
		return File{Path: to, Link: target}, nil
	}
	return File{Path: to, Source: from}, nil
}
