package grpcresolver

import "time"

// At most maxDials attempts are under way at a time, or are begun in a
// dialTurn, whichever lets more begin. Ten thousand TLS handshakes at once would
// keep a client from everything else for seconds; addresses that swallow
// packets would otherwise hold all places for as long as an attempt lasts (20 s).
const (
	maxDials = 256
	dialTurn = 250 * time.Millisecond
)

// dials is the queue of a channel's attempts to connect. Guarded by balance.mu.
type dials struct {
	turn    uint64
	active  int // of this turn
	waiting []*conn
	timer   *time.Timer
}

// attempt is a connection's place in the queue.
type attempt struct {
	turn   uint64
	active bool
	queued bool
}

// dial connects c, which is IDLE, now or when it is its turn.
func (d *dials) dial(b *balance, c *conn) {
	if c.dial.queued || c.dial.active {
		return
	}
	if d.active < maxDials {
		d.begin(c)
		return
	}
	c.dial.queued = true
	d.waiting = append(d.waiting, c)
	if d.timer == nil {
		d.timer = time.AfterFunc(dialTurn, func() { d.nextTurn(b) })
	}
}

func (d *dials) begin(c *conn) {
	d.active++
	c.dial = attempt{turn: d.turn, active: true}
	c.sc.Connect()
}

// done says that c's attempt ended, or that it is not wanted any more.
func (d *dials) done(c *conn) {
	c.dial.queued = false // what waits is looked at again when its turn comes
	if !c.dial.active {
		return
	}
	if c.dial.turn == d.turn {
		d.active--
	}
	c.dial.active = false
	d.admit()
}

func (d *dials) admit() {
	for len(d.waiting) > 0 && d.active < maxDials {
		c := d.waiting[0]
		d.waiting[0] = nil
		d.waiting = d.waiting[1:]
		if c.dial.queued {
			d.begin(c)
		}
	}
}

// nextTurn stops to wait for the attempts of the last turn.
func (d *dials) nextTurn(b *balance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.timer == nil || b.closed {
		return
	}
	d.timer = nil
	d.turn++
	d.active = 0
	d.admit()
	if len(d.waiting) > 0 {
		d.timer = time.AfterFunc(dialTurn, func() { d.nextTurn(b) })
	}
}

func (d *dials) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.waiting = nil
}
