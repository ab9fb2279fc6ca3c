// Package dnsprobe asks one question of one DNS server and says exactly what came back.
//
// It exists to look at a name service, not to use one: nothing is cached, retried in silence, sorted or merged. An [Answer]
// holds the response code, the flags, every record with its TTL, the EDNS(0) sizes both sides spoke of, the transport, the
// size on the wire and the round-trip time; what went wrong is one of a few distinct errors ([ErrTimeout], [ErrSpoofed], ...).
//
//	c := dnsprobe.Client{EDNSSize: 1232}
//	a, err := c.Ask(ctx, "10.96.0.10:53", dnsprobe.Question{Name: "square.default.svc.cluster.local", Type: dnsprobe.TypeA})
//
// # Transports
//
// Every connection comes from a [DialFunc], so that a Kubernetes port-forward stream serves as well as a socket. Such streams
// ignore deadlines; the package therefore never sets one, keeps its own timers and closes the connection when they end. The
// only thing asked of a net.Conn is what its contract promises: Close unblocks Read and Write.
//
// UDP answers that do not belong to the question are passed over until the time is up, as a resolver does (RFC 5452 section
// 9.1), and are then reported. A truncated UDP answer leads to the same question over TCP (RFC 7766 section 5) unless
// [Client.KeepTruncated] is set; the truncated one stays visible in [Answer.Earlier]. A [Session] asks many questions over one
// TCP connection and takes the answers in any order (RFC 7766 section 6.2.1.1).
//
// # Beyond one question
//
// [ParseResolvConf] and [Resolver] walk a search path the way a pod's stub resolver does and show each step.
// [PredictUDP] tells from a full answer what a UDP client would lose; it is a prediction, computed here, never a measurement.
// [Compare] holds an answer against the endpoints that should be in it.
//
// # What it refuses to do
//
// It does not recurse, validate DNSSEC, do zone transfers or dynamic updates, nor speak DNS over TLS or HTTPS. It follows a CNAME
// chain only within the answer at hand.
package dnsprobe
