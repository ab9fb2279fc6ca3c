package relay

import (
	"math"
	"slices"

	"golang.org/x/net/http2/hpack"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// State is how far a connection is.
type State uint8

// The states, in the order in which they come.
const (
	// Opening: the peer's preface and SETTINGS have not come.
	Opening State = iota
	// Ready: calls may come or go.
	Ready
	// Draining: open calls go on, no new ones begin.
	Draining
	// Closed: nothing comes or goes any more but what is left in Out.
	Closed
)

// String is the state in lower case.
func (s State) String() string {
	return [...]string{"opening", "ready", "draining", "closed"}[min(s, Closed)]
}

// Conn is one connection of an Engine, to a client or to a pod.
type Conn struct {
	// User is the owner's.
	User any

	engine *Engine
	client bool
	state  State
	err    *Error
	at     int // in engine.conns
	opened policy.Nanos

	// What is to be written.
	out         []byte
	taken       int    // bytes that TakeOut gave and Written did not take back
	written     int64  // bytes that went to the transport
	dirty       bool   // in engine.dirty
	doom        *Error // why it is in engine.doomed; nil: it is not
	hadRoom     bool   // as Host.Changed last saw it
	enc         *hpack.Encoder
	dec         *hpack.Decoder
	tableShrunk bool   // the next block says so
	tableGrows  uint32 // to this, after the next block; 0: not
	preface     int    // bytes of the client's preface that are still to come
	greeted     bool
	acked       bool // our SETTINGS are

	streams map[uint32]*stream
	lastID  uint32 // of the client's streams
	nextID  uint32 // of our streams at a backend
	recent  *recents
	zombies int         // calls that this client cancelled, before their pod knows
	resets  []sentReset // those that are in this backend's Out

	// Flow control. sendWin may be used by us, recvWin by the peer.
	sendWin, recvWin, credit int
	initWin                  int    // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	maxConc                  uint32 // and MAX_CONCURRENT_STREAMS
	waitHead, waitData       blocked

	// A header block that is not complete.
	contID        uint32
	contEnd       bool
	contBuf       []byte
	contFrames    int
	selfDependent bool // HEADERS make the stream depend on itself

	goAway     goAway
	graceUntil policy.Nanos

	budget                  budget
	freeWindows, freeOthers int
}

// sentReset is an RST_STREAM in a backend's Out, and whose call it ended.
type sentReset struct {
	at     int64 // Written up to here, the pod has it
	client *Conn
}

// recents are the streams of a client that ended last: what comes late for them
// means something else than what comes for a stream that never was.
type recents struct {
	id   [64]uint32
	ours [64]bool
	next int
}

// remember notes the end of a client's stream; ours: by our RST_STREAM.
func (c *Conn) remember(id uint32, ours bool) {
	if !c.client {
		return
	}
	if c.recent == nil {
		c.recent = new(recents)
	}
	r := c.recent
	r.id[r.next], r.ours[r.next] = id, ours
	r.next = (r.next + 1) % len(r.id)
}

// recall tells how a client's stream ended; the last word counts.
func (c *Conn) recall(id uint32) (known, ours bool) {
	r := c.recent
	if r == nil {
		return false, false
	}
	for i := range r.id {
		if r.id[i] == id {
			known, ours = true, ours || r.ours[i]
		}
	}
	return known, ours
}

// isIdle reports whether a stream was never opened.
func (c *Conn) isIdle(id uint32) bool {
	if c.client {
		return id%2 == 0 || id > c.lastID
	}
	return id%2 == 0 || id >= c.nextID
}

// unknown judges a frame for a stream that is not open.
func (c *Conn) unknown(id uint32, what string) *Error {
	if c.isIdle(id) {
		return protocol(what + " on an idle stream")
	}
	return c.superfluous()
}

// Feed takes what was read from the transport. It consumes whole frames and
// returns how many bytes those were: the owner keeps the rest and gives it again
// with what follows. A buffer of 9 + 16384 bytes holds any frame. An error is
// final: Out has the GOAWAY that tells the peer why, State is Closed.
func (c *Conn) Feed(now policy.Nanos, b []byte) (n int, err error) {
	e := c.engine
	e.now = now
	if c.state == Closed {
		return len(b), c.Err()
	}
	n, bad := c.feed(b)
	if bad != nil {
		c.fail(bad)
	}
	e.settle()
	return n, c.Err()
}

func (c *Conn) feed(b []byte) (used int, err *Error) {
	if c.preface > 0 {
		n := min(c.preface, len(b))
		at := len(Preface) - c.preface
		if string(b[:n]) != Preface[at:at+n] {
			return 0, protocol("not the preface of HTTP/2")
		}
		c.preface -= n
		used = n
	}
	for len(b)-used >= frameHeader && c.state != Closed {
		h := b[used : used+frameHeader]
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if n > maxFrame {
			// The size is wrong before the frame is complete (RFC 9113, 4.2).
			return used, &Error{FrameSizeError, "a frame of more than 16384 bytes"}
		}
		end := used + frameHeader + n
		if len(b) < end {
			break
		}
		id := uint32(h[5]&0x7f)<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])
		if err := c.frame(h[3], h[4], id, b[used+frameHeader:end]); err != nil {
			return used, err
		}
		used = end
	}
	return used, nil
}

// Out is what is to be written and was not taken. It is valid until the next
// call of any method of the Engine or its connections.
func (c *Conn) Out() []byte { return c.out }

// TakeOut hands over what Out has; the connection goes on with the memory of
// spare, whose content it overwrites (nil: it makes some when it must). So two
// buffers change places, and nothing is copied; or the owner gives nil and hands the
// buffer to [Engine.Recycle] afterwards. Each byte taken is to be reported to
// Written sometime. When Out is empty it returns nil and leaves spare to the owner.
func (c *Conn) TakeOut(spare []byte) []byte {
	if len(c.out) == 0 {
		return nil
	}
	b := c.out
	c.taken += len(b)
	c.out = spare[:0]
	return b
}

// Written says that the transport took n more of the bytes that TakeOut gave.
// Streams that waited for that go on, so the connection may have a new Out. When
// a transport breaks in the midst of a write, Written comes before Lost: calls
// of which no byte was written can go elsewhere.
func (c *Conn) Written(now policy.Nanos, n int) {
	e := c.engine
	e.now = now
	n = min(n, c.taken)
	c.taken -= n
	c.written += int64(n)
	if c.state == Closed {
		return
	}
	c.delivered(c.written)
	e.resume(c)
	c.roomChanged()
	// Calls may wait for nothing but this.
	e.kick = e.kick || e.waiting > 0 && c.Room()
	e.settle()
}

// delivered counts out the cancelled calls whose RST_STREAM lies before pos.
func (c *Conn) delivered(pos int64) {
	n := 0
	for n < len(c.resets) && c.resets[n].at <= pos {
		c.resets[n].client.zombies--
		n++
	}
	if n > 0 {
		c.resets = slices.Delete(c.resets, 0, n)
	}
}

// Unwritten are the bytes in Out and those taken that were not Written.
func (c *Conn) Unwritten() int { return len(c.out) + c.taken }

// position is where the next byte of Out will be in all that was ever written.
func (c *Conn) position() int64 { return c.written + int64(c.Unwritten()) }

// Lost says that the transport is gone; why it is, err says for people. Calls of a
// backend that were never sent go elsewhere, others end with UNAVAILABLE; a
// client's calls are cancelled at their backends. The connection is Closed
// afterwards, and forgotten. It may be repeated.
func (c *Conn) Lost(now policy.Nanos, err error) {
	c.engine.now = now
	why := "the connection to the pod was lost"
	if err != nil {
		why += ": " + err.Error()
	}
	c.close(Status{codeUnavailable, why})
	c.engine.settle()
}

// Done reports whether nothing is left to do but to write Out and to close the
// transport: the connection was drained and is idle, or failed.
func (c *Conn) Done() bool { return c.state == Closed }

// Abort ends all calls of the connection with s at once, tells the peer by
// GOAWAY and closes.
func (c *Conn) Abort(now policy.Nanos, s Status) {
	c.engine.now = now
	if c.state == Closed {
		return
	}
	if c.client {
		for _, st := range c.open(0) {
			// Where Out has no room for that, the end of the connection says it: a reset
			// would say that the client cancelled the call.
			c.engine.answer(st, answerOf(s))
		}
	}
	c.seal()
	c.writeGoAway(c.lastID, NoError, "")
	c.close(s)
	c.engine.settle()
}

// fail closes the connection because of what the peer did.
func (c *Conn) fail(err *Error) {
	if c.state == Closed {
		return
	}
	c.err = err
	c.seal()
	c.writeGoAway(c.lastID, err.Code, err.Reason)
	c.close(Status{codeUnavailable, "the pod's connection failed: " + err.Error()})
}

// seal settles which calls a backend may have seen whose connection ends though its
// transport works: what lies in Out is dropped, since the owner writes Out before it
// closes, and a call that goes elsewhere must not be executed here as well. What
// TakeOut gave counts as written: it may be in the kernel. Out begins with a whole
// frame, so that the GOAWAY may follow.
func (c *Conn) seal() {
	if c.client || len(c.streams) == 0 {
		return
	}
	c.out = c.out[:0]
	c.written += int64(c.taken)
	c.taken = 0
}

// close ends the connection and its calls: a client's are cancelled, a backend's
// go elsewhere or end with s.
func (c *Conn) close(s Status) {
	if c.state == Closed {
		return
	}
	e := c.engine
	c.state = Closed
	e.remove(c)
	e.host.Changed(c)
	for _, st := range c.open(0) {
		switch {
		case c.client:
			e.cancel(st)
			e.closeFront(st, true)
		case st.headPos >= c.written:
			e.elsewhere(st, unseen)
		default:
			e.leave(st, lost, 0)
			e.answer(st, answerOf(s))
		}
	}
	c.delivered(math.MaxInt64)
	c.contBuf, c.recent = nil, nil
}

// State is how far the connection is.
func (c *Conn) State() State { return c.state }

// Err is why the connection is Closed; nil while it is not, and when it ended in
// good order or was Lost.
func (c *Conn) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Streams is how many calls are open.
func (c *Conn) Streams() int { return len(c.streams) }

// Room reports whether a backend can take one more call: it is Ready, has fewer
// streams than its SETTINGS_MAX_CONCURRENT_STREAMS, stream ids left, and takes
// what is written to it.
func (c *Conn) Room() bool {
	cfg := &c.engine.cfg
	return !c.client && c.state == Ready && len(c.streams) < int(c.maxConc) && c.Unwritten() < cfg.MaxOut+cfg.MaxControl/2
}

// roomChanged tells the host when Room is another than it was.
func (c *Conn) roomChanged() {
	if c.client {
		return
	}
	room := c.Room()
	if room == c.hadRoom {
		return
	}
	c.hadRoom = room
	c.engine.kick = c.engine.kick || room
	c.engine.host.Changed(c)
}
