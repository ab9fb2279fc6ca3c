package relay

import (
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// stream is one call: a stream of a client's connection, and the stream of a
// backend's that it was given to. Either side may be over before the other.
type stream struct {
	// front is nil when the client has all it will get, back while the call waits
	// and when the backend is done with it.
	front, back *Conn
	fid, bid    uint32
	// req goes to the backend, res to the client.
	req, res half

	arrived policy.Nanos
	timeout time.Duration // grpc-timeout; 0: none
	grpc    bool
	noBody  bool // the answer has no content whatever its content-length says

	call      Call // of the present backend
	final     bool // the final response headers came
	pushback  bool // grpc-retry-pushback-ms came
	headPos   int64
	retries   int
	avoid     *Conn
	fields    []hpack.HeaderField // the request, until it needs no retry
	metadata  int                 // size of all header lists that are kept here
	retained  []byte
	retaining bool // retained is all that the client sent so far

	waiting      bool
	waitUntil    policy.Nanos // 0: for ever
	wprev, wnext *stream
}

// half is one direction of a call. What has come and cannot go on waits here.
type half struct {
	s   *stream
	res bool // toward the client

	win  int // what the receiver's stream window allows; may be negative (RFC 9113, 6.9.2)
	recv int // what the sender may still send
	// held is what the sender sent and got no credit for; credit is what the next
	// WINDOW_UPDATE returns.
	held, credit int

	head     []hpack.HeaderField // response headers that wait for room in Out
	headWait bool
	headSent bool  // headers went out, or wait
	queue    queue // DATA that waits
	trl      []hpack.HeaderField
	hasTrl   bool
	fin      bool  // the sender has ended
	done     bool  // END_STREAM has gone out
	sent     int64 // bytes of DATA that went out
	length   int64 // what is left of content-length; -1: none was given

	blocked    *blocked // the receiver's list that it is in; nil: none
	prev, next *half
}

func (h *half) pending() int { return h.queue.n }

// source is where data of h comes from.
func (h *half) source() (*Conn, uint32) {
	if h.res {
		return h.s.back, h.s.bid
	}
	return h.s.front, h.s.fid
}

// target is where data of h goes to.
func (h *half) target() (*Conn, uint32) {
	if h.res {
		return h.s.front, h.s.fid
	}
	return h.s.back, h.s.bid
}

// outgoing is the half that c receives.
func (s *stream) outgoing(c *Conn) *half {
	if c.client {
		return &s.res
	}
	return &s.req
}

// incoming is the half that c sends.
func (s *stream) incoming(c *Conn) *half {
	if c.client {
		return &s.req
	}
	return &s.res
}

// newStream takes one from the store.
func (e *Engine) newStream() *stream {
	var s *stream
	if n := len(e.free); n > 0 {
		s, e.free[n-1] = e.free[n-1], nil
		e.free = e.free[:n-1]
	} else {
		s = new(stream)
	}
	s.req.s, s.res.s, s.res.res = s, s, true
	s.req.recv, s.res.recv = e.cfg.StreamWindow, e.cfg.StreamWindow
	s.req.length, s.res.length = -1, -1
	e.streams++
	return s
}

// Bounds of what the store keeps: enough for the calls that come and go under
// load, little enough for an idle sidecar.
const (
	maxFree         = 1024
	maxFreeFields   = 64
	maxFreeRetained = 2048
)

// recycle puts a stream whose both sides are over back into the store.
func (e *Engine) recycle(s *stream) {
	if s.front != nil || s.back != nil || s.waiting {
		return
	}
	e.forget(s)
	e.dropMetadata(s)
	e.discard(&s.req)
	e.discard(&s.res)
	e.streams--
	fields, head, trl, retained := s.fields, s.res.head, s.res.trl, s.retained
	reqPieces, resPieces := s.req.queue.pieces, s.res.queue.pieces
	*s = stream{}
	if len(e.free) >= maxFree {
		return
	}
	s.fields, s.retained = keepFields(fields), retained
	if cap(retained) > maxFreeRetained {
		s.retained = nil
	}
	s.req.queue.pieces, s.res.queue.pieces = reqPieces, resPieces
	s.res.head, s.res.trl = keepFields(head), keepFields(trl)
	e.free = append(e.free, s)
}

// keepMetadata counts the header list that was decoded last, and reports whether
// there is room to keep it.
func (e *Engine) keepMetadata(s *stream) bool {
	n := e.listSize
	if e.metadata+n > e.cfg.MaxBuffered {
		return false
	}
	s.metadata += n
	e.metadata += n
	return true
}

func (e *Engine) dropMetadata(s *stream) {
	e.metadata -= s.metadata
	s.metadata = 0
}

// keepFields empties f for another use. Its strings must not outlive their call.
func keepFields(f []hpack.HeaderField) []hpack.HeaderField {
	if cap(f) > maxFreeFields {
		return nil
	}
	clear(f)
	return f[:0]
}

// discard drops what waits in h.
func (e *Engine) discard(h *half) {
	e.unqueue(h)
	e.empty(h)
	h.headWait = false
	h.head = keepFields(h.head)
	h.trl, h.hasTrl = keepFields(h.trl), false
	h.held = 0
}
