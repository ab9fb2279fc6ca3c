package sidecar

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// lingerFor is how long a closed connection's peer has to read the GOAWAY, and
// lingerBytes how much it may send meanwhile. A socket that is closed with unread
// bytes resets, which takes the GOAWAY with it.
const (
	lingerFor   = time.Second
	lingerBytes = 1 << 20
)

// conn is a connection whose calls are relayed, a client's or a pod's.
type conn struct {
	p   *Proxy
	nc  net.Conn
	raw syscall.RawConn // nil where only plain reads and writes are to be had
	rl  *relay.Conn
	pod *pod // nil for a client

	// Guarded by Proxy.mu.
	queued  bool // in Proxy.dirty
	changed bool // in Proxy.changes
	writing bool // a goroutine writes
	closing bool // what is left is written, then it is closed
	shut    bool // that is done
	lostErr error
	over    bool // the engine was told that it is lost
	link    link

	out output // of the goroutine that writes
}

// newConn wraps a transport. p.mu need not be held.
func newConn(p *Proxy, nc net.Conn, pd *pod) *conn {
	c := &conn{p: p, nc: nc, pod: pd}
	c.initRaw()
	return c
}

// release writes what the engine left in the connections' Out and unlocks mu, which
// the caller holds. Whoever calls the engine ends with it: it also settles what
// changed. Several goroutines may be in it; each connection is written by one.
func (p *Proxy) release(now policy.Nanos) {
	for {
		p.settle(now)
		c := p.nextDirty()
		if c == nil {
			break
		}
		p.write(c, now)
	}
	p.mu.Unlock()
}

// nextDirty takes a connection that has something to write, or is to be closed.
func (p *Proxy) nextDirty() *conn {
	for _, rc := range p.engine.Dirty() {
		if c, ok := rc.User.(*conn); ok {
			p.queue(c)
		}
	}
	n := len(p.dirty)
	if n == 0 {
		return nil
	}
	c := p.dirty[n-1]
	p.dirty[n-1] = nil
	p.dirty = p.dirty[:n-1]
	c.queued = false
	return c
}

func (p *Proxy) queue(c *conn) {
	if !c.queued {
		c.queued = true
		p.dirty = append(p.dirty, c)
	}
}

// write writes a connection's Out as far as the socket takes it. mu is held, but
// not during the system call. What the socket does not take is left to a
// goroutine: the caller reads another connection and must not wait for this one.
func (p *Proxy) write(c *conn, now policy.Nanos) {
	if c.writing || c.shut {
		return
	}
	c.writing = true
	for len(c.rl.Out()) > 0 {
		b := c.rl.TakeOut(nil)
		p.mu.Unlock()
		n, err := c.tryWrite(b)
		p.mu.Lock()
		if n > 0 {
			c.rl.Written(now, n)
		}
		switch {
		case err != nil:
			p.loseLocked(c, err, now)
		case n < len(b) && c.lostErr == nil:
			p.goroutines.Go(func() { p.writeSlowly(c, b, n) })
			return
		}
		p.engine.Recycle(b)
		if c.lostErr != nil {
			break
		}
	}
	c.writing = false
	p.wrote(c, now)
}

// writeSlowly waits until the socket takes the rest of b.
func (p *Proxy) writeSlowly(c *conn, b []byte, from int) {
	n, err := c.nc.Write(b[from:])
	now := policy.Now()
	p.mu.Lock()
	if n > 0 {
		c.rl.Written(now, n)
	}
	p.engine.Recycle(b)
	c.writing = false
	if err != nil {
		p.loseLocked(c, err, now)
	}
	p.wrote(c, now)
	if !c.shut {
		p.queue(c)
	}
	p.release(now)
}

// wrote follows the end of a write: what waited for it is done.
func (p *Proxy) wrote(c *conn, now policy.Nanos) {
	switch {
	case c.lostErr != nil:
		p.tellLost(c, now)
	case c.closing && !c.shut && len(c.rl.Out()) == 0:
		c.shut = true
		c.endWrites()
		if c.pod == nil {
			p.clientGone(c)
		}
	}
}

// endWrites lets the peer read what was written. The reader ends when the peer
// closes, or soon.
func (c *conn) endWrites() {
	until := time.Now().Add(lingerFor)
	if h, ok := c.nc.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil {
		until = longAgo
	}
	_ = c.nc.SetReadDeadline(until)
}

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// loseLocked says that the transport is of no more use. The engine is told once
// nobody writes: a call that is being written must not be given to another pod as
// one that was not.
func (p *Proxy) loseLocked(c *conn, err error, now policy.Nanos) {
	if c.lostErr == nil {
		c.lostErr = err
		// It wakes the reader, which closes. Close itself waits until nobody uses the
		// descriptor, and the caller may be the reader.
		_ = c.nc.SetDeadline(longAgo)
	}
	if !c.writing {
		p.tellLost(c, now)
	}
}

func (p *Proxy) tellLost(c *conn, now policy.Nanos) {
	if c.over {
		return
	}
	c.over, c.closing, c.shut = true, true, true
	c.rl.Lost(now, c.lostErr)
	p.noteChange(c)
	if c.pod == nil {
		p.clientGone(c)
	}
}

// noteChange has settle look at the connection.
func (p *Proxy) noteChange(c *conn) {
	if !c.changed {
		c.changed = true
		p.changes = append(p.changes, c)
	}
}

// close begins an orderly end: Out is written first.
func (p *Proxy) close(c *conn) {
	if c.closing {
		return
	}
	c.closing = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(lingerFor))
	p.queue(c)
}

// feed gives the engine what was read, and returns how much of it is used up. A
// connection that ends only throws it away.
func (c *conn) feed(b []byte) (used int, ends bool) {
	p := c.p
	now := policy.Now()
	p.mu.Lock()
	if c.closing {
		p.mu.Unlock()
		return len(b), true
	}
	if c.pod != nil {
		c.link.heard(b)
	}
	n, err := c.rl.Feed(now, b)
	if err != nil {
		n = len(b)
		p.noteChange(c)
	}
	p.release(now)
	return n, false
}

// serve reads until the connection ends. first was read already.
func (c *conn) serve(first []byte) {
	err := c.read(first)
	if err == nil || errors.Is(err, io.EOF) {
		err = errClosed
	}
	now := policy.Now()
	c.p.mu.Lock()
	c.p.loseLocked(c, err, now)
	c.p.release(now)
	_ = c.nc.Close()
}

// errClosed is what an orderly end of the transport means.
var errClosed = errors.New("the peer closed the connection")

// errTalks is why a connection is closed whose peer does not heed that it ends.
var errTalks = errors.New("the peer goes on sending")

// readPlainly is read where a connection has no file descriptor to wait for: it
// holds a buffer also while it is idle.
func (c *conn) readPlainly(first []byte) error {
	buf := buffers.Get().(*[readBuffer]byte)
	defer buffers.Put(buf)
	have := copy(buf[:], first)
	for thrown := 0; thrown < lingerBytes; {
		if have > 0 {
			used, ends := c.feed(buf[:have])
			have = copy(buf[:], buf[used:have])
			if ends {
				thrown += used
			}
		}
		n, err := c.nc.Read(buf[have:])
		have += n
		if err != nil {
			return err
		}
	}
	return errTalks
}
