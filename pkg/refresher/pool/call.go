package pool

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// call is one call of the application, however often it is tried.
type call struct {
	cancel context.CancelFunc
	on     atomic.Pointer[peer] // where its present attempt is; nil between attempts
	forced atomic.Pointer[error]
}

// callKey is the key of a context whose call is the value.
type callKey struct{}

// begin makes the context that a call runs under.
func begin(ctx context.Context) (context.Context, *call) {
	ctx, cancel := context.WithCancel(ctx)
	c := &call{cancel: cancel}
	return context.WithValue(ctx, callKey{}, c), c
}

// end ends the call with err in place of the cancellation that it gets.
func (c *call) end(err error) {
	c.forced.CompareAndSwap(nil, &err)
	c.cancel()
}

// result is the call's error: why it was ended, if it was and failed of that.
func (c *call) result(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if forced := c.forced.Load(); forced != nil {
		return *forced
	}
	return err
}

// peer is an endpoint's address with the calls on it.
type peer struct {
	mu    sync.Mutex
	calls map[*call]struct{}
	over  error // what calls that come late are ended with; nil while it is in use
}

// add notes a call; the error is what it is to be ended with at once.
func (p *peer) add(c *call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over == nil {
		p.calls[c] = struct{}{}
	}
	return p.over
}

func (p *peer) remove(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
}

func (p *peer) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// close ends all calls with err and says how many there were.
func (p *peer) close(err error) uint64 {
	p.mu.Lock()
	p.over = err
	calls := slices.Collect(maps.Keys(p.calls))
	p.mu.Unlock()
	// Not under the lock: the end of a call takes it from here.
	for _, c := range calls {
		c.end(err)
	}
	return uint64(len(calls))
}

// watcher is a stats.Handler that learns which endpoint each attempt is on: a
// channel tells that to nobody else before the attempt has ended.
type watcher struct{ pool *Pool }

// TagRPC is part of stats.Handler.
func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn is part of stats.Handler.
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is part of stats.Handler.
func (watcher) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC is part of stats.Handler.
func (w watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.OutHeader:
		c, ok := ctx.Value(callKey{}).(*call)
		if !ok || s.RemoteAddr == nil {
			return
		}
		if addr, err := netip.ParseAddrPort(s.RemoteAddr.String()); err == nil {
			w.pool.settle(c, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
		}
	case *stats.End:
		if c, ok := ctx.Value(callKey{}).(*call); ok {
			c.leave()
		}
	}
}

// leave takes the call from the endpoint that its attempt was on.
func (c *call) leave() {
	if p := c.on.Swap(nil); p != nil {
		p.remove(c)
	}
}

// stream gives a forced end its reason.
type stream struct {
	grpc.ClientStream
	call *call
	// one means that the server sends one message, so that the first is the last.
	one bool
}

// Header is part of grpc.ClientStream.
func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil {
		s.call.cancel()
	}
	return md, s.call.result(err)
}

// CloseSend is part of grpc.ClientStream.
func (s *stream) CloseSend() error { return s.call.result(s.ClientStream.CloseSend()) }

// SendMsg is part of grpc.ClientStream. It may return io.EOF, as grpc-go's does:
// RecvMsg then has the reason. Another error ends the stream, as one of Header
// does: grpc-go's contract asks for no more calls then.
func (s *stream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		s.call.cancel()
	}
	return s.call.result(err)
}

// RecvMsg is part of grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil || s.one {
		s.call.cancel()
	}
	return s.call.result(err)
}
