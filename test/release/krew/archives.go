package krew

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Archive is the file name of a release's archive. number is the version without
// a leading "v".
func Archive(number, goos, goarch string) string {
	extension := ".tar.gz"
	if goos == "windows" {
		extension = ".zip"
	}
	return fmt.Sprintf("%s_%s_%s_%s%s", Binary, number, goos, goarch, extension)
}

// Snapshot is a folder with the archives of one release.
type Snapshot struct {
	Dir string
	// Version is that of the archives, with a leading "v".
	Version string
}

var archiveName = regexp.MustCompile(`^` + Binary + `_(.+)_(?:linux|darwin|windows)_(?:amd64|arm64)\.(?:tar\.gz|zip)$`)

// Open finds the plugin's archives in a folder. Those of two versions are an
// error: the older ones are a leftover, and which these are only their maker knows.
func Open(dir string) (Snapshot, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Snapshot{}, fmt.Errorf("look for archives: %w", err)
	}
	s := Snapshot{Dir: dir}
	for _, e := range entries {
		match := archiveName.FindStringSubmatch(e.Name())
		if match == nil {
			continue
		}
		if v := "v" + match[1]; s.Version == "" {
			s.Version = v
		} else if s.Version != v {
			return s, fmt.Errorf("look for archives: %s has those of %s and of %s", dir, s.Version, v)
		}
	}
	if s.Version == "" {
		return s, fmt.Errorf("look for archives: none of %s in %s", Binary, dir)
	}
	return s, nil
}

// Path is where the archive of a platform is.
func (s Snapshot) Path(goos, goarch string) string {
	return filepath.Join(s.Dir, Archive(number(s.Version), goos, goarch))
}

// Locate finds an archive by its file name, for [Point]: at its place in a
// release, with the hash of the file in the snapshot.
func (s Snapshot) Locate(file string) (uri, sum string, err error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, file))
	if err != nil {
		return "", "", err
	}
	return Downloads + s.Version + "/" + file, Hash(data), nil
}

// Hash is the SHA-256 in lower-case hex.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Checksums reads a checksums file (lines of "hash  name", as sha256sum writes
// them) and answers for URIs by their file names.
func Checksums(text []byte) (Sum, error) {
	sums := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		hash, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok || !hexSum.MatchString(hash) {
			return nil, fmt.Errorf("read the checksums: %q is no hash and name", lines.Text())
		}
		sums[name] = hash
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the checksums: %w", err)
	}
	return func(uri string) (string, error) {
		hash, ok := sums[uri[strings.LastIndexByte(uri, '/')+1:]]
		if !ok {
			return "", errors.New("not among the checksums")
		}
		return hash, nil
	}, nil
}
