package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The words of the tests.
const (
	domain  = "cluster.local."
	square  = "square.default.svc.cluster.local."
	twinOf  = "square-headless.default.svc.cluster.local."
	server1 = "10.96.0.10:53"
	server2 = "10.96.0.11:53"
	// podConf is what kubelet writes.
	podConf = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
)

// told is one call of the sink.
type told struct {
	at    time.Duration // since the source began
	set   *endpoint.Set
	err   error
	event endpoint.Event
}

// sink keeps what it is told.
type sink struct {
	mu    sync.Mutex
	began time.Time
	all   []told
}

func (s *sink) add(t told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.at = time.Since(s.began)
	s.all = append(s.all, t)
}

func (s *sink) Update(set endpoint.Set) { s.add(told{set: &set}) }
func (s *sink) Fail(err error)          { s.add(told{err: err}) }
func (s *sink) Note(e endpoint.Event)   { s.add(told{event: e}) }

func (s *sink) list() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// looks are the times of the looks that ended.
func (s *sink) looks() []time.Duration {
	var out []time.Duration
	for _, t := range s.list() {
		if _, ok := t.event.(endpoint.Refreshed); ok {
			out = append(out, t.at)
		}
	}
	return out
}

// outcomes are the words of the looks that ended.
func (s *sink) outcomes() []string {
	var out []string
	for _, t := range s.list() {
		if r, ok := t.event.(endpoint.Refreshed); ok {
			out = append(out, r.Outcome)
		}
	}
	return out
}

func (s *sink) sets() []endpoint.Set {
	var out []endpoint.Set
	for _, t := range s.list() {
		if t.set != nil {
			out = append(out, *t.set)
		}
	}
	return out
}

// last is the last Set as text, with its reason when it is empty.
func (s *sink) last() string {
	sets := s.sets()
	if len(sets) == 0 {
		return "none"
	}
	return setText(sets[len(sets)-1])
}

func setText(set endpoint.Set) string {
	if len(set.Endpoints) == 0 {
		return set.Reason
	}
	var out []string
	for _, e := range set.Endpoints {
		var addrs []string
		for _, a := range e.Addrs {
			addrs = append(addrs, a.String())
		}
		out = append(out, strings.Join(addrs, "+"))
	}
	return strings.Join(out, " ")
}

func (s *sink) errs() []error {
	var out []error
	for _, t := range s.list() {
		if t.err != nil {
			out = append(out, t.err)
		}
	}
	return out
}

func (s *sink) warnings() []string {
	var out []string
	for _, t := range s.list() {
		if w, ok := t.event.(endpoint.Warning); ok {
			out = append(out, w.Text)
		}
	}
	return out
}

func (s *sink) virtual() []endpoint.ClusterIPTarget {
	var out []endpoint.ClusterIPTarget
	for _, t := range s.list() {
		if c, ok := t.event.(endpoint.ClusterIPTarget); ok {
			out = append(out, c)
		}
	}
	return out
}

// world is a bubble with a cluster's DNS in it.
type world struct {
	t testing.TB
	sink
	net    dnstest.Memory
	zone   *dnstest.Zone
	conf   string // path of resolv.conf
	source endpoint.Source
}

// inBubble runs a test in a synctest bubble, with an empty cluster zone on
// server1 and kubelet's resolv.conf.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	path := writeConf(t, "", podConf)
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, zone: dnstest.NewZone(t, domain), conf: path}
		w.net.Serve(server1, w.zone, dnstest.NewZone(t, "."))
		test(w)
	})
}

// start runs a source for the target, without jitter unless opts say so.
func (w *world) start(target string, opts ...Option) {
	w.t.Helper()
	authority, name, _ := strings.Cut(target, "/")
	if name == "" {
		authority, name = "", target
	}
	parsed, err := endpoint.ParseTarget(authority, name, "")
	if err != nil {
		w.t.Fatal(err)
	}
	opts = append([]Option{WithDial(w.net.DialContext), WithResolvConf(w.conf), WithJitter(0)}, opts...)
	if w.source, err = New(opts...).Open(parsed); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	w.began = time.Now()
	go func() { done <- w.source.Run(ctx, &w.sink) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

// after lets time pass in the bubble.
func (w *world) after(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (w *world) ask(q endpoint.Question) {
	w.source.(endpoint.Asker).Ask(q)
	synctest.Wait()
}

// asked lists the questions since the last call: "udp A name".
func (w *world) asked() []string {
	var out []string
	for _, q := range w.net.Queries() {
		out = append(out, q.Network+" "+typeName(q.Type)+" "+q.Name)
	}
	return out
}

func typeName(t uint16) string {
	return map[uint16]string{1: "A", 28: "AAAA", 33: "SRV"}[t]
}

func (w *world) want(last string) {
	w.t.Helper()
	if got := w.last(); got != last {
		w.t.Errorf("last set is %s, want %s (outcomes %v, errors %v)", got, last, w.outcomes(), w.errs())
	}
}

func (w *world) wantOutcomes(want ...string) {
	w.t.Helper()
	if got := w.outcomes(); !slices.Equal(got, want) {
		w.t.Errorf("outcomes %v, want %v (errors %v)", got, want, w.errs())
	}
}

// ips are addresses from text.
func ips(text ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range text {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
