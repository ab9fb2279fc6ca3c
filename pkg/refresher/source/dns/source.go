package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// New returns an opener of DNS sources. Its Open refuses what
// [Config.Validate] does. IP addresses, and localhost (RFC 6761 section 6.3), are
// not asked for: their Set never changes.
func New(opts ...Option) endpoint.Opener {
	cfg := DefaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	return endpoint.OpenerFunc(func(t endpoint.Target) (endpoint.Source, error) { return open(cfg, t) })
}

func open(cfg Config, t endpoint.Target) (endpoint.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if t.Host == "" || t.Port == 0 && t.PortName == "" {
		return nil, fmt.Errorf("dns source: target %q: a host and a port are needed", t)
	}
	s := &source{cfg: cfg, target: t, wake: make(chan struct{}, 1)}
	switch local := strings.EqualFold(t.Host, "localhost"); {
	case t.IsIP() && t.PortName != "", local && t.PortName != "":
		return nil, fmt.Errorf("dns source: target %q: this host has no port names, give the port's number", t)
	case local:
		s.fixed = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	case t.IsIP():
		s.fixed = []netip.Addr{netip.MustParseAddr(t.Host)}
	}
	return s, nil
}

// source is the DNS source of one target.
type source struct {
	cfg    Config
	target endpoint.Target
	fixed  []netip.Addr  // of a target that is an address
	wake   chan struct{} // holds one token while a question waits

	mu      sync.Mutex
	waiting question
}

// question is what was asked from outside since the last look.
type question struct{ asked, verify bool }

// Ask implements [endpoint.Asker].
func (s *source) Ask(q endpoint.Question) {
	s.mu.Lock()
	s.waiting.asked = true
	s.waiting.verify = s.waiting.verify || q.Verify
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take takes the question that waits; the look that follows answers it.
func (s *source) take() question {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wake:
	default:
	}
	q := s.waiting
	s.waiting = question{}
	return q
}

// Run implements [endpoint.Source].
func (s *source) Run(ctx context.Context, sink endpoint.Sink) error {
	w := &watcher{source: s, sink: sink, pace: s.cfg.Pace(), said: make(map[string]bool)}
	w.conf.path = s.cfg.ResolvConf
	for ctx.Err() == nil {
		q := s.take()
		if s.fixed != nil {
			w.update(q, finding{outcome: OutcomeOK, endpoints: s.constant()})
			w.wait(ctx, nil)
			continue
		}
		timer := time.NewTimer(w.refresh(ctx, q))
		w.wait(ctx, timer.C)
		timer.Stop()
	}
	return nil
}

// constant is the endpoint of a target that is an address.
func (s *source) constant() []endpoint.Endpoint {
	e := endpoint.Endpoint{Ready: true, Serving: true}
	for _, addr := range s.fixed {
		e.Addrs = append(e.Addrs, netip.AddrPortFrom(addr, s.target.Port))
	}
	return []endpoint.Endpoint{e}
}

// watcher is the state of one Run, on its goroutine alone.
type watcher struct {
	*source
	sink endpoint.Sink

	conf   confFile
	pace   Pace
	bucket bucket
	looks  int

	pin       *pin
	absent    time.Time     // since when the pinned name does not exist
	preferred dnsprobe.Type // the family to ask for first
	large     bool          // the last answer was larger than UDP holds
	last      *endpoint.Set // handed over last; nil before

	nature  nature
	twinAt  time.Time                // when a twin was last looked for
	virtual endpoint.ClusterIPTarget // said last
	said    map[string]bool          // warnings that were given
}

// pin is the name that answered, and how it is asked for.
type pin struct {
	service string // the Service that the target names, fully qualified
	twin    string // asked in its place, "" when not
	want    want
}

// wait returns when it is time for the next look, or ctx ended.
func (w *watcher) wait(ctx context.Context, due <-chan time.Time) {
	select {
	case <-ctx.Done():
		return
	case <-due:
		return
	case <-w.wake:
	}
	delay := w.bucket.take(time.Now())
	if delay == 0 {
		return
	}
	token := time.NewTimer(delay)
	defer token.Stop()
	select {
	case <-ctx.Done():
	case <-due: // the look that was due anyway answers the question, too
	case <-token.C:
		w.bucket.take(time.Now())
	}
}

// refresh looks once, tells the sink, and returns how long to wait.
func (w *watcher) refresh(ctx context.Context, q question) time.Duration {
	began := time.Now()
	f, err := w.look(ctx, q)
	if ctx.Err() != nil {
		return 0
	}
	outcome := OutcomeUnchanged
	switch {
	case err != nil:
		w.large = false // perhaps it is TCP that does not get through
		outcome = outcomeOf(err)
		w.sink.Fail(err)
	default:
		w.large = f.overTCP && f.bytes > ednsSize
		if changed := w.update(q, f); f.outcome != OutcomeOK || changed {
			outcome = f.outcome
		}
	}
	w.sink.Note(endpoint.Refreshed{Source: SourceName, Took: time.Since(began), Outcome: string(outcome)})
	return w.pace.Next(Look{Changed: outcome != OutcomeUnchanged, Asked: q.asked, Bytes: f.bytes, TTL: f.ttl})
}

// update hands a finding on and reports whether the endpoints are other ones.
func (w *watcher) update(q question, f finding) (changed bool) {
	set := endpoint.Set{
		Endpoints: f.endpoints, Source: SourceName, Authoritative: w.fixed != nil, Verified: q.verify,
		At: time.Now(), TTL: f.ttl, Bytes: f.bytes,
	}.Normalize()
	switch f.outcome {
	case OutcomeNXDomain:
		set.Reason = "NXDOMAIN"
	case OutcomeNoData:
		set.Reason = "NODATA"
	}
	if f.partial {
		w.warn("%d endpoints of %s are known and others are not, because the answer does not fit into UDP and TCP did not bring it all: "+
			"allow TCP port 53 to the DNS servers; with thousands of endpoints use the kube source", len(set.Endpoints), w.target.Host)
	}
	if f.outcome == OutcomeNXDomain && w.pin == nil && w.target.PortName != "" {
		w.warn("there is no SRV record _%s._tcp for %s: a port of the Service must have this name and a pod must be ready, or use the port's number",
			w.target.PortName, w.target.Host)
	}
	changed = w.last == nil || !slices.EqualFunc(w.last.Endpoints, set.Endpoints, endpoint.Endpoint.Equal)
	w.last = &set
	w.sink.Update(set)
	return changed
}

// maxWarnings bounds what is remembered of warnings, whatever changes in them.
const maxWarnings = 100

// warn gives a warning once.
func (w *watcher) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if w.said[text] || len(w.said) >= maxWarnings {
		return
	}
	w.said[text] = true
	w.sink.Note(endpoint.Warning{Text: text})
}

// known reports whether there is anything to lose.
func (w *watcher) known() bool { return w.last != nil && len(w.last.Endpoints) > 0 }

// look asks for what is pinned, or along the search list.
func (w *watcher) look(ctx context.Context, q question) (finding, error) {
	a, err := w.newAsker(q.verify)
	if err != nil {
		return finding{}, err
	}
	f, err := w.lookWith(ctx, a, q)
	if err == nil && ctx.Err() == nil {
		for _, lost := range a.lost {
			w.warn("a name server said nothing when all were asked: %s", lost)
		}
	}
	return f, err
}

func (w *watcher) lookWith(ctx context.Context, a *asker, q question) (finding, error) {
	if w.pin == nil {
		return w.walk(ctx, a, q)
	}
	name := w.pin.service
	if w.pin.twin != "" {
		name = w.pin.twin
	}
	f, err := a.find(ctx, name, w.pin.want)
	switch {
	case err != nil:
		return f, err
	case f.outcome != OutcomeNXDomain:
		w.absent = time.Time{}
		if f.outcome == OutcomeOK {
			w.pin.want.family = f.family
		}
		return w.follow(ctx, a, q, f), nil
	case w.absent.IsZero():
		w.absent = time.Now()
	}
	if time.Since(w.absent) < w.cfg.RewalkAfter {
		return f, nil
	}
	w.pin, w.absent = nil, time.Time{}
	return w.walk(ctx, a, q)
}

// walk goes along the search list until a name is found, and pins it.
//
// NXDOMAIN, NODATA and SERVFAIL lead to the next name, as in glibc's
// res_nsearch. All other errors say that a server could not be asked, and another
// name in its place might be a stranger's. A name that was found past an error is
// used but not pinned. Without any name an error counts before NODATA and that
// before NXDOMAIN: an answer is empty only when every name was denied.
func (w *watcher) walk(ctx context.Context, a *asker, q question) (finding, error) {
	host := w.target.Host
	if w.target.Absolute {
		host += "."
	}
	var denied finding
	var failed error
	for _, name := range a.search.Candidates(host) {
		wanted := want{portName: w.target.PortName, port: w.target.Port, family: w.preferred}
		f, err := a.find(ctx, name, wanted)
		switch {
		case err != nil && outcomeOf(err) != OutcomeServFail:
			return finding{}, err
		case err != nil && failed == nil:
			failed = err
		case err != nil:
		case f.outcome == OutcomeOK:
			wanted.family, wanted.settled = f.family, true
			w.pin, w.nature, w.twinAt = &pin{service: name, want: wanted}, nature{}, time.Time{}
			f = w.follow(ctx, a, q, f)
			if failed != nil {
				w.pin = nil
			}
			return f, nil
		case denied.outcome == "", f.outcome == OutcomeNoData && denied.outcome == OutcomeNXDomain:
			denied = f
		}
	}
	switch {
	case failed != nil:
		return finding{}, failed
	case denied.outcome == "":
		return finding{}, &Error{Name: host, Outcome: OutcomeMalformed, Err: fmt.Errorf("no name on the search list is a valid one: %w", dnsprobe.ErrBadQuestion)}
	}
	return denied, nil
}
