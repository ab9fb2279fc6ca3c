// Package forward carries connections from a loopback port of the machine to
// an address inside one of the lab's network namespaces.
//
// It is the one way in, and it is one-way: nothing inside can open a
// connection to the outside. It copies bytes and looks at none, so TLS runs
// from end to end.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
)

// dialTimeout bounds a dial inside; the address is one hop away.
const dialTimeout = 3 * time.Second

// Dialer opens the inner half of a connection.
type Dialer func(context.Context) (net.Conn, error)

// Serve accepts on l until ctx ends and joins each connection to one from
// dial. It closes l, and returns when the last connection has ended.
func Serve(ctx context.Context, l net.Listener, dial Dialer) error {
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close() // it came in with the end
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		open.Go(func() {
			defer conn.Close()
			inner, err := dial(ctx)
			if err != nil {
				// The caller sees a closed connection, as it would from a dead server.
				return
			}
			defer inner.Close()
			join(ctx, conn, inner)
		})
	}
}

// InNetns returns a Dialer that dials target, an ip:port, from inside the
// named network namespace. A socket belongs to the namespace of the thread
// that made it, for good.
func InNetns(name, target string) Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		var conn net.Conn
		err := network.Do(name, func() error {
			var err error
			conn, err = new(net.Dialer).DialContext(ctx, "tcp4", target)
			return err
		})
		return conn, err
	}
}

// join copies both ways until both sides have ended or ctx does. The end of
// one direction is passed on as such: exec and port-forward depend on it.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	var both sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			// A broken direction breaks the connection.
			a.Close()
			b.Close()
		}
	}
	both.Go(func() { pipe(a, b) })
	both.Go(func() { pipe(b, a) })
	both.Wait()
}
