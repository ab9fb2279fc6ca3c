package policy

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// NodeConfig is what a [Node] learns by.
type NodeConfig struct {
	// Decay is the time in which a latency that is not confirmed, and the memory
	// of failures, fall to 1/e.
	Decay time.Duration
	// LongCall is the age from which on a call's duration is not a latency: it
	// was a stream. A call that [TimedOut] counts however long it took.
	LongCall time.Duration
	// Eject says when [Node.End] reports that an [Ejector] should look.
	Eject EjectConfig
}

// DefaultNodeConfig returns the defaults.
func DefaultNodeConfig() NodeConfig {
	return NodeConfig{Decay: 10 * time.Second, LongCall: 5 * time.Second, Eject: DefaultEjectConfig()}
}

// Validate returns an error that names the first field with a value that cannot
// be used.
func (c NodeConfig) Validate() error {
	switch {
	case c.Decay < 100*time.Millisecond || c.Decay > time.Hour:
		return notAllowed("Decay", c.Decay, "from 100ms to 1h")
	case c.LongCall < 100*time.Millisecond || c.LongCall > time.Hour:
		return notAllowed("LongCall", c.LongCall, "from 100ms to 1h")
	}
	return c.Eject.Validate()
}

// notAllowed names a field whose value cannot be used.
func notAllowed(field string, value any, allowed string) error {
	return fmt.Errorf("%s is %v: %s is allowed", field, value, allowed)
}

// Node is what is known about one endpoint. It outlives pickers and updates of
// the set. Its methods may be called by several goroutines at once; none blocks
// or allocates.
//
// What a pick and a call that ends well touch fills half a cache line; the rest
// lies elsewhere. Picks are random, so that what they touch of 10,000 Nodes has to
// fit into a core's own cache.
type Node struct {
	calls   atomic.Uint64 // see inflight.go
	latency atomic.Uint64 // float32 of ns, and the tick it is of; 0 before the first, see known
	turned  atomic.Uint32 // see inflight.go
	pace    atomic.Uint32 // see pace
	*seldom
}

// seldom is what picks and calls that end well hardly touch.
type seldom struct {
	fault   atomic.Uint64               // float32 of the failure score, and the tick it is of; 0 is healthy
	older   atomic.Int32                // calls in flight that are in no place of calls
	limits  atomic.Uint32               // ConsecutiveFailures, ConsecutiveTimeouts << 16
	ended   atomic.Uint64               // calls that ended and are not in calls
	long    atomic.Int64                // NodeConfig.LongCall
	other   [outcomes - 1]atomic.Uint64 // counts of Failed and those after it
	failing atomic.Int64                // Nanos at which the first call of the row of failures began
	silent  atomic.Int64                // the same of the row of time-outs
	dead    atomic.Int64                // EjectConfig.SilentFor
	streak  atomic.Uint32               // see streak.go
	turning atomic.Int32                // goroutines that move what is in calls now
	turns   atomic.Uint32               // how often that was done
}

// NewNode returns the Node of an endpoint about which nothing is known. It does
// not validate cfg; zero fields take their defaults.
func NewNode(cfg NodeConfig) *Node { return NewNodeAmong(cfg, 1) }

// NewNodeAmong is NewNode for one of about so many endpoints. Few of them have a
// cache line each, so that cores that call different ones do not get in each
// other's way; among many that is rare, and that they take little room counts
// for more.
func NewNodeAmong(cfg NodeConfig, endpoints int) *Node {
	const many = 256
	var n *Node
	if endpoints < many {
		n = &new([cacheLine / nodeSize]Node)[0]
	} else {
		n = new(Node)
	}
	n.seldom = new(seldom)
	n.Configure(cfg)
	return n
}

const (
	cacheLine = 64
	nodeSize  = 32
)

// Configure changes what the Node learns by from now on; what it learned stays.
// Zero durations take their defaults.
func (n *Node) Configure(cfg NodeConfig) {
	def := DefaultNodeConfig()
	if cfg.Decay <= 0 {
		cfg.Decay = def.Decay
	}
	if cfg.LongCall <= 0 {
		cfg.LongCall = def.LongCall
	}
	n.long.Store(int64(cfg.LongCall))
	for rate := paceOf(cfg.Decay); ; {
		if w := n.pace.Load(); n.pace.CompareAndSwap(w, rate|w&begunMask) {
			break
		}
	}
	n.limits.Store(uint32(clampStreak(cfg.Eject.ConsecutiveFailures)) | uint32(clampStreak(cfg.Eject.ConsecutiveTimeouts))<<16)
	n.dead.Store(int64(cfg.Eject.SilentFor))
}

// The word in Node.pace holds the rate of decay, the upper half of a float32,
// which is 0.4% exact; and about when a call began last, the lowest 16 bits of a
// tick. They tell moments within some two minutes: who asks knows that a call
// began within seconds.
const begunMask = 1<<16 - 1

func paceOf(decay time.Duration) uint32 { return math.Float32bits(rate(decay)) &^ begunMask }
func rateOf(pace uint32) float32        { return math.Float32frombits(pace &^ begunMask) }

// begunAt is the tick in the word as of tick t, but not later than that: the
// goroutines do not report in the order in which they read the clock.
func begunAt(pace, t uint32) uint32 { return t - uint32(max(int16(uint16(t)-uint16(pace)), 0)) }

// Begin says that a call began.
func (n *Node) Begin(now Nanos) {
	n.enter(now)
	// A rough moment is enough, and 15 writes a second are cheaper than one per
	// call.
	const often = 16
	if w, t := n.pace.Load(), uint16(ticks(now)); t-uint16(w) >= often {
		n.pace.CompareAndSwap(w, w&^begunMask|uint32(t)) // lost against another begin: that one counts
	}
}

// End says that the call that began at start ended; start must be what Begin was
// told. trip means that a row of failures or time-outs just became long enough
// for an [Ejector] to look at the endpoints; every call that fails after that may
// say so again.
func (n *Node) End(start, now Nanos, o Outcome) (trip bool) {
	n.leave(start)
	if o != Success {
		return n.endedBadly(start, now, o)
	}
	// Most calls are shorter than any LongCall that can be used.
	const short = Nanos(50 * time.Millisecond)
	if took := now - start; took <= short || took <= Nanos(n.long.Load()) {
		n.sample(took, ticks(now))
	}
	// A load is free where a store would take the cache line from others. Without
	// a failure score there is no row of failures either.
	if n.turned.Load()&more != 0 && n.fault.Load() != 0 {
		n.absolve(start, now)
	}
	return false
}

// endedBadly is End for everything but success, which is rare.
func (n *Node) endedBadly(start, now Nanos, o Outcome) (trip bool) {
	if o >= outcomes {
		o = Neutral
	}
	n.other[o-1].Add(1)
	if o == Neutral || o == Erred {
		return false
	}
	t := ticks(now)
	took := now - start
	if o != TimedOut && took > Nanos(n.long.Load()) {
		took = 0 // a stream broke: its age is no latency
	}
	n.raise(took, t, o == TimedOut)
	n.blame(t)
	return n.lengthen(start, now, o)
}

// NodeStats is a moment of a [Node]. The numbers are read one after the other
// while calls go on: they may miss each other by the calls of that moment.
type NodeStats struct {
	// InFlight are the calls that have not ended; Long of them are older than
	// some seconds (4.3 at least, 8.6 at most) and hardly count as load.
	InFlight, Long int
	// Started is the sum of InFlight and of the calls that ended.
	Started uint64
	// Succeeded and so on are the calls that ended with that [Outcome].
	Succeeded, Failed, Overloaded, TimedOut, Erred, Neutral uint64
	// EWMA is the moving average of latencies as of the last call that changed it;
	// 0 before the first.
	EWMA time.Duration
	// Faults is the failure score as of the last failure, from 0 (healthy) to 5:
	// an endpoint with score s counts as 4^s times as slow.
	Faults float64
	// Failures and Timeouts are how many calls in a row ended so; a success
	// begins anew.
	Failures, Timeouts int
}

// Stats returns what is known.
func (n *Node) Stats() NodeStats {
	s := NodeStats{
		Failed:     n.other[Failed-1].Load(),
		Overloaded: n.other[Overloaded-1].Load(),
		TimedOut:   n.other[TimedOut-1].Load(),
		Erred:      n.other[Erred-1].Load(),
		Neutral:    n.other[Neutral-1].Load(),
		EWMA:       time.Duration(size(n.latency.Load())),
		Faults:     float64(high(n.fault.Load())),
	}
	// Each call was counted as ended before it was counted as one of these.
	var ended uint64
	ended, s.InFlight, s.Long = n.counts()
	s.Started = ended + uint64(s.InFlight)
	s.Succeeded = ended - min(ended, s.Failed+s.Overloaded+s.TimedOut+s.Erred+s.Neutral)
	s.Failures, s.Timeouts, _ = unpackStreak(n.streak.Load())
	return s
}
