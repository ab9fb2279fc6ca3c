package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// maxDials is how many connections are made at a time.
const maxDials = 128

// raceDelay is how long an address of a pod has before its other family's is tried
// beside it (RFC 8305 section 5, gRFC A61).
const raceDelay = 250 * time.Millisecond

// keepAlive finds peers that are gone while nothing is sent. Data that is not
// acknowledged is found sooner: see silence.go.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

// dialFunc makes a connection to one address.
type dialFunc func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	return d.DialContext(ctx, "tcp", addr.String())
}

// beginDial makes a connection to a pod on a goroutine of its own, which reads it
// afterwards. p.mu is held.
func (p *Proxy) beginDial(pd *pod, now policy.Nanos) {
	ctx, cancel := context.WithTimeout(p.ctx, p.settings.Limits.ConnectTimeout)
	pd.dialling, pd.cancel = true, cancel
	p.dialling++
	addrs := pd.ep.Addrs
	p.goroutines.Go(func() {
		nc, err := dialAny(ctx, p.dial, addrs)
		cancel()
		if c := p.dialled(pd, nc, err, now); c != nil {
			c.serve(nil)
		}
	})
}

// dialled follows the end of an attempt. It returns the connection to read.
func (p *Proxy) dialled(pd *pod, nc net.Conn, err error, begun policy.Nanos) *conn {
	now := policy.Now()
	var c *conn
	if err == nil {
		c = newConn(p, nc, pd)
	}
	p.mu.Lock()
	defer p.release(now)
	p.dialling--
	pd.dialling, pd.cancel = false, nil
	p.nextDials(now)
	if err != nil {
		pd.answered = false
		if !pd.gone && !p.closed {
			pd.failed(unreachable(err, p.settings.Limits.ConnectTimeout), begun, now)
		}
		pd.settle(now)
		return nil
	}
	if !pd.attach(c, begun, now) {
		_ = nc.Close()
		pd.settle(now)
		return nil
	}
	return c
}

// nextDials begins attempts that waited for their turn.
func (p *Proxy) nextDials(now policy.Nanos) {
	for len(p.dialQueue) > 0 && p.dialling < maxDials {
		pd := p.dialQueue[0]
		p.dialQueue[0] = nil
		p.dialQueue = p.dialQueue[1:]
		pd.queued = false
		pd.connect(now)
	}
}

// dialAny makes a connection to one of the addresses, which are the same pod's.
// The next one is tried when one fails or takes its time.
func dialAny(ctx context.Context, dial dialFunc, addrs []netip.AddrPort) (net.Conn, error) {
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		nc  net.Conn
		err error
	}
	results := make(chan result)
	running, next := 0, 0
	begin := func() {
		addr := addrs[next]
		next++
		running++
		go func() {
			nc, err := dial(ctx, addr)
			results <- result{nc, err}
		}()
	}
	var won net.Conn
	var errs []error
	delay := time.NewTimer(0)
	defer delay.Stop()
	for next < len(addrs) && won == nil || running > 0 {
		select {
		case <-delay.C:
			if next < len(addrs) && won == nil {
				begin()
				delay.Reset(raceDelay)
			}
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				delay.Reset(0)
			case won == nil:
				won = r.nc
				cancel() // and wait for the others, which end now
			default:
				_ = r.nc.Close()
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// unreachable says why no connection could be made.
func unreachable(err error, timeout time.Duration) string {
	var t interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens on this port of the pod"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no file descriptor is left: raise the sidecar's limit of open files (" + err.Error() + ")"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the pod: " + err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &t) && t.Timeout():
		return fmt.Sprintf("no answer within %v: the pod or its node is gone, or a NetworkPolicy drops the packets", timeout)
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// unlike says why a pod's connection ended before its SETTINGS came, by what it
// sent in their place.
func (p *Proxy) unlike(c *conn) string {
	b := c.link.first[:c.link.firstLen]
	switch {
	case len(b) == 0 && errors.Is(c.lostErr, errNoSettings):
		return fmt.Sprintf("the pod takes connections, but sends no HTTP/2 SETTINGS within %v: is it a gRPC server?", p.settings.Limits.ConnectTimeout)
	case len(b) == 0 && errors.Is(c.lostErr, errClosed):
		return "the pod closed the connection without a word: it may want TLS, which is not relayed per call"
	case len(b) == 0:
		return fmt.Sprintf("the connection ended before HTTP/2 began: %v", c.lostErr)
	case b[0] == 0x15 && len(b) > 1 && b[1] == 3: // a TLS alert (RFC 8446 section 5.1)
		return "the pod speaks TLS on this port, which is not relayed per call"
	case len(b) >= 5 && string(b[:5]) == "HTTP/":
		return "the pod speaks HTTP/1 on this port: is it the gRPC port?"
	}
	if err := c.rl.Err(); err != nil {
		return fmt.Sprintf("what the pod sent is not HTTP/2 (%v)", err)
	}
	return fmt.Sprintf("the connection ended before HTTP/2 began: %v", c.lostErr)
}

// errNoSettings is why a connection is given up on which nothing comes.
var errNoSettings = errors.New("no SETTINGS came in time")
