package h2probe

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

// Errors of Caller. Test with errors.Is.
var (
	// ErrSilent: the peer accepted the connection and said nothing until the handshake's time-out.
	ErrSilent = errors.New("no byte came back")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("caller is closed")
	// ErrHeadersTooLarge: a header block went beyond the size, the fields or the CONTINUATION frames that are taken in.
	ErrHeadersTooLarge = errors.New("header block is too large")
	// ErrFrameTooLarge: a frame is larger than the 16,384 bytes that every HTTP/2 endpoint starts with.
	ErrFrameTooLarge = errors.New("frame is too large")
	// ErrMessageTooLarge: the answer's message is larger than CallerOptions.MaxMessage.
	ErrMessageTooLarge = errors.New("message is too large")
	// ErrFlood: the peer sent thousands of frames that move no call forward.
	ErrFlood = errors.New("peer floods the connection")
	// ErrNotReading: the peer makes us answer (PING, SETTINGS) and does not read the answers.
	ErrNotReading = errors.New("peer does not read")
	// ErrNoStatus: the answer ended without a grpc-status.
	ErrNoStatus = errors.New("answer has no grpc-status")
	// ErrExhausted: the connection has used up its stream identifiers.
	ErrExhausted = errors.New("stream identifiers are used up")
	// ErrBadRequest: the Request is not one that can be sent.
	ErrBadRequest = errors.New("bad request")
)

// NotHTTP2Error says that the peer did not begin with a SETTINGS frame (RFC 9113 section 3.4).
type NotHTTP2Error struct {
	// First holds the first bytes that came instead, at most 64; empty when the connection ended without any.
	First []byte
	// Err is what ended the wait: io.EOF, a time-out, a TLS alert; nil when enough came to tell.
	Err error
}

// Error quotes what came instead.
func (e *NotHTTP2Error) Error() string {
	switch {
	case len(e.First) > 0 && e.Err != nil:
		return fmt.Sprintf("not HTTP/2: got %s, then %v", quote(e.First), e.Err)
	case len(e.First) > 0:
		return fmt.Sprintf("not HTTP/2: got %s", quote(e.First))
	default:
		return fmt.Sprintf("not HTTP/2: connection ended without a byte: %v", e.Err)
	}
}

// Unwrap gives Err.
func (e *NotHTTP2Error) Unwrap() error { return e.Err }

// GoAwayError says that the server sent GOAWAY (RFC 9113 section 6.8): the call was not, or will not be, processed there.
type GoAwayError struct {
	Code  http2.ErrCode
	Debug string // at most 256 bytes, quoted
}

// Error names the code and, if any, the debug data.
func (e *GoAwayError) Error() string {
	if e.Debug == "" {
		return fmt.Sprintf("server sent GOAWAY %s", e.Code)
	}
	return fmt.Sprintf("server sent GOAWAY %s %s", e.Code, e.Debug)
}

// ResetError says that the server ended one call with RST_STREAM (RFC 9113 section 6.4).
type ResetError struct{ Code http2.ErrCode }

// Error names the code.
func (e *ResetError) Error() string { return fmt.Sprintf("server reset the stream: %s", e.Code) }

// NotGRPCError says that an HTTP answer came which is not one of gRPC's.
type NotGRPCError struct {
	HTTPStatus  int
	ContentType string // at most 64 bytes
}

// Error names the status and the content type.
func (e *NotGRPCError) Error() string {
	if e.ContentType == "" {
		return fmt.Sprintf("answer is not gRPC: HTTP %d without content-type", e.HTTPStatus)
	}
	return fmt.Sprintf("answer is not gRPC: HTTP %d, content-type %q", e.HTTPStatus, e.ContentType)
}

// ProtocolError says that the peer broke a rule of HTTP/2 or of gRPC's framing.
type ProtocolError struct{ Reason string }

// Error gives the rule.
func (e *ProtocolError) Error() string { return "protocol error: " + e.Reason }

// brokenError marks an error that ended the whole connection, not one call.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// codeOf is the code that a gRPC client reports for a call that ended with err and without a status of the server. A broken
// connection is UNAVAILABLE; a broken answer is INTERNAL.
func codeOf(err error) Code {
	var notGRPC *NotGRPCError
	var reset *ResetError
	var protocol *ProtocolError
	switch {
	case err == nil:
		return OK
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return Cancelled
	case errors.As(err, new(*brokenError)):
		return Unavailable
	case errors.As(err, &notGRPC):
		return codeOfHTTP(notGRPC.HTTPStatus)
	case errors.As(err, &reset):
		return codeOfReset(reset.Code)
	case errors.Is(err, ErrMessageTooLarge):
		return ResourceExhausted
	case errors.Is(err, ErrNoStatus):
		return Unknown
	case errors.As(err, &protocol), errors.Is(err, ErrBadRequest):
		return Internal
	default:
		return Unavailable
	}
}

// quote makes bytes of the peer safe to print: ASCII, escaped, at most 8 of them. Protocols that begin in clear text are told apart by so
// many ("SSH-2.0-", "-ERR", "220 "); what follows may be anything, also what nobody should read in a report.
func quote(b []byte) string {
	const most = 8
	if len(b) > most {
		return strconv.QuoteToASCII(string(b[:most])) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}

// clean makes a text of the peer safe to print and at most n bytes long before escaping: printable ASCII stays as it is, all
// else is escaped as in Go.
func clean(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	var b strings.Builder
	for _, r := range s {
		if r >= ' ' && r <= '~' {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}
