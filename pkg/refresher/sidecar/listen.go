package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// acceptPause and acceptPauseMax are the pauses of a listener that cannot accept,
// for want of file descriptors mostly: connections wait in the kernel meanwhile.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// bind listens on every address, or on none.
func bind(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	var out []net.Listener
	var errs []error
	for _, a := range addrs {
		l, err := lc.Listen(ctx, "tcp", a.String())
		if err != nil {
			errs = append(errs, bindError(a, err))
			continue
		}
		out = append(out, l)
	}
	if len(errs) > 0 {
		for _, l := range out {
			_ = l.Close()
		}
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// bindError says what to do.
func bindError(a netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("another process of this pod listens on port %d, perhaps on all addresses: give one of them another port", a.Port())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = fmt.Sprintf("%s is no address of this pod: take one of 127.0.0.0/8, or [::1]", a.Addr())
	case errors.Is(err, syscall.EACCES):
		hint = "ports below net.ipv4.ip_unprivileged_port_start (1024 unless set) need CAP_NET_BIND_SERVICE: take a higher one, or set the sysctl"
	default:
		return fmt.Errorf("listen on %s: %w", a, err)
	}
	return fmt.Errorf("listen on %s: %w; %s", a, err, hint)
}

// accept takes clients until the listener is closed.
func (p *Proxy) accept(l net.Listener) {
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			p.admit(nc)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED):
			continue
		}
		if pause == 0 {
			p.logger().Warn("cannot accept connections, clients wait: is the limit of open files too low?", "listen", l.Addr().String(), "err", err)
		}
		pause = min(max(2*pause, acceptPause), acceptPauseMax)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-p.stopping:
		}
		wait.Stop()
	}
}

// admit begins to serve a client.
func (p *Proxy) admit(nc net.Conn) {
	p.mu.Lock()
	full := len(p.clients)+len(p.sniffing) >= p.settings.Limits.MaxClients
	if full {
		p.rejected++
	}
	if full || p.draining || p.closed {
		p.mu.Unlock()
		_ = nc.Close()
		return
	}
	p.sniffing[nc] = false
	p.goroutines.Go(func() { p.serve(nc) })
	p.mu.Unlock()
}

// serve finds out what a client speaks and serves it to the end.
func (p *Proxy) serve(nc net.Conn) {
	var buf [sniffLen]byte
	kind, first, err := sniff(nc, buf[:], p.limits().SniffTimeout)
	switch {
	case err != nil:
		_ = nc.Close()
		p.mu.Lock()
		delete(p.sniffing, nc)
		p.checkIdle()
		p.mu.Unlock()
	case kind != kindHTTP2:
		p.serveSpliced(nc, first, kind)
	default:
		if c := p.beginClient(nc); c != nil {
			c.serve(first)
		}
	}
}

// beginClient makes the engine's side of a client's connection, nil when it is too
// late.
func (p *Proxy) beginClient(nc net.Conn) *conn {
	c := newConn(p, nc, nil)
	now := policy.Now()
	p.mu.Lock()
	delete(p.sniffing, nc)
	if p.draining || p.closed {
		p.checkIdle()
		p.mu.Unlock()
		_ = nc.Close()
		return nil
	}
	c.rl = p.engine.Client(now)
	c.rl.User = c
	p.clients[c] = struct{}{}
	p.release(now)
	return c
}

// clientGone forgets a client's connection.
func (p *Proxy) clientGone(c *conn) {
	delete(p.clients, c)
	p.checkIdle()
}

// checkIdle tells Drain when nobody is left.
func (p *Proxy) checkIdle() {
	if p.draining && len(p.clients) == 0 && len(p.sniffing) == 0 && !p.isIdle {
		p.isIdle = true
		close(p.idle)
	}
}

// abortAll ends every call and every connection of clients, and returns how many
// calls and spliced connections that were. mu is held.
func (p *Proxy) abortAll(now policy.Nanos) (calls, spliced int) {
	s := relay.Status{Code: codeUnavailable, Message: "grpclb-refresher: the sidecar shuts down, and the call took too long"}
	for c := range p.clients {
		calls += c.rl.Streams()
		c.rl.Abort(now, s)
	}
	spliced = len(p.splices)
	for s := range p.splices {
		s.stop()
	}
	for nc := range p.sniffing {
		_ = nc.Close()
	}
	return calls, spliced
}
