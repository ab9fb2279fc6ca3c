package relay

import "fmt"

// ErrCode is an HTTP/2 error code (RFC 9113, 7).
type ErrCode uint32

// The error codes of RFC 9113.
const (
	NoError            ErrCode = 0x0
	ProtocolError      ErrCode = 0x1
	InternalError      ErrCode = 0x2
	FlowControlError   ErrCode = 0x3
	SettingsTimeout    ErrCode = 0x4
	StreamClosed       ErrCode = 0x5
	FrameSizeError     ErrCode = 0x6
	RefusedStream      ErrCode = 0x7
	Cancel             ErrCode = 0x8
	CompressionError   ErrCode = 0x9
	ConnectError       ErrCode = 0xa
	EnhanceYourCalm    ErrCode = 0xb
	InadequateSecurity ErrCode = 0xc
	HTTP11Required     ErrCode = 0xd
)

var errCodeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String is the code's name in the RFC.
func (c ErrCode) String() string {
	if int(c) < len(errCodeNames) {
		return errCodeNames[c]
	}
	return fmt.Sprintf("error code %#x", uint32(c))
}

// Error is why a connection had to be closed: the peer broke a rule of RFC 9113
// or a bound of Config.
type Error struct {
	Code ErrCode
	// Reason says in a few words what the peer did.
	Reason string
}

// Error is the code with the reason.
func (e *Error) Error() string { return "http2: " + e.Code.String() + ": " + e.Reason }

// protocol is the commonest of connection errors.
func protocol(reason string) *Error { return &Error{ProtocolError, reason} }
