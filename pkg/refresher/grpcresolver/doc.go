// Package grpcresolver is the refresher as grpc-go sees it: a [Builder] that
// resolves targets and the load-balancing policies that use what it found.
//
// It refuses to decide what is believed (package reconcile) or which endpoint a
// call goes to (package policy). It keeps connections equal to the members that
// the guard published, and tells calls apart from each other by how they ended.
//
//	b, err := grpcresolver.New(grpcresolver.Options{Scheme: "refresh", Opener: dns.New()})
//	conn, err := grpc.NewClient("refresh:///square-service.default:grpc", grpc.WithResolvers(b), creds)
//
// # One hub for each target
//
// What is known of a target belongs to neither resolver nor balancer, because
// gRPC throws both away when a channel goes idle (30 minutes without a call, by
// default). A hub of the [Builder] keeps it: the guard's state, and for each
// endpoint its latency, failures and ejection. All channels of one Builder to
// one target share the hub, so that they ask DNS once and learn from each
// other's calls. The source runs while a channel is in use.
//
// A balancer finds the hub through resolver.State.Attributes, and members by
// their place among the endpoints. Attributes of endpoints would be lost under
// HTTPS_PROXY, where grpc-go puts the proxy's addresses in their place.
//
// # Policies
//
// grpclb_refresher_peak_ewma, grpclb_refresher_round_robin and
// grpclb_refresher_least_request are registered when the package is linked in.
// They work over other resolvers too, with endpoints identified by address and
// no guard. Other policies (ring_hash, pick_first ...) work over our resolver:
// held endpoints are to them like all others.
//
// # Connections
//
// The policies own their connections instead of building a pick_first under
// every endpoint, whose state changes cost time in the number of endpoints each.
// The rules are gRPC's: an endpoint that failed stays failed until it is READY
// (gRFC A62), several addresses of an endpoint race (gRFC A61, RFC 8305), a
// connection that ended is opened again, back-off is the channel's. In addition
// an endpoint gets calls only once it is connected, and one that was removed
// keeps its calls while no endpoint that replaces it is connected yet.
//
// Health checking needs nothing but a healthCheckConfig in the service config.
package grpcresolver
