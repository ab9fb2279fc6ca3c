package krew

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/yaml"
)

// Where the plugin comes from, and its names.
const (
	// Name is the plugin's name in krew, and the manifest's file name there.
	Name = "grpclb"
	// Binary is the program's name in archives; on Windows with ".exe".
	Binary = "kubectl-grpclb"
	// Homepage is the repository.
	Homepage = "https://github.com/grpclb/kubectl-grpclb"
	// Downloads is the folder of all releases' files: Downloads + tag + "/" + file.
	Downloads = Homepage + "/releases/download/"
)

// Licenses are the files that come along with the program wherever it is
// installed: ours, and those of what is linked into it.
var Licenses = []string{"LICENSE", "THIRD_PARTY_LICENSES.txt"}

// NotReleased stands for the hash of an archive that does not exist yet.
var NotReleased = strings.Repeat("0", 64)

// Scalar writes a hash as YAML. A bare row of zeros would be read as the number
// zero, so that one is quoted; any other hash is left as the release bot writes it.
func Scalar(sha256 string) string {
	if sha256 == NotReleased {
		return `"` + sha256 + `"`
	}
	return sha256
}

// Manifest is a plugin manifest of krew's v1alpha2, as far as this project uses
// it (krew's pkg/index has the rest).
type Manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec Spec `json:"spec"`
}

// Spec is what the manifest says of the plugin.
type Spec struct {
	// Version is a semantic version with a leading "v".
	Version          string     `json:"version"`
	Homepage         string     `json:"homepage"`
	ShortDescription string     `json:"shortDescription"`
	Description      string     `json:"description"`
	Caveats          string     `json:"caveats"`
	Platforms        []Platform `json:"platforms"`
}

// Platform says what is installed on one kind of machine.
type Platform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	// URI is where the archive is; Sha256 its hash in lower-case hex.
	URI    string `json:"uri"`
	Sha256 string `json:"sha256"`
	Files  []File `json:"files"`
	// Bin is the program's path among the installed files.
	Bin string `json:"bin"`
}

// File is one file (or pattern) of the archive and the folder or name it gets.
type File struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// OS is the system that the platform is for, in Go's words.
func (p Platform) OS() string { return p.Selector.MatchLabels["os"] }

// Arch is the processor that the platform is for, in Go's words.
func (p Platform) Arch() string { return p.Selector.MatchLabels["arch"] }

// String is "linux/amd64".
func (p Platform) String() string { return p.OS() + "/" + p.Arch() }

// Program is the program's file name on that platform.
func (p Platform) Program() string {
	if p.OS() == "windows" {
		return Binary + ".exe"
	}
	return Binary
}

// Parse reads a manifest and refuses fields that it does not know: krew skips
// them in silence, so that a misspelt field would be a missing one.
func Parse(text []byte) (Manifest, error) {
	var m Manifest
	if bytes.Contains(text, []byte("\n---")) {
		return m, errors.New("read the plugin manifest: more than one document")
	}
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		return m, fmt.Errorf("read the plugin manifest: %w", err)
	}
	return m, nil
}

// Locate says where the archive of that file name is, and its SHA-256 in hex.
type Locate func(file string) (uri, sha256 string, err error)

// Point returns the manifest with another version (with "v") and the archives
// of that version. It changes the text, not the parsed value: everything else
// stays as the maintainers wrote it.
func Point(text []byte, version string, locate Locate) ([]byte, error) {
	m, err := Parse(text)
	if err != nil {
		return nil, err
	}
	out, err := replaceOnce(string(text), "\n  version: "+m.Spec.Version+"\n", "\n  version: "+version+"\n")
	if err != nil {
		return nil, err
	}
	for _, p := range m.Spec.Platforms {
		file := strings.Replace(path.Base(p.URI), "_"+number(m.Spec.Version)+"_", "_"+number(version)+"_", 1)
		uri, sum, err := locate(file)
		if err != nil {
			return nil, fmt.Errorf("find the archive for %s: %w", p, err)
		}
		const lines = "\n    uri: %s\n    sha256: %s\n"
		if out, err = replaceOnce(out, fmt.Sprintf(lines, p.URI, Scalar(p.Sha256)), fmt.Sprintf(lines, uri, Scalar(sum))); err != nil {
			return nil, err
		}
	}
	return []byte(out), nil
}

func replaceOnce(text, from, to string) (string, error) {
	if n := strings.Count(text, from); n != 1 {
		return "", fmt.Errorf("point the manifest elsewhere: %q is in it %d times, want once", from, n)
	}
	return strings.Replace(text, from, to, 1), nil
}

// number is a version without the leading "v", as it is in file names.
func number(version string) string { return strings.TrimPrefix(version, "v") }
