package relay

import (
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
	// Buffered are the bytes that wait in streams, Retained those kept for a retry.
	Buffered, Retained int
}

// Engine relays the calls of some clients to some backends.
type Engine struct {
	cfg   Config
	host  Host
	dirty []*Conn
}

// New returns an Engine without connections. It does not validate cfg.
func New(cfg Config, host Host) *Engine { return &Engine{cfg: cfg, host: host} }

// Client adds the connection of a client that connected. Our SETTINGS are in its
// Out at once; it is fed from the first byte of the client's preface.
func (e *Engine) Client(now policy.Nanos) *Conn { return &Conn{engine: e, client: true} }

// Backend adds a connection to a pod. Preface and SETTINGS are in its Out at
// once; it has no Room until the pod's SETTINGS came.
func (e *Engine) Backend(now policy.Nanos) *Conn { return &Conn{engine: e} }

// Retry gives waiting calls out again: the owner knows of a new backend, or of a
// reason to refuse them.
func (e *Engine) Retry(now policy.Nanos) {}

// Tick does what is due: it ends waiting calls, sends second GOAWAYs and gives
// peers up that do not answer.
func (e *Engine) Tick(now policy.Nanos) {}

// NextTick is when Tick has something to do; 0: never, as things are.
func (e *Engine) NextTick() policy.Nanos { return 0 }

// Dirty returns the connections whose Out has grown since the last Dirty. The
// slice is valid until the next call.
func (e *Engine) Dirty() []*Conn { return nil }

// Counters returns what the Engine did and holds.
func (e *Engine) Counters() Counters { return Counters{} }
