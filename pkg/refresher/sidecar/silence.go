package sidecar

import (
	"errors"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// pollMax is how often the kernel is asked about connections with calls.
const pollMax = 250 * time.Millisecond

// silence is what is known of data that a pod has not acknowledged.
type silence struct {
	silent bool
	since  policy.Nanos // since when the oldest data lies there; 0: there is none
	acked  uint64
}

// transport is a moment of a TCP connection.
type transport struct {
	// unacked is whether segments are on their way, acked how many bytes arrived
	// ever, lastAck how long ago the peer acknowledged anything, lastSent how long
	// ago data was sent, again perhaps.
	unacked           bool
	acked             uint64
	lastAck, lastSent time.Duration
}

// errSilent is why a connection is closed on which nothing is acknowledged. It is
// our own rule in place of TCP_USER_TIMEOUT, which would also reset a peer that
// lives and only does not read: the kernel counts probes of a closed window, too.
var errSilent = errors.New("the pod has not acknowledged anything for too long")

// pollEvery is short enough that SilentAfter is noticed in time.
func (p *Proxy) pollEvery() time.Duration {
	return max(min(pollMax, p.settings.Limits.SilentAfter/6), 10*time.Millisecond)
}

// poll looks for pods that do not acknowledge. Connections without calls are left
// alone, unless they were silent.
func (p *Proxy) poll(now policy.Nanos) {
	p.pollAt = 0
	again := false
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			again = p.pollPod(pd, now) || again
		}
	}
	if again {
		p.pollAt = now.Add(p.pollEvery())
	}
}

// pollPod reports whether it is to be looked at again.
func (p *Proxy) pollPod(pd *pod, now policy.Nanos) (again bool) {
	lost := false
	for i := 0; i < len(pd.links); i++ {
		c := pd.links[i]
		s := &c.link.silence
		if c.closing || c.rl.State() == relay.Opening || c.rl.Streams() == 0 && !s.silent && s.since == 0 {
			continue
		}
		again = true
		t, ok := p.look(c)
		if !ok {
			continue
		}
		quiet := s.see(t, now)
		switch limits := &p.settings.Limits; {
		case quiet >= limits.DeadAfter:
			p.loseLocked(c, errSilent, now)
			lost = true
		case s.silent != (quiet >= limits.SilentAfter):
			s.silent = !s.silent
			lost = true
		}
	}
	if lost {
		pd.assess(now)
	}
	return again
}

// see takes a moment into account and returns for how long data is not
// acknowledged. A peer that answered what was sent last lives, even if the answer
// is that it has no room for it: it acknowledges the same byte again and again, at
// the longer and longer intervals in which the kernel sends it again.
func (s *silence) see(t transport, now policy.Nanos) time.Duration {
	switch {
	case !t.unacked || t.lastAck <= t.lastSent:
		s.since = 0
		return 0
	case s.since == 0 || t.acked != s.acked:
		s.since, s.acked = now, t.acked
	}
	return min(now.Sub(s.since), t.lastAck)
}
