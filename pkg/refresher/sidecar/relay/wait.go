package relay

import (
	"math"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// dispatch gives a call to a backend, or has it wait. Who came before comes first.
func (e *Engine) dispatch(s *stream) {
	if e.waiting > 0 && s.retries == 0 || !e.place(s) {
		e.wait(s)
	}
}

// place asks the host for a backend. It reports false when none has room.
func (e *Engine) place(s *stream) bool {
	b, refuse := e.host.Pick(e.now, s.avoid)
	switch {
	case refuse != nil:
		e.answer(s, answerOf(*refuse))
	case b == nil || !b.Room():
		return false
	default:
		e.assign(s, b)
	}
	return true
}

// wait puts a call into the row of those who wait; one that had a backend already
// stands at its head.
func (e *Engine) wait(s *stream) {
	if e.waiting >= e.cfg.MaxWaiting {
		e.answer(s, answerOf(Status{codeResourceExhausted, "no pod has room, and too many calls wait already"}))
		return
	}
	s.waitUntil = 0
	if e.cfg.MaxWait > 0 {
		s.waitUntil = later(s.arrived, e.cfg.MaxWait)
	}
	if d := later(s.arrived, s.timeout); s.timeout > 0 && (s.waitUntil == 0 || d < s.waitUntil) {
		s.waitUntil = d
	}
	e.due(s.waitUntil)
	if s.retries > 0 {
		e.waitFirst(s)
		return
	}
	s.waiting = true
	e.waiting++
	s.wprev = e.lastWait
	if e.lastWait != nil {
		e.lastWait.wnext = s
	} else {
		e.firstWait = s
	}
	e.lastWait = s
}

// waitFirst puts a call at the head of the row.
func (e *Engine) waitFirst(s *stream) {
	s.waiting = true
	e.waiting++
	s.wnext = e.firstWait
	if e.firstWait != nil {
		e.firstWait.wprev = s
	} else {
		e.lastWait = s
	}
	e.firstWait = s
}

func (e *Engine) unwait(s *stream) {
	if !s.waiting {
		return
	}
	s.waiting = false
	e.waiting--
	if s.wprev != nil {
		s.wprev.wnext = s.wnext
	} else {
		e.firstWait = s.wnext
	}
	if s.wnext != nil {
		s.wnext.wprev = s.wprev
	} else {
		e.lastWait = s.wprev
	}
	s.wprev, s.wnext = nil, nil
}

// serve gives waiting calls out, the first first, until one finds no room.
func (e *Engine) serve() {
	for e.firstWait != nil {
		s := e.firstWait
		e.unwait(s)
		if !e.place(s) {
			e.waitFirst(s) // back, whatever its number of retries
			return
		}
	}
}

// expire ends the calls that waited for too long.
func (e *Engine) expire() {
	for s := e.firstWait; s != nil; {
		next := s.wnext
		switch {
		case s.waitUntil == 0 || s.waitUntil > e.now:
			e.due(s.waitUntil)
		case s.timeout > 0 && later(s.arrived, s.timeout) <= e.now:
			e.answer(s, answerOf(Status{codeDeadlineExceeded, "no pod had room before the deadline"}))
		default:
			e.answer(s, answerOf(Status{codeUnavailable, "no pod had room for " + e.cfg.MaxWait.String()}))
		}
		s = next
	}
}

// later is t + d, and the end of time instead of an overflow.
func later(t policy.Nanos, d time.Duration) policy.Nanos {
	if t > 0 && d > time.Duration(math.MaxInt64-t) {
		return math.MaxInt64
	}
	return t.Add(d)
}

// due says that Tick has something to do at t; 0: never.
func (e *Engine) due(t policy.Nanos) {
	if t != 0 && (e.next == 0 || t < e.next) {
		e.next = t
	}
}
