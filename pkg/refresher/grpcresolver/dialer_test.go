package grpcresolver

import (
	"context"
	"net"
)

// slowDialer connects to one address only once hold is closed.
func slowDialer(addr string, hold <-chan struct{}) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		if to == addr {
			select {
			case <-hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", to)
	}
}
