package policy

// A streak word holds how many calls in a row failed (low 15 bits), how many in a
// row timed out (next 15), and whether the endpoint is on probation.
const (
	streakBits = 15
	mostStreak = 1<<streakBits - 1
	probation  = 1 << 31
)

func unpackStreak(w uint32) (failures, timeouts int, onProbation bool) {
	return int(w & mostStreak), int(w >> streakBits & mostStreak), w&probation != 0
}

func clampStreak(n int) int { return min(max(n, 0), mostStreak) }

// lengthen counts a call that failed or timed out.
func (n *Node) lengthen(start, now Nanos, o Outcome) (trip bool) {
	for {
		w := n.streak.Load()
		failures, timeouts, onProbation := unpackStreak(w)
		next := w & probation
		if o == TimedOut {
			// Failures stay: silence is no answer that would end their row.
			timeouts = min(timeouts+1, mostStreak)
		} else {
			// Something came back: the endpoint is not silent.
			failures, timeouts = min(failures+1, mostStreak), 0
		}
		next |= uint32(failures) | uint32(timeouts)<<streakBits
		if timeouts == 1 {
			n.silent.Store(int64(start))
		}
		if failures == 1 && o != TimedOut {
			n.failing.Store(int64(start))
		}
		if next != w && !n.streak.CompareAndSwap(w, next) {
			continue
		}
		if o == TimedOut {
			return n.silentTooLong(timeouts, onProbation, now)
		}
		most := int(n.limits.Load() & 0xffff)
		// An endpoint that may not be ejected goes on failing: say it again, seldom.
		return most > 0 && (failures%most == 0 || onProbation)
	}
}

func (n *Node) silentTooLong(timeouts int, onProbation bool, now Nanos) bool {
	most := int(n.limits.Load() >> 16)
	if most == 0 || timeouts == 0 {
		return false
	}
	return onProbation || timeouts >= most && int64(now)-n.silent.Load() >= n.dead.Load()
}

// absolve takes a success in where there was a failure before. It ends a row of
// failures only when it began after the first of them: a server that shuts down
// refuses new calls and finishes those that it has. It always ends a row of
// time-outs: the endpoint is not silent.
func (n *Node) absolve(start, now Nanos) {
	for {
		w := n.streak.Load()
		failures, _, _ := unpackStreak(w)
		if failures == 0 || int64(start) >= n.failing.Load() {
			n.streak.Store(0)
			n.forgive(ticks(now))
			return
		}
		if next := w &^ (mostStreak << streakBits); next == w || n.streak.CompareAndSwap(w, next) {
			return
		}
	}
}

// reset begins a new row, after which, on probation, one failure is enough.
func (n *Node) reset(t uint32) {
	n.streak.Store(probation)
	// A success that finds no failure score does not look at the row.
	n.fault.CompareAndSwap(0, pack(faultHealed, t))
	n.notable()
}
