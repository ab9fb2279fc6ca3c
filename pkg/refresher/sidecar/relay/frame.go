package relay

// Sizes and bounds of RFC 9113.
const (
	// Preface is what a client's connection begins with (RFC 9113, 3.4). By its
	// first bytes an owner tells HTTP/2 from what it is not.
	Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameHeader   = 9
	maxFrame      = 16384
	defaultWindow = 65535
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1
)
