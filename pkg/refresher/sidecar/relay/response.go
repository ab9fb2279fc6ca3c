package relay

// backendHeaders takes the headers or trailers of a response.
func (c *Conn) backendHeaders(id uint32, b *block, end bool) *Error {
	s := c.streams[id]
	if s == nil {
		if c.isIdle(id) {
			return protocol("HEADERS on a stream that was not opened")
		}
		// They crossed our RST_STREAM.
		return nil
	}
	e := c.engine
	if s.call.FirstByte == 0 {
		s.call.FirstByte = e.now
	}
	if s.final {
		c.responseTrailers(s, b, end)
		return nil
	}
	switch {
	case b.response(end) != "":
		c.streamError(s, ProtocolError, b.malformed)
		return nil
	case b.overflow:
		c.tooMuch(s, tooLarge("the response's metadata"))
		return nil
	case b.status < 200:
		return c.informational(s)
	case end && b.length > 0 && !s.noBody && b.status != 304:
		c.streamError(s, ProtocolError, "less content than content-length says")
		return nil
	}
	// There is no way back from here: nothing of the request is wanted any more.
	e.forget(s)
	e.dropMetadata(s)
	s.fields = keepFields(s.fields)
	s.final = true
	s.call.HTTP = b.status
	s.note(b)
	h := &s.res
	if s.noBody || b.status == 304 {
		b.length = -1
	}
	h.length = b.length
	switch {
	case end:
		c.finish(s)
	case !s.front.full():
		h.headSent = true
		s.front.writeHeaders(s.fid, e.fields, false)
	case !e.keepMetadata(s):
		c.tooMuch(s, tooFull())
	default:
		h.headSent = true
		h.head, h.headWait = append(h.head[:0], e.fields...), true
		e.queue(s.front, h)
	}
	return nil
}

// informational passes a 1xx response on (RFC 9110, 15.2), unless the client does
// not read: it may be left out.
func (c *Conn) informational(s *stream) *Error {
	if !s.front.full() {
		s.front.writeHeaders(s.fid, c.engine.fields, false)
	}
	return c.charge(budgetOthers)
}

func (c *Conn) responseTrailers(s *stream, b *block, end bool) {
	h := &s.res
	switch {
	case b.trailers(end) != "":
		c.streamError(s, ProtocolError, b.malformed)
	case h.length > 0:
		c.streamError(s, ProtocolError, "less content than content-length says")
	case b.overflow:
		c.tooMuch(s, tooLarge("the response's trailers"))
	default:
		s.note(b)
		c.finish(s)
	}
}

// finish passes the trailers on that were decoded last, behind what waits.
func (c *Conn) finish(s *stream) {
	e, h := c.engine, &s.res
	h.fin = true
	switch {
	case !h.headWait && h.pending() == 0 && !s.front.full():
		h.done = true
		s.front.writeHeaders(s.fid, e.fields, true)
		e.halfDone(h)
	case !e.keepMetadata(s):
		c.tooMuch(s, tooFull())
		return
	default:
		h.trl, h.hasTrl = append(h.trl[:0], e.fields...), true
		e.push(h, maxWindow)
	}
	e.leave(s, answered, 0)
}

// tooMuch ends a call whose response has more metadata than may pass or be kept.
func (c *Conn) tooMuch(s *stream, a answerStatus) {
	c.writeReset(s.bid, Cancel)
	c.engine.leave(s, tooMuch, 0)
	c.engine.answer(s, a)
}

// note keeps what says how the call ended.
func (s *stream) note(b *block) {
	if b.code >= 0 {
		s.call.Code = b.code
	}
	s.pushback = s.pushback || b.pushback
}
