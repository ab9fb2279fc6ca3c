package relay

import (
	"golang.org/x/net/http2/hpack"
)

// onHeaders takes HEADERS (RFC 9113, 6.2).
func (c *Conn) onHeaders(flags byte, id uint32, p []byte) *Error {
	if id == 0 {
		return protocol("HEADERS on stream 0")
	}
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	c.selfDependent = false
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			return &Error{FrameSizeError, "HEADERS too short for their priority"}
		}
		c.selfDependent = dependsOn(p) == id
		p = p[5:]
	}
	if flags&flagEndHeaders != 0 {
		return c.headers(id, p, flags&flagEndStream != 0)
	}
	c.contID, c.contEnd, c.contFrames = id, flags&flagEndStream != 0, 0
	c.contBuf = append(c.contBuf[:0], p...)
	return nil
}

// onContinuation takes CONTINUATION (RFC 9113, 6.10). Both the bytes and the
// frames of a block are bounded (CVE-2024-27316).
func (c *Conn) onContinuation(flags byte, id uint32, p []byte) *Error {
	if c.contID == 0 {
		return protocol("CONTINUATION without HEADERS")
	}
	c.contFrames++
	cfg := &c.engine.cfg
	if len(c.contBuf)+len(p) > cfg.MaxHeaderBlock || c.contFrames > cfg.MaxContinuations {
		return &Error{EnhanceYourCalm, "a header block without end"}
	}
	c.contBuf = append(c.contBuf, p...)
	if flags&flagEndHeaders == 0 {
		return nil
	}
	c.contID = 0
	err := c.headers(id, c.contBuf, c.contEnd)
	if cap(c.contBuf) > 4*maxFrame {
		c.contBuf = nil
	}
	return err
}

// headers takes a whole header block. It is decoded whatever becomes of the
// stream: the HPACK table is the connection's (RFC 9113, 4.3).
func (c *Conn) headers(id uint32, p []byte, end bool) *Error {
	e := c.engine
	e.fields, e.listSize = e.fields[:0], 0
	e.block = block{length: -1, code: -1}
	if _, err := c.dec.Write(p); err != nil {
		return &Error{CompressionError, "a header block that cannot be decoded"}
	}
	if c.dec.Close() != nil {
		return &Error{CompressionError, "a header block that ends in the midst of a field"}
	}
	var err *Error
	if c.client {
		err = c.clientHeaders(id, &e.block, end)
	} else {
		err = c.backendHeaders(id, &e.block, end)
	}
	if cap(e.fields) > 1024 {
		e.fields = nil
	}
	return err
}

// field is where all decoders put what they decode.
func (e *Engine) field(f hpack.HeaderField) {
	// RFC 9113, 6.5.2: the size of a list counts 32 for each field.
	if e.listSize += len(f.Name) + len(f.Value) + 32; e.listSize > e.cfg.MaxHeaderList {
		// What a refusal depends on is wanted still.
		e.block.overflow = true
		if f.Name == "content-type" {
			e.block.look(&f)
		}
		return
	}
	e.block.look(&f)
	e.fields = append(e.fields, f)
}

// outWriter puts what an HPACK encoder makes at the end of Out.
type outWriter Conn

// Write implements io.Writer.
func (w *outWriter) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

// writeHeaders encodes a block into HEADERS and as many CONTINUATION as it needs.
func (c *Conn) writeHeaders(id uint32, fields []hpack.HeaderField, end bool) {
	var flags byte
	if end {
		flags = flagEndStream
	}
	// The length is known afterwards.
	c.control(0, frameHeaders, flags|flagEndHeaders, id)
	at := len(c.out)
	for i := range fields {
		// It fails only when its writer does.
		_ = c.enc.WriteField(fields[i])
	}
	if c.tableShrunk && len(fields) > 0 {
		c.tableTold()
	}
	n := len(c.out) - at
	if n <= maxFrame {
		h := c.out[at-frameHeader:]
		h[0], h[1], h[2] = byte(n>>16), byte(n>>8), byte(n)
		return
	}
	e := c.engine
	e.scratch = append(e.scratch[:0], c.out[at:]...)
	c.out = c.out[:at-frameHeader]
	kind := frameHeaders
	for b := e.scratch; len(b) > 0; {
		part := b[:min(len(b), maxFrame)]
		if b = b[len(part):]; len(b) == 0 {
			flags |= flagEndHeaders
		}
		c.begin(len(part), kind, flags, id)
		c.out = append(c.out, part...)
		kind, flags = frameContinuation, 0
	}
	if cap(e.scratch) > 4*maxFrame {
		e.scratch = nil
	}
}

// onPriority ignores PRIORITY (RFC 9113, 5.3.2). A stream that depends on itself
// is an error of RFC 7540, 5.3.1, which no sane peer makes.
func (c *Conn) onPriority(id uint32, p []byte) *Error {
	if id == 0 {
		return protocol("PRIORITY on stream 0")
	}
	if err := c.superfluous(); err != nil {
		return err
	}
	code, reason := FrameSizeError, "PRIORITY of a wrong length"
	if len(p) == 5 {
		if dependsOn(p) != id {
			return nil
		}
		code, reason = ProtocolError, "a stream that depends on itself"
	}
	s := c.streams[id]
	if s == nil {
		// RST_STREAM on an idle stream would be an error of ours.
		return &Error{code, reason}
	}
	c.streamError(s, code, reason)
	return nil
}

func dependsOn(p []byte) uint32 {
	return uint32(p[0]&0x7f)<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
}
