// Package sidecar is a proxy beside a client that cannot import the refresher:
// it listens on a local address and sends each gRPC call to a pod of its own
// choice, by the same membership, policies and ejection as the library.
//
//	p, err := sidecar.New(sidecar.Options{
//		Listen: []string{"127.0.0.10:6565"},
//		Target: "square-service-headless.default:6565",
//	})
//	err = p.Run(ctx)
//
// It refuses to read calls: package relay moves HTTP/2 frames, and this package
// moves bytes, keeps connections and decides which pod is next. It links neither
// grpc-go nor net/http, since it runs in other people's pods.
//
// # Connections
//
// A client's connection that begins with HTTP/2's preface (RFC 9113 section 3.4)
// is relayed call by call. Any other one (a TLS ClientHello, HTTP/1, a server
// that speaks first) is spliced as it is to one pod, which the policy chooses,
// and counted by kind.
//
// # Pods
//
// A pod gets calls once its SETTINGS arrived. One that is removed gets no new
// calls; those in flight end by themselves, or after Limits.DrainTimeout. One
// that leaves data unacknowledged for Limits.SilentAfter is not chosen, and its
// connection is closed only after Limits.DeadAfter: a pod that was paused for
// some seconds loses no stream.
//
// # Goroutines and locks
//
// One goroutine reads each connection, and writes what came of it: there is no
// goroutine that only writes, and none that waits for a write to the other side.
// A connection that does not take what is written to it gets a goroutine for as
// long as that lasts. One mutex of the Proxy guards the relay's engine and all
// that is said here about pods.
package sidecar
