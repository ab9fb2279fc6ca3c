package dnstest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Dialer hands out connections that take deadlines without a word and ignore them, as port-forward streams do. It fails the
// test when a connection is left open at its end.
type Dialer struct {
	mu     sync.Mutex
	open   map[*deaf]string
	dialed []string
}

// NewDialer returns a Dialer that is checked when t ends.
func NewDialer(t testing.TB) *Dialer {
	d := &Dialer{open: make(map[*deaf]string)}
	t.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, what := range d.open {
			t.Errorf("connection left open: %s", what)
		}
	})
	return d
}

// DialContext opens a connection.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	inner, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &deaf{Conn: inner, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[conn] = network + " " + address
	d.dialed = append(d.dialed, network)
	return conn, nil
}

// Dialed returns the networks of all connections opened so far, in order.
func (d *Dialer) Dialed() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.dialed...)
}

type deaf struct {
	net.Conn
	dialer *Dialer
}

func (c *deaf) SetDeadline(time.Time) error      { return nil }
func (c *deaf) SetReadDeadline(time.Time) error  { return nil }
func (c *deaf) SetWriteDeadline(time.Time) error { return nil }

func (c *deaf) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
