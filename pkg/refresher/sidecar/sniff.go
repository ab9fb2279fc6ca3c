package sidecar

import (
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// What a client speaks, by its first bytes.
const (
	kindHTTP2  = "http2"
	kindTLS    = "tls"
	kindHTTP1  = "http1"
	kindOther  = "other"
	kindSilent = "silent"
)

// sniffLen is how many bytes tell everything apart.
const sniffLen = 8

// methods of HTTP/1 (RFC 9110 section 9, RFC 5789) as a request begins with them.
var methods = []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "TRACE ", "PATCH "}

// priMethod begins HTTP/2's preface. No HTTP/1 server knows the method: RFC 9113
// section 3.4 has it so that they fail.
const priMethod = "PRI "

// classify says what begins with b; sure is false while further bytes can tell.
func classify(b []byte) (kind string, sure bool) {
	text := string(b)
	switch {
	case len(b) == 0:
		return kindSilent, false
	case strings.HasPrefix(text, priMethod):
		return kindHTTP2, true
	case b[0] == 0x16 && len(b) == 1: // a handshake record (RFC 8446 section 5.1)
		return kindOther, false
	case b[0] == 0x16 && b[1] == 3:
		return kindTLS, true
	case strings.HasPrefix(priMethod, text):
		return kindOther, false
	}
	for _, m := range methods {
		n := min(len(m), sniffLen)
		switch {
		case strings.HasPrefix(text, m[:n]):
			return kindHTTP1, true
		case strings.HasPrefix(m, text):
			return kindOther, false
		}
	}
	return kindOther, true
}

// sniff reads until it is clear what the client speaks, at most for the time given.
// An error means that the client is gone.
func sniff(nc net.Conn, buf []byte, within time.Duration) (kind string, first []byte, err error) {
	_ = nc.SetReadDeadline(time.Now().Add(within))
	have := 0
	for sure := false; !sure && have < len(buf); {
		n, err := nc.Read(buf[have:])
		have += n
		kind, sure = classify(buf[:have])
		var t net.Error
		switch {
		case err == nil || sure:
		case errors.As(err, &t) && t.Timeout():
			sure = true
		case errors.Is(err, io.EOF) && have > 0:
			sure = true // the server may have something to say to it
		default:
			return "", nil, err
		}
	}
	return kind, buf[:have], nc.SetReadDeadline(time.Time{})
}
