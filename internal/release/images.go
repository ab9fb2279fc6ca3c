package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
	"github.com/grpclb/kubectl-grpclb/internal/release/sbom"
)

// Repository is where the image of grpclb-refresher is published.
const Repository = "ghcr.io/grpclb/grpclb-refresher"

const (
	program = "grpclb-refresher"
	stamped = "github.com/grpclb/kubectl-grpclb/internal/version"
	// refFile holds the reference by digest, for the linker and for push.
	refFile = "image.ref"
	// indexFile holds the index that the digest is of.
	indexFile = "index.json"
)

// architectures are GOARCH of the image's platforms; all are Linux.
var architectures = []string{"amd64", "arm64"}

// release says which one the images belong to.
type release struct {
	version string
	commit  string
	date    time.Time
	dir     string
}

// images builds the program for every platform, makes the images in memory and leaves in r.dir the index and the reference
// by its digest. The flags are those of .goreleaser.yaml; that the programs are the same in the end, archive checks.
func images(ctx context.Context, r release, out io.Writer) error {
	if r.version == "" || r.commit == "" || r.date.IsZero() {
		return errors.New("images: -version, -commit and -date are needed")
	}
	var members []image.Member
	for _, arch := range architectures {
		binary := filepath.Join(r.dir, "linux_"+arch, program)
		if err := r.compile(ctx, arch, binary, out); err != nil {
			return err
		}
		spec := r.spec(arch, binary)
		img, err := spec.Build()
		if err != nil {
			return fmt.Errorf("image for %s: %w", arch, err)
		}
		members = append(members, image.Member{Image: img, Platform: spec.Platform()})
	}
	ref, err := writeIndex(r.dir, Repository, members)
	if err != nil {
		return fmt.Errorf("index of the images: %w", err)
	}
	fmt.Fprintln(out, ref)
	return nil
}

// writeIndex leaves in dir the index of the members and the reference by its digest, which it returns.
func writeIndex(dir, repository string, members []image.Member) (string, error) {
	index, err := image.Index(members...)
	if err != nil {
		return "", err
	}
	raw, err := index.RawManifest()
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	ref := repository + "@" + digest.String()
	return ref, errors.Join(
		os.WriteFile(filepath.Join(dir, indexFile), raw, 0o644),
		os.WriteFile(filepath.Join(dir, refFile), []byte(ref+"\n"), 0o644),
	)
}

func (r release) compile(ctx context.Context, arch, binary string, out io.Writer) error {
	stamp := "-s -w" +
		" -X " + stamped + ".Version=" + r.version +
		" -X " + stamped + ".Commit=" + r.commit +
		" -X " + stamped + ".Date=" + r.date.UTC().Format(time.RFC3339)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags", stamp, "-o", binary, "./cmd/"+program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stdout, build.Stderr = out, out
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", program, arch, err)
	}
	return nil
}

// spec describes one platform's image: the program and the licences, nothing else.
func (r release) spec(arch, binary string) image.Spec {
	return image.Spec{
		Name:       Repository + ":" + r.version,
		Entrypoint: []string{"/" + program},
		// A number, because a pod with runAsNonRoot cannot judge a name.
		User: "65532:65532",
		Files: []image.File{
			{Path: "/" + program, Source: binary},
			{Path: "/LICENSE", Source: "LICENSE"},
			{Path: "/THIRD_PARTY_LICENSES.txt", Source: "THIRD_PARTY_LICENSES.txt"},
		},
		Arch: arch,
		Labels: map[string]string{
			"org.opencontainers.image.source":   "https://github.com/grpclb/kubectl-grpclb",
			"org.opencontainers.image.revision": r.commit,
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
		Created:  r.date,
		Compress: true,
	}
}

// archive writes the image of the program that goreleaser built. It refuses one that is not in the index whose digest the
// plugin carries: somebody would pull something else than what was tested.
func archive(r release, arch, binary, file string) error {
	if arch == "" || binary == "" || file == "" {
		return errors.New("archive: -arch, -binary and -o are needed")
	}
	kept, err := os.Open(filepath.Join(r.dir, indexFile))
	if err != nil {
		return fmt.Errorf("archive: the index comes from the command images: %w", err)
	}
	defer kept.Close()
	index, err := v1.ParseIndexManifest(kept)
	if err != nil {
		return fmt.Errorf("archive: index of the images: %w", err)
	}
	spec := r.spec(arch, binary)
	img, err := spec.Build()
	if err != nil {
		return fmt.Errorf("archive: image for %s: %w", arch, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("archive: image for %s: %w", arch, err)
	}
	if !slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Digest == digest }) {
		return fmt.Errorf("archive: the image of %s is %s, which is not in the index that the plugin is stamped with: "+
			"the flags of .goreleaser.yaml and of the command images differ, or the work tree changed in between", binary, digest)
	}
	return spec.Write(file)
}

func writeSBOM(from, to string) (err error) {
	if from == "" || to == "" {
		return errors.New("sbom: want -o DOCUMENT ARCHIVE")
	}
	a, err := sbom.Open(from)
	if err != nil {
		return err
	}
	var doc strings.Builder
	if err := sbom.Write(&doc, a); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(doc.String()), 0o644)
}
