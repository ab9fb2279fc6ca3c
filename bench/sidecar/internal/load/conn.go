package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What this side announces: windows so large that it is never the one to hold a response up.
const (
	streamWindow = 4 << 20
	connWindow   = 64 << 20
	messageHead  = 5 // a gRPC message's flag and length
)

// stream is one call under way.
type stream struct {
	id       uint32
	intended time.Time
	window   int64 // what the peer still takes of it
	body     []byte
	end      bool // END_STREAM goes with the last of body
	received int
	credit   int // received and not yet given back
	status   int // grpc-status; -1 none yet
	http     string
}

// conn is one HTTP/2 connection with prior knowledge. Frames are gathered in out and leave in one write, as a client of many calls does it.
//
// message is called when a whole message came on a long stream, done when a stream ended; both with mu held.
type conn struct {
	nc      net.Conn
	payload []byte
	long    bool      // streams of many messages
	now     time.Time // when the bytes that are being read came; the reader's
	message func(c *conn, s *stream)
	done    func(c *conn, s *stream, at time.Time, err error)

	mu       sync.Mutex
	room     sync.Cond // a stream ended
	work     sync.Cond // the reader has left something in out
	writing  bool      // somebody writes, without mu, and will look at out again
	out      []byte
	going    []byte // what is written now
	enc      *hpack.Encoder
	block    bytes.Buffer
	dec      *hpack.Decoder
	current  *stream // whose header block is decoded
	nextID   uint32
	window   int64 // of the connection, to the peer
	initial  int64 // window of a new stream
	frame    int   // largest payload that the peer takes
	max      int   // streams that the peer takes
	streams  map[uint32]*stream
	blocked  []*stream // with bytes that no window has room for
	credit   int
	spare    []*stream
	err      error
	settings chan struct{} // closed when the peer's SETTINGS came
}

func dial(addr string, payload []byte) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &conn{
		nc: nc, payload: payload, nextID: 1, window: 65535, initial: 65535, frame: 16384, max: 1 << 30,
		streams: map[uint32]*stream{}, settings: make(chan struct{}),
	}
	c.room.L, c.work.L = &c.mu, &c.mu
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, c.field)
	c.out = append(c.out, http2.ClientPreface...)
	c.head(12, http2.FrameSettings, 0, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingEnablePush))
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingInitialWindowSize))
	c.out = binary.BigEndian.AppendUint32(c.out, streamWindow)
	c.windowUpdate(0, connWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.flush(); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

func (c *conn) head(n int, t http2.FrameType, flags http2.Flags, id uint32) {
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	c.out = binary.BigEndian.AppendUint32(c.out, id)
}

func (c *conn) windowUpdate(id uint32, n int) {
	c.head(4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

// flush writes what was gathered, in the order in which it was; the caller holds mu, which is free while it writes: what comes in must be
// taken in the meantime, since the peer may take nothing before that.
func (c *conn) flush() error {
	for !c.writing && len(c.out) > 0 && c.err == nil {
		c.writing, c.going, c.out = true, c.out, c.going[:0]
		c.mu.Unlock()
		_, err := c.nc.Write(c.going)
		c.mu.Lock()
		if c.writing = false; err != nil {
			c.fail(err)
		}
	}
	return c.err
}

// write is the goroutine that writes what the reader has left to write: the reader itself never waits for the peer to take something.
func (c *conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flush() == nil {
		c.work.Wait()
	}
}

// fail ends all streams; the caller holds mu.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for id, s := range c.streams {
		delete(c.streams, id)
		c.done(c, s, time.Now(), err)
	}
	c.room.Broadcast()
	c.work.Broadcast()
}

// open begins a call; the caller holds mu. The fields are those of a gRPC client with a deadline, which differs from call to call.
func (c *conn) open(method string, intended time.Time, end bool) *stream {
	var s *stream
	if n := len(c.spare); n > 0 {
		s, c.spare = c.spare[n-1], c.spare[:n-1]
		*s = stream{}
	} else {
		s = &stream{}
	}
	s.id, s.intended, s.window, s.end, s.status = c.nextID, intended, c.initial, end, -1
	c.nextID += 2
	c.block.Reset()
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: "pods.bench.test"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "bench/1.0"}, {Name: "te", Value: "trailers"},
	} {
		_ = c.enc.WriteField(f) // into memory
	}
	timeout := strconv.Itoa(10_000_000 - int(s.id%8192))
	_ = c.enc.WriteField(hpack.HeaderField{Name: "grpc-timeout", Value: timeout + "u", Sensitive: true})
	c.head(c.block.Len(), http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.id)
	c.out = append(c.out, c.block.Bytes()...)
	c.streams[s.id] = s
	c.send(s)
	return s
}

// send puts one message on a stream; the caller holds mu.
func (c *conn) send(s *stream) {
	s.body = c.payload
	if !c.push(s) {
		c.blocked = append(c.blocked, s)
	}
}

// push sends what the windows have room for and reports whether that was all.
func (c *conn) push(s *stream) bool {
	for len(s.body) > 0 {
		n := min(len(s.body), c.frame, int(max(0, min(c.window, s.window))))
		if n == 0 {
			return false
		}
		var flags http2.Flags
		if s.end && n == len(s.body) {
			flags = http2.FlagDataEndStream
		}
		c.head(n, http2.FrameData, flags, s.id)
		c.out = append(c.out, s.body[:n]...)
		s.body = s.body[n:]
		c.window -= int64(n)
		s.window -= int64(n)
	}
	return true
}

// unblock tries those that waited for a window.
func (c *conn) unblock() {
	waiting := c.blocked
	c.blocked = c.blocked[:0]
	for _, s := range waiting {
		if c.streams[s.id] == s && !c.push(s) {
			c.blocked = append(c.blocked, s)
		}
	}
}

// stamped notes when bytes came, which is when a call that they end was over: not when this program came to look at them.
type stamped struct{ c *conn }

func (r stamped) Read(b []byte) (int, error) {
	n, err := r.c.nc.Read(b)
	r.c.now = time.Now()
	return n, err
}

// read takes frames until the connection ends.
func (c *conn) read() error {
	in := bufio.NewReaderSize(stamped{c}, 256<<10)
	for {
		if in.Buffered() < 9 {
			c.mu.Lock()
			if len(c.out) > 0 {
				c.work.Signal()
			}
			c.mu.Unlock()
		}
		head, err := in.Peek(9)
		if err != nil {
			return c.lost(err)
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		kind, flags := http2.FrameType(head[3]), http2.Flags(head[4])
		id := binary.BigEndian.Uint32(head[5:]) &^ (1 << 31)
		if n > 16384 {
			return c.lost(fmt.Errorf("a frame of %d bytes", n))
		}
		_, _ = in.Discard(9) // peeked
		body, err := in.Peek(n)
		if err != nil {
			return c.lost(err)
		}
		c.mu.Lock()
		err = c.take(kind, flags, id, body)
		c.mu.Unlock()
		if err != nil {
			return c.lost(err)
		}
		_, _ = in.Discard(n) // peeked
	}
}

func (c *conn) lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the peer closed the connection")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(err)
	return err
}

func (c *conn) close() error { return c.nc.Close() }
