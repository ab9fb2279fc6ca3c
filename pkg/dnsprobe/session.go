package dnsprobe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// maxOutstanding bounds the ids of a Session in use at a time, so that a free random one is always found quickly.
const maxOutstanding = 1 << 14

// Session is one TCP connection to one server over which many questions may be on their way at a time (RFC 7766 section 6.2.1.1).
// Its methods may be called from many goroutines. Answers are matched by their id and may come in any order.
//
// A question that runs out of time leaves the connection usable, and its late answer is dropped, unless time ran out while
// the question was being written: the stream is then broken for all. The connection also ends for all with an answer to an
// id that was never asked, since no forger can write into a stream: the server, or the framing, is wrong.
type Session struct {
	server  string
	client  Client
	conn    net.Conn
	writing chan struct{} // holds one token; a channel, so that waiting for it can be given up
	done    chan struct{} // closed when the reader has returned

	mu      sync.Mutex
	waiting map[uint16]*exchange
	late    map[uint16]struct{} // ids given up, whose answers may still come
	err     error               // why the session ended; nil while it lives
}

// exchange is one question on its way. Its outcome is sent at most once, into a buffer of one.
type exchange struct {
	asked asked
	start time.Time
	out   chan outcome
}

type outcome struct {
	answer *Answer
	err    error
}

// Open dials server over TCP, within the client's Timeout, and returns a Session on the connection. The caller closes it; the end
// of ctx does not. The error is an *Error without a Question.
func (c *Client) Open(ctx context.Context, server string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	conn, err := c.dial(ctx, TCP, server)
	if err != nil {
		return nil, &Error{Server: server, Transport: TCP, Err: err}
	}
	return newSession(conn, server, c), nil
}

// NewSession makes a Session on a connection that is already open; closing the Session closes it. server is only a name for
// answers and errors.
func (c *Client) NewSession(conn net.Conn, server string) *Session {
	return newSession(conn, server, c)
}

func newSession(conn net.Conn, server string, c *Client) *Session {
	s := &Session{
		server:  server,
		client:  *c,
		conn:    conn,
		writing: make(chan struct{}, 1),
		done:    make(chan struct{}),
		waiting: make(map[uint16]*exchange),
		late:    make(map[uint16]struct{}),
	}
	go s.read()
	return s
}

// Ask puts one question and waits for its answer, for at most the client's Timeout. Errors are those of [Client.Ask]; EDNS(0) is
// given up in the same way when the server refuses it.
func (s *Session) Ask(ctx context.Context, q Question) (*Answer, error) {
	wrap := func(err error) error { return &Error{Server: s.server, Transport: TCP, Question: q, Err: err} }
	canonical, err := canonicalQuestion(q)
	if err != nil {
		return nil, wrap(err)
	}
	a, err := s.client.despiteEDNS(canonical, func(ask asked) (*Answer, error) { return s.timed(ctx, ask) })
	if err != nil {
		return a, wrap(err)
	}
	return a, nil
}

// Close ends the session and its connection and waits for the reader. Questions on their way get ErrClosed. It may be called
// more than once, and returns nil: what the connection thought of being closed helps nobody.
func (s *Session) Close() error {
	s.fail(fmt.Errorf("%w: session closed", ErrClosed))
	<-s.done
	return nil
}

func (s *Session) timed(ctx context.Context, ask asked) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.timeout())
	defer cancel()
	return s.exchange(ctx, ask)
}

// exchange asks once; ctx is its timer.
func (s *Session) exchange(ctx context.Context, ask asked) (*Answer, error) {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to write: %w", exchangeError(ctx, ctx.Err()))
	}
	x, err := s.register(ask)
	if err != nil {
		<-s.writing
		return nil, err
	}
	err = s.write(ctx, x)
	<-s.writing
	if err != nil {
		s.forget(x)
		return nil, err
	}
	select {
	case o := <-x.out:
		return o.answer, o.err
	case <-ctx.Done():
		s.forget(x)
		select { // the answer may have come at the last moment
		case o := <-x.out:
			return o.answer, o.err
		default:
		}
		return nil, fmt.Errorf("read: %w", exchangeError(ctx, ctx.Err()))
	}
}

// register gives the question a random id that is in nobody's use.
func (s *Session) register(ask asked) (*exchange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.afterEndLocked()
	}
	if len(s.waiting)+len(s.late) >= maxOutstanding {
		return nil, fmt.Errorf("more than %d questions without an answer on one connection", maxOutstanding)
	}
	for {
		ask.id = randomID()
		_, waiting := s.waiting[ask.id]
		_, late := s.late[ask.id]
		if !waiting && !late {
			break
		}
	}
	x := &exchange{asked: ask, start: time.Now(), out: make(chan outcome, 1)}
	s.waiting[ask.id] = x
	return x, nil
}

// afterEndLocked is the error for a question that comes too late to be sent. Bad answers are the fault of questions before it.
func (s *Session) afterEndLocked() error {
	switch KindOf(s.err) {
	case KindSpoofed, KindMalformed, KindTimeout, KindCanceled:
		// In words only: an error of another kind must not be matched.
		return fmt.Errorf("%w: session ended before: %s", ErrClosed, s.err.Error())
	}
	return s.err
}

// forget gives a question up but keeps its id from being used anew while its answer may still come.
func (s *Session) forget(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[x.asked.id] == x {
		delete(s.waiting, x.asked.id)
		s.late[x.asked.id] = struct{}{}
	}
}

// write sends prefix and message in one piece (RFC 7766 section 8). A question half written cannot be taken back: it ends
// the session.
func (s *Session) write(ctx context.Context, x *exchange) error {
	message, err := encode(x.asked)
	if err != nil {
		return err
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	framed = append(framed, message...)

	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.fail(fmt.Errorf("%w: an earlier question could not be written in time", ErrClosed))
	})
	_, err = s.conn.Write(framed)
	if !stop() {
		<-ended
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write: %w", exchangeError(ctx, err))
	s.fail(err)
	return err
}

// fail ends the session, once, for the reason given, and tells everybody who waits.
func (s *Session) fail(reason error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = reason
	orphans := s.waiting
	s.waiting = nil
	s.mu.Unlock()

	s.conn.Close()
	for _, x := range orphans {
		x.out <- outcome{err: reason}
	}
}

// read takes answers off the stream until it ends.
func (s *Session) read() {
	defer close(s.done)
	for {
		message, err := readFrame(s.conn)
		if err != nil {
			s.fail(fmt.Errorf("read: %w", ioError(err)))
			return
		}
		if err := s.deliver(message, time.Now()); err != nil {
			s.fail(err)
			return
		}
	}
}

// readFrame reads one message with its length prefix (RFC 1035 section 4.2.2). io.EOF comes only from between messages.
func readFrame(r io.Reader) ([]byte, error) {
	var prefix [2]byte
	if n, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, endOfFrame(err, n, len(prefix), "length prefix")
	}
	message := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if n, err := io.ReadFull(r, message); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, endOfFrame(err, n, len(message), "message")
	}
	return message, nil
}

// endOfFrame says where in a frame the stream ended. A reset within one is as much a short read as an end.
func endOfFrame(err error, got, want int, what string) error {
	within := got > 0 || what == "message"
	if within && KindOf(ioError(err)) == KindClosed || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %d of %d octets of the %s: %w", ErrShortRead, got, want, what, err)
	}
	return err
}

// deliver hands a message to the question it answers. Its error is one that leaves the stream unusable.
func (s *Session) deliver(message []byte, at time.Time) error {
	if len(message) < headerSize {
		return fmt.Errorf("%w: %d octets where the header alone has %d", ErrMalformed, len(message), headerSize)
	}
	id := binary.BigEndian.Uint16(message)
	s.mu.Lock()
	x := s.waiting[id]
	delete(s.waiting, id)
	_, late := s.late[id]
	delete(s.late, id)
	s.mu.Unlock()
	if x == nil {
		if late {
			return nil
		}
		return fmt.Errorf("%w: id %d was never asked on this connection", ErrSpoofed, id)
	}
	a, err := s.judge(message, x.asked)
	if a != nil {
		a.Server, a.Transport, a.RTT = s.server, TCP, at.Sub(x.start)
	}
	x.out <- outcome{answer: a, err: err}
	return nil
}

func (s *Session) judge(message []byte, ask asked) (*Answer, error) {
	v, err := verify(message, ask)
	if err != nil {
		return nil, err
	}
	a, err := decode(v, ask)
	if err != nil {
		return nil, err
	}
	if a.Flags.Truncated {
		return a, ErrTruncatedTCP
	}
	return a, nil
}
