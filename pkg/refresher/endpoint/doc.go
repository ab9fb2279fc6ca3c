// Package endpoint holds the words that every part of the refresher shares: an
// [Endpoint] is one pod as a target of calls, a [Set] is all endpoints of a
// [Target] at a moment, a [Source] is where Sets come from.
//
// It refuses to decide anything: which answer is believed is package
// reconcile's, which endpoint a call goes to is package policy's.
//
//	set := endpoint.Set{Source: "static", Endpoints: []endpoint.Endpoint{endpoint.At(addr)}}
//	diff := before.Diff(set)
//
// # Complete Sets, never deltas
//
// A Source hands over the whole Set each time. Two well-known libraries took one
// EndpointSlice for the whole Service; a Set that is complete by contract leaves
// no room for that, and makes "the same Set twice" a no-op.
//
// # Identity
//
// An endpoint is (IP, port). A pod's UID, when it is known, groups the IP
// families of one pod and tells a pod from a later one with the same IP:
// see [Endpoint.Same]. A source that knows no UID (DNS) and one that does
// (EndpointSlices) therefore mean the same endpoint by the same address, and a
// switch from one to the other breaks no connection.
//
// Package endpointtest holds the contract suite for every Source.
package endpoint
