package h2probe

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const prefixLen = 5 // compressed flag and length, before each gRPC message

// frameMessage puts gRPC's length prefix before an uncompressed message.
func frameMessage(msg []byte) []byte {
	b := make([]byte, prefixLen, prefixLen+len(msg))
	binary.BigEndian.PutUint32(b[1:], uint32(len(msg)))
	return append(b, msg...)
}

// unframeMessage takes the only message out of a unary answer. No message, a second one, a cut one and a compressed one (no
// encoding was offered) are errors.
func unframeMessage(b []byte) ([]byte, error) {
	if len(b) < prefixLen {
		return nil, &ProtocolError{Reason: fmt.Sprintf("answer OK with %d bytes of message", len(b))}
	}
	if b[0] != 0 {
		return nil, &ProtocolError{Reason: fmt.Sprintf("message with compressed flag %d, though none was offered", b[0])}
	}
	n, rest := uint64(binary.BigEndian.Uint32(b[1:prefixLen])), b[prefixLen:]
	if uint64(len(rest)) != n {
		return nil, &ProtocolError{Reason: fmt.Sprintf("message of %d bytes in %d bytes of a unary answer", n, len(rest))}
	}
	return rest, nil
}

// encodeTimeout renders a grpc-timeout: at most eight digits and a unit, rounded up so that the server is never stricter than
// the caller.
func encodeTimeout(d time.Duration) string {
	const most = 99999999
	if d <= 0 {
		return "1n"
	}
	units := [...]struct {
		size time.Duration
		name string
	}{
		{time.Nanosecond, "n"}, {time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"},
	}
	for _, u := range units {
		n := int64((d-1)/u.size) + 1
		if n <= most {
			return strconv.FormatInt(n, 10) + u.name
		}
	}
	return strconv.FormatInt(min(int64((d-1)/time.Hour)+1, most), 10) + "H"
}

// decodeStatusMessage undoes the percent-encoding of grpc-message. As the specification asks, invalid escapes are kept as
// they are rather than the message be lost. The result is valid UTF-8 and at most maxStatusMessage bytes.
func decodeStatusMessage(s string) string {
	if len(s) > 3*maxStatusMessage {
		s = s[:3*maxStatusMessage]
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	if len(b) > maxStatusMessage {
		b = b[:maxStatusMessage]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
