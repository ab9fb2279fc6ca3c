package sidecar

import (
	"cmp"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

const (
	// slowWriter is how much waits for a pod that does not keep up with its calls,
	// which more connections would not mend.
	slowWriter = 64 << 10
	// shedEvery is the time whose calls decide whether an extra connection is
	// needed. A load that comes back every minute, as cron jobs and scrapes do, finds
	// them there; one that does not has cost some idle sockets for two.
	shedEvery = time.Minute
	// shedFill is the part of the streams of those left that these calls may need, in
	// percent. One is made at 100: a load between the two changes nothing, so that
	// one that varies a little does not make and end connections all the time.
	shedFill = 75
)

// extra are the connections that a pod has beyond connectionsPerEndpoint since its
// server's limit of streams was met.
type extra struct {
	n int
	// each is how many calls a connection took when the last one was added.
	each int
	// peak is the most calls at a time since the last verdict, at when the next one
	// is due; 0: there is nothing to give up.
	peak int
	at   policy.Nanos
}

// base is how many connections the pod has in any case.
func (pd *pod) base() int { return max(pd.p.settings.Policy.ConnectionsPerEndpoint, 1) }

// want is how many connections there should be, besides those that drain.
func (pd *pod) want() int {
	return max(min(pd.base()+pd.extra.n, pd.p.settings.Limits.MaxConnectionsPerPod), pd.base())
}

// grow has one more connection made when the streams of all are used up.
func (pd *pod) grow(now policy.Nanos) {
	want := pd.want()
	if want >= pd.p.settings.Limits.MaxConnectionsPerPod || pd.dialling || pd.queued || len(pd.usable) < want || pd.active() != want {
		return
	}
	for _, c := range pd.usable {
		if c.rl.Unwritten() >= slowWriter {
			return
		}
	}
	calls := pd.calls()
	pd.extra = extra{n: want - pd.base() + 1, each: max(calls/len(pd.usable), 1), peak: calls, at: now.Add(shedEvery)}
	pd.p.alarm(pd.extra.at)
	pd.p.growing = append(pd.p.growing, pd)
}

// calls are those on the connections in use.
func (pd *pod) calls() (n int) {
	for _, c := range pd.usable {
		n += c.rl.Streams()
	}
	return n
}

// began notes that there is one more call.
func (pd *pod) began() {
	if pd.extra.at != 0 {
		pd.extra.peak = max(pd.extra.peak, pd.calls()+1)
	}
}

// shed gives up the extra connections that the calls of the last minute did not
// need. Those with calls are spare until a later look finds none, or until they are
// needed again: so there are never more than the limit, however long calls last.
func (pd *pod) shed(now policy.Nanos) {
	x := &pd.extra
	if x.at == 0 || now < x.at {
		return
	}
	need := (x.peak*100 + x.each*shedFill - 1) / (x.each * shedFill)
	x.n = min(x.n, max(need-pd.base(), 0))
	pd.spare(len(pd.usable) - pd.want())
	for _, c := range pd.links {
		if c.link.spare && c.rl.Streams() == 0 {
			c.link.ours = true
			c.rl.Drain(now)
		}
	}
	pd.assess(now)
	x.peak, x.at = pd.calls(), 0
	if x.n > 0 || pd.dialling || len(pd.links) > pd.base() {
		x.at = now.Add(shedEvery)
	}
}

// spare takes n connections out of use, those with the fewest calls.
func (pd *pod) spare(n int) {
	if n <= 0 {
		return
	}
	byCalls := slices.SortedStableFunc(slices.Values(pd.usable), func(a, b *conn) int { return cmp.Compare(a.rl.Streams(), b.rl.Streams()) })
	for _, c := range byCalls[:n] {
		c.link.spare = true
	}
}

// useSpare takes spare connections back where some are missing, and reports whether
// none is any more.
func (pd *pod) useSpare(now policy.Nanos) bool {
	missing := pd.want() - pd.active()
	for _, c := range pd.links {
		if missing > 0 && c.link.spare && !c.closing && c.rl.State() == relay.Ready {
			c.link.spare = false
			missing--
		}
	}
	pd.assess(now)
	return missing <= 0
}
