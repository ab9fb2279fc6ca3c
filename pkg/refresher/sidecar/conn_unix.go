//go:build unix

package sidecar

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// readBuffer is how much is read at a time: the more frames one system call
// brings, the fewer writes they become. Any frame fits (9 + 16384).
const readBuffer = 64 << 10

// buffers are read buffers. A connection that is idle has none.
var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// output is what a write that does not wait needs; it is kept so that nothing is
// allocated for one.
type output struct {
	b   []byte
	n   int
	err error
	try func(fd uintptr) bool
}

func (c *conn) initRaw() {
	t, ok := c.nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	c.raw = raw
	o := &c.out
	o.try = func(fd uintptr) bool {
		o.n, o.err = retry(sysWrite, fd, o.b)
		return true
	}
}

// retry repeats a system call that a signal interrupted. What cannot be done
// without waiting is no error: n is 0.
func retry(call func(fd uintptr, b []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		n, err := call(fd, b)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			if errors.Is(err, syscall.EAGAIN) {
				err = nil
			}
			return 0, err
		}
	}
}

// tryWrite writes what the socket takes at once.
func (c *conn) tryWrite(b []byte) (int, error) {
	if c.raw == nil {
		return 0, nil
	}
	o := &c.out
	o.b, o.n, o.err = b, 0, nil
	err := c.raw.Write(o.try)
	o.b = nil
	if err != nil {
		return 0, err
	}
	return o.n, o.err
}

// read reads until the connection ends.
func (c *conn) read(first []byte) error {
	if c.raw == nil {
		return c.readPlainly(first)
	}
	in := input{c: c}
	in.take(first)
	if err := c.raw.Read(in.drain); err != nil {
		in.park()
		return err
	}
	in.park()
	return in.err
}

// input is a connection's reader.
type input struct {
	c    *conn
	buf  *[readBuffer]byte // nil while nothing is left over
	have int
	// thrown are bytes that came after the end.
	thrown int
	err    error
}

// take feeds bytes that somebody else read.
func (in *input) take(b []byte) {
	if len(b) == 0 {
		return
	}
	in.buf = buffers.Get().(*[readBuffer]byte)
	in.have = copy(in.buf[:], b)
	in.feed()
}

func (in *input) feed() {
	n, ends := in.c.feed(in.buf[:in.have])
	in.have = copy(in.buf[:], in.buf[n:in.have])
	if ends {
		// While bytes come without a pause, a deadline does not interrupt drain.
		if in.thrown += n; in.thrown >= lingerBytes {
			in.err = errTalks
		}
	}
}

// park gives the buffer back unless a part of a frame is in it.
func (in *input) park() {
	if in.buf != nil && (in.have == 0 || in.err != nil) {
		buffers.Put(in.buf)
		in.buf = nil
	}
}

// drain reads until there is nothing more to read: false waits for more. A short
// read is not enough to know that: the runtime waits for a change (EPOLLET), and
// the end of the stream may have come together with its last bytes.
func (in *input) drain(fd uintptr) bool {
	for {
		if in.buf == nil {
			in.buf = buffers.Get().(*[readBuffer]byte)
		}
		n, err := sysRead(fd, in.buf[in.have:])
		switch {
		case n > 0:
			in.have += n
			if in.feed(); in.err != nil {
				return true
			}
		case err == nil:
			in.err = io.EOF
			return true
		case errors.Is(err, syscall.EAGAIN):
			in.park()
			return false
		case !errors.Is(err, syscall.EINTR):
			in.err = err
			return true
		}
	}
}

// awaitBytes waits until something can be read, or there is an end or an error to
// be read, and leaves it there.
func awaitBytes(nc net.Conn) error {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var b [1]byte
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		for {
			_, _, peeked = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			if !errors.Is(peeked, syscall.EINTR) {
				return !errors.Is(peeked, syscall.EAGAIN)
			}
		}
	})
	if err != nil {
		return err
	}
	return peeked // it was told once and would not be again
}
