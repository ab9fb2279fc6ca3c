package refresher

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver"
)

// UserTimeout is how long data that a peer does not acknowledge keeps a
// connection of [ExtraDialOptions] alive (TCP_USER_TIMEOUT, RFC 5482; Linux
// alone). Calls leave such a peer after about 1.5 s; the connection is closed
// only when it is surely gone: with 1 s or 2 s a live peer that did not read for
// that long lost its connection, and every stream of a machine that was paused
// broke.
const UserTimeout = 20 * time.Second

// ExtraDialOptions are options beside DialOption that pay in a cluster:
//
//   - a dialer that sets [UserTimeout]. A keepalive that the application sets
//     wins: grpc-go then sets the same socket option from its Timeout.
//   - no HTTP proxy, for the addresses of pods are behind none.
//   - interceptors that mark streaming calls, so that their length, which is
//     the application's choice, is not taken for latency.
//
// The interceptors are chained: those of grpc.WithChainStreamInterceptor stay.
// grpc.WithContextDialer after these options replaces the dialer.
func ExtraDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithContextDialer(Dialer(UserTimeout)),
		grpc.WithChainStreamInterceptor(markStreams),
	}
}

// Dialer returns a dialer for grpc.WithContextDialer whose connections give up
// on a peer that acknowledges nothing for userTimeout. 0, and systems other than
// Linux, leave that to the kernel: some 15 minutes.
func Dialer(userTimeout time.Duration) func(ctx context.Context, address string) (net.Conn, error) {
	// As grpc-go's own dialer: TCP keepalive at the pace that the system is set
	// to, not at Go's 15 s.
	system := net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	d := net.Dialer{KeepAliveConfig: system, Control: userTimeoutControl(userTimeout)}
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// markStreams marks every call that comes through a stream interceptor, which
// unary calls do not.
func markStreams(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(grpcresolver.MarkStream(ctx), desc, cc, method, opts...)
}
