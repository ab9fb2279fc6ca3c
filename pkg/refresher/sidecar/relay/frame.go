package relay

import "encoding/binary"

// Sizes and bounds of RFC 9113.
const (
	// Preface is what a client's connection begins with (RFC 9113, 3.4). By its
	// first bytes an owner tells HTTP/2 from what it is not.
	Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameHeader   = 9
	maxFrame      = 16384
	defaultWindow = 65535
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1
)

// Frame types (RFC 9113, 6).
const (
	frameData byte = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Frame flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// frame takes one whole frame apart. p is its payload.
func (c *Conn) frame(kind, flags byte, id uint32, p []byte) *Error {
	if !c.greeted {
		// The first frame of either side is SETTINGS (RFC 9113, 3.4).
		if kind != frameSettings || flags&flagAck != 0 {
			return protocol("the first frame is not SETTINGS")
		}
		c.greeted = true
	}
	if c.contID != 0 && (kind != frameContinuation || id != c.contID) {
		return protocol("a frame between HEADERS and its CONTINUATION")
	}
	switch kind {
	case frameData:
		return c.onData(flags, id, p)
	case frameHeaders:
		return c.onHeaders(flags, id, p)
	case framePriority:
		return c.onPriority(id, p)
	case frameReset:
		return c.onReset(id, p)
	case frameSettings:
		return c.onSettings(flags, id, p)
	case framePushPromise:
		// A client must not, and a server was told not to (RFC 9113, 6.6).
		return protocol("PUSH_PROMISE")
	case framePing:
		return c.onPing(flags, id, p)
	case frameGoAway:
		return c.onGoAway(id, p)
	case frameWindowUpdate:
		return c.onWindowUpdate(id, p)
	case frameContinuation:
		return c.onContinuation(flags, id, p)
	}
	// Unknown types are ignored (RFC 9113, 5.5).
	return c.superfluous()
}

// superfluous charges a frame that does nothing. Those that follow the end of a
// stream are to be expected: each stream brings some for free.
func (c *Conn) superfluous() *Error {
	if c.freeOthers > 0 {
		c.freeOthers--
		return nil
	}
	return c.charge(budgetOthers)
}

func (c *Conn) charge(k budgetKind) *Error {
	if c.budget.spend(&c.engine.limits, k, c.engine.now) {
		return nil
	}
	return &Error{EnhanceYourCalm, "too many " + budgetNames[k]}
}

// unpad strips the padding of DATA and HEADERS (RFC 9113, 6.1).
func unpad(flags byte, p []byte) ([]byte, *Error) {
	if flags&flagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 {
		return nil, &Error{FrameSizeError, "a padded frame without a length of padding"}
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, protocol("padding as long as the frame")
	}
	return p[1 : len(p)-n], nil
}

// begin appends a frame's header to Out.
func (c *Conn) begin(n int, kind, flags byte, id uint32) {
	if c.out == nil {
		c.out = c.engine.outBuffer()
	}
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), kind, flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	if !c.dirty {
		c.dirty = true
		c.engine.dirty = append(c.engine.dirty, c)
	}
}

// control appends a frame that cannot wait. A peer that causes many of them and
// reads none is doomed: the connection ends when the work at hand is done.
func (c *Conn) control(n int, kind, flags byte, id uint32) {
	c.begin(n, kind, flags, id)
	if c.Unwritten() > c.engine.cfg.MaxOut+maxFrame+c.engine.cfg.MaxControl {
		c.condemn(&Error{EnhanceYourCalm, "it makes work and does not read"})
	}
}

// condemn has the connection fail when the work at hand is done.
func (c *Conn) condemn(err *Error) {
	if c.doom == nil && c.state != Closed {
		c.doom = err
		c.engine.doomed = append(c.engine.doomed, c)
	}
}

func (c *Conn) writeData(id uint32, p []byte, end bool) {
	var flags byte
	if end {
		flags = flagEndStream
	}
	c.begin(len(p), frameData, flags, id)
	c.out = append(c.out, p...)
	// One update for the stream and one for the connection, and some more.
	c.freeWindows = min(c.freeWindows+4, 1<<20)
}

func (c *Conn) writeReset(id uint32, code ErrCode) {
	if c.state == Closed {
		return
	}
	c.control(4, frameReset, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

func (c *Conn) writeWindowUpdate(id uint32, n int) {
	if c.state == Closed {
		return
	}
	c.control(4, frameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

func (c *Conn) writePing(ack bool, payload uint64) {
	var flags byte
	if ack {
		flags = flagAck
	}
	c.control(8, framePing, flags, 0)
	c.out = binary.BigEndian.AppendUint64(c.out, payload)
}

func (c *Conn) writeGoAway(last uint32, code ErrCode, reason string) {
	c.begin(8+len(reason), frameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, last)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
	c.out = append(c.out, reason...)
}
