package endpoint

import (
	"net/netip"
	"time"
)

// Event is something that happened to the endpoints of a target: one of the
// types of this file, a value. More types may come: have a default branch.
type Event interface{ event() }

// SetChanged says that the members changed.
type SetChanged struct {
	// Diff is the change of the members that are believed.
	Diff Diff
	// Size is how many are believed now, Held how many the guard keeps beside
	// them.
	Size, Held int
	// Source is where it was learned.
	Source string
}

// GuardDecision says that the guard did not simply take an answer, or that it
// made up its mind about one.
type GuardDecision struct {
	// Verdict is what it decided.
	Verdict Verdict
	// Reason is one sentence for people.
	Reason string
	// Before and After are the numbers of endpoints before the answer and in it.
	Before, After int
}

// Verdict is the guard's decision about an answer with fewer endpoints.
type Verdict string

// The guard's decisions.
const (
	// VerdictHeld: the endpoints that are missing are held, and the question is
	// asked again.
	VerdictHeld Verdict = "held"
	// VerdictBelieved: the smaller answer was confirmed.
	VerdictBelieved Verdict = "believed"
	// VerdictRestored: a later answer had the missing endpoints again.
	VerdictRestored Verdict = "restored"
	// VerdictZero: there are really no endpoints.
	VerdictZero Verdict = "zero"
	// VerdictExpired: nothing confirmed the smaller answer in time, and nothing
	// contradicted it.
	VerdictExpired Verdict = "expired"
)

// Verdicts lists every decision.
func Verdicts() []Verdict {
	return []Verdict{VerdictHeld, VerdictBelieved, VerdictRestored, VerdictZero, VerdictExpired}
}

// RefreshFailed says that a source could not look.
type RefreshFailed struct {
	Source string
	Err    error
}

// Refreshed says that a source looked, whether or not anything changed.
type Refreshed struct {
	Source string
	// Took is how long the look took, 0 for a watch.
	Took time.Duration
	// Outcome is one word: "ok", "empty", "unchanged" ... of the source's list.
	Outcome string
}

// SourceSwitched says that a source of sources now uses another one.
type SourceSwitched struct {
	From, To string
	// Reason is one sentence for people.
	Reason string
}

// ClusterIPTarget says that the name is that of a ClusterIP Service: one virtual
// IP that balances connections, so that a gRPC channel to it stays on one pod.
type ClusterIPTarget struct {
	// Name is the name that was asked, VIP what it stands for.
	Name string
	VIP  netip.Addr
	// Twin is the headless Service's name that is used in its place, "" when
	// there is none and calls go to the VIP.
	Twin string
}

// Ejected says that an endpoint gets no calls for a while because calls on it
// failed.
type Ejected struct {
	Endpoint Endpoint
	// Reason is one sentence for people, For how long it stays out at least.
	Reason string
	For    time.Duration
}

// Returned says that an ejected endpoint gets calls again.
type Returned struct {
	Endpoint Endpoint
	// Reason is one sentence for people.
	Reason string
}

// Panicked says that so many endpoints are ejected or unusable that ejections
// are set aside (On) or in force again.
type Panicked struct {
	On bool
	// Usable of Size endpoints were left.
	Usable, Size int
}

// FirstCall says that the first call on a new endpoint succeeded.
type FirstCall struct {
	Endpoint Endpoint
	// SinceSeen is the time since a Set first had it, SinceChange the time since
	// the cluster changed ([Set.Changed]; another machine's clock, 0 when
	// unknown).
	SinceSeen, SinceChange time.Duration
}

// Warning is anything else that a person should read once.
type Warning struct {
	// Text is one sentence that says what to do.
	Text string
}

func (SetChanged) event()      {}
func (GuardDecision) event()   {}
func (RefreshFailed) event()   {}
func (Refreshed) event()       {}
func (SourceSwitched) event()  {}
func (ClusterIPTarget) event() {}
func (Ejected) event()         {}
func (Returned) event()        {}
func (Panicked) event()        {}
func (FirstCall) event()       {}
func (Warning) event()         {}
