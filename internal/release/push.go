package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
)

// push publishes the archives as one image of several platforms under the reference that images left in dir, and under
// tag, and returns that reference. If the archives make another digest, nothing is pushed.
func push(dir, tag string, archives []string, options ...remote.Option) (ref string, err error) {
	if tag == "" || len(archives) == 0 {
		return "", errors.New("push: want -tag TAG and the archives of images")
	}
	text, err := os.ReadFile(filepath.Join(dir, refFile))
	if err != nil {
		return "", fmt.Errorf("push: the digest comes from the command images: %w", err)
	}
	want, err := name.NewDigest(strings.TrimSpace(string(text)), name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	scratch, err := os.MkdirTemp("", "grpclb-push-")
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var members []image.Member
	for i, file := range archives {
		sub := filepath.Join(scratch, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			return "", fmt.Errorf("push: %w", err)
		}
		m, err := image.Read(file, sub)
		if err != nil {
			return "", fmt.Errorf("push: %w", err)
		}
		members = append(members, m)
	}
	index, err := image.Index(members...)
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	got, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	if got.String() != want.DigestStr() {
		return "", fmt.Errorf("push: the archives make %s, the plugin is stamped with %s", got, want.DigestStr())
	}
	if err := remote.WriteIndex(want.Context().Tag(tag), index, options...); err != nil {
		return "", fmt.Errorf("push %s: %w", want.Context().Tag(tag), err)
	}
	return want.String(), nil
}
