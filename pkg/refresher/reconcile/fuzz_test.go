package reconcile

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// walk makes a sequence of inputs out of bytes.
type walk struct {
	t    *testing.T
	data []byte
	cfg  Config

	now       time.Time
	state     State
	failing   time.Duration // how long the source failed in all
	failedAt  time.Time
	gone      map[uint64]bool      // IDs that were members
	away      map[uint64]time.Time // of members whose server said GOAWAY
	wantedIDs map[string]uint64    // by text, of the last answer
	shown     []endpoint.Endpoint  // the believed ones, as the events tell it
}

func (w *walk) byte() byte {
	if len(w.data) == 0 {
		return 0
	}
	b := w.data[0]
	w.data = w.data[1:]
	return b
}

// set makes a Set: three bytes per endpoint, so that duplicates, foreign UIDs
// and families that do not fit are common.
func (w *walk) set() endpoint.Set {
	b := w.byte()
	set := endpoint.Set{Source: "dns", Authoritative: b&1 != 0, Verified: b&2 != 0}
	for range int(b>>2) % 8 {
		b, c := w.byte(), w.byte()
		letter := 'a' + rune(b%8)
		word := []string{string(letter), string(letter - 32), string(letter) + string(letter-32), string(letter-32) + string(letter)}[b>>3%4]
		word += []string{"", "", "/1", "/2"}[c%4]
		word += []string{"", "", "", "", "", "!", "~", "x"}[c>>2%8]
		e := ep(word)
		if c>>5 == 7 { // a pod whose second address is another's
			e.Addrs = append(e.Addrs, ep(string('a'+rune(b>>5))).Addrs...)
		}
		set.Endpoints = append(set.Endpoints, e)
	}
	return set
}

func (w *walk) input() Input {
	b := w.byte()
	switch b % 8 {
	case 0, 1, 2, 3:
		return Answer{w.set()}
	case 4:
		return Failure{errLook}
	case 5:
		return Tick{}
	}
	id := uint64(b>>4) + 1
	if members := w.state.members; len(members) > 0 {
		id = members[int(b>>4)%len(members)].ID
	}
	switch w.byte() % 8 {
	case 0, 1:
		return Connected{id}
	case 2, 3, 4:
		return Ended{ID: id}
	case 5:
		return nil // a new life
	}
	return Ended{ID: id, GoAway: true}
}

// resume begins a new life of the same target.
func (w *walk) resume() {
	before := w.state
	w.state = before.resumed(w.cfg, w.now)
	check(w.t, w.state)
	w.life(before, w.state)
	if w.state.held > 0 || w.state.lastErr != nil {
		w.t.Fatalf("a new life begins with %d held members and the error %v", w.state.held, w.state.lastErr)
	}
	w.wantedIDs, w.failedAt, w.shown = nil, time.Time{}, nil
	clear(w.away)
	for _, m := range w.state.Members() {
		w.shown = append(w.shown, m.Endpoint)
	}
}

var pauses = []time.Duration{0, 0, time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 29 * time.Second, 61 * time.Second, -time.Millisecond}

func (w *walk) run() {
	for len(w.data) > 0 {
		w.now = w.now.Add(pauses[int(w.byte())%len(pauses)])
		if in := w.input(); in != nil {
			w.step(in)
		} else {
			w.resume()
		}
	}
	// A constant answer is believed in the end.
	set := endpoint.Set{Source: "dns", Endpoints: eps("a", "b/1", "cC/2")}
	for _, set := range []endpoint.Set{set, {Source: "dns"}, w.set()} {
		for range 30 {
			w.now = w.now.Add(5 * time.Second)
			w.step(Answer{set})
		}
		canonical := set.Normalize()
		if eligible := canonical.Eligible(); len(eligible) > 0 || len(canonical.Endpoints) == 0 {
			w.same(eligible)
		}
		if w.state.held > 0 {
			w.t.Fatalf("%d members are held although the answer did not change for 150 s", w.state.held)
		}
	}
}

// same demands that the members are exactly these.
func (w *walk) same(want []endpoint.Endpoint) {
	members := w.state.Refs()
	if len(members) != len(want) {
		w.t.Fatalf("%d members for %d endpoints", len(members), len(want))
	}
	ix := indexMembers(members)
	for _, e := range want {
		if i, ok := ix.find(members, e); !ok || members[i].Standing != Believed {
			w.t.Fatalf("the endpoint %s is not a believed member", text(e))
		}
	}
}

func (w *walk) step(in Input) {
	t, before := w.t, w.state
	kept := values(before.members)
	next, out := Step(w.cfg, before, w.now, in)
	again, outAgain := Step(w.cfg, before, w.now, in)
	if !deepEqual(next, again) || !deepEqual(out, outAgain) {
		t.Fatalf("Step is not a function: %+v\n%+v", next, again)
	}
	if !reflect.DeepEqual(kept, values(before.members)) {
		t.Fatal("Step wrote to the State before")
	}
	for _, m := range next.members {
		if pos, ok := before.at(m.ID); ok && (m == before.members[pos]) != reflect.DeepEqual(*m, *before.members[pos]) {
			t.Fatalf("member %d is the same by its pointer or by its fields, not by both", m.ID)
		}
	}
	w.state = next
	check(t, next)
	if !out.WakeAt.IsZero() && !out.WakeAt.After(w.now) {
		t.Fatalf("WakeAt is %v from now", out.WakeAt.Sub(w.now))
	}
	if out.Changed != (before.Known() != next.Known() || !reflect.DeepEqual(before.Members(), next.Members())) {
		t.Fatalf("Changed is %v", out.Changed)
	}
	w.life(before, next)
	w.watch(out.Events)
	switch in := in.(type) {
	case Failure:
		w.failed(before, next)
	case Answer:
		w.answered(in.Set)
	case Tick:
		if next.lastErr != nil && out.Changed {
			t.Fatal("time alone changed the members while the source fails")
		}
	}
	w.marks(before, in)
	if next.lastErr != nil {
		return
	}
	for _, m := range next.members {
		if m.Standing == Held && w.now.Sub(m.HeldSince) >= w.cfg.EmptyGrace+w.cfg.HoldFor+w.failing {
			t.Fatalf("member %d is held for %v", m.ID, w.now.Sub(m.HeldSince))
		}
	}
}

// values are copies of members.
func values(members []*Member) []Member {
	out := make([]Member, len(members))
	for i, m := range members {
		out[i] = *m
	}
	return out
}

// deepEqual also compares errors by identity or content; here they are the same
// one.
func deepEqual(a, b any) bool { return reflect.DeepEqual(a, b) }

// watch follows the members by events alone, as a person does.
func (w *walk) watch(events []endpoint.Event) {
	t := w.t
	for _, e := range events {
		c, ok := e.(endpoint.SetChanged)
		if !ok {
			continue
		}
		for _, gone := range c.Diff.Removed {
			i := slices.IndexFunc(w.shown, gone.Equal)
			if i < 0 {
				t.Fatalf("the event says that %s went, which was not there", text(gone))
			}
			w.shown = slices.Delete(w.shown, i, i+1)
		}
		// What changed is told in its new form alone, which may have an address
		// that was another's: the old forms are those that nobody has any more.
		w.shown = append(append(w.shown, c.Diff.Added...), c.Diff.Changed...)
		all := len(w.shown)
		w.shown = slices.DeleteFunc(w.shown, func(e endpoint.Endpoint) bool {
			return !slices.ContainsFunc(w.state.Members(), func(m Member) bool { return m.Standing == Believed && m.Endpoint.Equal(e) })
		})
		if old := all - len(w.shown); old != len(c.Diff.Changed) {
			t.Fatalf("%d changed, %d old forms are left: %+v", len(c.Diff.Changed), old, c.Diff)
		}
		if believed, held := w.state.Counts(); c.Size != believed || c.Held != held {
			t.Fatalf("the event says %d believed and %d held, there are %d and %d", c.Size, c.Held, believed, held)
		}
	}
	believed, _ := w.state.Counts()
	for _, m := range w.state.Members() {
		if m.Standing == Believed && !slices.ContainsFunc(w.shown, m.Endpoint.Equal) {
			t.Fatalf("no event told of %s", text(m.Endpoint))
		}
	}
	if len(w.shown) != believed {
		t.Fatalf("by the events there are %d believed members, there are %d", len(w.shown), believed)
	}
}

// life watches that no ID lives twice.
func (w *walk) life(before, next State) {
	for _, m := range before.members {
		if _, stays := next.at(m.ID); !stays {
			w.gone[m.ID] = true
		}
	}
	for _, m := range next.members {
		if w.gone[m.ID] {
			w.t.Fatalf("the ID %d was given twice", m.ID)
		}
	}
}

func (w *walk) failed(before, next State) {
	if !reflect.DeepEqual(before.members, next.members) {
		w.t.Fatal("an error changed the members")
	}
	if before.lastErr == nil {
		w.failedAt = w.now
	}
}

// answered checks what is true after every answer, believed or not: it has its
// endpoints as members, and what it had before keeps its ID.
func (w *walk) answered(set endpoint.Set) {
	if !w.failedAt.IsZero() {
		w.failing += max(0, w.now.Sub(w.failedAt))
		w.failedAt = time.Time{}
	}
	t, s := w.t, w.state
	ix := indexMembers(s.members)
	canonical := set.Normalize()
	ids := map[string]uint64{}
	for _, e := range canonical.Eligible() {
		i, ok := ix.find(s.members, e)
		if !ok || s.members[i].Standing != Believed {
			t.Fatalf("the answer has %s, the members do not", text(e))
		}
		id := s.members[i].ID
		ids[text(e)] = id
		if old, was := w.wantedIDs[text(e)]; was && old != id {
			t.Fatalf("%s had the ID %d and has %d", text(e), old, id)
		}
	}
	w.wantedIDs = ids
	if set.Authoritative && len(ids) > 0 {
		w.same(canonical.Eligible())
	}
	addrs := map[netip.AddrPort]endpoint.Endpoint{}
	for _, e := range canonical.Endpoints {
		for _, a := range e.Addrs {
			addrs[a] = e
		}
	}
	for _, m := range s.members {
		for _, a := range m.Endpoint.Addrs {
			e, has := addrs[a]
			if m.Standing == Held && has && (e.Terminating && e.Same(m.Endpoint)) {
				t.Fatalf("%s is held, but terminates", text(m.Endpoint))
			}
			if m.Standing == Believed && has && !e.Same(m.Endpoint) {
				t.Fatalf("%s is believed, but the answer has %s at its address", text(m.Endpoint), text(e))
			}
		}
	}
}

// marks watches that nothing that said GOAWAY becomes held.
func (w *walk) marks(before State, in Input) {
	for _, m := range w.state.members {
		pos, was := before.at(m.ID)
		at, away := w.away[m.ID]
		if was && before.members[pos].Standing == Believed && m.Standing == Held && away && w.now.Sub(at) < awayFor {
			w.t.Fatalf("member %d said GOAWAY %v ago and is held", m.ID, w.now.Sub(at))
		}
	}
	switch in := in.(type) {
	case Ended:
		if _, exists := w.state.at(in.ID); exists && in.GoAway {
			w.away[in.ID] = w.now
		}
	case Connected:
		delete(w.away, in.ID)
	}
}

func newWalk(t *testing.T, data []byte) *walk {
	w := &walk{t: t, data: data, cfg: DefaultConfig(), now: time.Unix(1_000_000, 0), gone: map[uint64]bool{}, away: map[uint64]time.Time{}}
	switch w.byte() % 6 {
	case 1:
		w.cfg.MaxShrink, w.cfg.MinShrink = 0, 1
	case 2:
		w.cfg.EmptyGrace = 0
	case 3:
		w.cfg.EmptyGrace, w.cfg.HoldFor = 10*time.Second, 3*time.Second
	case 4:
		w.cfg.HoldFor, w.cfg.ConfirmAfter = 0, 0
	}
	return w
}

func FuzzStep(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		data := make([]byte, 20+random.IntN(400))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		newWalk(t, data).run()
	})
}
