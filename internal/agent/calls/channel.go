package calls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	maxRedials   = 10 // of one place in a channel
	firstBackoff = 500 * time.Millisecond
	idlePause    = 100 * time.Millisecond // before another call when nothing is connected and no rate is given
)

// channel is what a gRPC client calls a channel: one target, one or more connections. One goroutine owns it.
type channel struct {
	session *session
	target  Target
	number  int // of the target
	index   int // among the target's channels
	slots   []*slot
	next    int           // slot of the next call
	all     []*connection // ever made or tried, for the report
	refused int           // addresses that got no connection because of MaxConnections
}

// slot is a place for one connection: of one address (round_robin), or of the first address that connects (pick_first).
type slot struct {
	addrs   []netip.AddrPort
	current *connection // nil, or the last one made or tried
	redials int
	retryAt time.Time
}

func (ch *channel) run(ctx, pacing context.Context) {
	if !ch.resolve(ctx) {
		return
	}
	for _, s := range ch.slots {
		if pacing.Err() != nil {
			return
		}
		ch.connect(ctx, s)
	}
	// Each channel begins with another connection, so that few calls over many channels do not all meet the first address.
	if len(ch.slots) > 0 {
		ch.next = ch.index % len(ch.slots)
	}
	start := time.Now()
	for i := 0; (ch.session.cfg.Calls <= 0 || i < ch.session.cfg.Calls) && i < MaxCalls; i++ {
		if !ch.pace(pacing, start, i) {
			return
		}
		if !ch.call(ctx) {
			return
		}
	}
}

// resolve fills slots. A name that gives no address is reported as a connection that could not be made.
func (ch *channel) resolve(ctx context.Context) bool {
	addrs, err := ch.lookup(ctx)
	ch.session.resolved(ch.number, len(addrs), err)
	if err != nil {
		if ctx.Err() == nil {
			ch.all = append(ch.all, ch.newConnection(netip.AddrPort{}).failed(err))
		}
		return false
	}
	if !ch.target.All {
		ch.slots = []*slot{{addrs: addrs}}
		return true
	}
	for _, a := range addrs {
		ch.slots = append(ch.slots, &slot{addrs: []netip.AddrPort{a}})
	}
	return true
}

func (ch *channel) lookup(ctx context.Context) ([]netip.AddrPort, error) {
	port, err := strconv.ParseUint(ch.target.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", ch.target.Text, err)
	}
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(ch.target.Host); err == nil {
		ips = append(ips, ip)
	} else {
		ctx, cancel := context.WithTimeout(ctx, ch.session.cfg.Timeout)
		defer cancel()
		if ips, err = ch.session.cfg.Lookup(ctx, ch.target.Host); err != nil {
			return nil, fmt.Errorf("resolve %s: %w", ch.target.Host, err)
		}
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		if ap := netip.AddrPortFrom(ip.Unmap(), uint16(port)); !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("resolve %s: no addresses", ch.target.Host)
	}
	if ch.target.All {
		slices.SortFunc(out, netip.AddrPort.Compare)
	}
	return out, nil
}

// connect tries the addresses of a slot in turn and keeps the first connection.
func (ch *channel) connect(ctx context.Context, s *slot) {
	for _, addr := range s.addrs {
		if ctx.Err() != nil {
			return
		}
		if err := ch.session.take(); err != nil {
			ch.refused++
			return
		}
		s.current = ch.dial(ctx, addr)
		if ctx.Err() != nil && s.current.caller == nil { // ended by us, not by the server
			ch.session.give()
			s.current = nil
			return
		}
		ch.all = append(ch.all, s.current)
		if s.current.caller != nil {
			return
		}
		ch.session.give()
	}
	s.retryAt = time.Now().Add(firstBackoff << min(s.redials, 6))
}

// pace waits for the moment of call i.
func (ch *channel) pace(ctx context.Context, start time.Time, i int) bool {
	var wait time.Duration
	switch rate := ch.session.cfg.Rate; {
	case rate > 0:
		at := float64(i) / rate * float64(time.Second)
		wait = time.Until(start.Add(time.Duration(math.Min(at, math.MaxInt64/2))))
	case i > 0 && !ch.connected():
		wait = idlePause
	}
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (ch *channel) connected() bool {
	return slices.ContainsFunc(ch.slots, func(s *slot) bool { return s.current != nil && s.current.ready() })
}

// call makes one call over the connection whose turn it is. It is false when ctx has ended.
func (ch *channel) call(ctx context.Context) bool {
	var last *connection
	for range ch.slots {
		s := ch.slots[ch.next]
		ch.next = (ch.next + 1) % len(ch.slots)
		if s.current == nil || !s.current.ready() {
			ch.redial(ctx, s)
		}
		if s.current != nil && s.current.ready() {
			return s.current.call(ctx, ch.session.cfg)
		}
		if s.current != nil {
			last = s.current
		}
	}
	if last != nil && ctx.Err() == nil {
		last.unavailable() // what a client that does not wait for a connection reports
	}
	return ctx.Err() == nil
}

// redial makes a broken connection again when its backoff is over.
func (ch *channel) redial(ctx context.Context, s *slot) {
	if s.redials >= maxRedials || time.Now().Before(s.retryAt) {
		return
	}
	s.redials++
	if s.current != nil && s.current.caller != nil && !s.current.closed {
		s.current.close()
		ch.session.give()
	}
	ch.connect(ctx, s)
}

func (ch *channel) tooMany() string {
	return fmt.Sprintf("%s, channel %d: %d addresses got no connection: %v, the limit is %d",
		ch.target.Name, ch.index, ch.refused, errFull, MaxConnections)
}

var errNoALPN = errors.New("server did not choose h2 by ALPN")
