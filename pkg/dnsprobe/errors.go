package dnsprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// What can go wrong with an exchange. Every error of [Client.Ask] and [Session.Ask] matches at most one of these with
// errors.Is; [KindOf] names it.
var (
	// ErrTimeout means that nothing which could be an answer came before the time was up.
	ErrTimeout = errors.New("no answer in time")
	// ErrMalformed means that a message answered the question as far as could be read but breaks the wire format (RFC 1035
	// section 4), or was too short to have a header.
	ErrMalformed = errors.New("malformed answer")
	// ErrSpoofed means that a message came which does not answer what was asked: wrong id, wrong question, or not a response
	// (RFC 5452 section 9.1). Over UDP it is reported only when no right answer followed in time.
	ErrSpoofed = errors.New("answer does not belong to the question")
	// ErrConnRefused means that nobody listens there: a TCP reset to the first packet, or an ICMP port-unreachable for UDP. A
	// server that answers REFUSED is no error but an Answer with that Rcode.
	ErrConnRefused = errors.New("connection refused")
	// ErrTruncatedTCP means that the TC flag was set in an answer over TCP, where nothing is left to fall back to (RFC 7766
	// section 5). The Answer is returned with the error.
	ErrTruncatedTCP = errors.New("answer truncated over tcp")
	// ErrShortRead means that the connection ended within a message: after part of the length prefix, or before as many octets
	// as it announced (RFC 1035 section 4.2.2).
	ErrShortRead = errors.New("connection ended within a message")
	// ErrClosed means that the connection ended between messages with this question unanswered, as an idle or overloaded server
	// may do at any time (RFC 7766 section 6.2.4), or that the Session was closed by its owner.
	ErrClosed = errors.New("connection closed without an answer")
	// ErrBadQuestion means that nothing was sent: the name or type asked for cannot be put into a DNS message.
	ErrBadQuestion = errors.New("bad question")
)

// Kind is the stable short name of a failure, for saved snapshots and for switches.
type Kind string

// The kinds of failure, one for each error of this package and two for what is not about DNS.
const (
	KindTimeout      Kind = "timeout"
	KindMalformed    Kind = "malformed"
	KindSpoofed      Kind = "spoofed"
	KindConnRefused  Kind = "connection-refused"
	KindTruncatedTCP Kind = "truncated-tcp"
	KindShortRead    Kind = "short-read"
	KindClosed       Kind = "closed"
	KindBadQuestion  Kind = "bad-question"
	KindCanceled     Kind = "canceled"
	KindOther        Kind = "other"
)

// KindOf names the failure that err stands for; the empty Kind stands for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	for _, k := range []struct {
		err  error
		kind Kind
	}{
		{ErrSpoofed, KindSpoofed},
		{ErrTimeout, KindTimeout},
		{ErrMalformed, KindMalformed},
		{ErrConnRefused, KindConnRefused},
		{ErrTruncatedTCP, KindTruncatedTCP},
		{ErrShortRead, KindShortRead},
		{ErrClosed, KindClosed},
		{ErrBadQuestion, KindBadQuestion},
		{context.Canceled, KindCanceled},
	} {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return KindOther
}

// Error is the error of one exchange: what was asked of whom, and why it has no good answer.
type Error struct {
	// Server is the address asked, as it was given.
	Server string
	// Transport is the one that the failing exchange used; it is TCP when the retry after a truncated UDP answer failed.
	Transport Transport
	// Question is what was asked; it is zero when the connection of a Session could not be opened.
	Question Question
	// Err is the reason; it wraps at most one of the package's errors.
	Err error
}

// Error gives the operation, its object and the reason on one line.
func (e *Error) Error() string {
	if e.Question == (Question{}) {
		return fmt.Sprintf("connect to %s over %s: %v", e.Server, e.Transport, e.Err)
	}
	return fmt.Sprintf("ask %s over %s for %s %s: %v", e.Server, e.Transport, e.Question.Name, e.Question.Type, e.Err)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Failure is an error in a form that can be saved.
type Failure struct {
	// Kind is what a program should look at.
	Kind Kind `json:"kind"`
	// Message is what a person should read.
	Message string `json:"message"`
}

// NewFailure makes err fit to be saved; nil stays nil.
func NewFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Kind: KindOf(err), Message: err.Error()}
}

// windowsConnRefused is what Windows calls ECONNREFUSED (WSAECONNREFUSED); package syscall maps it to no portable name, and the
// number means nothing on other systems.
const windowsConnRefused = syscall.Errno(10061)

// exchangeError classes what dialling, reading or writing returned while ctx governed it. The end of ctx comes first: it
// is what closed the connection, so the I/O error says nothing of its own.
func exchangeError(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		if errors.Is(ctxErr, context.Canceled) {
			if cause := context.Cause(ctx); !errors.Is(cause, ctxErr) {
				return fmt.Errorf("%w: %w", ctxErr, cause)
			}
			return ctxErr
		}
		return fmt.Errorf("%w: %w", ErrTimeout, ctxErr)
	}
	return ioError(err)
}

// refused is an I/O error whose own text says that the connection was refused.
type refused struct{ error }

func (r refused) Unwrap() []error { return []error{ErrConnRefused, r.error} }

// ioError classes an I/O error that no timer of ours caused. Our own port is left out of it: it says nothing, and would make
// the same failure read differently each time.
func ioError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Source != nil {
		whole := *op
		whole.Source = nil
		err = &whole
	}
	var timeout interface{ Timeout() bool }
	switch {
	case KindOf(err) != KindOther:
		return err
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, windowsConnRefused):
		return refused{err}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrShortRead, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}
