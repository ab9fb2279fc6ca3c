package h2probe

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// stream is one running call. Its methods do no I/O; the Caller's lock guards it.
type stream struct {
	id       uint32
	limit    int   // of the answer's message
	window   int64 // how much DATA the server takes on this stream; below zero after a SETTINGS change
	owed     uint32
	headers  bool // the answer's headers have come
	body     []byte
	reply    Reply
	finished bool
	err      error
	done     chan struct{}
}

// fields are the header fields that matter; of doubles the first counts.
type fields struct {
	status, contentType, grpcStatus, grpcMessage, server string
	seen                                                 map[string]bool
	size                                                 uint64 // of the decoded list
}

func (f *fields) add(h hpack.HeaderField) {
	f.size += uint64(h.Size())
	var to *string
	switch h.Name {
	case ":status":
		to = &f.status
	case "content-type":
		to = &f.contentType
	case "grpc-status":
		to = &f.grpcStatus
	case "grpc-message":
		to = &f.grpcMessage
	case "server":
		to = &f.server
	default:
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	if !f.seen[h.Name] {
		f.seen[h.Name] = true
		*to = h.Value
	}
}

// takeHeaders takes in one header block. ended tells that the answer is complete; err that it is not one we can use.
func (s *stream) takeHeaders(f *fields, end bool) (ended bool, err error) {
	if s.headers {
		if !end {
			return false, &ProtocolError{Reason: "a header block in the middle of an answer"}
		}
		return true, s.close(f)
	}
	status, err := strconv.Atoi(f.status)
	if err != nil || len(f.status) != 3 || status < 100 {
		return false, &ProtocolError{Reason: fmt.Sprintf("answer with :status %s", quote([]byte(f.status)))}
	}
	if status < 200 {
		if end {
			return false, &ProtocolError{Reason: fmt.Sprintf("answer ends with interim status %d", status)}
		}
		return false, nil // RFC 9110 section 15.2: more than one may come
	}
	s.headers = true
	s.reply.HTTPStatus, s.reply.ContentType, s.reply.Server = status, clean(f.contentType, 64), clean(f.server, 64)
	if !isGRPC(f.contentType) {
		return false, &NotGRPCError{HTTPStatus: status, ContentType: s.reply.ContentType}
	}
	if status != 200 && f.grpcStatus == "" {
		return false, &NotGRPCError{HTTPStatus: status, ContentType: s.reply.ContentType}
	}
	if !end {
		return false, nil
	}
	s.reply.TrailersOnly = true
	return true, s.close(f)
}

// close reads the status out of the trailers and, with OK, the message out of the body.
func (s *stream) close(f *fields) error {
	if f.grpcStatus == "" {
		return ErrNoStatus
	}
	n, err := strconv.ParseUint(f.grpcStatus, 10, 32)
	s.reply.Code = Code(n)
	if err != nil || s.reply.Code >= codeCount {
		s.reply.Code = Unknown // the rule for numbers that a client does not know
	}
	s.reply.Message = decodeStatusMessage(f.grpcMessage)
	if s.reply.Code != OK {
		return nil
	}
	s.reply.Body, err = unframeMessage(s.body)
	return err
}

// takeData takes in a piece of the answer's message.
func (s *stream) takeData(p []byte, end bool) error {
	if !s.headers {
		return &ProtocolError{Reason: "DATA before the answer's headers"}
	}
	if len(s.body)+len(p) > prefixLen+s.limit {
		return fmt.Errorf("%w: more than %d bytes", ErrMessageTooLarge, s.limit)
	}
	s.body = append(s.body, p...)
	if len(s.body) >= prefixLen {
		if n := binary.BigEndian.Uint32(s.body[1:]); uint64(n) > uint64(s.limit) {
			return fmt.Errorf("%w: %d bytes, the limit is %d", ErrMessageTooLarge, n, s.limit)
		}
	}
	if end {
		return ErrNoStatus
	}
	return nil
}

// isGRPC tells application/grpc, with a subtype ("+proto") or parameters, from application/grpc-web and all else.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' ')
}
