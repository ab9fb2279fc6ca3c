package reconcile

import (
	"errors"
	"fmt"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Input is what happened: one of the types below.
type Input interface{ input() }

// Answer is a Set of the source, normalised or not.
type Answer struct{ Set endpoint.Set }

// Failure says that the source could not look.
type Failure struct{ Err error }

// Ended says that a member has no READY connection left. For a believed member
// it is only noted.
type Ended struct {
	ID uint64
	// GoAway means that the server said GOAWAY first, as one that shuts down
	// does.
	GoAway bool
}

// Connected says that a member has a READY connection (again). It takes an
// Ended with GoAway back: the server only limits the age of connections.
type Connected struct{ ID uint64 }

// Tick says that [Output.WakeAt] has come, or only that time passed.
type Tick struct{}

// reports are several Ended and Connected at once, so that the end of many
// connections is one step.
type reports []Input

func (Answer) input()    {}
func (Failure) input()   {}
func (Ended) input()     {}
func (Connected) input() {}
func (Tick) input()      {}
func (reports) input()   {}

// Output is what a step asks of who drives it.
type Output struct {
	// Changed means that the members changed, or that they are known now.
	Changed bool
	// Ask is to be asked of the source at once; nil when there is nothing to ask.
	Ask *endpoint.Question
	// WakeAt is when the next Tick is due, after now; zero when none is.
	WakeAt time.Time
	// Events are for people and metrics, in order.
	Events []endpoint.Event
}

// Step returns the State after in happened at now. It is a pure function: the
// same arguments give the same results, s stays as it is, and cfg must be valid.
// now need not advance; it is compared with earlier ones only.
func Step(cfg Config, s State, now time.Time, in Input) (State, Output) {
	w := step{cfg: cfg, now: now, s: s}
	switch in := in.(type) {
	case Answer:
		w.answer(in.Set)
	case Failure:
		w.failure(in.Err)
	case reports:
		w.reports(in)
	case Ended, Connected:
		w.reports(reports{in})
	}
	w.settle()
	if w.s.live {
		w.s.seen = now
	}
	if w.moved {
		w.out.Changed = true
		believed, held := w.s.Counts()
		w.event(endpoint.SetChanged{Diff: w.diff, Size: believed, Held: held, Source: w.s.source})
	}
	return w.s, w.out
}

// step is one call of Step.
type step struct {
	cfg Config
	now time.Time
	s   State
	out Output
	// moved means that members changed, diff how the believed ones did; own that
	// the slice of members was made in this step.
	moved bool
	own   bool
	diff  endpoint.Diff
	// head and tail are how many endpoints of the answer are as in the one before,
	// from the first on and from the last on.
	head, tail int
}

func (w *step) event(e endpoint.Event) { w.out.Events = append(w.out.Events, e) }

func (w *step) decide(v endpoint.Verdict, before, after int, format string, args ...any) {
	w.event(endpoint.GuardDecision{Verdict: v, Reason: fmt.Sprintf(format, args...), Before: before, After: after})
}

// answer takes a Set.
func (w *step) answer(set endpoint.Set) {
	s := &w.s
	w.recovered()
	s.lastGood, s.source, s.live = w.now, set.Source, true
	same := w.compare(set.Endpoints)
	if told := set; !same {
		set = set.Normalize()
		if len(set.Endpoints) == 0 || &told.Endpoints[0] != &set.Endpoints[0] { // it was not canonical
			same = w.compare(set.Endpoints)
		}
	}
	if same && s.Known() && !s.doubt.on && s.authoritative == set.Authoritative {
		return
	}
	if same {
		set.Endpoints = s.set // the older slice, so that the newer one can go
	}
	believe, resumes := set.Authoritative, s.stale
	if !s.Known() {
		believe = true
		w.out.Changed = true
		s.known, s.stale = true, false
	}
	wanted := w.wanted(set)
	if len(wanted) == 0 && len(s.members) > 0 && !believe {
		w.empty(set)
	} else {
		w.listed(set, wanted, believe)
	}
	s.set, s.authoritative = set.Endpoints, set.Authoritative
	if resumes {
		w.appear()
	}
}

// compare reports whether the answer's endpoints are those of the one before, and
// notes which are.
func (w *step) compare(with []endpoint.Endpoint) (same bool) {
	w.head, w.tail = endpoint.Shared(with, w.s.set)
	return w.head == len(with) && w.head == len(w.s.set)
}

// appear makes members of an old cache, which nobody was shown, look new.
func (w *step) appear() {
	w.moved, w.diff = true, endpoint.Diff{}
	for _, m := range w.s.members {
		w.diff.Added = append(w.diff.Added, m.Endpoint)
	}
}

// wanted are the endpoints of the Set that are to be believed members: those
// that may get calls, and when none of those listed may, those that are members
// already. They exist, and nothing better is known.
func (w *step) wanted(set endpoint.Set) []endpoint.Endpoint {
	eligible := set.Eligible()
	if len(eligible) > 0 || len(set.Endpoints) == 0 {
		return eligible
	}
	members := indexMembers(w.s.members)
	taken := make([]bool, len(w.s.members))
	var out []endpoint.Endpoint
	for _, e := range set.Endpoints {
		if i, ok := members.find(w.s.members, e); ok && !taken[i] {
			taken[i] = true
			out = append(out, e)
		}
	}
	return out
}

// listed takes a Set with endpoints, or one that is believed to be empty.
func (w *step) listed(set endpoint.Set, wanted []endpoint.Endpoint, believe bool) {
	s := &w.s
	before := len(s.members)
	j := w.join(set, wanted)
	missing, gone := w.triage(j.missing, set)
	lost := len(missing)
	base := w.base()
	beyond := !believe && lost >= w.cfg.MinShrink && float64(lost) > w.cfg.MaxShrink*float64(base)

	edits := j.edits
	for _, id := range gone {
		edits = append(edits, edit{id: id, kind: drop})
	}
	if beyond {
		beyond = !w.confirmed(set, missing, j.restored, base)
	}
	if beyond {
		w.hold(missing, j.restored, base, len(wanted))
	} else {
		w.undoubted(missing, j.restored, base, len(wanted), believe)
	}
	for _, m := range missing {
		switch {
		case !beyond:
			edits = append(edits, edit{id: m.ID, kind: drop})
		case m.Standing == Believed:
			edits = append(edits, edit{id: m.ID, kind: hold})
		}
	}
	fresh := count(j.ids)
	w.apply(edits, fresh)
	s.listed, s.ids = wanted, w.add(wanted, j.ids, fresh, set.Changed)
	if len(s.members) == 0 {
		s.reason = emptyReason(set)
		if before > 0 || w.out.Changed {
			w.decide(endpoint.VerdictZero, before, 0, "there are no endpoints: %s", s.reason)
		}
	}
}

// emptyReason says why a Set has nothing to call.
func emptyReason(set endpoint.Set) string {
	if n := len(set.Endpoints); n > 0 {
		return fmt.Sprintf("none of the %d listed is ready", n)
	}
	if set.Reason == "" {
		return "the answer is empty"
	}
	return set.Reason
}

// triage splits members that the answer lacks into those that the guard may doubt
// and those that go whatever it thinks.
func (w *step) triage(missing []int, set endpoint.Set) (doubtful []*Member, gone []uint64) {
	if len(missing) == 0 {
		return nil, nil
	}
	var ending []endpoint.Endpoint
	for i := range set.Endpoints {
		if e := &set.Endpoints[i]; e.Terminating {
			ending = append(ending, *e)
		}
	}
	byAddr := endpoint.Index(ending)
	for _, pos := range missing {
		m := w.s.members[pos]
		if _, terminating := byAddr.Find(ending, m.Endpoint); terminating || w.isAway(m.ID) {
			gone = append(gone, m.ID)
		} else {
			doubtful = append(doubtful, m)
		}
	}
	return doubtful, gone
}

// failure notes that the source could not look.
func (w *step) failure(err error) {
	s := &w.s
	if err == nil {
		err = errors.New("the source failed and did not say why")
	}
	if s.lastErr == nil {
		s.failing = w.now
	}
	if s.live {
		s.seen = w.now
	}
	s.lastErr, s.live = err, false
	s.doubt.failed = s.doubt.on
	w.event(endpoint.RefreshFailed{Source: s.source, Err: err})
	if s.stale {
		s.stale = false
		w.appear()
	}
}

// recovered ends a time of failures. They told nothing, so the guard's clocks
// stood still.
func (w *step) recovered() {
	s := &w.s
	if s.lastErr == nil {
		return
	}
	if away := w.now.Sub(s.failing); away > 0 {
		s.doubt.shift(away)
	}
	s.lastErr, s.failing = nil, time.Time{}
}

// reports takes what is known of connections.
func (w *step) reports(in reports) {
	s := &w.s
	var edits []edit
	var away map[uint64]time.Time // the new s.away, once it differs
	change := func() map[uint64]time.Time {
		if away == nil {
			away = w.stillAway()
		}
		return away
	}
	members := finder{members: s.members}
	for _, r := range in {
		switch r := r.(type) {
		case Connected:
			if w.isAway(r.ID) {
				delete(change(), r.ID)
			}
		case Ended:
			pos, ok := members.at(r.ID)
			switch {
			case !ok:
			case s.members[pos].Standing == Held:
				edits = append(edits, edit{id: r.ID, kind: drop})
			case r.GoAway:
				change()[r.ID] = w.now
			}
		}
	}
	if away != nil {
		s.away = away
	}
	before := len(s.members)
	w.apply(edits, 0)
	if before > 0 && len(s.members) == 0 {
		s.reason = "the answers are empty and the last connection ended"
		w.decide(endpoint.VerdictZero, before, 0, "there are no endpoints: %s", s.reason)
	}
}

// isAway reports whether the member's server said GOAWAY a short time ago and
// was not connected since. The mark wears off, because servers also say it to
// limit the age of connections, and not every owner reports Connected.
func (w *step) isAway(id uint64) bool {
	at, ok := w.s.away[id]
	return ok && w.now.Sub(at) < awayFor
}

// stillAway returns a copy of the marks that have not worn off, of members that
// exist.
func (w *step) stillAway() map[uint64]time.Time {
	out := make(map[uint64]time.Time, len(w.s.away)+1)
	for id, at := range w.s.away {
		if _, exists := w.s.at(id); exists && w.isAway(id) {
			out[id] = at
		}
	}
	return out
}
