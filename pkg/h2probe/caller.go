package h2probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Bounds. What the server can make us hold: one frame, one header block's kept fields, maxQueued of answers, and MaxMessage for
// each running call.
const (
	maxFrame         = 16384    // RFC 9113 section 6.5.2: the initial SETTINGS_MAX_FRAME_SIZE, which we never raise
	maxHeaderBlock   = 32 << 10 // encoded, over all its frames
	maxHeaderList    = 64 << 10 // decoded, as RFC 9113 section 6.5.2 counts it
	maxContinuations = 64
	maxStatusMessage = 1024
	maxQueued        = 256 << 10 // bytes waiting to be written before the peer counts as not reading
	maxAhead         = 64 << 10  // bytes waiting before calls hold back their own frames
	maxIdleFrames    = 10_000    // frames in a row that move no call forward
	maxMethod        = 1024
	initialWindow    = 65535 // RFC 9113 section 6.9.2
	maxWindow        = 1<<31 - 1
	windowStep       = 16 << 10 // credit is given back in steps of this many bytes
	maxRequest       = 4 << 20
	closeGrace       = 250 * time.Millisecond
)

// Defaults of CallerOptions and Call.
const (
	DefaultMaxMessage  = 64 << 10
	DefaultCallTimeout = 10 * time.Second
)

// CallerOptions tune NewCaller. The zero value is useful.
type CallerOptions struct {
	// Authority is the :authority of every call; empty means "localhost".
	Authority string
	// HandshakeTimeout bounds the wait for the server's SETTINGS; 0 means DefaultStepTimeout.
	HandshakeTimeout time.Duration
	// MaxMessage bounds an answer's message in bytes; 0 means DefaultMaxMessage.
	MaxMessage int
}

// Caller makes unary gRPC calls over one HTTP/2 connection. It is safe for concurrent use; calls beyond the server's
// SETTINGS_MAX_CONCURRENT_STREAMS wait for a place until their context ends. It never reconnects: after a failure every call
// returns it.
type Caller struct {
	conn    net.Conn
	opts    CallerOptions
	scheme  string
	head    *headReader
	wake    chan struct{} // one place: there is something to write
	started chan struct{} // closed when the server's first SETTINGS were taken in
	flushed chan struct{} // closed when the writer has returned
	done    chan struct{} // closed with err set
	wg      sync.WaitGroup
	once    sync.Once // closes conn

	mu       sync.Mutex // guards all below
	changed  chan struct{}
	err      error
	goAway   *GoAwayError
	closing  bool
	streams  map[uint32]*stream
	nextID   uint32
	settings Settings
	window   int64 // how much DATA the server takes on the connection
	owed     uint32
	idle     int // frames since one that moved a call forward
	out      bytes.Buffer
	framer   *http2.Framer // writes to out
	block    bytes.Buffer
	encoder  *hpack.Encoder // writes to block
}

// NewCaller sends the client preface over conn and waits for the server's SETTINGS. A *tls.Conn must have finished its handshake
// with ALPN h2 (or none). It owns conn from the first moment: conn is closed when NewCaller fails.
//
// Errors: *NotHTTP2Error, ErrSilent, *GoAwayError, *ProtocolError, ErrFrameTooLarge …, or ctx's, wrapped.
func NewCaller(ctx context.Context, conn net.Conn, opts CallerOptions) (*Caller, error) {
	if opts.Authority == "" {
		opts.Authority = "localhost"
	}
	if opts.HandshakeTimeout <= 0 {
		opts.HandshakeTimeout = DefaultStepTimeout
	}
	if opts.MaxMessage <= 0 {
		opts.MaxMessage = DefaultMaxMessage
	}
	c := newCaller(conn, opts)
	c.wg.Add(2)
	go c.readLoop()
	go c.writeLoop()
	if err := c.awaitSettings(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("start HTTP/2: %w", err)
	}
	return c, nil
}

func newCaller(conn net.Conn, opts CallerOptions) *Caller {
	c := &Caller{
		conn: conn, opts: opts, scheme: "http", head: &headReader{r: conn},
		wake: make(chan struct{}, 1), started: make(chan struct{}), flushed: make(chan struct{}), done: make(chan struct{}),
		changed: make(chan struct{}), streams: map[uint32]*stream{}, nextID: 1, window: initialWindow,
	}
	if _, ok := conn.(*tls.Conn); ok {
		c.scheme = "https"
	}
	c.framer = http2.NewFramer(&c.out, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	c.out.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings( // writes to a bytes.Buffer do not fail
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderList})
	return c
}

func (c *Caller) awaitSettings(ctx context.Context) error {
	timer := time.NewTimer(c.opts.HandshakeTimeout)
	defer timer.Stop()
	select {
	case <-c.started:
		return nil
	case <-c.done:
	case <-timer.C:
		first := c.head.bytes()
		if len(first) == 0 {
			return fmt.Errorf("%w in %s", ErrSilent, c.opts.HandshakeTimeout)
		}
		return &NotHTTP2Error{First: first, Err: fmt.Errorf("nothing more in %s", c.opts.HandshakeTimeout)}
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-c.started: // it started and failed in one breath: the calls will say how
		return nil
	default:
		return c.Err()
	}
}

// Settings is what the server has announced so far.
func (c *Caller) Settings() Settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings
}

// Done is closed when the connection has failed or was closed.
func (c *Caller) Done() <-chan struct{} { return c.done }

// Err says why no further call can be made on the connection (a failure, a GOAWAY, Close); nil while calls can be made.
func (c *Caller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusedLocked()
}

// Close says GOAWAY, closes the connection and waits for the goroutines of the Caller to end. Running calls end with ErrClosed.
// It returns nil; a second call does nothing.
func (c *Caller) Close() error {
	c.mu.Lock()
	if !c.closing && c.err == nil {
		_ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	}
	c.closing = true
	c.mu.Unlock()
	c.poke()
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-c.flushed:
	case <-timer.C: // a peer that does not read gets no farewell
	}
	c.fail(ErrClosed)
	c.wg.Wait()
	return nil
}

// fail records the first error, ends every running call with it and closes the connection.
func (c *Caller) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrClosed
		if !c.closing {
			c.err = &brokenError{err}
		}
		for _, s := range c.streams {
			c.finishLocked(s, c.err)
		}
		c.broadcastLocked()
		close(c.done)
	}
	c.mu.Unlock()
	c.once.Do(func() {
		// Closing a tls.Conn writes an alert and may wait for a peer that does not read; the raw connection does not.
		if t, ok := c.conn.(*tls.Conn); ok {
			_ = t.NetConn().Close()
			return
		}
		_ = c.conn.Close()
	})
}

func (c *Caller) refusedLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.closing:
		return ErrClosed
	case c.goAway != nil:
		return c.goAway
	case c.nextID > maxWindow:
		return ErrExhausted
	default:
		return nil
	}
}

// broadcastLocked wakes the calls that wait for room, for credit or for a place.
func (c *Caller) broadcastLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Caller) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop is the only writer of conn, so that a peer that does not read stops neither the reader nor a call's deadline.
func (c *Caller) writeLoop() {
	defer c.wg.Done()
	defer close(c.flushed)
	var buf []byte
	for {
		c.mu.Lock()
		buf = append(buf[:0], c.out.Bytes()...)
		c.out.Reset()
		closing := c.closing
		c.mu.Unlock()
		if len(buf) > 0 {
			if _, err := c.conn.Write(buf); err != nil {
				c.writeFailed(err)
				return
			}
			c.mu.Lock()
			c.broadcastLocked()
			c.mu.Unlock()
			continue
		}
		if closing {
			return
		}
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
	}
}

// writeFailed gives the reader a moment: what the peer said before it hung up (an alert, HTTP/1 bytes, GOAWAY) explains more
// than "broken pipe".
func (c *Caller) writeFailed(err error) {
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
	err = fmt.Errorf("write: %w", err)
	if len(c.head.bytes()) == 0 {
		err = &NotHTTP2Error{Err: err}
	}
	c.fail(err)
}

// headReader remembers the first bytes of a connection, for NotHTTP2Error.
type headReader struct {
	r     io.Reader
	mu    sync.Mutex
	first []byte
}

func (h *headReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.mu.Lock()
	if room := 64 - len(h.first); room > 0 && n > 0 {
		h.first = append(h.first, p[:min(n, room)]...)
	}
	h.mu.Unlock()
	return n, err
}

func (h *headReader) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.first)
}

// asTransport names what a read error means.
func asTransport(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("server closed the connection: %w", err)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return fmt.Errorf("%w: more than %d bytes", ErrFrameTooLarge, maxFrame)
	default:
		return fmt.Errorf("read: %w", err)
	}
}
