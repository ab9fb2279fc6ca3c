package calls

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

// connection is one entry of the report.
type connection struct {
	entry     agentapi.Channel
	caller    *h2probe.Caller // nil when the connection could not be made
	closed    bool
	latencies sample
}

func (ch *channel) newConnection(addr netip.AddrPort) *connection {
	return &connection{entry: agentapi.Channel{
		Name: ch.target.Name, Target: ch.target.Text, Index: ch.index, Remote: addr, TLS: ch.session.cfg.TLS,
	}}
}

func (c *connection) failed(err error) *connection {
	c.entry.StartError = err.Error()
	return c
}

// dial makes one connection; an entry without a caller says why it could not.
func (ch *channel) dial(ctx context.Context, addr netip.AddrPort) *connection {
	cfg := ch.session.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	c := ch.newConnection(addr)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return c.failed(fmt.Errorf("connect: %w", err))
	}
	if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		c.entry.Local = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if cfg.TLS {
		if conn, err = ch.encrypt(ctx, conn); err != nil {
			return c.failed(fmt.Errorf("TLS handshake: %w", err))
		}
	}
	caller, err := h2probe.NewCaller(ctx, conn, h2probe.CallerOptions{Authority: ch.authority(), HandshakeTimeout: cfg.Timeout})
	if err != nil {
		return c.failed(err)
	}
	c.caller = caller
	return c
}

func (ch *channel) authority() string {
	if a := ch.session.cfg.Authority; a != "" {
		return a
	}
	return net.JoinHostPort(ch.target.Host, ch.target.Port)
}

// encrypt does a TLS handshake as a gRPC client does: ALPN h2 or nothing.
func (ch *channel) encrypt(ctx context.Context, raw net.Conn) (net.Conn, error) {
	name := ch.authority()
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName: name, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: ch.session.cfg.SkipVerify, // only where the user asks for it by name
	})
	err := conn.HandshakeContext(ctx)
	if err == nil && conn.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoALPN
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c *connection) ready() bool { return c.caller != nil && !c.closed && c.caller.Err() == nil }

// call counts one call. It is false, and nothing is counted, when ctx ended it: that says nothing of the server.
func (c *connection) call(ctx context.Context, cfg Config) bool {
	callCtx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	reply, err := c.caller.Call(callCtx, h2probe.Request{Method: cfg.Method})
	if err != nil && ctx.Err() != nil {
		return false
	}
	c.count(reply.Code)
	if err != nil {
		c.entry.Failed++
		return true
	}
	c.latencies.add(reply.Elapsed)
	return true
}

func (c *connection) count(code h2probe.Code) {
	if c.entry.Codes == nil {
		c.entry.Codes = map[string]int{}
	}
	c.entry.Calls++
	c.entry.Codes[code.String()]++
}

func (c *connection) unavailable() {
	c.count(h2probe.Unavailable)
	c.entry.Failed++
}

// close notes what ended the connection, if it was not us, and closes it.
func (c *connection) close() {
	if c.caller == nil || c.closed {
		return
	}
	c.noteEnd()
	c.closed = true
	_ = c.caller.Close()
}

func (c *connection) noteEnd() {
	if err := c.caller.Err(); err != nil && c.entry.EndError == "" {
		c.entry.EndError = err.Error()
	}
}

func (c *connection) summary() agentapi.Channel {
	if c.caller != nil {
		if !c.closed {
			c.noteEnd()
		}
		settings := agentapi.Settings(c.caller.Settings())
		c.entry.Settings = &settings
	}
	c.entry.Latency = c.latencies.quantiles()
	return c.entry
}

// sample keeps a bounded, uniform choice of latencies (reservoir sampling, "algorithm R").
type sample struct {
	seen int
	kept []uint32 // microseconds
}

const maxKept = 4096

func (s *sample) add(d time.Duration) {
	micros := uint32(min(d.Microseconds(), 1<<32-1))
	s.seen++
	if len(s.kept) < maxKept {
		s.kept = append(s.kept, micros)
		return
	}
	if i := rand.IntN(s.seen); i < maxKept {
		s.kept[i] = micros
	}
}

// quantiles gives nearest-rank quantiles of what was kept, nil for nothing.
func (s *sample) quantiles() *agentapi.Latency {
	n := len(s.kept)
	if n == 0 {
		return nil
	}
	slices.Sort(s.kept)
	at := func(percent int) uint32 { return s.kept[(n*percent+99)/100-1] }
	return &agentapi.Latency{P50: at(50), P90: at(90), P99: at(99), Samples: n}
}
