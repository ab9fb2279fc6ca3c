package h2probe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Request is one unary call.
type Request struct {
	// Method is the full method, "/package.Service/Method".
	Method string
	// Message is the encoded request message; nil is the empty message of protobuf. At most 4 MiB.
	Message []byte
}

// Reply is how a call ended.
type Reply struct {
	// Code is the server's grpc-status or, when there was none, the code a gRPC client reports in that case.
	Code Code
	// Message is the server's grpc-message, decoded, at most 1,024 bytes; it may hold any character.
	Message string
	// Body is the answer's message; only with Code OK.
	Body []byte
	// HTTPStatus, ContentType and Server are of the answer's headers; zero when none came.
	HTTPStatus  int
	ContentType string
	Server      string
	// TrailersOnly: status and headers came in one block, without a message.
	TrailersOnly bool
	// Elapsed is the time from the start of Call to its end, waiting for a place on the connection included.
	Elapsed time.Duration
}

// Call makes one call and waits for its end. Without a deadline in ctx, DefaultCallTimeout holds; the deadline is also sent to
// the server. The error is nil when, and only when, the answer is gRPC's and carries a status, be it OK or not; otherwise it says why
// there was none, and Reply.Code is what a gRPC client would have reported.
func (c *Caller) Call(ctx context.Context, req Request) (Reply, error) {
	start := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCallTimeout)
		defer cancel()
	}
	reply, err := c.call(ctx, req)
	reply.Elapsed = time.Since(start)
	if err != nil {
		reply.Code = codeOf(err)
		if d, ok := ctx.Deadline(); ok && reply.Code == Cancelled && !d.After(time.Now()) {
			reply.Code = DeadlineExceeded // a server whose clock of the call ran out first resets it with CANCEL
		}
		return reply, fmt.Errorf("call %s: %w", clean(req.Method, maxMethod), err)
	}
	return reply, nil
}

func (c *Caller) call(ctx context.Context, req Request) (Reply, error) {
	if err := checkRequest(req); err != nil {
		return Reply{}, err
	}
	s, err := c.open(ctx, req.Method)
	if err != nil {
		return Reply{}, err
	}
	if err := c.send(ctx, s, frameMessage(req.Message)); err == nil {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.finished { // ctx ended first: the server need not go on
		c.resetLocked(s, http2.ErrCodeCancel, ctx.Err())
		c.poke()
	}
	return s.reply, s.err
}

func checkRequest(req Request) error {
	m := req.Method
	if !strings.HasPrefix(m, "/") || strings.Count(m, "/") != 2 || strings.HasSuffix(m, "/") || len(m) > maxMethod {
		return fmt.Errorf("%w: method is not of the form /package.Service/Method", ErrBadRequest)
	}
	for _, r := range m {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%w: method has characters other than printable ASCII", ErrBadRequest)
		}
	}
	if len(req.Message) > maxRequest {
		return fmt.Errorf("%w: message beyond %d bytes", ErrBadRequest, maxRequest)
	}
	return nil
}

// open waits for a place on the connection and sends the request's headers.
func (c *Caller) open(ctx context.Context, method string) (*stream, error) {
	for {
		c.mu.Lock()
		if err := c.refusedLocked(); err != nil {
			c.mu.Unlock()
			return nil, err
		}
		if c.placeLocked() && c.out.Len() < maxAhead {
			s := c.openLocked(ctx, method)
			c.mu.Unlock()
			c.poke()
			return s, nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a place on the connection: %w", ctx.Err())
		}
	}
}

func (c *Caller) placeLocked() bool {
	limit := c.settings.MaxConcurrentStreams
	return limit == nil || uint64(len(c.streams)) < uint64(*limit)
}

func (c *Caller) openLocked(ctx context.Context, method string) *stream {
	s := &stream{id: c.nextID, limit: c.opts.MaxMessage, window: initialWindow, done: make(chan struct{})}
	if w := c.settings.InitialWindowSize; w != nil {
		s.window = int64(*w)
	}
	c.nextID += 2
	c.streams[s.id] = s
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: c.scheme},
		{Name: ":path", Value: method},
		{Name: ":authority", Value: c.opts.Authority},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "user-agent", Value: "grpclb-probe/1"},
	}
	if deadline, ok := ctx.Deadline(); ok {
		// A value that differs each time would only push others out of the table.
		fields = append(fields, hpack.HeaderField{Name: "grpc-timeout", Value: encodeTimeout(time.Until(deadline)), Sensitive: true})
	}
	c.block.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(f) // to a bytes.Buffer
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.block.Bytes(), EndHeaders: true})
	return s
}

// send writes the request's message as the server's flow control allows. It stops early, without an error, when the call has ended.
func (c *Caller) send(ctx context.Context, s *stream, msg []byte) error {
	for len(msg) > 0 {
		c.mu.Lock()
		if s.finished {
			c.mu.Unlock()
			return nil
		}
		n := min(int64(len(msg)), maxFrame, c.window, s.window, int64(maxAhead-c.out.Len()))
		if n > 0 {
			_ = c.framer.WriteData(s.id, int(n) == len(msg), msg[:n])
			c.window -= n
			s.window -= n
			msg = msg[n:]
			c.mu.Unlock()
			c.poke()
			continue
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// finishLocked ends a call and frees its place.
func (c *Caller) finishLocked(s *stream, err error) {
	if s.finished {
		return
	}
	s.finished, s.err = true, err
	delete(c.streams, s.id)
	close(s.done)
	c.broadcastLocked()
}

// resetLocked ends a call from our side and tells the server.
func (c *Caller) resetLocked(s *stream, code http2.ErrCode, err error) {
	if s.finished {
		return
	}
	c.finishLocked(s, err)
	if c.err == nil {
		_ = c.framer.WriteRSTStream(s.id, code)
	}
}
