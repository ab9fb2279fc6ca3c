package relay

import (
	"encoding/binary"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// goAway is how far a client was told that the connection ends.
type goAway uint8

const (
	goAwayNone  goAway = iota
	goAwayFirst        // "soon": calls may still be on their way
	goAwayFinal        // the last stream id was told
)

// pingDrain is what our PING carries, to know the answer by.
const pingDrain uint64 = 0x6472_6169_6e00_0001

// Drain ends the connection when its calls have ended. A client is told by two
// GOAWAY frames, so that no call is lost on the way (RFC 9113, 6.8), a backend
// gets no more calls. It may be repeated.
func (c *Conn) Drain(now policy.Nanos) {
	e := c.engine
	e.now = now
	if c.state == Draining && !c.client || c.state == Closed {
		return
	}
	if !c.client {
		c.retire()
		c.finishDrain()
		e.settle()
		return
	}
	if c.goAway != goAwayNone {
		return
	}
	opening := c.state == Opening
	c.state = Draining
	c.writeGoAway(maxStreamID, NoError, "")
	if opening {
		// Nobody has a call under way.
		c.lastGoAway()
	} else {
		c.goAway = goAwayFirst
		c.graceUntil = later(now, e.cfg.GoAwayGrace)
		e.due(c.graceUntil)
		c.writePing(false, pingDrain)
		e.host.Changed(c)
	}
	e.settle()
}

// lastGoAway tells the client which calls are still served.
func (c *Conn) lastGoAway() {
	c.goAway = goAwayFinal
	c.writeGoAway(c.lastID, NoError, "")
	c.finishDrain()
}

// retire gives a backend no more calls.
func (c *Conn) retire() {
	if c.state != Ready && c.state != Opening {
		return
	}
	c.state, c.hadRoom = Draining, false
	c.engine.host.Changed(c)
}

// finishDrain closes a connection that drains and has no calls any more.
func (c *Conn) finishDrain() {
	if c.state != Draining || len(c.streams) > 0 || c.client && c.goAway != goAwayFinal {
		return
	}
	if !c.client {
		c.writeGoAway(0, NoError, "")
	}
	c.close(Status{})
}

// onGoAway takes GOAWAY (RFC 9113, 6.8).
func (c *Conn) onGoAway(id uint32, p []byte) *Error {
	if id != 0 {
		return protocol("GOAWAY on a stream")
	}
	if len(p) < 8 {
		return &Error{FrameSizeError, "GOAWAY of a wrong length"}
	}
	if err := c.superfluous(); err != nil {
		return err
	}
	if c.client {
		// It will not take streams that we never open. Its own calls go on.
		return nil
	}
	last := binary.BigEndian.Uint32(p) & maxStreamID
	// Calls that wait must not come here again.
	c.retire()
	for _, s := range c.open(last) {
		c.engine.elsewhere(s, unseen)
	}
	c.finishDrain()
	return nil
}

// onPing answers PING (RFC 9113, 6.7), and takes the answer to ours.
func (c *Conn) onPing(flags byte, id uint32, p []byte) *Error {
	if id != 0 {
		return protocol("PING on a stream")
	}
	if len(p) != 8 {
		return &Error{FrameSizeError, "PING of a wrong length"}
	}
	payload := binary.BigEndian.Uint64(p)
	if flags&flagAck == 0 {
		if err := c.charge(budgetPings); err != nil {
			return err
		}
		c.writePing(true, payload)
		return nil
	}
	if payload != pingDrain || c.goAway != goAwayFirst {
		return c.superfluous()
	}
	// All that the client sent before it saw the first GOAWAY has come.
	c.lastGoAway()
	return nil
}
