package relay

// queue holds DATA that waits, in pieces that are used again: one buffer that grew
// would leave as much garbage behind as it holds.
type queue struct {
	pieces [][]byte
	off    int // pieces[0][off:] is next
	n      int // bytes in all
}

// Sizes of pieces: what a unary call has fits in a small one. Of the large ones so
// many are kept for the next burst.
const (
	smallPiece = 2 << 10
	largePiece = 16 << 10
	maxPieces  = 64
)

// Write buffers that Recycle keeps: as many as connections are written to at a
// time on a small machine, and none that is much larger than MaxOut by default.
const (
	maxOutBuffers = 16
	maxOutBuffer  = 512 << 10
)

// Recycle takes a buffer that TakeOut gave and that was written. The next
// connection that has something to write gets it, so that those with nothing to
// write hold none: the owner calls TakeOut(nil) then.
func (e *Engine) Recycle(b []byte) {
	if cap(b) > 0 && cap(b) <= maxOutBuffer && len(e.outs) < maxOutBuffers {
		e.outs = append(e.outs, b[:0])
	}
}

func (e *Engine) outBuffer() []byte {
	last := len(e.outs) - 1
	if last < 0 {
		return nil
	}
	b := e.outs[last]
	e.outs[last] = nil
	e.outs = e.outs[:last]
	return b
}

// piece takes one from the store for n bytes.
func (e *Engine) piece(n int) []byte {
	store, size := &e.largePieces, largePiece
	if n <= smallPiece {
		store, size = &e.smallPieces, smallPiece
	}
	last := len(*store) - 1
	if last < 0 {
		return make([]byte, 0, size)
	}
	b := (*store)[last]
	(*store)[last] = nil
	*store = (*store)[:last]
	return b
}

// putPiece returns one.
func (e *Engine) putPiece(b []byte) {
	store := &e.largePieces
	if cap(b) == smallPiece {
		store = &e.smallPieces
	}
	if len(*store) < maxPieces {
		*store = append(*store, b[:0])
	}
}

// await appends p to what waits in h.
func (e *Engine) await(h *half, p []byte) {
	q := &h.queue
	q.n += len(p)
	e.buffered += len(p)
	for len(p) > 0 {
		last := len(q.pieces) - 1
		if last < 0 || len(q.pieces[last]) == cap(q.pieces[last]) {
			n := len(p)
			if last >= 0 {
				n = largePiece
			}
			q.pieces = append(q.pieces, e.piece(n))
			last++
		}
		b := q.pieces[last]
		n := min(len(p), cap(b)-len(b))
		q.pieces[last] = append(b, p[:n]...)
		p = p[n:]
	}
}

// first is the beginning of what waits, as far as it lies in one piece.
func (q *queue) first() []byte { return q.pieces[0][q.off:] }

// taken drops n bytes of first.
func (e *Engine) taken(h *half, n int) {
	q := &h.queue
	q.n -= n
	e.buffered -= n
	q.off += n
	if q.off < len(q.pieces[0]) {
		return
	}
	e.putPiece(q.pieces[0])
	last := len(q.pieces) - 1
	copy(q.pieces, q.pieces[1:])
	q.pieces[last] = nil
	q.pieces, q.off = q.pieces[:last], 0
}

// empty drops all that waits in h.
func (e *Engine) empty(h *half) {
	q := &h.queue
	e.buffered -= q.n
	for i, b := range q.pieces {
		e.putPiece(b)
		q.pieces[i] = nil
	}
	*q = queue{pieces: q.pieces[:0]}
}
