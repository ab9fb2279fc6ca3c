package policy

// Calls in flight are counted by age, so that long streams can be told from calls
// without a timer or a list: those that began in this generation and in the one
// before have a place each, and the others are one number. A generation is
// 2^32 ns, 4.3 s, of the clock itself, so that the end of a call finds by its
// start where the call was counted. The first call of a generation takes over the
// place of the one before the last and moves what is left there to the older ones.
//
// One word holds the calls in both places, those in the place of even generations,
// and how many ended, in 21, 21 and 22 bits: a begin and an end are one atomic
// addition each, and a pick of an endpoint in use looks at the first number alone.
// That is exact for up to a million calls on one endpoint that began within some
// seconds.
//
// A goroutine may look at the generation, be put to sleep, and count after the
// place has changed hands. Its call is then one more in one place and one less in
// another for some seconds. The sum is exact at any time, and the places are again
// when they change hands once more: that is why they are signed.
const generationBits = 32

func generation(now Nanos) uint32 { return uint32(now >> generationBits) }

const (
	placeBits = 21
	oneEnded  = 1 << (2 * placeBits)
	// manyEnded is where the number of those that ended is moved elsewhere.
	manyEnded = 1 << 63
)

// one is a call in the place of generation g.
func one(g uint32) uint64 { return 1 + uint64(^g&1)<<placeBits }

// openOf is the number of calls in flight in a word.
func openOf(w uint64) int32 { return int32(int64(w<<(64-placeBits)) >> (64 - placeBits)) }

// places takes a word apart: the calls in flight in the place of generation g and
// in the other one, and how many ended.
func places(w uint64, g uint32) (its, others int32, ended uint64) {
	both := openOf(w)
	rest := (w - uint64(both)) >> placeBits
	even := openOf(rest)
	ended = (rest - uint64(even)) >> placeBits & (1<<(64-2*placeBits) - 1)
	if g&1 == 0 {
		return even, both - even, ended
	}
	return both - even, even, ended
}

// joint is a word with so many calls in flight, none of them in the place of
// generation g, and none that ended.
func joint(others int32, g uint32) uint64 { return uint64(others) * one(g+1) }

// The word in Node.turned holds the latest generation and, in its lowest bit,
// whether there may be something in seldom that counts as load: older calls, or a
// failure score. Most picks so need not look there. Generations are so compared
// modulo 2^31, which is 292 years.
const more = 1

// notable says that older or fault is not 0. Who sets one of them says so after
// that.
func (n *Node) notable() { n.turned.Or(more) }

// forget takes notable back if it is not true any more. Who makes it true at the
// same time is seen by the second look, or says so after the bit was cleared.
func (n *Node) forget() {
	if n.turned.Load()&more == 0 || n.older.Load() != 0 || n.fault.Load() != 0 {
		return
	}
	n.turned.And(^uint32(more))
	if n.older.Load() != 0 || n.fault.Load() != 0 {
		n.notable()
	}
}

// current reports whether calls of generation g have a place while turned is w:
// the latest generation is g, or the next.
func current(w, g uint32) bool { return w-g<<1 < 4 }

// enter counts a call that begins.
func (n *Node) enter(now Nanos) {
	g := generation(now)
	if current(n.turned.Load(), g) {
		n.calls.Add(one(g))
		return
	}
	n.turn(g)
}

// turn is enter for the first call of a generation, and for one whose caller read
// the clock long ago.
func (n *Node) turn(g uint32) {
	for {
		w := n.turned.Load()
		its, others, _ := places(n.calls.Load(), g)
		switch {
		case current(w, g):
			n.calls.Add(one(g))
			return
		case int32(w-g<<1) > 0 && (its != 0 || others != 0):
			n.older.Add(1)
			n.notable()
			return
		}
		// Who has nothing in flight may turn back: the first call of all comes here
		// too, and the clock that it was given may have begun anywhere.
		n.turning.Add(1)
		won := n.turned.CompareAndSwap(w, g<<1|w&more)
		if won {
			n.flush(g, w&^more != (g-1)<<1)
		}
		n.turning.Add(-1)
		if won {
			n.turns.Add(1)
			n.forget()
		}
	}
}

// flush moves what is in the place of generation g, or in both, to the older calls.
func (n *Node) flush(g uint32, both bool) {
	var moved int32
	for done := false; !done; {
		w := n.calls.Load()
		its, others, ended := places(w, g)
		if both {
			its, others = its+others, 0
		}
		if done = n.calls.CompareAndSwap(w, joint(others, g)); done {
			moved = its
			n.ended.Add(ended)
		}
	}
	if moved != 0 {
		n.older.Add(moved)
		n.notable()
	}
}

// settle moves the number of calls that ended to where there is room for it.
func (n *Node) settle() {
	n.turning.Add(1)
	for {
		w := n.calls.Load()
		_, _, ended := places(w, 0)
		if n.calls.CompareAndSwap(w, w-ended*oneEnded) {
			n.ended.Add(ended)
			break
		}
	}
	n.turning.Add(-1)
	n.turns.Add(1)
}

// leave undoes enter(start).
func (n *Node) leave(start Nanos) {
	g := generation(start)
	if current(n.turned.Load(), g) {
		if n.calls.Add(oneEnded-one(g)) >= manyEnded {
			n.settle()
		}
		return
	}
	n.older.Add(-1)
	n.ended.Add(1)
}

// inUse is what turned is on a Node on which a call began in this generation, and
// which has nothing in seldom that counts as load.
func inUse(now Nanos) uint32 { return uint32(now>>(generationBits-1)) &^ more }

// busy returns the calls in flight that began in this generation or the one
// before, and the others, each at least 0. w is of turned.
func (n *Node) busy(now Nanos, w uint32) (young, older int32) {
	g := generation(now)
	its, others, _ := places(n.calls.Load(), g)
	young = its + others
	if w&more != 0 {
		older = n.older.Load()
	}
	switch d := int32(g<<1 - w&^more); {
	case d == 2: // no call began yet in this generation: the place of the one before the last is due
		young, older = others, older+its
	case d > 2:
		young, older = 0, older+young
	}
	return max(young, 0), max(older, 0)
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
		its, others, recent := places(n.calls.Load(), 0)
		if n.turning.Load() == 0 && n.turns.Load() == turns {
			open := max(older+its+others, 0)
			return ended + recent, int(open), int(min(max(older, 0), open))
		}
	}
	// The goroutine that moves them sleeps: too few is better than a wait.
	return n.ended.Load(), int(max(n.older.Load(), 0)), int(max(n.older.Load(), 0))
}
