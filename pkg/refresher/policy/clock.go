package policy

import "time"

// Nanos is a reading of a monotonic clock in nanoseconds. Only differences mean
// something; it may be negative. 0 stands for "never" where a field says so.
type Nanos int64

// base is what [Now] counts from.
var base = time.Now()

// Now reads the monotonic clock. It costs half of what time.Now does, which
// reads the wall clock as well: on the machine of docs/performance.md 26 ns
// instead of 50.
func Now() Nanos { return Nanos(time.Since(base)) }

// Add returns the moment d later.
func (n Nanos) Add(d time.Duration) Nanos { return n + Nanos(d) }

// Sub returns the time from o to n.
func (n Nanos) Sub(o Nanos) time.Duration { return time.Duration(n - o) }

// A tick is the unit in which a Node remembers moments: 2^22 ns, about 4 ms, so
// that one of them and a latency fit into a word that changes atomically. 32
// bits of them last 208 days; a Node that was idle for half of that is taken for
// one that was used just now, which costs a stale latency and nothing more.
const tickBits = 22

func ticks(n Nanos) uint32 { return uint32(n >> tickBits) }

// since is the time from an earlier tick to a later one, 0 when the order is
// the other way round: the goroutines that read the clock do not report in the
// order in which they read it.
func since(later, earlier uint32) uint32 { return uint32(max(int32(later-earlier), 0)) }
