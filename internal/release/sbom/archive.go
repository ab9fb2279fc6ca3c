package sbom

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Open reads a .tar.gz or .zip archive with one Go program in it.
func Open(file string) (Archive, error) {
	a, err := open(file)
	if err != nil {
		return Archive{}, fmt.Errorf("read %s: %w", file, err)
	}
	return a, nil
}

func open(file string) (Archive, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return Archive{}, err
	}
	a := Archive{Name: filepath.Base(file), SHA256: hash(content)}
	walk := walkTar
	if strings.HasSuffix(file, ".zip") {
		walk = walkZip
	}
	found := 0
	err = walk(content, func(name string, modified time.Time, body io.Reader) error {
		if !isProgram(name) {
			return nil
		}
		found++
		program, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		a.Binary, a.Time, a.BinarySHA256 = path.Base(name), modified, hash(program)
		a.Build, err = readBuild(name, bytes.NewReader(program))
		return err
	})
	if err != nil {
		return Archive{}, err
	}
	if found != 1 {
		return Archive{}, fmt.Errorf("%d programs in it, want one", found)
	}
	return a, nil
}

// visit is told of every file of an archive.
type visit func(name string, modified time.Time, body io.Reader) error

func walkTar(content []byte, do visit) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for tr := tar.NewReader(unzipped); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(h.Name, h.ModTime, tr); err != nil {
			return err
		}
	}
}

func walkZip(content []byte, do visit) error {
	zr, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	for _, f := range zr.File {
		body, err := f.Open()
		if err != nil {
			return err
		}
		if err := errors.Join(do(f.Name, f.Modified, body), body.Close()); err != nil {
			return err
		}
	}
	return nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
