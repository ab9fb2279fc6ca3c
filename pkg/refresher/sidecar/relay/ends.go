package relay

import (
	"cmp"
	"slices"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// The gRPC status codes that the relay uses itself.
const (
	codeDeadlineExceeded  = 4
	codeResourceExhausted = 8
	codeInternal          = 13
	codeUnavailable       = 14
)

// answerStatus is a Status with what it is for calls that are not gRPC.
type answerStatus struct {
	Status
	http int
}

func answerOf(s Status) answerStatus {
	http := 500
	switch s.Code {
	case codeUnavailable:
		http = 503
	case codeDeadlineExceeded:
		http = 504
	case codeResourceExhausted:
		http = 429
	}
	return answerStatus{s, http}
}

// tooLarge is what a call is told whose metadata is beyond MaxHeaderList: RFC 6585
// has a status of its own for that.
func tooLarge(what string) answerStatus {
	return answerStatus{Status{codeResourceExhausted, "too large for the sidecar: " + what}, 431}
}

// tooFull is what a call is told whose metadata would have to be kept beside too
// much of others'.
func tooFull() answerStatus {
	return answerOf(Status{codeResourceExhausted, "too many calls with large metadata are open in the sidecar"})
}

// halfDone is called when END_STREAM of h went out. A request that has gone out
// ends nothing; a response ends the client's side.
func (e *Engine) halfDone(h *half) {
	if !h.res || h.s.front == nil {
		return
	}
	s := h.s
	if !s.req.fin {
		// RFC 9113, 8.1: the rest of the request is not wanted.
		s.front.writeReset(s.fid, NoError)
	}
	e.closeFront(s, !s.req.fin)
}

// closeFront takes the stream from the client's connection; ours says that it was
// our RST_STREAM that ended it.
func (e *Engine) closeFront(s *stream, ours bool) {
	c := s.front
	e.unqueue(&s.res)
	delete(c.streams, s.fid)
	c.remember(s.fid, ours)
	s.front = nil
	c.freeOthers = min(c.freeOthers+2, 1<<20)
	e.recycle(s)
	c.finishDrain()
}

// resetFront ends the client's stream by RST_STREAM.
func (e *Engine) resetFront(s *stream, code ErrCode) {
	s.front.writeReset(s.fid, code)
	e.closeFront(s, true)
}

// leave takes the call from its backend, which is told nothing any more but that
// the request's rest will not come.
func (e *Engine) leave(s *stream, how ending, code ErrCode) {
	b := s.back
	e.unqueue(&s.req)
	if how == answered && !s.req.done {
		b.writeReset(s.bid, Cancel)
	}
	delete(b.streams, s.bid)
	s.back = nil
	b.freeOthers = min(b.freeOthers+2, 1<<20)
	s.call.End = e.now
	s.call.RequestBytes = uint64(s.req.sent)
	s.call.Outcome = s.outcome(how, code)
	if !s.call.Retried {
		e.discard(&s.req)
	}
	e.host.Done(s.call)
	if s.front == nil {
		e.recycle(s)
	}
	b.roomChanged()
	b.finishDrain()
}

// cancel ends a call whose client wants no answer any more.
func (e *Engine) cancel(s *stream) {
	e.unwait(s)
	c, b := s.front, s.back
	if b != nil {
		b.writeReset(s.bid, Cancel)
		if c.state != Closed && b.state != Closed {
			// The stream counts until the pod can know (CVE-2023-44487).
			c.zombies++
			b.resets = append(b.resets, sentReset{b.position(), c})
		}
		e.leave(s, cancelled, 0)
	}
}

// streamError ends a stream whose peer c broke a rule.
func (c *Conn) streamError(s *stream, code ErrCode, reason string) {
	e := c.engine
	if c.client {
		c.writeReset(s.fid, code)
		c.chargeReset(s)
		e.cancel(s)
		e.closeFront(s, true)
		return
	}
	c.writeReset(s.bid, code)
	e.leave(s, broken, code)
	e.answer(s, answerOf(Status{codeInternal, "the pod's response broke a rule of HTTP/2: " + reason}))
}

// chargeReset charges a call that ends before its response began. That a client
// provokes the reset instead of sending it changes nothing (CVE-2025-8671).
func (c *Conn) chargeReset(s *stream) {
	const quick = 1_000_000_000
	if s.call.FirstByte != 0 || c.engine.now.Sub(s.arrived) > quick {
		return
	}
	if err := c.charge(budgetResets); err != nil {
		c.condemn(err)
	}
}

// onReset takes RST_STREAM (RFC 9113, 6.4).
func (c *Conn) onReset(id uint32, p []byte) *Error {
	if len(p) != 4 {
		return &Error{FrameSizeError, "RST_STREAM of a wrong length"}
	}
	if id == 0 {
		return protocol("RST_STREAM on stream 0")
	}
	s := c.streams[id]
	if s == nil {
		return c.unknown(id, "RST_STREAM")
	}
	e := c.engine
	if c.client {
		c.chargeReset(s)
		e.cancel(s)
		e.closeFront(s, false)
		return nil
	}
	code := ErrCode(uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3]))
	if code == RefusedStream && !s.final {
		e.elsewhere(s, refused)
		return nil
	}
	e.leave(s, reset, code)
	e.resetFront(s, code)
	return nil
}

// elsewhere gives a call that its backend never looked at to another. When that
// cannot be, the client is told the truth: REFUSED_STREAM.
func (e *Engine) elsewhere(s *stream, how ending) {
	b, h := s.back, &s.req
	again := !s.final && s.retries < e.cfg.Retries && (h.sent == 0 || s.retaining)
	s.call.Retried = again
	e.leave(s, how, RefusedStream)
	if !again {
		e.resetFront(s, RefusedStream)
		return
	}
	e.retried++
	s.retries++
	s.avoid = b
	if h.sent > 0 {
		e.empty(h)
		e.await(h, s.retained)
	}
	e.dispatch(s)
}

// answer ends a call in the relay's own words.
func (e *Engine) answer(s *stream, a answerStatus) {
	e.unwait(s)
	if s.back != nil {
		s.back.writeReset(s.bid, Cancel)
		e.leave(s, cancelled, 0)
	}
	if s.call.Backend == nil {
		e.refused++
	}
	e.discard(&s.req)
	h := &s.res
	if h.headSent && !s.grpc {
		// Nothing but a reset tells the client that what it has is not all.
		e.resetFront(s, InternalError)
		return
	}
	h.trl = a.fields(h.trl[:0], s.grpc, h.headSent)
	h.hasTrl, h.fin, h.headSent = true, true, true
	e.push(h, maxWindow)
}

// fields are the answer as a trailers-only response, or as trailers.
func (a answerStatus) fields(f []hpack.HeaderField, grpc, trailers bool) []hpack.HeaderField {
	if !grpc {
		return append(f, hpack.HeaderField{Name: ":status", Value: strconv.Itoa(a.http)}, hpack.HeaderField{Name: "content-length", Value: "0"})
	}
	if !trailers {
		f = append(f, hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	}
	return append(f, hpack.HeaderField{Name: "grpc-status", Value: strconv.FormatUint(uint64(a.Code), 10)},
		hpack.HeaderField{Name: "grpc-message", Value: percent(a.Message), Sensitive: true})
}

// percent encodes a grpc-message.
func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c <= '~' && c != '%' {
			if b != nil {
				b = append(b, c)
			}
			continue
		}
		if b == nil {
			b = append(b, s[:i]...)
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	if b == nil {
		return s
	}
	return string(b)
}

// open are the calls of c, the oldest first.
func (c *Conn) open(from uint32) []*stream {
	var all []*stream
	for id, s := range c.streams {
		if id > from {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *stream) int {
		if c.client {
			return cmp.Compare(a.fid, b.fid)
		}
		return cmp.Compare(a.bid, b.bid)
	})
	return all
}
