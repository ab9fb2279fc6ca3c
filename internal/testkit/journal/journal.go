// Package journal is a buffer that a test reads while something else writes to it: the log of a program that runs on.
//
//	var log journal.Buffer
//	cmd.Stderr = &log
//
// It waits for nothing: who wants a line to come asks again.
package journal

import (
	"bytes"
	"sync"
)

// Buffer is an io.Writer that may be used by several goroutines at once. The zero value is empty and ready.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
