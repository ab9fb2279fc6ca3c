package relay

import (
	"golang.org/x/net/http2/hpack"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// Host is the owner of an Engine, as the Engine sees it. Its methods are called
// synchronously from inside the Engine's and must not call any of them but
// [Conn.State], [Conn.Streams], [Conn.Room] and [Conn.Done].
type Host interface {
	// Pick chooses the backend of a call that begins now, or is given out anew
	// after avoid (else nil) turned it down. It returns a connection that has Room;
	// or neither, when none has: then the call waits for Engine.Retry, for room
	// that the Engine sees itself, or for its deadline; or the status that refuses
	// the call at once.
	Pick(now policy.Nanos, avoid *Conn) (*Conn, *Status)
	// Done says that a call given to the backend that Pick returned has ended
	// there. It comes exactly once for each connection that Pick returned.
	Done(Call)
	// Changed says that State or Room of c changed. When the state is Closed, what is
	// left in Out is to be written and the transport closed; Conn.Err tells why.
	Changed(c *Conn)
}

// Status is the end of a call that the relay answers itself.
type Status struct {
	// Code is the gRPC status code, such as 14 for UNAVAILABLE. A call that is not
	// gRPC gets the matching HTTP status.
	Code    uint32
	Message string
}

// Call is a call that ended at a backend.
type Call struct {
	// Client is where the call came from, Backend where it went.
	Client, Backend *Conn
	// Start is when the backend got the call, FirstByte when the first byte of its
	// answer came (0: none did), End when it was over there.
	Start, FirstByte, End policy.Nanos
	// Code is the grpc-status, -1 when there was none; HTTP the :status, 0 when
	// there was none.
	Code, HTTP int
	// Outcome is what that says about the backend.
	Outcome policy.Outcome
	// Retried says that the call went on elsewhere, unseen by the client.
	Retried bool
	// RequestBytes and ResponseBytes are the bytes of messages that went to and came
	// from the backend.
	RequestBytes, ResponseBytes uint64
}

// Counters are what an Engine did since New, and what it holds.
type Counters struct {
	// Calls that clients began; Refused are those that the relay answered itself
	// without any backend; Retried is how often a call went on elsewhere.
	Calls, Refused, Retried uint64
	// Streams are the open calls, Waiting those of them that wait for a backend.
	Streams, Waiting int
	// Buffered are the bytes of messages that wait in streams, Retained those kept
	// for a retry, Metadata the size of the header lists that are kept for both.
	Buffered, Retained, Metadata int
}

// Engine relays the calls of some clients to some backends.
type Engine struct {
	cfg    Config
	host   Host
	limits limits
	now    policy.Nanos // of the method that is running
	next   policy.Nanos // when Tick is due; 0: never
	kick   bool         // a backend has room that waiting calls can use

	conns         []*Conn // that are not Closed
	dirty, handed []*Conn
	doomed        []*Conn

	firstWait, lastWait *stream
	waiting             int

	// Stores of what is used again, and room for what is used at once.
	free                           []*stream
	fields                         []hpack.HeaderField // of the block that was decoded last
	block                          block               // and what it says
	listSize                       int
	scratch                        []byte
	outs, largePieces, smallPieces [][]byte
	emit                           func(hpack.HeaderField)

	calls, refused, retried     uint64
	streams, buffered, retained int
	metadata                    int
}

// New returns an Engine without connections. It does not validate cfg.
func New(cfg Config, host Host) *Engine {
	e := &Engine{cfg: cfg, host: host, limits: cfg.Budgets.limits()}
	e.emit = e.field
	return e
}

// Client adds the connection of a client that connected. Our SETTINGS are in its
// Out at once; it is fed from the first byte of the client's preface.
func (e *Engine) Client(now policy.Nanos) *Conn {
	c := e.add(now)
	c.client = true
	c.preface = len(Preface)
	c.hello(setting{settingMaxConcurrentStreams, e.cfg.MaxStreams})
	return c
}

// Backend adds a connection to a pod. Preface and SETTINGS are in its Out at
// once; it has no Room until the pod's SETTINGS came.
func (e *Engine) Backend(now policy.Nanos) *Conn {
	c := e.add(now)
	c.nextID = 1
	c.out = append(c.out, Preface...)
	c.hello(setting{settingEnablePush, 0})
	return c
}

func (e *Engine) add(now policy.Nanos) *Conn {
	e.now = now
	c := &Conn{
		engine: e, opened: now, at: len(e.conns), streams: make(map[uint32]*stream),
		sendWin: defaultWindow, initWin: defaultWindow, maxConc: maxStreamID, recvWin: e.cfg.ConnWindow,
	}
	for i := range c.budget {
		c.budget[i] = now
	}
	c.dec = hpack.NewDecoder(defaultTable, e.emit)
	c.dec.SetMaxStringLength(e.cfg.MaxHeaderBlock)
	c.enc = hpack.NewEncoder((*outWriter)(c))
	e.conns = append(e.conns, c)
	e.due(later(now, e.cfg.HandshakeTimeout))
	return c
}

func (e *Engine) remove(c *Conn) {
	last := len(e.conns) - 1
	e.conns[c.at] = e.conns[last]
	e.conns[c.at].at = c.at
	e.conns[last] = nil
	e.conns = e.conns[:last]
}

// Retry gives waiting calls out again: the owner knows of a new backend, or of a
// reason to refuse them.
func (e *Engine) Retry(now policy.Nanos) {
	e.now, e.kick = now, true
	e.settle()
}

// settle does what had to wait until the work at hand was done: it closes the
// connections of peers that went too far, and serves those who wait.
func (e *Engine) settle() {
	for len(e.doomed) > 0 || e.kick {
		if n := len(e.doomed); n > 0 {
			c := e.doomed[n-1]
			e.doomed = e.doomed[:n-1]
			c.fail(c.doom)
			continue
		}
		e.kick = false
		e.serve()
	}
}

// Tick does what is due: it ends waiting calls, sends second GOAWAYs and gives
// peers up that do not answer.
func (e *Engine) Tick(now policy.Nanos) {
	e.now = now
	if e.next == 0 || now < e.next {
		return
	}
	e.next = 0
	e.expire()
	for i := len(e.conns) - 1; i >= 0; i-- {
		// One that closes makes others go, and the slice shrinks.
		if i < len(e.conns) {
			e.conns[i].tick()
		}
	}
	e.settle()
}

// tick does what is due on one connection.
func (c *Conn) tick() {
	e := c.engine
	if !c.acked {
		until := later(c.opened, e.cfg.HandshakeTimeout)
		if until <= e.now {
			c.fail(&Error{SettingsTimeout, "no SETTINGS, or none of ours acknowledged, in " + e.cfg.HandshakeTimeout.String()})
			return
		}
		e.due(until)
	}
	if c.goAway == goAwayFirst {
		if c.graceUntil <= e.now {
			c.lastGoAway()
		} else {
			e.due(c.graceUntil)
		}
	}
}

// NextTick is when Tick has something to do; 0: never, as things are. It may be
// too early, then Tick finds nothing.
func (e *Engine) NextTick() policy.Nanos { return e.next }

// Dirty returns the connections whose Out has grown since the last Dirty, those
// that are Closed too. The slice is valid until the next call.
func (e *Engine) Dirty() []*Conn {
	clear(e.handed)
	e.handed, e.dirty = e.dirty, e.handed[:0]
	for _, c := range e.handed {
		c.dirty = false
	}
	return e.handed
}

// Counters returns what the Engine did and holds.
func (e *Engine) Counters() Counters {
	return Counters{
		Calls: e.calls, Refused: e.refused, Retried: e.retried,
		Streams: e.streams, Waiting: e.waiting, Buffered: e.buffered, Retained: e.retained, Metadata: e.metadata,
	}
}
