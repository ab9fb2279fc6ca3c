package policy

// Calls in flight are counted in three places, so that long streams can be told
// from calls without a timer or a list: two slots for the generation in which a
// call began, this one and the one before, and one for everything older. A
// generation is 2^32 ns, 4.3 s, of the clock itself. A call leaves the slot that
// it entered, or the third counter when its slot was taken over by a later
// generation, which moves what was left there. The sum is exact at any time.
//
// Between the look at a slot's generation and the addition to it a goroutine may
// sleep for longer than a generation. The call then is in one counter with +1
// and in another with -1 until the slot is taken over again: counts are signed
// for that reason, and the sum stays exact.
const generationBits = 32

func generation(now Nanos) uint32 { return uint32(now >> generationBits) }

// A slot is the generation in the high half and a signed count in the low one.
func slotGeneration(v uint64) uint32 { return uint32(v >> 32) }
func slotCount(v uint64) int32       { return int32(uint32(v)) }

// enter counts a call that began at now.
func (n *Node) enter(now Nanos) {
	g := generation(now)
	slot := &n.young[g&1]
	if slotGeneration(slot.Load()) == g {
		slot.Add(1)
		return
	}
	n.turn(g)
}

// turn is enter for the first call of a generation: it takes the slot over.
func (n *Node) turn(g uint32) {
	slot := &n.young[g&1]
	for {
		v := slot.Load()
		old, left := slotGeneration(v), slotCount(v)
		switch {
		case old == g:
			slot.Add(1)
			return
		case int32(old-g) > 0 && left != 0:
			// This caller's clock reading is older than what others have begun since.
			n.long.Add(1)
			return
		case slot.CompareAndSwap(v, uint64(g)<<32|1):
			if left != 0 {
				n.long.Add(left)
			}
			return
		}
	}
}

// leave undoes enter(start).
func (n *Node) leave(start Nanos) {
	g := generation(start)
	slot := &n.young[g&1]
	if v := slot.Load(); slotGeneration(v) == g {
		slot.Add(^uint64(0))
		return
	}
	n.long.Add(-1)
}

// busy returns the calls in flight that began in this generation or the one
// before, and the others, each at least 0.
func (n *Node) busy(now Nanos) (young, long int32) {
	g := generation(now)
	long = n.long.Load()
	for i := range n.young {
		v := n.young[i].Load()
		if int32(g-slotGeneration(v)) <= 1 {
			young += slotCount(v)
		} else {
			long += slotCount(v)
		}
	}
	return max(young, 0), max(long, 0)
}

// inFlight returns all calls in flight, and those that were moved out of the
// slots or would be by the next call.
func (n *Node) inFlight() (total, long int) {
	a, b := n.young[0].Load(), n.young[1].Load()
	older := n.long.Load()
	sum := older + slotCount(a) + slotCount(b)
	if d := int32(slotGeneration(a) - slotGeneration(b)); d > 1 {
		older += slotCount(b)
	} else if d < -1 {
		older += slotCount(a)
	}
	return int(max(sum, 0)), int(max(older, 0))
}
