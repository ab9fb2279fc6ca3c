package grpcresolver

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// raceDelay is how long an address has before the next one is tried beside it
// (RFC 8305 section 5, gRFC A61).
const raceDelay = 250 * time.Millisecond

// reconnectPause is the least time between two connections that ended and were
// made again: gRPC's first back-off
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md).
const reconnectPause = time.Second

// slot is one connection to a peer, or the race of its addresses for it. Its
// rules are those of gRPC's pick_first (gRFC A61, A62). Everything in it is
// guarded by balance.mu.
type slot struct {
	p     *peer
	addrs []resolver.Address
	// conns are the addresses that were tried. Once one is READY it is the only
	// one.
	conns []*conn
	ready *conn // READY and healthy
	// state is CONNECTING, READY or TRANSIENT_FAILURE, which stays until READY.
	state connectivity.State
	// next is the address to try next in the first pass over them, racing whether
	// that pass goes on. After it every address is tried whenever its back-off is
	// over.
	next   int
	racing bool
	timer  *time.Timer
	// retired means that no further attempt is begun.
	retired bool
	// revived is when a connection that ended was last made again.
	revived time.Time
}

// conn is a SubConn.
type conn struct {
	s      *slot
	sc     balancer.SubConn
	addr   resolver.Address
	state  connectivity.State // as gRPC says it
	failed bool               // in this pass
	dial   attempt
	// inFlight are the calls on it; counted only where there are several
	// connections to choose from.
	inFlight atomic.Int32
}

// start tries the addresses from the first on.
func (s *slot) start() {
	s.racing, s.next = true, 0
	for _, c := range s.conns {
		c.failed = false
	}
	s.tryNext()
}

func (s *slot) tryNext() {
	s.stopTimer()
	for s.next < len(s.addrs) {
		c := s.conn(s.addrs[s.next])
		s.next++
		if c == nil {
			return // the channel closes
		}
		if c.state == connectivity.TransientFailure {
			c.failed = true // in the back-off of an earlier pass
			continue
		}
		if c.state == connectivity.Idle {
			s.p.b.dials.dial(s.p.b, c)
		}
		if s.next < len(s.addrs) {
			s.timer = time.AfterFunc(raceDelay, s.delayed)
		}
		return
	}
	s.endRace()
}

// delayed tries the next address while the last one takes its time.
func (s *slot) delayed() {
	b := s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.timer == nil || b.closed {
		return
	}
	s.tryNext()
}

// resumed begins to connect after a pause.
func (s *slot) resumed() {
	b := s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.timer == nil || b.closed {
		return
	}
	s.revived = time.Now()
	s.start()
}

func (s *slot) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// conn returns the connection to an address, a new one the first time; nil when
// the channel closes.
func (s *slot) conn(addr resolver.Address) *conn {
	for _, c := range s.conns {
		if sameAddress(c.addr, addr) {
			return c
		}
	}
	c := &conn{s: s, addr: addr, state: connectivity.Idle}
	//nolint:staticcheck // deprecated for several addresses; there is no other way to make one
	sc, err := s.p.b.cc.NewSubConn([]resolver.Address{addr}, balancer.NewSubConnOptions{StateListener: c.listen})
	if err != nil {
		return nil
	}
	c.sc = sc
	s.conns = append(s.conns, c)
	return c
}

// sameAddress compares what matters to a connection.
func sameAddress(a, b resolver.Address) bool {
	return a.Addr == b.Addr && a.ServerName == b.ServerName && a.Attributes.Equal(b.Attributes)
}

// setAddrs changes the addresses. A READY connection to one that is left stays.
func (s *slot) setAddrs(addrs []resolver.Address) {
	if slices.EqualFunc(s.addrs, addrs, sameAddress) {
		return
	}
	s.addrs = addrs
	s.conns = slices.DeleteFunc(s.conns, func(c *conn) bool {
		if slices.ContainsFunc(addrs, func(a resolver.Address) bool { return sameAddress(a, c.addr) }) {
			return false
		}
		s.drop(c)
		return true
	})
	if s.connected() {
		return
	}
	if s.state != connectivity.TransientFailure {
		s.state = connectivity.Connecting
	}
	s.start()
}

// retire ends the race but for attempts that are under way. It reports whether
// there are any.
func (s *slot) retire() bool {
	s.stopTimer()
	s.retired, s.racing = true, false
	s.conns = slices.DeleteFunc(s.conns, func(c *conn) bool {
		if c.dial.active || c.dial.queued || c.state == connectivity.Connecting || c.state == connectivity.Ready {
			return false
		}
		s.drop(c)
		return true
	})
	return len(s.conns) > 0
}

// revive takes retire back.
func (s *slot) revive() {
	if !s.retired {
		return
	}
	s.retired = false
	if !s.connected() {
		s.start()
	}
}

// connected reports whether a connection stands, healthy or not.
func (s *slot) connected() bool {
	return slices.ContainsFunc(s.conns, func(c *conn) bool { return c.state == connectivity.Ready })
}

// drop shuts a connection down.
func (s *slot) drop(c *conn) {
	s.unready(c)
	s.p.b.dials.done(c)
	c.state = connectivity.Shutdown
	c.sc.Shutdown()
}

// unready takes the connection out of use.
func (s *slot) unready(c *conn) {
	if s.ready == c {
		s.ready = nil
		s.p.b.hub.lost(s.p.m)
	}
}

// close drops all connections.
func (s *slot) close() {
	s.stopTimer()
	for _, c := range s.conns {
		s.drop(c)
	}
	s.conns = nil
}

// listen takes a change of the SubConn's state.
func (c *conn) listen(state balancer.SubConnState) {
	b := c.s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || c.state == connectivity.Shutdown {
		return
	}
	was := c.state
	c.state = state.ConnectivityState
	if c.state != connectivity.Connecting {
		b.dials.done(c)
	}
	switch c.state {
	case connectivity.Ready:
		c.s.won(c)
	case connectivity.TransientFailure:
		c.s.failed(c, state.ConnectionError)
	case connectivity.Idle:
		c.s.idle(c, was)
	case connectivity.Connecting:
		c.s.set(connectivity.Connecting)
	}
}

// set changes the state unless it is TRANSIENT_FAILURE, which only READY ends
// (gRFC A62).
func (s *slot) set(state connectivity.State) {
	if s.state == state || s.state == connectivity.TransientFailure && state == connectivity.Connecting {
		return
	}
	s.state = state
	s.p.changed()
}

// won ends the race: the other connections go, and c gets calls once it is
// healthy.
func (s *slot) won(c *conn) {
	s.stopTimer()
	s.racing = false
	for _, o := range s.conns {
		if o != c {
			s.drop(o)
		}
	}
	s.conns = []*conn{c}
	if s.state == connectivity.TransientFailure {
		s.state = connectivity.Connecting // it is READY, if not healthy yet
		s.p.changed()
	}
	c.sc.RegisterHealthListener(c.health)
}

// health takes what the health check says; without one that is READY at once.
func (c *conn) health(state balancer.SubConnState) {
	s := c.s
	b := s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || c.state != connectivity.Ready {
		return
	}
	switch state.ConnectivityState {
	case connectivity.Ready:
		if s.ready == nil { // before gRPC is told, which hub.published notes
			b.hub.gained(s.p.m)
		}
		s.ready = c
		s.set(connectivity.Ready)
		if s.p.mayDial() {
			b.replacedLocked()
		}
	case connectivity.TransientFailure:
		b.connErr, b.connAddr = fmt.Errorf("health check: %w", state.ConnectionError), c.addr.Addr
		s.unready(c)
		s.set(connectivity.TransientFailure)
	case connectivity.Connecting:
		// The health check begins again. Nothing is known to be wrong with a
		// connection that was healthy, but gRPC's own policies wait as well.
		s.unready(c)
		s.set(connectivity.Connecting)
	}
}

// idle follows the end of a connection, or of a back-off.
func (s *slot) idle(c *conn, was connectivity.State) {
	switch {
	// A connection can end before it was told to be READY:
	// https://github.com/grpc/grpc-go/issues/7862.
	case was == connectivity.Ready || was == connectivity.Connecting:
		s.unready(c)
		s.state = connectivity.Connecting
		if s.p.mayDial() {
			s.again()
		}
		s.p.changed()
	case !s.racing && s.p.mayDial():
		s.p.b.dials.dial(s.p.b, c)
	}
}

// again connects after a connection ended, at once the first time. gRPC's
// back-off begins with attempts that fail; a server that accepts connections and
// closes them would be dialled without a pause.
func (s *slot) again() {
	pause := reconnectPause - time.Since(s.revived)
	if pause <= 0 {
		s.revived = time.Now()
		s.start()
		return
	}
	s.stopTimer()
	s.racing, s.next = true, 0
	s.timer = time.AfterFunc(pause, s.resumed)
}

// failed follows an attempt that failed. gRPC's back-off has begun.
func (s *slot) failed(c *conn, err error) {
	s.p.b.connErr, s.p.b.connAddr = err, c.addr.Addr
	c.failed = true
	if !s.p.mayDial() {
		s.p.changed()
		return
	}
	if !s.racing {
		s.p.b.publishSoonLocked() // for the newer error
		return
	}
	if s.next < len(s.addrs) {
		// Only the failure of the address that was tried last hurries the next.
		if s.next > 0 && sameAddress(s.addrs[s.next-1], c.addr) {
			s.tryNext()
		}
		return
	}
	s.endRace()
}

// endRace ends the first pass once every address has failed in it.
func (s *slot) endRace() {
	if !s.racing || s.next < len(s.addrs) || slices.ContainsFunc(s.conns, func(c *conn) bool { return !c.failed }) {
		return
	}
	s.racing = false
	s.set(connectivity.TransientFailure)
	for _, c := range s.conns {
		if c.state == connectivity.Idle {
			s.p.b.dials.dial(s.p.b, c)
		}
	}
}
