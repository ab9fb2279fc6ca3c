package reconcile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// scene plays a script, one line per step:
//
//	TIME OPERATION [ENDPOINTS] => MEMBERS ; WHAT ELSE
//
// Operations: dns, verified (dns that answers a question), kube (authoritative),
// fail, tick, ended #ID, goaway #ID, connected #ID.
//
// An endpoint is a letter for its IPv4 address, in upper case for its IPv6
// address, both when it has both; then "/UID", "!" for not ready, "~" for
// terminating and still serving, "x" for terminating and not serving. Members are
// written alike, the held ones behind a "|"; with "#ID" where a line gives one.
// "none" is no members, "unknown" is that nothing is known.
//
// What else happens is written exactly: "ask", verdicts, "wake TIME".
type scene struct {
	t     *testing.T
	cfg   Config
	start time.Time
	state State
	now   time.Time
}

var errLook = errors.New("look failed")

func newScene(t *testing.T, cfg Config) *scene {
	return &scene{t: t, cfg: cfg, start: time.Unix(1_000_000, 0)}
}

func (s *scene) play(script string) {
	s.t.Helper()
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "//")
		if line = strings.TrimSpace(line); line != "" {
			s.line(line)
		}
	}
}

func (s *scene) line(line string) {
	s.t.Helper()
	do, expect, _ := strings.Cut(line, "=>")
	words := strings.Fields(do)
	at, err := time.ParseDuration(words[0])
	if err != nil {
		s.t.Fatalf("%q: %v", line, err)
	}
	s.now = s.start.Add(at)
	var in Input
	switch op, args := words[1], words[2:]; op {
	case "dns", "verified", "kube":
		set := endpoint.Set{Source: "dns", Verified: op == "verified", Endpoints: eps(args...)}
		if op == "kube" {
			set.Source, set.Authoritative = "kube", true
		} else if len(args) == 0 {
			set.Reason = "NXDOMAIN"
		}
		in = Answer{set}
	case "fail":
		in = Failure{errLook}
	case "tick":
		in = Tick{}
	case "resume":
		s.state = s.state.resumed(s.cfg, s.now)
		s.compare(line, expect, "")
		return
	default:
		var id uint64
		if _, err := fmt.Sscanf(args[0], "#%d", &id); err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		switch op {
		case "ended":
			in = Ended{ID: id}
		case "goaway":
			in = Ended{ID: id, GoAway: true}
		case "connected":
			in = Connected{id}
		default:
			s.t.Fatalf("%q: no such operation", line)
		}
	}
	next, out := Step(s.cfg, s.state, s.now, in)
	if changed := s.render(s.state, true) != s.render(next, true); changed != out.Changed {
		s.t.Errorf("%s\n\tChanged is %v, members were %s and are %s", line, out.Changed, s.render(s.state, true), s.render(next, true))
	}
	s.state = next
	s.compare(line, expect, s.extras(out))
}

func (s *scene) compare(line, expect, extras string) {
	s.t.Helper()
	members, more, _ := strings.Cut(expect, ";")
	members, more = strings.TrimSpace(members), strings.TrimSpace(more)
	if got := s.render(s.state, strings.Contains(members, "#")); got != members {
		s.t.Errorf("%s\n\tmembers are %s", line, got)
	}
	if extras != more {
		s.t.Errorf("%s\n\tbeside that it is %q", line, extras)
	}
	check(s.t, s.state)
}

func (s *scene) extras(out Output) string {
	var words []string
	for _, e := range out.Events {
		if d, ok := e.(endpoint.GuardDecision); ok {
			words = append(words, string(d.Verdict))
		}
	}
	if out.Ask != nil {
		words = append(words, "ask")
	}
	if !out.WakeAt.IsZero() {
		words = append(words, "wake "+out.WakeAt.Sub(s.start).String())
	}
	return strings.Join(words, " ")
}

func (s *scene) render(state State, ids bool) string {
	if !state.Known() {
		return "unknown"
	}
	if len(state.Members()) == 0 {
		return "none"
	}
	members := slices.Clone(state.Members())
	slices.SortStableFunc(members, func(a, b Member) int { return int(a.Standing) - int(b.Standing) })
	var words []string
	bar := false
	for _, m := range members {
		if m.Standing == Held && !bar {
			words, bar = append(words, "|"), true
		}
		word := text(m.Endpoint)
		if ids {
			word += fmt.Sprintf("#%d", m.ID)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// eps reads endpoints as scripts have them.
func eps(words ...string) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, 0, len(words))
	for _, w := range words {
		out = append(out, ep(w))
	}
	return out
}

func ep(word string) endpoint.Endpoint {
	e := endpoint.Endpoint{Ready: true, Serving: true}
	letters, uid, _ := strings.Cut(word, "/")
	if i := strings.IndexAny(uid, "!~x"); i >= 0 {
		letters, uid = letters+uid[i:], uid[:i]
	}
	e.UID = uid
	for _, c := range letters {
		switch {
		case c == '!':
			e.Ready, e.Serving = false, false
		case c == '~':
			e.Ready, e.Terminating = false, true
		case c == 'x':
			e.Ready, e.Serving, e.Terminating = false, false, true
		case c >= 'a':
			e.Addrs = append(e.Addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(c)}), 6565))
		default:
			e.Addrs = append(e.Addrs, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(c)}), 6565))
		}
	}
	return e
}

func text(e endpoint.Endpoint) string {
	var b strings.Builder
	for _, a := range e.Addrs {
		raw := a.Addr().AsSlice()
		b.WriteByte(raw[len(raw)-1])
	}
	if e.UID != "" {
		b.WriteString("/" + e.UID)
	}
	switch {
	case e.Terminating && e.Serving:
		b.WriteByte('~')
	case e.Terminating:
		b.WriteByte('x')
	case !e.Ready:
		b.WriteByte('!')
	}
	return b.String()
}

// check holds a State to what is always true of it.
func check(t *testing.T, s State) {
	t.Helper()
	addrs := map[netip.AddrPort]uint64{}
	held, listed := 0, map[uint64]bool{}
	for _, id := range s.ids {
		if listed[id] {
			t.Fatalf("member %d is listed twice", id)
		}
		listed[id] = true
	}
	if len(s.ids) != len(s.listed) {
		t.Fatalf("%d IDs for %d listed endpoints", len(s.ids), len(s.listed))
	}
	for i, m := range s.members {
		if m.ID == 0 || m.ID > s.lastID || i > 0 && m.ID <= s.members[i-1].ID {
			t.Fatalf("member %d of %d has the ID %d, the last given is %d", i, len(s.members), m.ID, s.lastID)
		}
		if len(m.Endpoint.Addrs) == 0 {
			t.Fatalf("member %d has no address", m.ID)
		}
		for _, a := range m.Endpoint.Addrs {
			if other, taken := addrs[a]; taken {
				t.Fatalf("members %d and %d both have %v", other, m.ID, a)
			}
			addrs[a] = m.ID
		}
		if (m.Standing == Held) == m.HeldSince.IsZero() {
			t.Fatalf("member %d is %v since %v", m.ID, m.Standing, m.HeldSince)
		}
		if (m.Standing == Believed) != listed[m.ID] {
			t.Fatalf("member %d is %v, listed %v", m.ID, m.Standing, listed[m.ID])
		}
		if m.Standing == Held {
			held++
		}
	}
	if len(listed) != len(s.members)-held {
		t.Fatalf("%d listed, %d members of which %d held", len(listed), len(s.members), held)
	}
	if held != s.held || s.doubt.on != (held > 0) {
		t.Fatalf("%d are held, noted %d, doubt %v", held, s.held, s.doubt.on)
	}
	if s.doubt.on && s.doubt.empty.IsZero() == s.doubt.partial.IsZero() {
		t.Fatalf("a doubt is either about an empty or about a smaller answer: %+v", s.doubt)
	}
}
