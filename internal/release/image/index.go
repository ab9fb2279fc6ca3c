package image

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Member is one platform's image of an index.
type Member struct {
	Image    v1.Image
	Platform v1.Platform
}

// Index joins the images of several platforms under one digest. The order of the members does not matter: the same
// images give the same digest.
func Index(members ...Member) (v1.ImageIndex, error) {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Platform.String(), b.Platform.String()) })
	var parts []mutate.IndexAddendum
	for i, m := range members {
		if i > 0 && m.Platform.Equals(members[i-1].Platform) {
			return nil, fmt.Errorf("%s is in the index twice", m.Platform)
		}
		parts = append(parts, mutate.IndexAddendum{Add: m.Image, Descriptor: v1.Descriptor{Platform: &m.Platform}})
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), parts...), nil
}

// Read unpacks an archive that Write made into an empty folder and returns its image, which reads from there.
func Read(file, dir string) (Member, error) {
	m, err := read(file, dir)
	if err != nil {
		return Member{}, fmt.Errorf("read %s: %w", file, err)
	}
	return m, nil
}

func read(file, dir string) (Member, error) {
	if err := unpack(file, dir); err != nil {
		return Member{}, err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return Member{}, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return Member{}, err
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Platform == nil {
		return Member{}, errors.New("not one image with its platform")
	}
	desc := manifest.Manifests[0]
	img, err := index.Image(desc.Digest)
	if err != nil {
		return Member{}, err
	}
	return Member{Image: img, Platform: *desc.Platform}, nil
}

// unpack writes the files of a tar archive below dir and nowhere else.
func unpack(file, dir string) (err error) {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is not a regular file", h.Name)
		}
		if err := unpackFile(root, filepath.FromSlash(h.Name), tr); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, content io.Reader) (err error) {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, content)
	return err
}
