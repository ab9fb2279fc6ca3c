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
	out := make([]Member, 0, len(w.s.members)+room)
	for _, m := range w.s.members {
		if len(edits) == 0 || edits[0].id != m.ID {
			out = append(out, m)
			continue
		}
		if m, stays := w.change(m, edits[0]); stays {
			out = append(out, m)
		}
		edits = edits[1:]
	}
	w.s.members, w.own = out, true
}

// change makes one edit and keeps the books; stays is false when the member
// goes.
func (w *step) change(m Member, e edit) (_ Member, stays bool) {
	wasHeld := m.Standing == Held
	switch e.kind {
	case drop:
		if wasHeld {
			w.s.held--
		} else {
			w.diff.Removed = append(w.diff.Removed, m.Endpoint)
		}
		return m, false
	case hold:
		if !wasHeld {
			w.s.held++
			w.diff.Removed = append(w.diff.Removed, m.Endpoint)
			m.Standing, m.HeldSince = Held, w.now
		}
		return m, true
	}
	m.Endpoint = e.endpoint
	if wasHeld {
		w.s.held--
		m.Standing, m.HeldSince = Believed, time.Time{}
		w.diff.Added = append(w.diff.Added, m.Endpoint)
	} else {
		w.diff.Changed = append(w.diff.Changed, m.Endpoint)
	}
	return m, true
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
	for i, id := range ids {
		if id != 0 {
			continue
		}
		w.s.lastID++
		ids[i] = w.s.lastID
		members = append(members, Member{ID: w.s.lastID, Endpoint: wanted[i], Since: w.now, Changed: changed})
		w.diff.Added = append(w.diff.Added, wanted[i])
	}
	w.s.members, w.own = members, true
	return ids
}
