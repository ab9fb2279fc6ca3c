package h2probe

import (
	"context"
	"net"
	"time"
)

// DialFunc makes one new connection to the port in question. Close of the connection must unblock its Read and Write;
// deadlines may be no-ops.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Proto says what a port speaks.
type Proto string

// What Identify can conclude.
const (
	// ProtoGRPC: an answer carried content-type application/grpc and a grpc-status.
	ProtoGRPC Proto = "grpc"
	// ProtoHTTP2: HTTP/2 (in plaintext, or in TLS when Identity.TLS is set), but no answer that only gRPC gives.
	ProtoHTTP2 Proto = "h2"
	// ProtoHTTP1: HTTP/1 and not HTTP/2.
	ProtoHTTP1 Proto = "http1"
	// ProtoTLS: TLS, and what is inside could not be told, usually because a client certificate is required.
	ProtoTLS Proto = "tls"
	// ProtoUnknown: it accepts connections and speaks (or hangs up on) something else.
	ProtoUnknown Proto = "unknown"
	// ProtoSilent: it accepts connections and said nothing until the time-out.
	ProtoSilent Proto = "silent"
	// ProtoClosed: the connection was refused.
	ProtoClosed Proto = "closed"
	// ProtoUnreachable: no connection, and not by a refusal (time-out, no route, no permission …): see Identity.Error.
	ProtoUnreachable Proto = "unreachable"
)

// Identity is what Identify learned about a port. Texts that came from the peer are quoted and cut; they are safe to print.
type Identity struct {
	Proto Proto `json:"proto"`
	// TLS is set when a TLS handshake was answered, nil for plaintext.
	TLS *TLSInfo `json:"tls,omitempty"`
	// Settings is what the server announced; nil when no HTTP/2 was spoken.
	Settings *Settings `json:"settings,omitempty"`
	// Health is the answer to grpc.health.v1.Health/Check; nil when it was not asked.
	Health *Health `json:"health,omitempty"`
	// Server is the "server" header of the answers, if any: names proxies such as envoy.
	Server string `json:"server,omitempty"`
	// Evidence says, step by step, what was sent and what came back.
	Evidence []string `json:"evidence,omitempty"`
	// Error is why the look was incomplete; empty when it was not.
	Error string `json:"error,omitempty"`
}

// TLSInfo describes the server's side of a TLS handshake. Nothing in it was verified.
type TLSInfo struct {
	// Version is "TLS 1.3" and the like; empty when the handshake did not complete.
	Version string `json:"version,omitempty"`
	// ALPN is the protocol the server chose out of h2 and http/1.1; empty for a server without ALPN.
	ALPN string `json:"alpn,omitempty"`
	// Subject is the leaf certificate's common name; Names its subject alternative names (DNS and IP), at most 64.
	Subject string   `json:"subject,omitempty"`
	Names   []string `json:"names,omitempty"`
	// NotAfter is the leaf certificate's end of validity; nil when no certificate was seen.
	NotAfter *time.Time `json:"notAfter,omitempty"`
	// ClientCert tells whether the server asked for a client certificate.
	ClientCert ClientCert `json:"clientCert,omitempty"`
	// Error is why the handshake, or the first read after it, failed.
	Error string `json:"error,omitempty"`
}

// ClientCert is what a TLS server wants of its clients.
type ClientCert string

// Values of ClientCert. The empty one means that no certificate was asked for.
const (
	// ClientCertRequested: asked for, and the server goes on without one.
	ClientCertRequested ClientCert = "requested"
	// ClientCertRequired: asked for, and the server refuses to go on without one: mutual TLS.
	ClientCertRequired ClientCert = "required"
)

// Health is a server's answer to grpc.health.v1.Health/Check.
type Health struct {
	// Status is SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN as the health protocol has them; empty when Code is not OK.
	Status string `json:"status,omitempty"`
	// Code is the gRPC code of the call: UNIMPLEMENTED means that the server has no health service.
	Code Code `json:"code"`
	// Error is the status message or, when the server sent no status, why.
	Error string `json:"error,omitempty"`
}

// Settings are the values of a server's SETTINGS frames (RFC 9113 section 6.5.2). Nil means that it did not send the setting, so
// that the protocol's default holds; for MaxConcurrentStreams that is "no limit".
type Settings struct {
	HeaderTableSize      *uint32 `json:"headerTableSize,omitempty"`
	MaxConcurrentStreams *uint32 `json:"maxConcurrentStreams,omitempty"`
	InitialWindowSize    *uint32 `json:"initialWindowSize,omitempty"`
	MaxFrameSize         *uint32 `json:"maxFrameSize,omitempty"`
	MaxHeaderListSize    *uint32 `json:"maxHeaderListSize,omitempty"`
}

// IdentifyOptions tune Identify. The zero value is useful.
type IdentifyOptions struct {
	// ServerName is the TLS server name (SNI) and the :authority of calls. Empty sends no SNI, and "localhost".
	ServerName string
	// HealthService is the service to ask the health of; empty asks for the server as a whole.
	HealthService string
	// StepTimeout bounds each dial, handshake and call; 0 means DefaultStepTimeout. TLS servers that wait for more of what they
	// take for a ClientHello need about a second to hang up, so less than 2 s misjudges some.
	StepTimeout time.Duration
}

// DefaultStepTimeout is used where IdentifyOptions.StepTimeout is 0.
const DefaultStepTimeout = 3 * time.Second
