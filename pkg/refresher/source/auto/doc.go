// Package auto is the [endpoint.Source] that watches EndpointSlices where the pod
// may, and asks DNS where it may not or while the API server is away. It refuses
// to decide which pods exist: it hands on the Sets of one source at a time, as
// they are, and decides which one that is.
//
//	conn, err := grpc.NewClient("refresh:///square-service.default:grpc", creds,
//		refresher.DialOption(refresher.WithSource(auto.New())))
//
// Rights, names and ports are package kube's and package dns's: write the port's
// name, which means the same pods' port to both. This package links Kubernetes'
// client libraries.
//
// # Which source
//
// The watch counts while it works; DNS is not asked then. DNS is asked
//
//   - at once when the API server refuses (403), when there is no cluster, when
//     the target is no Service's name, and when a connection breaks (a question of
//     the balancer) while the watch is broken;
//   - a second after the start when the watch has told nothing by then;
//   - three seconds after a watch that worked has failed and not come back. A
//     restart of the API server with another one beside it goes unnoticed. One
//     that stands still with its connections open fails when HTTP/2 pings find
//     that out, after 45 s: nothing changes in the cluster by that server then.
//
// The watch is tried all the while, at its own slow pace, and counts again with
// its first Set, which is from a state that the server gave anew.
//
// # A switch drops nothing
//
// A source is switched to together with its first complete Set; until then what
// the other one told last stands. Endpoints of both are the same by address, so
// that no connection is made anew. While pods are known from the watch, these
// answers of DNS are not switched to:
//
//   - none: a name server that is asked during an outage may have lost its own
//     watch;
//   - fewer than there were: DNS is asked again, with Verify, and believed when it
//     says so twice, two seconds apart;
//   - a ClusterIP in place of the pods: one address that balances connections.
//     After five minutes it is taken, since the pods may all be others by then;
//   - the pods with another port: a number that the Service maps to another one,
//     which DNS cannot know. Port names avoid it.
//
// Sets of DNS are not authoritative, so that the guard (package reconcile) asks
// again before it believes that pods are gone.
//
// # What is told
//
// Each switch, the first one too, is an [endpoint.SourceSwitched] with its
// reason. Failures of the source that counts go to [endpoint.Sink.Fail]; those of
// the other one are [endpoint.Warning] events, one in five minutes. Without an API
// server to find there is one switch, to DNS, and nothing is tried again.
package auto
