// Package backend is a server that can be told to misbehave.
//
// Calls take a few milliseconds without using the CPU. A second port, of HTTP, makes them fail or take longer; SIGTERM ends the server as
// a well-behaved one ends: streams are closed with status OK, calls are finished, connections get a GOAWAY.
package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/wire"
)

// Config is what a backend may be told at its start.
type Config struct {
	// Addr and Control are where it takes calls and orders, host:port.
	Addr, Control string
	// Work is how long a healthy call takes.
	Work time.Duration
	// Local is a range of addresses that become this machine's own before it listens; empty for none. It needs CAP_NET_ADMIN.
	Local string
	// Grace is how long calls may take to end after ctx has.
	Grace time.Duration
}

// Serve runs a backend until ctx ends.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Local != "" {
		if err := ownAddresses(cfg.Local); err != nil {
			return fmt.Errorf("own the addresses %s: %w", cfg.Local, err)
		}
	}
	calls, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return err
	}
	orders, err := net.Listen("tcp", cfg.Control)
	if err != nil {
		return errors.Join(err, calls.Close())
	}
	b := &backend{delay: cfg.Work, work: cfg.Work, leaving: make(chan struct{})}
	s := grpc.NewServer()
	s.RegisterService(wire.Service, b)
	healthpb.RegisterHealthServer(s, health.NewServer())
	control := &http.Server{Handler: b.orders(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(calls) }()
	go func() { ended <- control.Serve(orders) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	close(b.leaving)
	stopped := time.AfterFunc(cfg.Grace, s.Stop)
	s.GracefulStop()
	stopped.Stop()
	return errors.Join(err, control.Close())
}

type backend struct {
	work    time.Duration
	leaving chan struct{} // closed when the server is about to end

	mu    sync.Mutex
	code  codes.Code // guarded by mu, as is delay
	delay time.Duration
}

// orders is the HTTP side: /set?code=14&delay=200ms, where what is not named becomes healthy again.
func (b *backend) orders() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		code, delay, err := parseOrder(r.FormValue("code"), r.FormValue("delay"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.mu.Lock()
		b.code, b.delay = code, b.work+delay
		b.mu.Unlock()
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func parseOrder(code, delay string) (c codes.Code, d time.Duration, err error) {
	if code != "" {
		n, err := strconv.ParseUint(code, 10, 5)
		if err != nil {
			return 0, 0, fmt.Errorf("code: %w", err)
		}
		c = codes.Code(n)
	}
	if delay != "" {
		if d, err = time.ParseDuration(delay); err != nil {
			return 0, 0, fmt.Errorf("delay: %w", err)
		}
	}
	return c, d, nil
}

// Call fails at once when it was told to, as an overloaded server does, and works else.
func (b *backend) Call(ctx context.Context, in *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
	if err := grpc.SetTrailer(ctx, servedBy(ctx)); err != nil {
		return nil, err
	}
	b.mu.Lock()
	code, delay := b.code, b.delay
	b.mu.Unlock()
	if code != codes.OK {
		return nil, status.Error(code, "as ordered")
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return in, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func servedBy(ctx context.Context) metadata.MD {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	host, _, err := net.SplitHostPort(p.LocalAddr.String())
	if err != nil {
		return nil
	}
	return metadata.Pairs(wire.ServedBy, host)
}

// Chat echoes. It ends with status OK when the server is about to end: that a stream ends so is no fault.
func (b *backend) Chat(stream grpc.ServerStream) error {
	// What comes before the first message says that the stream is there.
	if err := stream.SendHeader(servedBy(stream.Context())); err != nil {
		return err
	}
	broken := make(chan error, 1)
	go func() {
		for {
			m := new(wrapperspb.Int64Value)
			err := stream.RecvMsg(m)
			if err == nil {
				err = stream.SendMsg(m)
			}
			if err != nil {
				broken <- err
				return
			}
		}
	}()
	select {
	case err := <-broken:
		return err // io.EOF when the client is done, and nobody looks at the status then
	case <-b.leaving:
		return nil
	}
}
