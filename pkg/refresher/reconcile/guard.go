package reconcile

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

const (
	// awayFor is how long a GOAWAY counts: as long as it takes until every cache
	// on the way (CoreDNS: 30 s) and the next look (30 s at most) show that the
	// pod is gone.
	awayFor = 60 * time.Second
	// The pause between questions while a doubt lasts doubles from minPause (or
	// ConfirmAfter) to maxPause: a fleet that sees the same wrong answer must not
	// add an outage of the DNS servers to it.
	minPause = 100 * time.Millisecond
	maxPause = 30 * time.Second
)

// doubt is the guard's memory while members are Held.
type doubt struct {
	on bool
	// base is how many members there were before.
	base int
	// Exactly one is set: empty is when the present run of empty answers began,
	// partial when the present run of smaller ones did.
	empty, partial time.Time
	// first is the first answer of the run that lacked the same members as the
	// last one.
	first time.Time
	// paused is how long the source failed since the doubt began.
	paused time.Duration
	// failed means that it failed since the run of smaller answers began.
	failed bool
	// askAt is when to ask again, pause how long after that the next time. Nothing
	// that is answered makes it sooner: answers that contradict each other would
	// be asked for as fast as they come.
	askAt time.Time
	pause time.Duration
}

// shift moves the clocks by a time that does not count.
func (d *doubt) shift(by time.Duration) {
	if !d.on {
		return
	}
	d.paused += by
	if d.empty.IsZero() {
		d.partial = d.partial.Add(by)
	} else {
		d.empty = d.empty.Add(by)
	}
}

// base is the number of members that a shrink is held against: those before the
// doubt while there is one, so that a shrink in small steps within it stays one.
func (w *step) base() int {
	if w.s.doubt.on {
		return w.s.doubt.base
	}
	return len(w.s.members)
}

// begin starts a doubt, or goes on with it, and asks at once when it is new.
func (w *step) begin(base int) *doubt {
	d := &w.s.doubt
	if !d.on {
		*d = doubt{on: true, base: base, askAt: w.now, pause: max(w.cfg.ConfirmAfter, minPause)}
	}
	return d
}

// empty takes an empty answer that is not believed.
func (w *step) empty(set endpoint.Set) {
	s := &w.s
	var edits []edit
	held := 0
	for _, m := range s.members {
		switch {
		case m.Standing == Held:
		case w.isAway(m.ID):
			edits = append(edits, edit{id: m.ID, kind: drop})
		default:
			edits = append(edits, edit{id: m.ID, kind: hold})
			held++
		}
	}
	before := len(s.members)
	d := w.begin(before)
	if d.empty.IsZero() {
		d.empty, d.partial, d.first = w.now, time.Time{}, time.Time{}
	}
	s.reason = emptyReason(set)
	if held > 0 {
		w.decide(endpoint.VerdictHeld, d.base, 0, "%s: not believed for %v", s.reason, w.cfg.EmptyGrace)
	}
	w.apply(edits, 0)
	s.listed, s.ids = nil, nil
	if before > 0 && len(s.members) == 0 {
		w.decide(endpoint.VerdictZero, before, 0, "%s, and every server said GOAWAY", s.reason)
	}
}

// confirmed reports whether the answer, which lacks too many, may be believed
// because an earlier one lacked the same.
func (w *step) confirmed(set endpoint.Set, missing []*Member, restored, base int) bool {
	d := &w.s.doubt
	if !d.on || d.partial.IsZero() || restored > 0 || news(missing) > 0 {
		return false
	}
	// When looking again failed meanwhile, the plain answers may all come from
	// the one server that is wrong.
	if w.now.Sub(d.first) < w.cfg.ConfirmAfter || d.failed && !set.Verified {
		return false
	}
	w.decide(endpoint.VerdictBelieved, base, base-len(missing), "two answers %v apart lack the same %d of %d",
		w.now.Sub(d.first).Round(time.Millisecond), len(missing), base)
	w.s.doubt = doubt{}
	return true
}

// news returns how many of the missing members the last answer had.
func news(missing []*Member) int {
	n := 0
	for _, m := range missing {
		if m.Standing == Believed {
			n++
		}
	}
	return n
}

// hold goes on doubting, or begins to.
func (w *step) hold(missing []*Member, restored, base, after int) {
	fresh := news(missing)
	d := w.begin(base)
	switch {
	case d.partial.IsZero():
		d.partial, d.first, d.empty, d.failed = w.now, w.now, time.Time{}, false
	case restored > 0 || fresh > 0:
		d.first = w.now
	}
	if restored > 0 {
		w.decide(endpoint.VerdictRestored, base, after, "back again: %d of the missing endpoints", restored)
	}
	if fresh > 0 {
		w.decide(endpoint.VerdictHeld, base, after, "%d of %d endpoints are missing at once: asking again", len(missing), base)
	}
}

// undoubted ends a doubt, if there was one, with an answer that is believed.
func (w *step) undoubted(missing []*Member, restored, base, after int, believe bool) {
	d := &w.s.doubt
	if !d.on {
		return
	}
	*d = doubt{}
	switch {
	case restored > 0:
		w.decide(endpoint.VerdictRestored, base, after, "back again: %d of the missing endpoints", restored)
	case believe:
		w.decide(endpoint.VerdictBelieved, base, after, "an authoritative source lacks %d of %d too", len(missing), base)
	default:
		w.decide(endpoint.VerdictBelieved, base, after, "only %d of %d are missing any more", len(missing), base)
	}
}

// settle lets the guard's clocks act, asks, and says when to be woken.
func (w *step) settle() {
	s, d := &w.s, &w.s.doubt
	if d.on && s.held == 0 {
		if len(s.members) > 0 {
			w.decide(endpoint.VerdictBelieved, d.base, len(s.members), "no missing endpoint has a connection any more")
		}
		*d = doubt{}
	}
	if !d.on || s.lastErr != nil {
		return // a failure is followed by a Set or another failure
	}
	deadline := d.partial.Add(w.cfg.HoldFor)
	if !d.empty.IsZero() {
		deadline = d.empty.Add(w.cfg.EmptyGrace)
	}
	oldest := w.limit()
	switch {
	case !deadline.After(w.now):
		w.expire(func(*Member) bool { return true })
	case !oldest.After(w.now):
		w.expire(func(m *Member) bool { return !w.limitOf(m.HeldSince).After(w.now) })
		oldest = w.limit()
	}
	if !d.on {
		return
	}
	if !d.askAt.After(w.now) {
		w.out.Ask = &endpoint.Question{Verify: true}
		d.askAt = w.now.Add(d.pause)
		d.pause = min(2*d.pause, max(maxPause, d.pause))
	}
	w.out.WakeAt = deadline
	for _, at := range []time.Time{oldest, d.askAt} {
		if at.Before(w.out.WakeAt) {
			w.out.WakeAt = at
		}
	}
}

// limit is when the member that is held longest goes in any case. Answers that
// are empty and partial by turns would start the other clocks again and again.
func (w *step) limit() time.Time {
	var since time.Time
	for _, m := range w.s.members {
		if m.Standing == Held && (since.IsZero() || m.HeldSince.Before(since)) {
			since = m.HeldSince
		}
	}
	return w.limitOf(since)
}

func (w *step) limitOf(heldSince time.Time) time.Time {
	return heldSince.Add(w.cfg.EmptyGrace + w.cfg.HoldFor + w.s.doubt.paused)
}

// expire drops the held members that are due.
func (w *step) expire(due func(*Member) bool) {
	s := &w.s
	before, empty := len(s.members), !s.doubt.empty.IsZero()
	var edits []edit
	for _, m := range s.members {
		if m.Standing == Held && due(m) {
			edits = append(edits, edit{id: m.ID, kind: drop})
		}
	}
	w.apply(edits, 0)
	if s.held == 0 {
		s.doubt = doubt{}
	}
	after := len(s.members)
	if after > 0 || !empty {
		w.decide(endpoint.VerdictExpired, before, after, "nothing confirmed or contradicted that %d of %d are missing", len(edits), before)
		return
	}
	w.decide(endpoint.VerdictZero, before, 0, "there are no endpoints: %s, and nothing else within %v", s.reason, w.cfg.EmptyGrace)
}
