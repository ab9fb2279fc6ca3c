package policy

import "math"

// A word holds a float32 in the high half and the tick it is of in the low one,
// so that both change at once without a lock.
func pack(v float32, t uint32) uint64 { return uint64(math.Float32bits(v))<<32 | uint64(t) }
func high(w uint64) float32           { return math.Float32frombits(uint32(w >> 32)) }

// The latency of an endpoint that had one call yet is negative. That call pays for
// connections and cold caches: of the first two the faster one counts, and until
// then none.
func known(w uint64) bool { return int64(w) > 0 }

// size is a latency whether it counts yet or not.
func size(w uint64) float32 { return high(w &^ (1 << 63)) }

// decay is what is left of a value after so many ticks.
func (n *Node) decay(ticks uint32) float32 {
	return pow2neg(float32(ticks) * rateOf(n.pace.Load()))
}

// rise is the least part of the way to a slower call that the average takes. One
// call so makes no difference between equals unless it is 32 times as slow as
// their average and [noise] together: one of 20 ms never does, one of 200 ms among
// calls of 5 ms does.
const rise = 1.0 / 32

// sample takes a latency in. The average follows the calls by the part that the
// time since the last sample has in Decay, so that how often an endpoint is called
// does not change how fast it is forgiven. But towards a slower call it takes at
// least [rise] of the way: it climbs within some dozens of calls and comes down
// within Decay.
//
// Finagle's and Linkerd's jumps to a peak at once. A peak of some milliseconds is
// most often the scheduler's doing, on either side, and who had the last one is
// left alone until it is forgotten: of three equal endpoints with calls of 0.5 ms
// one got 12% of the calls of five seconds, and one 58%.
//
// A sample that is not slower and falls into the tick of the one before would have
// no weight and is left out, and so is one that loses against another goroutine:
// an endpoint with many calls takes a sample every 4 ms, and its cache line changes
// hands less often.
func (n *Node) sample(took Nanos, t uint32) {
	rtt := float32(max(took, 1))
	w := n.latency.Load()
	if w == 0 {
		n.latency.CompareAndSwap(0, pack(-rtt, t))
		return
	}
	age := since(t, uint32(w))
	switch old := size(w); {
	case !known(w):
		rtt = min(rtt, old)
	case rtt > old:
		rtt = old + (rtt-old)*max(1-n.decay(age), rise)
	case age == 0:
		return
	default:
		rtt += (old - rtt) * n.decay(age)
	}
	n.latency.CompareAndSwap(w, pack(rtt, uint32(w)+age))
}

// raise takes in the duration of a call that failed: how quickly it failed must
// not make the endpoint attractive, so that it can only raise the latency, and
// what is known of it counts from now on. Without that, an endpoint that never
// succeeds would become ever faster. Only a time-out says something about an
// endpoint of which no latency is known.
func (n *Node) raise(took Nanos, t uint32, first bool) {
	for {
		w := n.latency.Load()
		if w == 0 && !first {
			return
		}
		v := high(w)
		if rtt := float32(max(took, 1)); rtt > size(w) {
			v = rtt
		}
		next := pack(v, t)
		if w != 0 && since(t, uint32(w)) == 0 {
			next = pack(high(next), uint32(w))
		}
		if next == w || n.latency.CompareAndSwap(w, next) {
			return
		}
	}
}

// The failure score: each failure adds 1, up to most, and each success takes
// half of it away; time does the same as to a latency. The endpoint counts as
// 4^score times as slow.
//
// go-zero's p2c keeps a success rate that follows the last ten seconds, and avoids
// endpoints below one half: a pod that fails fast gets calls for seconds. Here a
// row of failures makes the endpoint far slower at once than its peers have calls
// in flight, while one failure among many successes is soon forgotten, so that an
// error rate that all endpoints share moves little. The score falls with the
// exponent's exponent: after the longest row an endpoint with idle peers is tried
// again within about 1.5 Decay.
const (
	mostFaults  = 5
	faultHealed = 1.0 / 16
)

func (n *Node) blame(t uint32) {
	for {
		w := n.fault.Load()
		score := float32(0)
		if w != 0 {
			score = high(w) * n.decay(since(t, uint32(w)))
		}
		if n.fault.CompareAndSwap(w, pack(min(score+1, mostFaults), t)) {
			n.notable()
			return
		}
	}
}

func (n *Node) forgive(t uint32) {
	w := n.fault.Load()
	score := high(w) * n.decay(since(t, uint32(w))) / 2
	next := pack(score, t)
	if score < faultHealed {
		next = 0
	}
	n.fault.CompareAndSwap(w, next) // lost against another end: that one counts
}

// faults is the factor by which failures make the endpoint count as slower.
func (n *Node) faults(w uint64, t uint32) float32 {
	return 1 / pow2neg(2*high(w)*n.decay(since(t, uint32(w))))
}

// noise is added to every latency, in ns: by how much two calls to the same
// endpoint differ because of the schedulers of two machines, whose time slices
// are of this size. Next to it, tens of microseconds between fast endpoints vanish.
const noise = 1e6

// load returns what [PeakEWMA] compares: the latency and [noise] in ns, 0 when no
// latency is known yet, and the factor to multiply it with. w is of latency.
//
// While a call is in flight that began after the last sample, the latency falls
// only from that beginning on. An endpoint that stopped answering would otherwise
// look better the longer it is silent.
func (n *Node) load(w uint64, now Nanos, scale float32) (latency, factor float32) {
	turned, pace := n.turned.Load(), n.pace.Load()
	t := ticks(now)
	young, older := max(openOf(n.calls.Load()), 0), int32(0)
	if turned != inUse(now) {
		young, older = n.busy(now, turned)
	}
	if known(w) {
		from := uint32(w)
		if young > 0 {
			from += since(begunAt(pace, t), from)
		}
		latency = high(w)*pow2neg(float32(since(t, from))*rateOf(pace)) + noise
	}
	factor = float32(young)*scale + 1
	if turned&more != 0 || older > 0 {
		factor = n.burden(factor, older, t)
	}
	return latency, factor
}

// requests is the load in calls: those in flight and the one to come, per
// weight, and what failures make of it. Here long streams count in full.
func (n *Node) requests(now Nanos, scale float32) float32 {
	turned := n.turned.Load()
	young, older := n.busy(now, turned)
	r := float32(young+older)*scale + 1
	if turned&more != 0 {
		r = n.burden(r, 0, ticks(now))
	}
	return r
}

// burden adds to a load r in calls what is rare. Long streams count little, and in
// all at most as much again: a hundred idle streams on each old endpoint would
// otherwise send every other call to a new one. And failures multiply it.
func (n *Node) burden(r float32, older int32, t uint32) float32 {
	if older > 0 {
		const many = 64
		r += r * float32(min(older, many)) * (1.0 / many)
	}
	if w := n.fault.Load(); w != 0 {
		r *= n.faults(w, t)
	}
	return r
}
