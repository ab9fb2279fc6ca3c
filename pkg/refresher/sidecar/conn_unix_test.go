//go:build unix

package sidecar

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestTalkerIsCutOff: where bytes come without a pause no deadline ends the reader of
// a connection that ends; their number does.
func TestTalkerIsCutOff(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "endless"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4 * lingerBytes); err != nil {
		t.Fatal(err)
	}
	in := input{c: &conn{p: &Proxy{}, closing: true}}
	if !in.drain(f.Fd()) || !errors.Is(in.err, errTalks) {
		t.Errorf("%v", in.err)
	}
	in.park()
	if n, err := f.Seek(0, io.SeekCurrent); err != nil || n != lingerBytes {
		t.Errorf("%d bytes were read, %v", n, err)
	}
}
