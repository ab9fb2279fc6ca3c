package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// edit is one change of a member that exists.
type edit struct {
	id       uint64
	kind     editKind
	endpoint endpoint.Endpoint // the new form, for believe
}

type editKind uint8

const (
	drop editKind = iota
	hold
	believe
)

// apply makes new members out of the old ones and the edits, at most one each.
// It leaves room for more.
func (w *step) apply(edits []edit, room int) {
	if len(edits) == 0 {
		return
	}
	w.moved = true
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.id, b.id) })
	out := make([]*Member, 0, len(w.s.members)+room)
	old := finder{members: w.s.members}
	next := 0 // of the old ones
	for _, e := range edits {
		pos, _ := old.at(e.id)
		out = append(out, old.members[next:pos]...)
		if m := w.change(old.members[pos], e); m != nil {
			out = append(out, m)
		}
		next = pos + 1
	}
	w.s.members, w.own = append(out, old.members[next:]...), true
}

// change makes one edit and keeps the books. It returns the member's new form, nil
// when it goes.
func (w *step) change(m *Member, e edit) *Member {
	wasHeld := m.Standing == Held
	switch e.kind {
	case drop:
		if wasHeld {
			w.s.held--
		} else {
			w.diff.Removed = append(w.diff.Removed, m.Endpoint)
		}
		return nil
	case hold:
		if wasHeld {
			return m
		}
		w.s.held++
		w.diff.Removed = append(w.diff.Removed, m.Endpoint)
		next := *m
		next.Standing, next.HeldSince = Held, w.now
		return &next
	}
	next := *m
	next.Endpoint = e.endpoint
	if wasHeld {
		w.s.held--
		next.Standing, next.HeldSince = Believed, time.Time{}
		w.diff.Added = append(w.diff.Added, next.Endpoint)
	} else {
		w.diff.Changed = append(w.diff.Changed, next.Endpoint)
	}
	return &next
}

// count returns how many of the IDs are still to be given.
func count(ids []uint64) int {
	n := 0
	for _, id := range ids {
		if id == 0 {
			n++
		}
	}
	return n
}

// add makes members of the wanted endpoints without an ID, fresh in number, and
// returns ids with theirs.
func (w *step) add(wanted []endpoint.Endpoint, ids []uint64, fresh int, changed time.Time) []uint64 {
	if fresh == 0 {
		return ids
	}
	w.moved = true
	members := w.s.members
	if !w.own {
		members = slices.Clip(members) // what lies behind may be another State's
	}
	members = slices.Grow(members, fresh)
	w.diff.Added = slices.Grow(w.diff.Added, fresh)
	// Made some at a time, which is cheaper, but not all: whoever stays of those
	// that were made together keeps the memory of the others.
	const together = 16
	var made []Member
	for i, id := range ids {
		if id != 0 {
			continue
		}
		w.s.lastID++
		ids[i] = w.s.lastID
		if len(made) == 0 {
			made = make([]Member, min(together, fresh))
		}
		m := &made[0]
		made, fresh = made[1:], fresh-1
		*m = Member{ID: w.s.lastID, Endpoint: wanted[i], Since: w.now, Changed: changed}
		members = append(members, m)
		w.diff.Added = append(w.diff.Added, wanted[i])
	}
	w.s.members, w.own = members, true
	return ids
}
