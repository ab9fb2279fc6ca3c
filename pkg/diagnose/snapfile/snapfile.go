package snapfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// MaxBytes is the largest file that Load reads. A snapshot with 1,000 endpoints takes about 1 MB.
const MaxBytes = 64 << 20

// ErrTooLarge is wrapped by Load's error for input beyond MaxBytes.
var ErrTooLarge = errors.New("larger than 64 MiB")

// FormatError says that the input is no snapshot that this build reads.
type FormatError struct {
	Got    string // "grpclb.dev/v2 Snapshot"; empty when there is no such line
	Reason string // one lower-case clause
	Hint   string // what to do about it; may be empty
}

// Error returns the reason.
func (e *FormatError) Error() string { return e.Reason }

// Save writes the snapshot as YAML.
func Save(w io.Writer, s *diagnose.Snapshot) error {
	b, err := quote.YAML(s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// SaveFile writes the snapshot to path, readable and writable by the owner alone (mode 0600). An existing file is
// replaced in one step: a full disk or a crash leaves the old one whole. A symbolic link is followed, and stays. What is
// no file (a pipe, /dev/stdout) is written to as it is.
func SaveFile(path string, s *diagnose.Snapshot) error {
	if err := saveFile(path, s); err != nil {
		return fmt.Errorf("save snapshot to %s: %w", path, cause(err))
	}
	return nil
}

// cause takes the reason out of errors that name files of our own beside it.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

func saveFile(path string, s *diagnose.Snapshot) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			info, err = os.Stat(path)
		}
		if err != nil {
			return fmt.Errorf("follow the link: %w", err)
		}
	}
	if err == nil && !info.Mode().IsRegular() {
		return writeInto(path, s)
	}
	return replace(path, s)
}

// writeInto writes to what is no file, and so cannot be replaced.
func writeInto(path string, s *diagnose.Snapshot) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(Save(f, s), f.Close())
}

// replace puts a new file in the place of path, whole or not at all.
func replace(path string, s *diagnose.Snapshot) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // created with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := Save(f, s); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil { // some file systems say only now that there is no room
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Load reads a snapshot in YAML or JSON. The error is a *FormatError for a document that is something else or of
// another version, and wraps ErrTooLarge beyond MaxBytes.
func Load(r io.Reader) (*diagnose.Snapshot, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("read snapshot: %w", ErrTooLarge)
	}
	empty := len(bytes.TrimSpace(b)) == 0
	var s diagnose.Snapshot
	if err := yaml.Unmarshal(b, &s); err != nil {
		return nil, misfit(b, empty, err)
	}
	if err := checkHead(s.APIVersion, s.Kind, empty); err != nil {
		return nil, err
	}
	return &s, nil
}

// misfit says what a document is that could not be read as a snapshot because of cause: most of what is wrong shows in its head.
func misfit(b []byte, empty bool, cause error) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(b, &head); err != nil {
		return &FormatError{Reason: "the file is no YAML document: " + firstLine(err), Hint: "save one with diagnose --save FILE"}
	}
	if err := checkHead(head.APIVersion, head.Kind, empty); err != nil {
		return err
	}
	return &FormatError{Got: head.APIVersion + " " + head.Kind, Reason: "a field of the snapshot has the wrong form: " + firstLine(cause),
		Hint: "it was changed by hand, or cut short: save it anew"}
}

func checkHead(version, kind string, empty bool) error {
	got := strings.TrimSpace(version + " " + kind)
	switch {
	case empty:
		return &FormatError{Reason: "the file is empty", Hint: "save one with diagnose --save FILE"}
	case version == diagnose.APIVersion && kind == diagnose.SnapshotKind:
		return nil
	case version == diagnose.APIVersion && kind == diagnose.ReportKind:
		return &FormatError{Got: got, Reason: "the file is a report, not a snapshot", Hint: "a snapshot is saved with diagnose --save FILE"}
	case kind == diagnose.SnapshotKind && group(version) == group(diagnose.APIVersion):
		return &FormatError{Got: got, Reason: fmt.Sprintf("the snapshot is of version %q, this build reads %q", version, diagnose.APIVersion),
			Hint: "use the release that saved it, or save it anew"}
	}
	return &FormatError{Got: got, Reason: fmt.Sprintf("the file is no snapshot (apiVersion %q, kind %q)", version, kind),
		Hint: "save one with diagnose --save FILE"}
}

func group(version string) string {
	g, _, _ := strings.Cut(version, "/")
	return g
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// LoadFile reads the snapshot at path; "-" is not special here.
func LoadFile(path string) (*diagnose.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	s, err := Load(f)
	return s, errors.Join(err, f.Close())
}
