package relay

import (
	"math"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"
)

// block is what the relay has to know of a header block.
type block struct {
	malformed string // why it is (RFC 9113, 8.1.1); empty: it is not
	overflow  bool   // larger than MaxHeaderList: fields are missing

	pseudo   pseudo // those that came
	regular  bool   // a field that is no pseudo-header came
	method   string
	status   int
	length   int64 // content-length; -1: none
	grpc     bool  // content-type is application/grpc…
	timeout  time.Duration
	code     int // grpc-status; -1: none
	pushback bool
}

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	hasMethod pseudo = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasStatus
)

// look reads one field as it comes, and marks it when it must never be indexed.
func (b *block) look(f *hpack.HeaderField) {
	if len(f.Name) > 0 && f.Name[0] == ':' {
		b.lookPseudo(f)
		return
	}
	b.regular = true
	switch f.Name {
	case "content-type":
		b.grpc = isGRPC(f.Value)
	case "content-length":
		b.lookLength(f.Value)
	case "te":
		if f.Value != "trailers" {
			b.spoil("te is not trailers")
		}
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		// RFC 9113, 8.2.2.
		b.spoil("a connection-specific field")
	case "grpc-status":
		if n, err := strconv.ParseUint(f.Value, 10, 31); err == nil {
			b.code = int(n)
		}
	case "grpc-retry-pushback-ms":
		b.pushback = true
	case "grpc-timeout":
		b.timeout = parseTimeout(f.Value)
		f.Sensitive = true
	case "user-agent", "grpc-encoding", "grpc-accept-encoding", "accept-encoding":
	default:
		if !validName(f.Name) {
			b.spoil("a field name with characters that none has")
			return
		}
		f.Sensitive = f.Sensitive || changesPerCall(f.Name)
	}
	if !validValue(f.Value) {
		b.spoil("a field value with characters that none has")
	}
}

// changesPerCall reports whether a field's value is hardly ever seen again, or is
// a secret: it must push nothing out of the HPACK table, and show nothing of
// itself by the length of what comes later (RFC 7541, 7.1.3). grpc-timeout is
// another.
func changesPerCall(name string) bool {
	switch name {
	case "grpc-message", "grpc-status-details-bin", "grpc-trace-bin", "grpc-tags-bin", "grpc-previous-rpc-attempts",
		"grpc-retry-pushback-ms", "endpoint-load-metrics-bin",
		"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-cloud-trace-context",
		"x-amzn-trace-id", "uber-trace-id", "x-request-id", "x-correlation-id", "request-id", "idempotency-key",
		"authorization", "proxy-authorization", "cookie", "set-cookie", "date", "content-length", "etag":
		return true
	}
	return false
}

func (b *block) spoil(why string) {
	if b.malformed == "" {
		b.malformed = why
	}
}

func (b *block) lookPseudo(f *hpack.HeaderField) {
	var p pseudo
	switch f.Name {
	case ":method":
		p, b.method = hasMethod, f.Value
	case ":scheme":
		p = hasScheme
	case ":authority":
		p = hasAuthority
	case ":path":
		p = hasPath
	case ":status":
		p, b.status = hasStatus, parseStatus(f.Value)
	default:
		b.spoil("an unknown pseudo-header field")
	}
	switch {
	case b.regular:
		b.spoil("a pseudo-header field behind others")
	case b.pseudo&p != 0:
		b.spoil("a pseudo-header field twice")
	case f.Value == "" && p != hasAuthority:
		b.spoil("an empty pseudo-header field")
	case !validValue(f.Value):
		b.spoil("a field value with characters that none has")
	}
	b.pseudo |= p
}

func (b *block) lookLength(v string) {
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil || v[0] == '+' || b.length >= 0 && b.length != int64(n) {
		b.spoil("content-length is not one number")
		return
	}
	b.length = int64(n)
}

// request judges a complete block as a request's (RFC 9113, 8.3.1).
func (b *block) request() string {
	switch {
	case b.malformed != "" || b.overflow:
	case b.pseudo&hasStatus != 0:
		b.spoil(":status in a request")
	case b.pseudo&hasMethod == 0:
		b.spoil("no :method")
	case b.method == "CONNECT": // RFC 9113, 8.5
		if b.pseudo != hasMethod|hasAuthority {
			b.spoil("CONNECT wants :authority and nothing else")
		}
	case b.pseudo&hasScheme == 0:
		b.spoil("no :scheme")
	case b.pseudo&hasPath == 0:
		b.spoil("no :path")
	}
	return b.malformed
}

// response judges a complete block as a response's (RFC 9113, 8.3.2).
func (b *block) response(end bool) string {
	switch {
	case b.malformed != "" || b.overflow:
	case b.pseudo != hasStatus || b.status == 0:
		b.spoil("no :status of three digits alone")
	case b.status == 101:
		// RFC 9113, 8.6: there is no switch of protocols in HTTP/2.
		b.spoil(":status 101")
	case b.status < 200 && end:
		b.spoil("an informational response that ends the stream")
	}
	return b.malformed
}

// trailers judges a complete block as trailers (RFC 9113, 8.1).
func (b *block) trailers(end bool) string {
	switch {
	case b.malformed != "":
	case !end:
		b.spoil("headers in the midst of a stream")
	case b.pseudo != 0:
		b.spoil("a pseudo-header field in trailers")
	}
	return b.malformed
}

func isGRPC(contentType string) bool {
	const want = "application/grpc"
	if len(contentType) < len(want) || contentType[:len(want)] != want {
		return false
	}
	return len(contentType) == len(want) || contentType[len(want)] == '+' || contentType[len(want)] == ';'
}

func parseStatus(v string) int {
	if len(v) != 3 {
		return 0
	}
	n := 0
	for i := range 3 {
		if v[i] < '0' || v[i] > '9' {
			return 0
		}
		n = 10*n + int(v[i]-'0')
	}
	if n < 100 {
		return 0
	}
	return n
}

// parseTimeout reads a grpc-timeout: at most eight digits and a unit. What is none
// counts as no time-out: the pod will judge it.
func parseTimeout(v string) time.Duration {
	if len(v) < 2 || len(v) > 9 {
		return 0
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0
	}
	var n int64
	for i := range len(v) - 1 {
		if v[i] < '0' || v[i] > '9' {
			return 0
		}
		n = 10*n + int64(v[i]-'0')
	}
	if n > int64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	// A deadline that has passed is not the same as none.
	return max(time.Duration(n)*unit, 1)
}

// nameChars are the characters of a field name (RFC 9113, 8.2.1, the stricter
// token of RFC 9110, 5.6.2, in lower case).
var nameChars = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()

func validName(s string) bool {
	for i := range len(s) {
		if !nameChars[s[i]] {
			return false
		}
	}
	return s != ""
}

// validValue refuses what would smuggle another field in when the value meets
// HTTP/1 (RFC 9113, 8.2.1). White space at the ends is let pass: applications do
// send it, and a pod would see it without the relay.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == 0 || c == '\n' || c == '\r' {
			return false
		}
	}
	return true
}
