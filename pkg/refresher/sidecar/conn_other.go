//go:build !unix

package sidecar

import (
	"net"
	"sync"
)

const readBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// output is of use where a write can be tried without waiting.
type output struct{}

func (c *conn) initRaw() {}

// tryWrite takes nothing: every write waits, on a goroutine of its own.
func (c *conn) tryWrite([]byte) (int, error) { return 0, nil }

func (c *conn) read(first []byte) error { return c.readPlainly(first) }

// awaitBytes need not wait.
func awaitBytes(net.Conn) error { return nil }
