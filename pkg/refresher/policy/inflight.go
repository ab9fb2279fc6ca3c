package policy

import "sync/atomic"

// Calls in flight are counted by age, so that long streams can be told from calls
// without a timer or a list: those that began in this generation and in the one
// before have a slot each, and the others are one number. A generation is 2^32 ns,
// 4.3 s, of the clock itself, so that the end of a call finds by its start where
// the call was counted. The first call of a generation takes over the slot of the
// one before the last and moves what is left there to the older ones.
//
// A slot holds two halves: calls that began (low) and those of them that ended
// (high). That makes one atomic addition per begin and one per end, and gives the
// number of calls that ended as well.
//
// A goroutine may look at the generation, be put to sleep, and count after the
// slot has changed hands. Its call is then one more in one place and one less in
// another for some seconds. The sum is exact at any time, and the places are again
// when the slot changes hands once more: that is why differences are signed.
const generationBits = 32

func generation(now Nanos) uint32 { return uint32(now >> generationBits) }

const oneEnded = 1 << 32

func slotEnded(v uint64) uint32 { return uint32(v >> 32) }
func slotOpen(v uint64) int32   { return int32(uint32(v) - uint32(v>>32)) }

// enter counts a call that begins.
func (n *Node) enter(now Nanos) {
	g := generation(now)
	if n.generation.Load()-g <= 1 {
		n.slots[g&1].Add(1)
		return
	}
	n.turn(g)
}

// turn is enter for the first call of a generation, and for one whose caller read
// the clock long ago.
func (n *Node) turn(g uint32) {
	for {
		was := n.generation.Load()
		switch {
		case was-g <= 1:
			n.slots[g&1].Add(1)
			return
		case int32(was-g) > 0 && (slotOpen(n.slots[0].Load()) != 0 || slotOpen(n.slots[1].Load()) != 0):
			n.older.Add(1)
			return
		}
		// Who has nothing in flight may turn back: the first call of all comes here
		// too, and the clock that it was given may have begun anywhere.
		n.turning.Add(1)
		won := n.generation.CompareAndSwap(was, g)
		if won {
			n.flush(&n.slots[g&1])
			if g != was+1 {
				n.flush(&n.slots[g&1^1])
			}
		}
		n.turning.Add(-1)
		if won {
			n.turns.Add(1)
		}
	}
}

// flush moves what a slot holds to the older calls.
func (n *Node) flush(slot *atomic.Uint64) {
	v := slot.Swap(0)
	n.older.Add(slotOpen(v))
	n.ended.Add(uint64(slotEnded(v)))
}

// leave undoes enter(start).
func (n *Node) leave(start Nanos) {
	g := generation(start)
	if n.generation.Load()-g <= 1 {
		n.slots[g&1].Add(oneEnded)
		return
	}
	n.older.Add(-1)
	n.ended.Add(1)
}

// busy returns the calls in flight that began in this generation or the one
// before, and the others, each at least 0.
func (n *Node) busy(now Nanos) (young, older int32) {
	a, b := n.slots[0].Load(), n.slots[1].Load()
	young, older = slotOpen(a)+slotOpen(b), n.older.Load()
	if g := generation(now); n.generation.Load() != g {
		young, older = n.aged(g, young, older)
	}
	return max(young, 0), max(older, 0)
}

// aged is busy for a Node on which no call began in this generation.
func (n *Node) aged(g uint32, young, older int32) (int32, int32) {
	was := n.generation.Load()
	switch d := int32(g - was); {
	case d == 1: // the slot of the generation before that one is due
		old := slotOpen(n.slots[g&1].Load())
		return young - old, older + old
	case d > 1:
		return 0, older + young
	}
	return young, older
}

// counts returns the calls that ended, all that are in flight, and those among
// them that count as long.
func (n *Node) counts() (ended uint64, open, older int) {
	// A reader that catches the moment when calls move from one place to another
	// looks again, so that no counter ever goes backwards.
	const tries = 1000
	for range tries {
		turns := n.turns.Load()
		ended, older := n.ended.Load(), n.older.Load()
		a, b := n.slots[0].Load(), n.slots[1].Load()
		if n.turning.Load() == 0 && n.turns.Load() == turns {
			ended += uint64(slotEnded(a)) + uint64(slotEnded(b))
			open := max(older+slotOpen(a)+slotOpen(b), 0)
			return ended, int(open), int(min(max(older, 0), open))
		}
	}
	// The goroutine that moves them sleeps: too few is better than a wait.
	return n.ended.Load(), int(max(n.older.Load(), 0)), int(max(n.older.Load(), 0))
}
