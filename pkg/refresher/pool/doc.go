// Package pool is a client connection for targets whose servers cap the streams
// of a connection, or whose removed pods must not keep calls for ever.
//
// A [Pool] takes the place of a *grpc.ClientConn in generated code:
//
//	p, err := pool.New("refresh:///square-service.default:grpc",
//		pool.WithConnectionsPerEndpoint(4),
//		pool.WithDrainTimeout(30*time.Second),
//		pool.WithDialOptions(grpc.WithTransportCredentials(creds)))
//	client := pb.NewSquareClient(p)
//
// It is one stock channel with the refresher's dial options and two things that
// a stock channel lacks:
//
//   - N connections to each endpoint. Calls go to the one with the fewest in
//     flight.
//   - an end to draining. A channel lets the calls on a removed endpoint end by
//     themselves, streams when they please. After [WithDrainTimeout] the pool
//     ends them: the caller gets Unavailable, the server a cancellation.
//
// It refuses to retry what it ended: whether a call may be repeated is the
// service config's or the application's to say.
//
// # When grpc-go has gRFC A105
//
// A105 (MAX_CONCURRENT_STREAMS connection scaling) brings further connections
// into the channel itself, as the service config's connectionScaling with
// maxConnectionsPerSubchannel, opened when they are needed. The pool's number is
// the same quantity: with A105 it becomes that field, and code that needs no
// DrainTimeout changes pool.New back to grpc.NewClient. That is why a Pool is a
// grpc.ClientConnInterface and has no method with which a call could choose its
// connection.
package pool
