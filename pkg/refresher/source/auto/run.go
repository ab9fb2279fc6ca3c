package auto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// run is a source while it runs; one goroutine owns it.
type run struct {
	*source
	ctx      context.Context
	sink     endpoint.Sink
	heard    chan message
	children sync.WaitGroup
	began    time.Time

	kube, dns *child // dns runs only while it is needed
	noDNS     error  // DNS can never serve, and why
	active    *child // whose Sets are handed on, nil at first
	known     endpoint.Set
	urged     bool // a connection broke while the watch did not work

	vip     netip.Addr // what DNS says is a ClusterIP without a twin
	doubt   time.Time  // since when DNS says less than is known
	second  bool       // the second question was asked
	doubted bool       // an answer to it came
	failed  bool       // a failure is to be told if nobody has anything
	wake    time.Time  // when to decide again though nothing was told
	told    map[string]bool
}

func (r *run) loop() error {
	if r.watch != nil {
		r.kube = r.start(r.watch)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := r.decide(time.Now()); err != nil {
			return err
		}
		timer.Stop()
		if !r.wake.IsZero() {
			timer.Reset(time.Until(r.wake))
		}
		select {
		case <-r.ctx.Done():
			return nil
		case <-timer.C:
		case <-r.asked:
			r.ask()
		case m := <-r.heard:
			r.hear(m, time.Now())
		}
	}
}

// ask hands on a question to those that run. It comes when a connection broke:
// with a watch that does not work, that may be news that only DNS has.
func (r *run) ask() {
	q, waiting := r.question()
	if !waiting {
		return
	}
	r.urged = r.kube != nil && r.kube.err != nil
	r.kube.ask(q)
	r.dns.ask(q)
}

// hear takes in a message, and hands it on if its child is the active one.
func (r *run) hear(m message, now time.Time) {
	if m.from != r.kube && m.from != r.dns {
		return // stopped
	}
	m.from.hear(m, now)
	switch {
	case m.note != nil:
		if e, ok := m.note.(endpoint.ClusterIPTarget); ok && m.from == r.dns {
			r.vip = netip.Addr{}
			if e.Twin == "" {
				r.vip = e.VIP
			}
		}
		r.sink.Note(m.note)
	case m.from == r.active && m.set != nil:
		r.hand(*m.set)
	case m.from == r.active && m.err != nil:
		r.sink.Fail(m.err)
	case m.err != nil && r.active == nil:
		r.failed = true
	case m.err != nil:
		r.aside(m, now)
	case m.from == r.dns && r.second:
		r.doubted = true
	}
	if m.ended && m.from == r.dns {
		r.noDNS = m.err
	}
}

// aside tells the failure of a child that does not count, not too often.
func (r *run) aside(m message, now time.Time) {
	what := "the watch of EndpointSlices"
	if m.from == r.dns {
		what = "DNS, which is to stand in for it,"
	}
	if m.from.aside.IsZero() || now.Sub(m.from.aside) >= asideEvery {
		m.from.aside = now
		r.sink.Note(endpoint.Warning{Text: fmt.Sprintf("%s fails: %v", what, m.err)})
	}
}

func (r *run) hand(s endpoint.Set) {
	r.known = s
	r.sink.Update(s)
}

// decide brings the sources that run, and the one that counts, up to what is
// known. It is called after everything that happens.
func (r *run) decide(now time.Time) error {
	r.wake = time.Time{}
	if r.noWatch != nil && r.noDNS != nil {
		return r.noDNS
	}
	if r.kube != nil && r.kube.dead && (r.openDNS == nil || r.noDNS != nil) {
		return errors.Join(r.kube.err, r.noDNS)
	}
	switch {
	case r.kube.works() && r.prefersKube():
		if r.active != r.kube {
			r.use(r.kube, kube.SourceName, "the watch of EndpointSlices works")
		}
		if !blank(*r.kube.last) {
			r.stopDNS()
		}
	case r.kube.works() && r.active == r.kube && r.dns == nil:
		// The Service went away. DNS can say no more about it than an old answer.
	case r.active != nil && r.active == r.dns:
	default:
		if reason := r.wantsDNS(now); reason != "" {
			r.startDNS()
			if d := r.dns; d != nil && d.last != nil && r.fits(*d.last, now) {
				r.use(d, dns.SourceName, reason)
			}
		}
	}
	r.fail()
	return nil
}

// fail tells a failure once nobody has anything.
func (r *run) fail() {
	if r.active != nil {
		r.failed = false
	}
	if !r.failed || r.kube != nil && r.kube.err == nil || r.openDNS != nil && r.noDNS == nil && (r.dns == nil || r.dns.err == nil) {
		return
	}
	r.failed = false
	switch {
	case r.kube == nil:
		r.sink.Fail(r.dns.err)
	case r.dns == nil:
		r.sink.Fail(r.kube.err)
	default:
		r.sink.Fail(fmt.Errorf("%w; nor by DNS: %w", r.kube.err, r.dns.err))
	}
}

// blank reports whether a Set says nothing about which pods there are.
func blank(s endpoint.Set) bool { return len(s.Endpoints) == 0 && !s.Authoritative }

// prefersKube says whether the Set of a watch that works counts for more than
// what DNS says. "No such Service" does not, while DNS knows the name.
func (r *run) prefersKube() bool {
	switch {
	case !blank(*r.kube.last), r.openDNS == nil, r.noDNS != nil:
		return true
	case r.active != nil && r.active == r.dns:
		return false
	case r.dns == nil || r.dns.last == nil:
		return r.dns != nil && r.dns.err != nil
	}
	return len(r.dns.last.Endpoints) == 0
}

// wantsDNS returns why DNS is to be asked, or "".
func (r *run) wantsDNS(now time.Time) string {
	if r.openDNS == nil || r.noDNS != nil {
		return ""
	}
	k := r.kube
	var denied *kube.DeniedError
	switch {
	case k == nil:
		return r.noWatch.Error()
	case k.works():
		return cmp.Or(k.last.Reason, "there are no EndpointSlices")
	case k.err == nil:
		if r.later(r.began.Add(headStart), now) {
			return ""
		}
		return "EndpointSlices say nothing so far"
	case k.dead, errors.As(k.err, &denied), r.active == nil, r.urged:
	case r.later(k.since.Add(grace), now):
		return ""
	}
	return k.err.Error()
}

// later reports whether t is yet to come, and makes the run decide again then.
func (r *run) later(t, now time.Time) bool {
	if !t.After(now) {
		return false
	}
	if r.wake.IsZero() || t.Before(r.wake) {
		r.wake = t
	}
	return true
}

func (r *run) startDNS() {
	if r.dns != nil {
		return
	}
	src := r.first
	r.first = nil
	if src == nil {
		var err error
		if src, err = r.openDNS(); err != nil { // it was opened before
			r.noDNS = err
			return
		}
	}
	r.dns = r.start(src)
}

func (r *run) stopDNS() {
	r.urged, r.doubt, r.second, r.doubted, r.vip = false, time.Time{}, false, false, netip.Addr{}
	if r.dns != nil {
		r.dns.stop()
		r.dns = nil
	}
}

// fits reports whether an answer of DNS can be switched to. See "A switch drops
// nothing" in the package's documentation.
func (r *run) fits(s endpoint.Set, now time.Time) bool {
	if r.active == nil {
		// None from DNS: let the watch have its say first.
		return len(s.Endpoints) > 0 || r.kube == nil || r.kube.err != nil
	}
	if len(r.known.Endpoints) == 0 {
		return true
	}
	if len(s.Endpoints) == 0 {
		return false
	}
	have := endpoint.Index(s.Endpoints)
	if _, known := endpoint.Index(r.known.Endpoints)[s.Endpoints[0].Addr()]; !known {
		if len(s.Endpoints) == 1 && s.Endpoints[0].Addr().Addr() == r.vip {
			return !r.later(r.kube.since.Add(trust), now)
		}
		if port, other := otherPort(r.known.Endpoints, s.Endpoints); other {
			r.warn(fmt.Sprintf("DNS answers with port %d for pods that listen on another one: DNS cannot stand in while the watch of EndpointSlices fails; name the port in the target", port))
			return false
		}
	}
	for _, e := range r.known.Eligible() {
		if _, ok := have.Find(s.Endpoints, e); !ok {
			return r.confirmed(now)
		}
	}
	return true
}

// otherPort reports whether all endpoints of s are known by their IP and none by
// its port.
func otherPort(known, s []endpoint.Endpoint) (port uint16, other bool) {
	ports := map[netip.Addr]uint16{}
	for _, e := range known {
		for _, a := range e.Addrs {
			ports[a.Addr()] = a.Port()
		}
	}
	for _, e := range s {
		p, ok := ports[e.Addr().Addr()]
		if !ok || p == e.Addr().Port() {
			return 0, false
		}
	}
	return s[0].Addr().Port(), true
}

// confirmed reports whether DNS has said again, a while later, that there are
// fewer.
func (r *run) confirmed(now time.Time) bool {
	if r.doubt.IsZero() {
		r.doubt = now
	}
	if !r.second && !r.later(r.doubt.Add(confirm), now) {
		r.second = true
		r.dns.ask(endpoint.Question{Verify: true})
	}
	return r.doubted
}

func (r *run) warn(text string) {
	if !r.told[text] {
		r.told[text] = true
		r.sink.Note(endpoint.Warning{Text: text})
	}
}

// use makes a child the active one and hands on what it told last.
func (r *run) use(c *child, name, reason string) {
	from := ""
	switch r.active {
	case nil:
	case r.kube:
		from = kube.SourceName
	default:
		from = dns.SourceName
	}
	r.active = c
	if r.kube != nil {
		r.kube.aside = time.Now() // the reason has it
	}
	r.sink.Note(endpoint.SourceSwitched{From: from, To: name, Reason: reason})
	r.hand(*c.last)
}
