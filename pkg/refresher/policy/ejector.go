package policy

import (
	"fmt"
	"time"
)

// Ejector decides which endpoints are left out for a while because calls on them
// fail, after the model of gRFC A50 with rows of failures beside it. It has no
// goroutine, no timer and no clock: its owner calls it, from one goroutine at a
// time.
type Ejector struct {
	cfg      EjectConfig
	records  map[*Node]*record
	round    uint64
	interval Nanos // when the interval began
	begun    bool  // it did
	panicked bool
	usable   int
	size     int
}

// record is what the Ejector remembers of a Node.
type record struct {
	round   uint64 // in which it was among the nodes last
	ejected bool
	until   Nanos // of the ejection
	back    Nanos // when the last one ended
	times   int   // how often it was ejected and not forgiven
	// good and all are the Node's counts at the beginning of the interval, done
	// that of successes at the ejection.
	good, all, done uint64
}

// EjectChange says that an endpoint is ejected from now on, or no longer.
type EjectChange struct {
	Node    *Node
	Ejected bool
	// For is how long an ejection lasts at least; 0 when it ended.
	For time.Duration
	// Reason is one sentence for people.
	Reason string
}

// NewEjector returns an Ejector that knows of no endpoint. It does not validate
// cfg.
func NewEjector(cfg EjectConfig) *Ejector {
	return &Ejector{cfg: cfg, records: make(map[*Node]*record)}
}

// Configure changes the rules from the next Evaluate on. Who is ejected stays so
// for as long as was said.
func (e *Ejector) Configure(cfg EjectConfig) { e.cfg = cfg }

// Evaluate looks at all endpoints that could take calls, the ejected ones among
// them. It returns what changed, and when to call it again at the latest: its
// owner does so then, when the endpoints change, and when [Node.End] says so. A
// Node that is not among nodes any more is forgotten, its ejection too.
//
// A Node that comes back is on probation: until a call succeeds, one that fails
// or times out ejects it again.
func (e *Ejector) Evaluate(now Nanos, nodes []*Node) (changes []EjectChange, next Nanos) {
	e.round++
	if !e.begun {
		e.begun, e.interval = true, now
	}
	ejected := e.recall(nodes)
	changes, ejected = e.release(now, nodes, changes, ejected)
	most := e.most(len(nodes))
	spared := 0 // they fail as those that are ejected do, but no more may be
	for _, n := range nodes {
		r := e.records[n]
		if r.ejected {
			continue
		}
		switch base, reason := e.judge(n, now); {
		case base == 0:
		case ejected >= most:
			spared++
		default:
			changes = append(changes, r.eject(n, now, base, e.cfg.MaxTime, reason))
			ejected++
		}
	}
	if now-e.interval >= Nanos(e.cfg.Interval) {
		for _, o := range e.outliers(nodes) {
			if ejected >= most {
				break
			}
			changes = append(changes, e.records[o.node].eject(o.node, now, e.cfg.BaseTime, e.cfg.MaxTime, o.reason))
			ejected++
		}
		e.nextInterval(now, nodes)
	}
	e.size, e.usable = len(nodes), len(nodes)-ejected-spared
	e.panicked = ejected > 0 && e.usable*100 < e.cfg.PanicPercent*e.size
	return changes, e.next(nodes)
}

// Ejected reports whether n is ejected, whether or not ejections are set aside.
func (e *Ejector) Ejected(n *Node) bool {
	r := e.records[n]
	return r != nil && r.ejected
}

// Panic reports whether ejections are to be set aside, since so few of the
// endpoints are usable, as of the last Evaluate: when most fail, the fault is
// elsewhere (Envoy's panic threshold). Those that fail and are spared, because no
// more may be ejected, are not usable either. While it lasts all endpoints get
// calls, and an ejected one that answers returns at the next Evaluate.
func (e *Ejector) Panic() (on bool, usable, size int) { return e.panicked, e.usable, e.size }

// recall makes the records those of nodes, and counts who is ejected.
func (e *Ejector) recall(nodes []*Node) (ejected int) {
	known := 0
	for _, n := range nodes {
		r := e.records[n]
		if r == nil {
			r = &record{}
			r.good, r.all = verdicts(n)
			e.records[n] = r
		}
		if r.round != e.round {
			known++
			if r.ejected {
				ejected++
			}
		}
		r.round = e.round
	}
	if known < len(e.records) {
		for n, r := range e.records {
			if r.round != e.round {
				delete(e.records, n)
			}
		}
	}
	return ejected
}

// release ends the ejections whose time is over, and in a panic those of
// endpoints that answer.
func (e *Ejector) release(now Nanos, nodes []*Node, changes []EjectChange, ejected int) ([]EjectChange, int) {
	for _, n := range nodes {
		r := e.records[n]
		switch {
		case !r.ejected:
		case e.panicked && n.answers(r.done):
			r.ejected, r.back = false, now
			r.good, r.all = verdicts(n)
			changes = append(changes, EjectChange{Node: n, Reason: "it answers again, while most endpoints fail"})
			ejected--
		case now >= r.until:
			r.ejected, r.back = false, now
			// The interval's counts are from before the ejection.
			r.good, r.all = verdicts(n)
			n.reset(ticks(now))
			changes = append(changes, EjectChange{Node: n, Reason: "its ejection is over"})
			ejected--
		}
	}
	return changes, ejected
}

// most is how many of n endpoints may be ejected.
func (e *Ejector) most(n int) int {
	if n < 2 || e.cfg.MaxEjectedPercent <= 0 {
		return 0
	}
	return max(1, n*e.cfg.MaxEjectedPercent/100)
}

// judge looks at the rows of calls that went wrong. base is 0 when there is
// nothing to say.
func (e *Ejector) judge(n *Node, now Nanos) (base time.Duration, reason string) {
	w := n.streak.Load()
	if w&^probation == 0 {
		return 0, ""
	}
	failures, timeouts, onProbation := unpackStreak(w)
	if most := e.cfg.ConsecutiveFailures; most > 0 {
		if failures >= most {
			return e.cfg.BaseTime, fmt.Sprintf("%d calls in a row failed", failures)
		}
		if onProbation && failures > 0 {
			return e.cfg.BaseTime, "it failed again after its ejection"
		}
	}
	if most := e.cfg.ConsecutiveTimeouts; most > 0 && timeouts > 0 {
		silent := now.Sub(Nanos(n.silent.Load()))
		if timeouts >= most && silent >= e.cfg.SilentFor {
			return e.cfg.TimeoutBaseTime, fmt.Sprintf("%d calls in a row timed out without an answer, the first began %s ago", timeouts, silent.Round(time.Millisecond))
		}
		if onProbation {
			return e.cfg.TimeoutBaseTime, "it timed out again after its ejection"
		}
	}
	return 0, ""
}

func (r *record) eject(n *Node, now Nanos, base, most time.Duration, reason string) EjectChange {
	r.ejected = true
	r.done, _ = verdicts(n)
	r.times++
	// gRFC A50: base x times, but no more than the larger of base and the maximum.
	length := min(base*time.Duration(min(r.times, mostTimes)), max(base, most))
	r.until = now.Add(length)
	return EjectChange{Node: n, Ejected: true, For: length, Reason: reason}
}

// answers reports whether more calls succeeded than done, the last of them after
// the last failure.
func (n *Node) answers(done uint64) bool {
	if n.streak.Load()&^probation != 0 {
		return false
	}
	good, _ := verdicts(n)
	return good > done
}

// mostTimes keeps the product with [maxEjectTime] within a Duration.
const mostTimes = 10_000

// next is when something may have to change without a call having ended badly.
func (e *Ejector) next(nodes []*Node) Nanos {
	next := e.interval.Add(e.cfg.Interval)
	for _, n := range nodes {
		if r := e.records[n]; r.ejected {
			next = min(next, r.until)
		}
	}
	return next
}
