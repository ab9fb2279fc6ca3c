package daemon

import (
	"bytes"
	"crypto/sha256"
)

// file is a configuration that may change.
type file struct {
	name string
	// sum is of the content that was looked at last, zero when it could not be read.
	sum [sha256.Size]byte
	// trouble is why the last read failed, "" when it did not.
	trouble string
}

// changed reads the file. It reports its content when that is another one than the
// last time, or when again is true; and an error when it cannot be read, once for
// each reason.
func (f *file) changed(again bool) (data []byte, changed bool, err error) {
	data, err = readFile(f.name)
	if err != nil {
		news := err.Error() != f.trouble
		f.trouble, f.sum = err.Error(), [sha256.Size]byte{}
		if news || again {
			return nil, true, err
		}
		return nil, false, nil
	}
	sum := sha256.Sum256(data)
	same := bytes.Equal(sum[:], f.sum[:])
	f.sum, f.trouble = sum, ""
	return data, again || !same, nil
}
