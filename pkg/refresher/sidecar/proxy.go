package sidecar

import (
	"context"
	"errors"
	"net/netip"
)

// Proxy serves one target. Its methods may be called from any goroutine.
type Proxy struct {
	settings settings
}

// New returns a Proxy that does nothing before Run. The error names every option
// that cannot be used.
func New(o Options) (*Proxy, error) {
	s, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Proxy{settings: s}, nil
}

// Run binds the addresses and serves until ctx ends; then it drains for
// Limits.ShutdownTimeout, unless Drain did that, closes everything and returns
// nil. It returns soon, with an error that says which address cannot be bound and
// what to do about it, when that is so. A Proxy runs once.
func (p *Proxy) Run(ctx context.Context) error { return errors.New("not written yet") }

// Drain stops listening at once, so that another Proxy may bind the addresses,
// asks the clients to go (two GOAWAY frames, RFC 9113 section 6.8, so that no call
// is lost) and waits until their calls have ended. When ctx ends before, those
// that are left end with UNAVAILABLE, and the error says how many they were.
func (p *Proxy) Drain(ctx context.Context) error { return nil }

// Configure changes policy, limits, source and logger, and drops no connection.
// Name, Listen and Target must be the same. An error changes nothing.
func (p *Proxy) Configure(o Options) error { return nil }

// Listening returns the addresses that are bound, in the order of Options.Listen;
// nil before and after that.
func (p *Proxy) Listening() []netip.AddrPort { return nil }

// Stats returns what is known. It may be called often.
func (p *Proxy) Stats() Stats { return Stats{} }

// Ready reports whether clients can be served: a pod of the first Set is
// connected, or it is known that there are none, or all were tried. Once true it
// stays so until Drain: a client must not be taken out of service because its
// servers are. The text is the reason for false, or what is wrong nevertheless, or
// "".
func (p *Proxy) Ready() (bool, string) { return false, "starting" }

// Refresh has the source look at once.
func (p *Proxy) Refresh() {}
