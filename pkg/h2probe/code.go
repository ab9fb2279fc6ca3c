package h2probe

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http2"
)

// Code is a canonical gRPC status code. It is written as its name ("OK", "UNIMPLEMENTED") in JSON and by String.
type Code uint32

// The canonical codes (gRPC "Status codes and their use").
const (
	OK Code = iota
	Cancelled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
	codeCount
)

func codeNames() [codeCount]string {
	return [...]string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
		"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	}
}

// String gives the canonical name; "CODE_n" for a number outside the list.
func (c Code) String() string {
	if c >= codeCount {
		return fmt.Sprintf("CODE_%d", uint32(c))
	}
	return codeNames()[c]
}

// MarshalText gives the canonical name.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes a canonical name; any other text is an error.
func (c *Code) UnmarshalText(text []byte) error {
	for i, name := range codeNames() {
		if name == string(text) {
			*c = Code(i)
			return nil
		}
	}
	return fmt.Errorf("unknown gRPC code %.40q", text)
}

// codeOfReset maps the error code of a RST_STREAM as "gRPC over HTTP2", section "Errors", has it. What is not listed
// there is UNKNOWN.
func codeOfReset(e http2.ErrCode) Code {
	switch e {
	case http2.ErrCodeNo, http2.ErrCodeProtocol, http2.ErrCodeInternal, http2.ErrCodeFlowControl, http2.ErrCodeSettingsTimeout,
		http2.ErrCodeFrameSize, http2.ErrCodeCompression, http2.ErrCodeConnect:
		return Internal
	case http2.ErrCodeRefusedStream:
		return Unavailable
	case http2.ErrCodeCancel:
		return Cancelled
	case http2.ErrCodeEnhanceYourCalm:
		return ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return PermissionDenied
	default:
		return Unknown
	}
}

// codeOfHTTP maps the HTTP status of an answer that has no grpc-status ("HTTP to gRPC Status Code Mapping").
func codeOfHTTP(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return Internal
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	default:
		return Unknown
	}
}
