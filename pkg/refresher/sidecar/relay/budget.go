package relay

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// budgetKind says what a frame is charged to.
type budgetKind int

const (
	budgetResets budgetKind = iota
	budgetPings
	budgetSettings
	budgetEmpty
	budgetWindows
	budgetOthers
	budgetKinds
)

var budgetNames = [budgetKinds]string{"resets", "pings", "settings", "empty frames", "window updates", "superfluous frames"}

func (b Budgets) list() [budgetKinds]Rate {
	return [budgetKinds]Rate{b.Resets, b.Pings, b.Settings, b.Empty, b.Windows, b.Others}
}

// limits are Budgets in the form that is cheap to ask: the time that one event
// takes, and how far ahead of the clock the events may run.
type limits [budgetKinds]struct{ each, ahead time.Duration }

func (b Budgets) limits() (l limits) {
	for i, r := range b.list() {
		l[i].each = time.Second / time.Duration(r.PerSecond)
		l[i].ahead = l[i].each * time.Duration(r.Burst)
	}
	return l
}

// budget is a connection's use of limits: for each kind the moment at which all
// events so far would have been due at the even rate (the generic cell rate
// algorithm, ITU-T I.371).
type budget [budgetKinds]policy.Nanos

// spend charges one event and reports whether it is within the limit.
func (b *budget) spend(l *limits, k budgetKind, now policy.Nanos) bool {
	due := max(b[k], now).Add(l[k].each)
	if due.Sub(now) > l[k].ahead {
		return false
	}
	b[k] = due
	return true
}
