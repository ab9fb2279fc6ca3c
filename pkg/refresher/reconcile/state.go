package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Standing is how far a member is believed in.
type Standing uint8

// The standings of a member.
const (
	// Believed: the last answer has it. It is dialled and gets calls.
	Believed Standing = iota
	// Held: the last answer lacks it and is not believed in that. It gets calls
	// only while no believed member is READY, and is never dialled.
	Held
)

// String is the standing in lower case.
func (s Standing) String() string {
	if s == Held {
		return "held"
	}
	return "believed"
}

// Member is one endpoint that the target has.
type Member struct {
	// ID is the key of all state that is kept per endpoint. It is never used
	// twice in the life of a State, and stays while the endpoint is
	// [endpoint.Endpoint.Same], whatever else of it changes.
	ID uint64
	// Endpoint is its newest form. What a source that knows less (DNS) does not
	// tell stays from the one that did (EndpointSlices): UID, node, zone, the
	// address of the other family.
	Endpoint endpoint.Endpoint
	// Standing says whether it is held.
	Standing Standing
	// Since is when it was seen first.
	Since time.Time
	// HeldSince is when it became Held; zero while it is Believed.
	HeldSince time.Time
	// Changed is the Set's Changed that brought it, zero when unknown.
	Changed time.Time
}

// State is what is known of a target. The zero value knows nothing. Nobody
// changes a State: Step returns the next one, which shares what did not change.
type State struct {
	members []*Member // sorted by ID; nobody writes to what they point to
	held    int       // of members
	lastID  uint64    // the highest ID given

	// set is the last answer in canonical form, authoritative whether it was.
	set           []endpoint.Endpoint
	authoritative bool
	// listed are the endpoints of set that are Believed, as the source told
	// them, sorted by address; ids are the IDs of their members.
	listed []endpoint.Endpoint
	ids    []uint64
	// extras means that a member may know an address that its listed form lacks.
	extras bool

	known  bool
	stale  bool // members are from a cache that is too old to be shown
	source string
	reason string // why there are no members

	lastGood time.Time // the last answer
	lastErr  error     // since then
	failing  time.Time // when lastErr began
	live     bool      // the source answered in this life, and has not failed since
	seen     time.Time // until when a source vouched for the members

	doubt doubt
	away  map[uint64]time.Time // when the members' servers said GOAWAY; never written to
}

// Members returns copies of the members sorted by ID.
func (s State) Members() []Member {
	refs := s.Refs()
	if len(refs) == 0 {
		return nil
	}
	out := make([]Member, len(refs))
	for i, m := range refs {
		out[i] = *m
	}
	return out
}

// Refs returns the members sorted by ID without copying them. The slice and the
// members are shared: they are read and not written. A member that two States
// have at the same pointer did not change from one to the other.
func (s State) Refs() []*Member {
	if s.stale {
		return nil
	}
	return s.members
}

// Counts returns how many members are believed and how many are held.
func (s State) Counts() (believed, held int) {
	n := len(s.Refs())
	if n == 0 {
		return 0, 0
	}
	return n - s.held, s.held
}

// Known reports whether there was any Set yet, even one that is believed to be
// empty.
func (s State) Known() bool { return s.known && !s.stale }

// Authoritative reports whether the last Set's source knows the whole truth, so
// that there being nothing is no transient.
func (s State) Authoritative() bool { return s.authoritative }

// LastGood is when the last Set came, whether or not it was believed; zero
// before the first.
func (s State) LastGood() time.Time { return s.lastGood }

// LastErr is the source's last error, nil when a Set came since.
func (s State) LastErr() error { return s.lastErr }

// Source names the source of the last Set, "" before the first.
func (s State) Source() string { return s.source }

// Reason says for people why there are no members, "" when there are some or
// when nothing is known yet.
func (s State) Reason() string {
	if !s.Known() || len(s.members) > 0 {
		return ""
	}
	return s.reason
}

// finder finds members by ID. Who asks for many mostly asks in the order of the
// IDs, so that the next one is the one behind the last.
type finder struct {
	members []*Member
	next    int
}

// at returns the position of the member with the ID.
func (f *finder) at(id uint64) (int, bool) {
	if f.next < len(f.members) && f.members[f.next].ID == id {
		f.next++
		return f.next - 1, true
	}
	pos, ok := slices.BinarySearchFunc(f.members, id, func(m *Member, id uint64) int { return cmp.Compare(m.ID, id) })
	f.next = pos + 1
	return pos, ok
}

// at returns the position of the member with the ID.
func (s *State) at(id uint64) (int, bool) {
	f := finder{members: s.members}
	return f.at(id)
}

// resumed is the State of an earlier life as a new one starts from it: the
// connections of that life are closed, so nothing is left to hold, and nobody's
// GOAWAY counts.
//
// Members that a source vouched for within EmptyGrace are shown at once: the
// guard itself uses members for as long without any answer that has them. Older
// ones may have given their addresses to other pods, and the source's first look
// takes milliseconds: they wait for it. Its answer is believed as a first one is
// (they only lend it their IDs), and its error shows them, as they would still
// be in use had the channel not been idle.
func (s State) resumed(cfg Config, now time.Time) State {
	if s.held > 0 {
		s.members = slices.DeleteFunc(slices.Clone(s.members), func(m *Member) bool { return m.Standing == Held })
		s.held = 0
	}
	if len(s.members) == 0 {
		// That there was nothing is no reason to fail the call that ended the idle
		// time.
		return State{lastID: s.lastID}
	}
	s.stale = now.Sub(s.seen) > cfg.EmptyGrace
	s.lastErr, s.failing, s.live, s.away, s.doubt = nil, time.Time{}, false, nil, doubt{}
	return s
}
