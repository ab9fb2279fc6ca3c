// Package h2probe finds out what a port speaks, and makes gRPC calls by hand over one HTTP/2 connection.
//
// It exists beside grpc-go for three reasons: a diagnosis needs to see what a gRPC library hides (the SETTINGS a server announced,
// whether an answer was trailers-only, what a port that is not gRPC said instead); its user must know on which connection a call
// ran; and it is linked into an agent that has to stay small. It works over any [net.Conn], including streams of an API server's
// port-forward whose deadlines do nothing: all its timers are its own, and end a stuck connection by closing it.
//
// It refuses to be a gRPC client: unary calls only, one connection, no resolver, no balancing, no retries, no compression, no
// server certificate checks of its own making. The server is taken for hostile: header blocks, messages, frames and unsolicited
// frames are all bounded, and each bound has its own error.
//
//	id, err := h2probe.Identify(ctx, dial, h2probe.IdentifyOptions{})
//	if err == nil && id.Proto == h2probe.ProtoGRPC { … }
//
// # Rules implemented
//
// HTTP/2: RFC 9113. Header compression: RFC 7541. gRPC over HTTP/2, its status mapping and percent-encoding: the
// "gRPC over HTTP2" and "HTTP to gRPC Status Code Mapping" documents of the gRPC project. Health: grpc.health.v1.
package h2probe
