package dnsprobe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// DialFunc opens a connection; net.Dialer's DialContext is one. network is "udp" or "tcp" and address is the server as given to
// the Client, so that the function may read it as it likes: a host and port, or the name of a pod to forward to.
//
// A "udp" connection must keep datagrams apart; a "tcp" one is a stream. Deadlines on it are never set. Close must unblock Read and
// Write. An error that matches [ErrConnRefused] is taken for what it says, from dialling and from reading. When ctx ends
// first the caller goes on at once, and a connection that still arrives is closed.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// DefaultTimeout is the time for one exchange when the Client names none: what a stub resolver waits by default (resolv.conf(5)).
const DefaultTimeout = 5 * time.Second

// MinUDPSize is the payload that every UDP answer may have (RFC 1035 section 4.2.1), and the least that EDNS(0) may advertise
// (RFC 6891 section 6.2.3).
const MinUDPSize = 512

// Client asks questions. Its zero value asks over UDP without EDNS(0) as a plain stub resolver does, and over TCP when the
// answer is truncated. A Client keeps no state: it may be copied, and used by many goroutines at a time.
type Client struct {
	// Dial opens connections; nil means a net.Dialer.
	Dial DialFunc
	// Timeout bounds each exchange over one transport, dialling included; 0 means DefaultTimeout. A question that falls back
	// to TCP or to no EDNS(0) thus may take several of them.
	Timeout time.Duration
	// Transport is the one to begin with; empty means UDP.
	Transport Transport
	// EDNSSize is the UDP payload size to advertise (RFC 6891 section 6.2.3), in octets; 0 sends no OPT record. Sizes below
	// MinUDPSize are sent as they are: servers must read them as MinUDPSize.
	EDNSSize uint16
	// KeepTruncated returns a truncated UDP answer as it is, instead of asking again over TCP.
	KeepTruncated bool
	// KeepEDNSRefusal returns a FORMERR or NOTIMP to an EDNS(0) question as it is, instead of asking again without (RFC 6891
	// section 7).
	KeepEDNSRefusal bool
}

// Result is what came of one question among several, in a form that can be saved.
type Result struct {
	// Server is the address asked.
	Server string `json:"server"`
	// Question is what was asked, fully qualified when it could be asked at all.
	Question Question `json:"question"`
	// Answer is nil when none came. It may stand beside a Failure; see [Client.Ask].
	Answer *Answer `json:"answer,omitempty"`
	// Failure is nil when all went well.
	Failure *Failure `json:"failure,omitempty"`
	// Err is the error that Failure describes; it is not saved.
	Err error `json:"-"`
}

func newResult(server string, q Question, a *Answer, err error) Result {
	return Result{Server: server, Question: q, Answer: a, Failure: NewFailure(err), Err: err}
}

// Ask puts one question to one server. server is what Dial understands: with the default dialer, host and port.
//
// The error is an *Error, of one of the kinds that [KindOf] tells. An Answer may come with an error, as evidence: the one
// truncated over TCP with ErrTruncatedTCP, the truncated UDP one with whatever then went wrong over TCP, the refusal of
// EDNS(0) with whatever then went wrong without. Cancelling ctx gives the cause of its cancellation.
func (c *Client) Ask(ctx context.Context, server string, q Question) (*Answer, error) {
	transport := c.Transport
	if transport == "" {
		transport = UDP
	}
	wrap := func(t Transport, err error) error {
		return &Error{Server: server, Transport: t, Question: q, Err: err}
	}
	canonical, err := canonicalQuestion(q)
	if err != nil {
		return nil, wrap(transport, err)
	}
	q = canonical
	if transport != UDP && transport != TCP {
		return nil, wrap(transport, fmt.Errorf("%w: no such transport", ErrBadQuestion))
	}

	a, err := c.despiteEDNS(q, func(s asked) (*Answer, error) { return c.exchange(ctx, transport, server, s) })
	if err != nil {
		return a, wrap(transport, err)
	}
	if a.Flags.Truncated && transport == UDP && !c.KeepTruncated {
		full, err := c.exchange(ctx, TCP, server, asked{question: q, edns: a.EDNS.Advertised})
		if full == nil {
			return a, wrap(TCP, err)
		}
		a = supersede(full, a)
		if err != nil {
			return a, wrap(TCP, err)
		}
	}
	return a, nil
}

// AskAll puts questions over one TCP connection, pipelined (RFC 7766 section 6.2.1.1), and returns one Result for each, in the
// order of the questions. At most inFlight are on their way at a time; 0 means 16. A server that ends the connection after
// answering some, as servers with a limit to questions or to idling do, is asked the rest over a new one. Timeout counts for each question.
func (c *Client) AskAll(ctx context.Context, server string, questions []Question, inFlight int) []Result {
	results := make([]Result, len(questions))
	left := make([]int, len(questions))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		again := c.askSome(ctx, server, questions, left, inFlight, results)
		if len(again) == len(left) {
			break
		}
		left = again
	}
	return results
}

// askSome asks the questions that which names over one connection and returns those that a closing server left unanswered.
func (c *Client) askSome(ctx context.Context, server string, questions []Question, which []int, inFlight int,
	results []Result) []int {
	session, err := c.Open(ctx, server)
	if err != nil {
		for _, i := range which {
			results[i] = newResult(server, questions[i], nil, err)
		}
		return nil
	}
	defer session.Close()

	if inFlight <= 0 {
		inFlight = 16
	}
	var asking sync.WaitGroup
	next := make(chan int)
	for range min(inFlight, len(which)) {
		asking.Go(func() {
			for i := range next {
				a, err := session.Ask(ctx, questions[i])
				q := questions[i]
				if canonical, bad := canonicalQuestion(q); bad == nil {
					q = canonical
				}
				results[i] = newResult(server, q, a, err)
			}
		})
	}
	for _, i := range which {
		next <- i // the workers always come back for more: every Ask ends with its timer
	}
	close(next)
	asking.Wait()

	var again []int
	for _, i := range which {
		if err := results[i].Err; errors.Is(err, ErrClosed) || errors.Is(err, ErrShortRead) {
			again = append(again, i)
		}
	}
	return again
}

// despiteEDNS asks with the Client's EDNS(0) size and, when the server refuses that, once more without (RFC 6891 section 7).
func (c *Client) despiteEDNS(q Question, exchange func(asked) (*Answer, error)) (*Answer, error) {
	a, err := exchange(asked{question: q, edns: c.EDNSSize})
	if err != nil || !refusesEDNS(a) || c.KeepEDNSRefusal {
		return a, err
	}
	plain, err := exchange(asked{question: q})
	if plain == nil {
		return a, err
	}
	return supersede(plain, a), err
}

// exchange asks once over one transport.
func (c *Client) exchange(ctx context.Context, t Transport, server string, s asked) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	if t == UDP {
		return c.exchangeUDP(ctx, server, s)
	}
	conn, err := c.dial(ctx, TCP, server)
	if err != nil {
		return nil, err
	}
	session := newSession(conn, server, c)
	defer session.Close()
	return session.exchange(ctx, s)
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

// dial opens a connection and goes on when ctx ends even if the DialFunc does not: one that has no way to be interrupted must not
// hold the prober. That goroutine is the only one here that may outlive its caller, by as long as the DialFunc takes.
func (c *Client) dial(ctx context.Context, t Transport, server string) (net.Conn, error) {
	open := c.Dial
	if open == nil {
		open = new(net.Dialer).DialContext
	}
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled)
	go func() {
		conn, err := open(ctx, string(t), server)
		select {
		case done <- dialled{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, fmt.Errorf("dial: %w", exchangeError(ctx, d.err))
		}
		return d.conn, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("dial: %w", exchangeError(ctx, ctx.Err()))
	}
}

// closeWith closes conn when ctx ends, which is what unblocks a Read that knows no deadlines. The returned function
// closes it now, and returns when nothing more happens to it.
func closeWith(ctx context.Context, conn net.Conn) (release func()) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		conn.Close()
	})
	return func() {
		if !stop() {
			<-closed
			return
		}
		conn.Close()
	}
}

// refusesEDNS tells whether a rejects the OPT record rather than the question: FORMERR, or NOTIMP from servers that older
// specifications shaped, without an OPT of its own (RFC 6891 section 7).
func refusesEDNS(a *Answer) bool {
	refused := a.Rcode == RcodeFormatError || a.Rcode == RcodeNotImplemented
	return refused && a.EDNS.Advertised > 0 && !a.EDNS.Echoed
}

// supersede returns now with before added to its history.
func supersede(now, before *Answer) *Answer {
	history := before.Earlier
	past := *before
	past.Earlier = nil
	now.Earlier = append(history, past)
	return now
}

// randomID draws a message id that cannot be guessed (RFC 5452 section 4.3).
func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails, by its contract
	return binary.BigEndian.Uint16(b[:])
}
