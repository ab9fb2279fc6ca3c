// Package relay carries HTTP/2 calls, gRPC's above all, from the connections of
// clients to the connections of pods, each call to a pod of its own: the core of
// the sidecar, between bytes that came in and bytes that are to go out.
//
// It refuses to know sockets, goroutines, locks, clocks, TLS, names and
// policies: its owner feeds it what it read and the time, writes what is in Out,
// and chooses the backend of each call.
//
//	e := relay.New(relay.DefaultConfig(), host)
//	client := e.Client(now)
//	… n, err := client.Feed(now, buffer) …
//	for _, c := range e.Dirty() {
//		b := c.TakeOut(spare)
//		… write b to c's transport …
//		c.Written(now, len(b))
//	}
//
// An Engine and all its connections belong together and are used by one
// goroutine at a time.
//
// # What is relayed
//
// Frames, not messages: HEADERS are decoded and encoded anew, since each
// connection has its own HPACK tables (RFC 7541), DATA is copied once, trailers
// follow the data. No header is added, left out or altered, so that compression,
// authority and metadata are the client's and the pod's affair alone. What is
// malformed (RFC 9113, 8.1.1) is not passed on.
//
// # Flow control
//
// It is hop by hop. A stream's credit is returned when its data has gone into
// the other side's Out, a connection's credit when the data came: a call that
// nobody reads stops, and stops no other. So memory is bound by open streams x
// StreamWindow, and by MaxBuffered as a whole: see [Config].
//
// # When a call goes elsewhere
//
// Only when it is certain that no pod has looked at it, as gRPC's transparent
// retries (gRFC A6): the pod answered REFUSED_STREAM, or GOAWAY with a smaller
// stream id, or the connection broke before a byte of the call was written to
// it. When the request was too large to be retained, the client gets the
// REFUSED_STREAM, which is as true of the relay as of the pod, and does the same.
// A call that a pod may have seen ends with UNAVAILABLE.
package relay
