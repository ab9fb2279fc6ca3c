package admin

import (
	"fmt"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// level is how much of somebody's attention something needs.
type level int

const (
	fine level = iota
	note
	warn
	bad
)

// class is the level's class in the style sheet.
func (l level) class() string { return [...]string{"fine", "note", "warn", "bad"}[l] }

// said is the level in a word, where a colour would be all there is.
func (l level) said() string { return [...]string{"OK", "Note", "Warning", "Problem"}[l] }

// headline is a target in one sentence, the most urgent thing first.
type headline struct {
	level level
	text  string
}

// tally is what headlines are made from.
type tally struct {
	members, connected int
	serving            int // pods that get their part of the calls
	top                *sidecar.Pod
	states             map[string]int
	recent             bool // there were calls in the last minute
	failing            []*sidecar.Pod
}

// served is the part of an equal share from which a pod counts as one that gets
// calls: new and slow pods get less than others by intent.
const served = 0.1

// failingAt is the share of a pod's calls from which its failures are named.
const failingAt = 0.05

func tallyOf(s *sidecar.Stats) tally {
	t := tally{states: map[string]int{}}
	for i := range s.Pods {
		p := &s.Pods[i]
		t.states[p.State]++
		if !isMember(p) {
			continue
		}
		t.members++
		if p.Connections > 0 {
			t.connected++
		}
		if t.top == nil || p.Share > t.top.Share {
			t.top = p
		}
		t.recent = t.recent || p.Share > 0
		if ok, total := outcome(p); total > 0 && 1-float64(ok)/float64(total) >= failingAt {
			t.failing = append(t.failing, p)
		}
	}
	for i := range s.Pods {
		if p := &s.Pods[i]; isMember(p) && p.Share > 0 && p.Share >= served/float64(t.members) {
			t.serving++
		}
	}
	return t
}

// outcome counts the pod's calls of the last minute, and those of them of which
// it made no error. What was before is no reason to wake anybody.
func outcome(p *sidecar.Pod) (ok, total uint64) {
	return p.Recent - min(p.RecentErrors, p.Recent), p.Recent
}

// rate is how many of the pods' calls ended in a second of the last minute, or of
// the time since a pod was first seen where that is shorter.
func rate(now time.Time, pods ...*sidecar.Pod) float64 {
	var sum float64
	for _, p := range pods {
		sum += float64(p.Recent) / max(1, min(60, now.Sub(p.Since).Seconds()))
	}
	return sum
}

// unevenAt is the share of calls from which one pod among n has too many: nearly
// all of them, or three times its part.
func unevenAt(n int) float64 { return min(0.9, 3/float64(n)) }

func headlineOf(s *sidecar.Stats, now time.Time) headline {
	t := tallyOf(s)
	switch {
	case s.Draining:
		return headline{note, "draining: " + plural(s.ClientStreams, "call") + " left to end"}
	case !s.Known:
		return headline{warn, because("waiting for the first endpoints", first(s.LastError, s.Reason))}
	case t.members == 0:
		return headline{bad, because("no endpoints, calls are refused", first(s.LastError, s.Reason))}
	case t.connected == 0:
		return headline{bad, because(fmt.Sprintf("none of %s can take calls", plural(t.members, "pod")), first(anyReason(s), s.LastError, s.Reason))}
	case s.Panic:
		return headline{bad, "so many pods fail that ejections are set aside: calls go to all of them" + andAlso(s, t, now)}
	case t.recent && t.members > 1 && t.top.Share >= unevenAt(t.members):
		return headline{warn, fmt.Sprintf("1 of %s gets %s of calls", plural(t.members, "pod"), percent(t.top.Share)) + andAlso(s, t, now)}
	}
	text := fmt.Sprintf("calls spread over %d of %s", t.serving, plural(t.members, "pod"))
	if !t.recent {
		text = fmt.Sprintf("%d of %s connected, no calls in the last minute", t.connected, plural(t.members, "pod"))
	}
	h := headline{fine, text + andAlso(s, t, now)}
	switch {
	case s.LastError != "" || len(t.failing) > 0,
		t.states[sidecar.StateEjected]+t.states[sidecar.StateUnreachable]+t.states[sidecar.StateSilent] > 0:
		h.level = warn
	case t.states[sidecar.StateHeld]+t.states[sidecar.StateConnecting] > 0:
		h.level = note
	}
	return h
}

// andAlso names the pods that are not as they should be, worst first.
func andAlso(s *sidecar.Stats, t tally, now time.Time) string {
	out := ""
	switch len(t.failing) {
	case 0:
	case 1:
		ok, total := outcome(t.failing[0])
		out += fmt.Sprintf("; %s fails %s of its calls", called(t.failing[0]), percent(1-float64(ok)/float64(total)))
	default:
		out += fmt.Sprintf("; %s fail calls", plural(len(t.failing), "pod"))
	}
	var states []string
	for _, state := range []string{
		sidecar.StateUnreachable, sidecar.StateSilent, sidecar.StateEjected, sidecar.StateHeld,
		sidecar.StateConnecting, sidecar.StateWarming, sidecar.StateDraining,
	} {
		if n := t.states[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, stateWord(state)))
		}
	}
	if states != nil {
		out += "; " + list(states)
	}
	if s.LastError != "" {
		out += "; the source fails"
		if !s.LastGood.IsZero() {
			out += ", last answer " + ago(now, s.LastGood)
		}
	}
	return out
}

// stateWord is a state as it is read in a sentence.
func stateWord(state string) string {
	if state == sidecar.StateWarming {
		return "warming up"
	}
	return state
}

// called is how people call the pod.
func called(p *sidecar.Pod) string { return first(p.Name, p.Addr) }

func anyReason(s *sidecar.Stats) string {
	for i := range s.Pods {
		if r := s.Pods[i].StateReason; r != "" && isMember(&s.Pods[i]) {
			return r
		}
	}
	return ""
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// first is the first of words that is not empty.
func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
