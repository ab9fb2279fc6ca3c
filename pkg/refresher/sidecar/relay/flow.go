package relay

// refund returns n bytes of connection credit, in portions of half a window.
func (c *Conn) refund(n int) {
	c.credit += n
	if c.credit >= c.engine.cfg.ConnWindow/2 && c.state != Closed {
		c.writeWindowUpdate(0, c.credit)
		c.recvWin += c.credit
		c.credit = 0
	}
}

// returned gives n bytes of stream credit back, in portions of half a window. A
// sender that has ended needs none.
func (e *Engine) returned(h *half, n int) {
	h.credit += n
	if h.credit < e.cfg.StreamWindow/2 || h.fin {
		return
	}
	if src, id := h.source(); src != nil {
		src.writeWindowUpdate(id, h.credit)
		h.recv += h.credit
		h.credit = 0
	}
}

// full reports whether messages have to wait for the transport.
func (c *Conn) full() bool { return c.Unwritten() >= c.engine.cfg.MaxOut }

// direct reports whether n bytes of DATA can go on at once.
func (h *half) direct(n int) bool {
	dst, _ := h.target()
	return dst != nil && !h.headWait && h.pending() == 0 && (n == 0 || n <= h.win && n <= dst.sendWin && !dst.full())
}

// crowded reports whether n more bytes of h are too much to wait: beyond
// MaxBuffered each stream may hold its share of that, so that all together hold
// no more than twice as much.
func (e *Engine) crowded(h *half, n int) bool {
	return e.buffered+n > e.cfg.MaxBuffered && !h.direct(n) && h.pending()+n > e.cfg.MaxBuffered/e.streams
}

// forward passes DATA on. It is copied once when the windows are open, else it
// waits.
func (e *Engine) forward(h *half, p []byte, end bool) {
	dst, id := h.target()
	n := len(p)
	src, _ := h.source()
	src.refund(n)
	h.fin = h.fin || end
	if h.direct(n) {
		if n > 0 || end {
			dst.writeData(id, p, end)
		}
		h.win -= n
		dst.sendWin -= n
		h.sent += int64(n)
		h.done = end
		e.returned(h, n)
		if end {
			e.halfDone(h)
		}
		return
	}
	h.held += n
	e.await(h, p)
	e.push(h, maxWindow)
}

// push sends what waits in h as far as the windows and the transport allow, but
// no more than quantum bytes of DATA: then it is the turn of others.
func (e *Engine) push(h *half, quantum int) {
	dst, id := h.target()
	if dst == nil || dst.state == Closed || h.done {
		return
	}
	if h.headWait {
		if dst.full() {
			e.queue(dst, h)
			return
		}
		h.headWait = false
		dst.writeHeaders(id, h.head, false)
		h.head = keepFields(h.head)
	}
	sent := 0
	for h.pending() > 0 {
		p := h.queue.first()
		n := min(len(p), h.win, dst.sendWin, quantum-sent)
		if n <= 0 || dst.full() {
			break
		}
		last := h.fin && !h.hasTrl && n == h.pending()
		dst.writeData(id, p[:n], last)
		h.done = last
		e.taken(h, n)
		h.win -= n
		dst.sendWin -= n
		sent += n
	}
	e.went(h, sent)
	if h.pending() > 0 {
		// Who waits for its own window alone is woken by that.
		if h.win > 0 {
			e.queue(dst, h)
		}
		return
	}
	if h.fin && !h.done {
		if !h.hasTrl {
			dst.writeData(id, nil, true)
		} else if dst.full() {
			e.queue(dst, h)
			return
		} else {
			dst.writeHeaders(id, h.trl, true)
		}
		h.done = true
	}
	if h.done {
		e.halfDone(h)
	}
}

// went settles the credit of n bytes that no longer wait.
func (e *Engine) went(h *half, n int) {
	if n == 0 {
		return
	}
	h.sent += int64(n)
	back := min(n, h.held)
	h.held -= back
	e.returned(h, back)
}

// blocked is a list of halves that wait for something of their receiver's.
type blocked struct{ first, last *half }

// queue puts h at the end of those who wait for c's transport or connection
// window. Headers and trailers, which need no window, must not stand behind data
// that does.
func (e *Engine) queue(c *Conn, h *half) {
	if h.blocked != nil {
		return
	}
	l := &c.waitHead
	if !h.headWait && h.pending() > 0 {
		l = &c.waitData
	}
	h.blocked = l
	h.prev, h.next = l.last, nil
	if l.last != nil {
		l.last.next = h
	} else {
		l.first = h
	}
	l.last = h
}

func (e *Engine) unqueue(h *half) {
	l := h.blocked
	if l == nil {
		return
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		l.last = h.prev
	}
	h.blocked, h.prev, h.next = nil, nil, nil
}

// turn is how much one stream may send before the next one's turn.
const turn = 2 * maxFrame

// resume lets those who wait for c go on, in turns.
func (e *Engine) resume(c *Conn) {
	for c.state != Closed && !c.full() {
		h := c.waitHead.first
		if h == nil && c.sendWin > 0 {
			h = c.waitData.first
		}
		if h == nil {
			return
		}
		e.unqueue(h)
		e.push(h, turn)
	}
}

// onWindowUpdate opens a window (RFC 9113, 6.9).
func (c *Conn) onWindowUpdate(id uint32, p []byte) *Error {
	if len(p) != 4 {
		return &Error{FrameSizeError, "WINDOW_UPDATE of a wrong length"}
	}
	if c.freeWindows > 0 {
		c.freeWindows--
	} else if err := c.charge(budgetWindows); err != nil {
		return err
	}
	n := int(p[0]&0x7f)<<24 | int(p[1])<<16 | int(p[2])<<8 | int(p[3])
	if id == 0 {
		if n == 0 {
			return protocol("WINDOW_UPDATE of 0")
		}
		if c.sendWin += n; c.sendWin > maxWindow {
			return &Error{FlowControlError, "the connection's window is larger than 2^31-1"}
		}
		c.engine.resume(c)
		return nil
	}
	s := c.streams[id]
	if s == nil {
		return c.unknown(id, "WINDOW_UPDATE")
	}
	h := s.outgoing(c)
	switch {
	case n == 0:
		c.streamError(s, ProtocolError, "WINDOW_UPDATE of 0")
	case h.win+n > maxWindow:
		c.streamError(s, FlowControlError, "the stream's window is larger than 2^31-1")
	default:
		h.win += n
		c.engine.push(h, maxWindow)
	}
	return nil
}
