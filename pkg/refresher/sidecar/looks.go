package sidecar

import (
	"maps"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// maxLooks is how many refreshes are kept.
const maxLooks = 50

// looks is what the source and the guard said. Guarded by Proxy.mu.
//
// What a look led to comes before the look itself is told (endpoint.Refreshed). A
// source that watches tells no looks, only what they led to.
type looks struct {
	rows        []Refresh // the oldest first
	open        bool      // the last row waits for its look to be told
	outcomes    map[string]uint64
	verdicts    map[string]uint64
	size, held  int
	took        times
	propagation times
}

func newLooks() looks {
	return looks{outcomes: map[string]uint64{}, verdicts: map[string]uint64{}}
}

func (l *looks) take(e endpoint.Event) {
	switch e := e.(type) {
	case endpoint.SetChanged:
		if r := l.row(e.Source); r.Added != nil || r.Removed != nil || r.Error != "" {
			l.open = false
		}
		r := l.row(e.Source)
		r.Added, r.Removed = texts(e.Diff.Added), texts(e.Diff.Removed)
		r.Outcome = "changed"
		l.size, l.held = e.Size, e.Held
		r.Size, r.Held = e.Size, e.Held
	case endpoint.GuardDecision:
		l.verdicts[string(e.Verdict)]++
		r := l.row("")
		if r.Guard != "" {
			r.Guard += "; "
		}
		r.Guard += string(e.Verdict) + ": " + e.Reason
	case endpoint.RefreshFailed:
		if r := l.row(e.Source); r.Error != "" {
			l.open = false
		}
		r := l.row(e.Source)
		r.Error, r.Outcome = e.Err.Error(), "error"
	case endpoint.Refreshed:
		l.refreshed(e)
	}
}

// refreshed closes the open row, or counts a look that led to nothing.
func (l *looks) refreshed(e endpoint.Refreshed) {
	l.outcomes[e.Source+"/"+e.Outcome]++
	if e.Took > 0 {
		l.took.add(e.Took)
	}
	if !l.open && len(l.rows) > 0 {
		last := &l.rows[len(l.rows)-1]
		if last.Source == e.Source && last.Outcome == e.Outcome && last.plain() {
			last.Looks++
			last.At, last.Took = time.Now(), e.Took
			return
		}
	}
	r := l.row(e.Source)
	r.Source, r.Outcome, r.Took, r.At = e.Source, e.Outcome, e.Took, time.Now()
	if len(l.rows) > 1 {
		before := &l.rows[len(l.rows)-2]
		if r.Error != "" && before.Error == r.Error && before.Source == r.Source && r.Guard == "" && r.Added == nil && r.Removed == nil {
			before.Looks++
			before.At, before.Took = r.At, r.Took
			l.rows = l.rows[:len(l.rows)-1]
		}
	}
	l.open = false
}

// plain reports whether a look led to nothing.
func (r *Refresh) plain() bool {
	return r.Added == nil && r.Removed == nil && r.Guard == "" && r.Error == ""
}

// row is the open row, a new one when there is none.
func (l *looks) row(source string) *Refresh {
	if !l.open {
		if len(l.rows) >= maxLooks {
			l.rows = slices.Delete(l.rows, 0, 1)
		}
		l.rows = append(l.rows, Refresh{At: time.Now(), Source: source, Looks: 1, Size: l.size, Held: l.held})
		l.open = true
	}
	r := &l.rows[len(l.rows)-1]
	if r.Source == "" {
		r.Source = source
	}
	return r
}

func texts(endpoints []endpoint.Endpoint) []string {
	if len(endpoints) == 0 {
		return nil
	}
	out := make([]string, len(endpoints))
	for i, e := range endpoints {
		out[i] = e.String()
	}
	return out
}

// report fills in what is told about refreshes.
func (l *looks) report(s *Stats) {
	s.Refreshes = slices.Clone(l.rows)
	slices.Reverse(s.Refreshes)
	s.GuardDecisions, s.RefreshOutcomes = maps.Clone(l.verdicts), maps.Clone(l.outcomes)
	s.RefreshDuration, s.Propagation = l.took.histogram(), l.propagation.histogram()
}
