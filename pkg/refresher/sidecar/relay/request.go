package relay

// clientHeaders takes the headers or trailers of a request.
func (c *Conn) clientHeaders(id uint32, b *block, end bool) *Error {
	if s := c.streams[id]; s != nil {
		c.requestTrailers(s, b, end)
		return nil
	}
	if id%2 == 0 {
		return protocol("a client's stream has an even id")
	}
	if id <= c.lastID {
		return c.lateHeaders(id)
	}
	c.lastID = id
	e := c.engine
	switch {
	case c.goAway == goAwayFinal:
		// It crossed the GOAWAY that told the last id: the client calls elsewhere.
		return c.refuse(id, RefusedStream)
	case len(c.streams)+c.zombies >= int(e.cfg.MaxStreams):
		return c.refuse(id, RefusedStream)
	case c.selfDependent || b.request() != "" || end && b.length > 0:
		return c.refuse(id, ProtocolError)
	}
	e.calls++
	s := e.newStream()
	s.front, s.fid = c, id
	c.streams[id] = s
	s.arrived, s.timeout, s.grpc, s.noBody = e.now, b.timeout, b.grpc, b.method == "HEAD"
	s.req.length, s.req.fin = b.length, end
	s.retaining = true
	s.res.win = c.initWin
	if b.overflow {
		e.answer(s, tooLarge("the request's metadata"))
		return nil
	}
	if !e.keepMetadata(s) {
		e.answer(s, tooFull())
		return nil
	}
	s.fields = append(s.fields[:0], e.fields...)
	e.dispatch(s)
	return nil
}

// refuse ends a stream that never began.
func (c *Conn) refuse(id uint32, code ErrCode) *Error {
	c.writeReset(id, code)
	c.remember(id, true)
	return c.superfluous()
}

// lateHeaders are headers on a stream that is over.
func (c *Conn) lateHeaders(id uint32) *Error {
	known, ours := c.recall(id)
	switch {
	case !known:
		return protocol("a stream id smaller than the last")
	case ours:
		// They crossed our RST_STREAM (RFC 9113, 5.1, closed).
		return c.superfluous()
	}
	return &Error{StreamClosed, "HEADERS on a stream that has ended"}
}

func (c *Conn) requestTrailers(s *stream, b *block, end bool) {
	h := &s.req
	switch {
	case h.fin:
		c.streamError(s, StreamClosed, "HEADERS behind the end of the request")
	case b.trailers(end) != "":
		c.streamError(s, ProtocolError, b.malformed)
	case h.length > 0:
		c.streamError(s, ProtocolError, "less content than content-length says")
	case s.back == nil && !s.waiting:
		h.fin = true // the answer is complete already
	case b.overflow:
		h.fin = true
		c.engine.answer(s, tooLarge("the request's trailers"))
	case !c.engine.keepMetadata(s):
		h.fin = true
		c.engine.answer(s, tooFull())
	default:
		h.fin, h.hasTrl = true, true
		h.trl = append(h.trl[:0], c.engine.fields...)
		c.engine.push(h, maxWindow)
	}
}

// onData takes DATA (RFC 9113, 6.1).
func (c *Conn) onData(flags byte, id uint32, p []byte) *Error {
	if id == 0 {
		return protocol("DATA on stream 0")
	}
	n := len(p)
	if n > c.recvWin {
		return &Error{FlowControlError, "DATA beyond the connection's window"}
	}
	c.recvWin -= n
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	end := flags&flagEndStream != 0
	s := c.streams[id]
	if s == nil {
		c.refund(n)
		return c.lateData(id, len(p))
	}
	h := s.incoming(c)
	if code, reason := c.badData(s, h, n, len(p), end); code != NoError {
		c.refund(n)
		c.streamError(s, code, reason)
		return nil
	}
	e := c.engine
	h.recv -= n
	if pad := n - len(p); pad > 0 {
		c.refund(pad)
		e.returned(h, pad)
	}
	if len(p) == 0 && !end {
		return c.charge(budgetEmpty)
	}
	if e.crowded(h, len(p)) && (s.back != nil || s.waiting) {
		c.refund(len(p))
		c.crowdedOut(s)
		return nil
	}
	if !c.client {
		s.call.ResponseBytes += uint64(len(p))
		e.forward(h, p, end)
		if end {
			e.leave(s, answered, 0)
		}
		return nil
	}
	if s.back == nil && !s.waiting {
		// The answer is complete and waits for the client to read it; the rest of the
		// request is of no use to anybody.
		h.fin = end
		c.refund(len(p))
		return nil
	}
	e.retain(s, p, end)
	e.forward(h, p, end)
	return nil
}

// crowdedOut ends a call that would hold too much.
func (c *Conn) crowdedOut(s *stream) {
	e := c.engine
	if s.back != nil {
		s.back.writeReset(s.bid, Cancel)
		e.leave(s, tooMuch, 0)
	}
	e.answer(s, answerOf(Status{codeResourceExhausted, "too many messages wait in the sidecar: those who get them do not read"}))
}

// badData judges DATA of n bytes, size of them content.
func (c *Conn) badData(s *stream, h *half, n, size int, end bool) (ErrCode, string) {
	switch {
	case h.fin:
		return StreamClosed, "DATA behind the end of the stream"
	case n > h.recv:
		return FlowControlError, "DATA beyond the stream's window"
	case !c.client && !s.final:
		return ProtocolError, "DATA before the headers"
	}
	if h.length >= 0 {
		h.length -= int64(size)
		if h.length < 0 || end && h.length > 0 {
			return ProtocolError, "more or less content than content-length says"
		}
	}
	return NoError, ""
}

// lateData is DATA for a stream that is over, size bytes of content.
func (c *Conn) lateData(id uint32, size int) *Error {
	if c.isIdle(id) {
		return protocol("DATA on an idle stream")
	}
	if size == 0 {
		if err := c.superfluous(); err != nil {
			return err
		}
	}
	if !c.client {
		// It crossed our RST_STREAM.
		return nil
	}
	if _, ours := c.recall(id); ours {
		return nil
	}
	return c.refuse(id, StreamClosed)
}

// retain keeps a copy of what goes to a backend, as long as the call may have to
// go to another. What fills the room and goes on would be too large with the next
// frame: it is not even begun.
func (e *Engine) retain(s *stream, p []byte, end bool) {
	if !s.retaining {
		return
	}
	n := len(s.retained) + len(p)
	if n > e.cfg.RetainRequest || n == e.cfg.RetainRequest && !end || e.retained+len(p) > e.cfg.RetainTotal {
		e.forget(s)
		return
	}
	s.retained = append(s.retained, p...)
	e.retained += len(p)
}

// forget drops the copy.
func (e *Engine) forget(s *stream) {
	e.retained -= len(s.retained)
	s.retaining = false
	s.retained = s.retained[:0]
	if cap(s.retained) > maxFreeRetained {
		s.retained = nil
	}
}

// assign gives a call to a backend that has room.
func (e *Engine) assign(s *stream, b *Conn) {
	s.back, s.bid = b, b.nextID
	b.nextID += 2
	b.streams[s.bid] = s
	s.avoid = nil
	s.call = Call{Client: s.front, Backend: b, Start: e.now, Code: -1}
	s.headPos = b.position()
	h := &s.req
	h.win, h.sent = b.initWin, 0
	h.done = h.fin && h.pending() == 0 && !h.hasTrl
	b.writeHeaders(s.bid, s.fields, h.done)
	if b.nextID > maxStreamID {
		// RFC 9113, 5.1.1: a connection whose ids are used up is done with.
		b.retire()
	} else {
		b.roomChanged()
	}
	if !h.done {
		e.push(h, maxWindow)
	}
}
