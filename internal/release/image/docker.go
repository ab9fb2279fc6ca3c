package image

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dockerManifest is the file that "docker load" looks for, here as "docker save" writes it since version 25: its paths lead into the blobs of
// the OCI layout, so that nothing is in the archive twice.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func writeDockerManifest(dir, name string, img v1.Image) error {
	blob := func(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }
	manifest, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("write docker's manifest: %w", err)
	}
	m := dockerManifest{Config: blob(manifest.Config.Digest), RepoTags: []string{name}}
	for _, l := range manifest.Layers {
		m.Layers = append(m.Layers, blob(l.Digest))
	}
	b, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return fmt.Errorf("write docker's manifest: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), b, 0o644)
}
