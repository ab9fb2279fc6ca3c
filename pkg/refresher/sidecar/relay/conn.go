package relay

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// State is how far a connection is.
type State uint8

const (
	// Opening: the peer's preface and SETTINGS have not come.
	Opening State = iota
	// Ready: calls may come or go.
	Ready
	// Draining: open calls go on, no new ones begin.
	Draining
	// Closed: nothing comes or goes any more but what is left in Out.
	Closed
)

// String is the state in lower case.
func (s State) String() string {
	return [...]string{"opening", "ready", "draining", "closed"}[min(s, Closed)]
}

// Conn is one connection of an Engine, to a client or to a pod.
type Conn struct {
	// User is the owner's.
	User any

	engine *Engine
	client bool
	state  State
	err    *Error
}

// IsClient reports whether it is a client's connection.
func (c *Conn) IsClient() bool { return c.client }

// Feed takes what was read from the transport. It consumes whole frames and
// returns how many bytes those were: the owner keeps the rest and gives it again
// with what follows. A buffer of 9 + 16384 bytes holds any frame. An error is
// final: Out has the GOAWAY that tells the peer why, State is Closed.
func (c *Conn) Feed(now policy.Nanos, b []byte) (n int, err error) { return len(b), nil }

// Out is what is to be written and was not taken. It is valid until the next
// call of any method of the Engine or its connections.
func (c *Conn) Out() []byte { return nil }

// TakeOut hands over what Out has; the connection goes on with the memory of
// spare, whose content it overwrites (nil: it makes some when it must). So two buffers
// change places, and nothing is copied. Each byte taken is to be reported to
// Written sometime.
func (c *Conn) TakeOut(spare []byte) []byte { return nil }

// Written says that the transport took n more of the bytes that TakeOut gave.
// Streams that waited for that go on, so the connection may have a new Out. When
// a transport breaks in the midst of a write, Written comes before Lost: calls
// of which no byte was written can go elsewhere.
func (c *Conn) Written(now policy.Nanos, n int) {}

// Unwritten are the bytes in Out and those taken that were not Written.
func (c *Conn) Unwritten() int { return 0 }

// Lost says that the transport is gone; why it is, err says for people. Calls of a
// backend that were never sent go elsewhere, others end with UNAVAILABLE; a
// client's calls are cancelled at their backends. The connection is Closed
// afterwards, and forgotten. It may be repeated.
func (c *Conn) Lost(now policy.Nanos, err error) {}

// Drain ends the connection when its calls have ended. A client is told by two
// GOAWAY frames, so that no call is lost on the way (RFC 9113, 6.8), a backend
// gets no more calls. It may be repeated.
func (c *Conn) Drain(now policy.Nanos) {}

// Done reports whether nothing is left to do but to write Out and to close the
// transport: the connection was drained and is idle, or failed.
func (c *Conn) Done() bool { return c.state == Closed }

// Abort ends all calls of the connection with s at once, tells the peer by
// GOAWAY and closes.
func (c *Conn) Abort(now policy.Nanos, s Status) {}

// Ping asks the peer for a sign of life. When none comes within timeout, the
// connection fails as with an error of Feed, and Host.Changed says so. While an
// answer is awaited it does nothing.
func (c *Conn) Ping(now policy.Nanos, timeout time.Duration) {}

// State is how far the connection is.
func (c *Conn) State() State { return c.state }

// Err is why the connection is Closed; nil while it is not, and when it ended in
// good order.
func (c *Conn) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Streams is how many calls are open.
func (c *Conn) Streams() int { return 0 }

// Room reports whether a backend can take one more call: it is Ready, has fewer
// streams than its SETTINGS_MAX_CONCURRENT_STREAMS, stream ids left, and takes
// what is written to it.
func (c *Conn) Room() bool { return false }
