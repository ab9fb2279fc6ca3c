// Package conformance holds the sidecar to what others say of it: the HTTP/2 suite h2spec, gRPC's interoperability cases, calls of awkward
// sizes and encodings, and floods of frames that must not take its memory or its other clients' calls.
//
//	make conformance
//	go -C test/conformance test -tags conformance -count=1 -v -run Flood ./...   the figures
//
// GRPCLB_WRITE=FILE puts those into a document, between its marks, as into docs/performance.md.
//
// The program is the real one, in a process of its own, on the loopback interface; it is built from this tree first. For scale, other proxies
// can stand in its place: with GRPCLB_PROXY="haproxy -db -f FILE" that program is started instead, {listen} and {target} replaced in its
// arguments and in an own copy of FILE; GRPCLB_PROXY=direct leaves the proxy out, which shows what the servers behind it do by themselves.
//
// It refuses to judge speed: that is the benchmark's, bench/sidecar.
package conformance
