package auto

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint/endpointtest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a source that does what a test says.
type fake struct {
	name    string
	refuses error         // Open's error
	answer  *endpoint.Set // told at the start of each run, nil for nothing
	fails   error         // the same for a failure
	feed    chan func(endpoint.Sink) error

	mu      sync.Mutex
	runs    int
	running int
	asks    []endpoint.Question
}

func newFake(name string) *fake {
	return &fake{name: name, feed: make(chan func(endpoint.Sink) error)}
}

func (f *fake) Open(endpoint.Target) (endpoint.Source, error) {
	if f.refuses != nil {
		return nil, f.refuses
	}
	return &fakeSource{fake: f}, nil
}

// fakeSource is for one run, as the contract has it.
type fakeSource struct {
	*fake
	ran bool
}

func (s *fakeSource) Run(ctx context.Context, sink endpoint.Sink) error {
	s.mu.Lock()
	if s.ran {
		panic("run twice")
	}
	s.ran = true
	s.runs++
	s.running++
	answer, fails := s.answer, s.fails
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}()
	if answer != nil {
		sink.Update(*answer)
	}
	if fails != nil {
		sink.Fail(fails)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-s.feed:
			if err := f(sink); err != nil {
				return err
			}
		}
	}
}

func (f *fake) Ask(q endpoint.Question) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, q)
}

// do makes the running source do something, and waits until all is quiet.
func (f *fake) do(what func(endpoint.Sink) error) {
	f.feed <- what
	synctest.Wait()
}

func (f *fake) tell(s endpoint.Set) {
	f.do(func(sink endpoint.Sink) error { sink.Update(s); return nil })
}
func (f *fake) fail(err error) {
	f.do(func(sink endpoint.Sink) error { sink.Fail(err); return nil })
}
func (f *fake) note(e endpoint.Event) {
	f.do(func(sink endpoint.Sink) error { sink.Note(e); return nil })
}
func (f *fake) end(err error) { f.do(func(endpoint.Sink) error { return err }) }

func (f *fake) state() (runs, running int, asks []endpoint.Question) {
	f.mu.Lock()
	defer f.mu.Unlock()
	asks, f.asks = f.asks, nil
	return f.runs, f.running, asks
}

// pods is a Set of endpoints with those numbers and UIDs, authoritative.
func pods(numbers ...int) endpoint.Set {
	s := endpoint.Set{Source: "kube", Authoritative: true}
	for _, n := range numbers {
		e := endpoint.At(addr(n, 6565))
		e.UID, e.Name = fmt.Sprintf("u%d", n), fmt.Sprintf("default/p%d", n)
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// names is a Set of an answer of DNS.
func names(numbers ...int) endpoint.Set {
	s := endpoint.Set{Source: "dns"}
	for _, n := range numbers {
		s.Endpoints = append(s.Endpoints, endpoint.At(addr(n, 6565)))
	}
	if len(numbers) == 0 {
		s.Reason = "NXDOMAIN"
	}
	return s
}

func addr(n int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), port)
}

var (
	errDenied = fmt.Errorf("watch: %w", &kube.DeniedError{Namespace: "default", Err: errors.New("forbidden")})
	errBroken = errors.New("connection refused")
	noName    = endpoint.Set{Source: "kube", Reason: "no Service default/square"}
)

// stand is a source of two fakes that runs in a bubble.
type stand struct {
	*testing.T
	kube, dns *fake
	src       endpoint.Source

	quiet bool // what the sources note of themselves is left out

	mu    sync.Mutex
	log   []string // what was told, in short
	known string   // the last Set in it
	ended bool
	err   error
}

func (s *stand) Update(set endpoint.Set) {
	line := set.Source
	for _, e := range set.Endpoints {
		line += fmt.Sprintf(" %d", e.Addr().Addr().As4()[3])
	}
	if len(set.Endpoints) == 0 {
		line += " none"
	}
	s.say(line)
}

func (s *stand) Fail(err error) { s.say("fail " + err.Error()) }

func (s *stand) Note(e endpoint.Event) {
	switch e := e.(type) {
	case endpoint.SourceSwitched:
		s.say(fmt.Sprintf("switch %s>%s: %s", e.From, e.To, e.Reason))
	case endpoint.Warning:
		s.say("warning " + e.Text)
	default:
		if !s.quiet {
			s.say(fmt.Sprintf("note %T", e))
		}
	}
}

// wantAmong checks that what was told has these lines in this order, and in
// between only failures and what was told already.
func (s *stand) wantAmong(lines ...string) {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	left, last := lines, ""
	for _, l := range s.log {
		switch {
		case len(left) > 0 && strings.HasPrefix(l, left[0]):
			left = left[1:]
		case l != last && !strings.HasPrefix(l, "fail ") && !strings.HasPrefix(l, s.known):
			s.Errorf("told %s", l)
		}
		last = l
		if !strings.HasPrefix(l, "fail ") && !strings.HasPrefix(l, "switch ") {
			s.known = l
		}
	}
	if len(left) > 0 {
		s.Errorf("told\n  %s\nwant among it\n  %s", strings.Join(s.log, "\n  "), strings.Join(lines, "\n  "))
	}
	s.log = nil
}

func (s *stand) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		s.Errorf("told after Run: %s", line)
	}
	s.log = append(s.log, line)
}

// want checks what was told since the last look.
func (s *stand) want(lines ...string) {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.log, lines, strings.HasPrefix) {
		s.Errorf("told\n  %s\nwant\n  %s", strings.Join(s.log, "\n  "), strings.Join(lines, "\n  "))
	}
	if len(s.log) > 0 {
		s.known = s.log[len(s.log)-1]
	}
	s.log = nil
}

func (s *stand) after(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// runs checks how often DNS was started, and whether it runs.
func (s *stand) wantDNS(runs, running int) {
	s.Helper()
	synctest.Wait()
	if r, now, _ := s.dns.state(); r != runs || now != running {
		s.Errorf("DNS was started %d times and %d run, want %d and %d", r, now, runs, running)
	}
}

func inStand(t *testing.T, before, f func(*stand)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stand{T: t, kube: newFake("kube"), dns: newFake("dns")}
		before(s)
		var err error
		if s.src, err = of(s.kube, s.dns).Open(endpoint.Target{Host: "square", PortName: "grpc"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			err := s.src.Run(ctx, s)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended, s.err = true, err
		}()
		synctest.Wait()
		f(s)
		cancel()
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.ended {
			t.Error("Run has not returned")
		}
		for _, f := range []*fake{s.kube, s.dns} {
			if _, running, _ := f.state(); running != 0 {
				t.Errorf("%s outlives Run", f.name)
			}
		}
	})
}

func as[T any](v T) *T { return &v }

func TestWatchAlone(t *testing.T) {
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2)) }, func(s *stand) {
		s.want("switch >kube: the watch", "kube 1 2")
		s.after(time.Hour)
		s.kube.tell(pods(1, 2, 3))
		s.kube.tell(pods())
		s.want("kube 1 2 3", "kube none")
		s.kube.tell(noName) // the Service is gone
		s.after(time.Minute)
		s.want("kube none")
		s.wantDNS(0, 0)
	})
}

func TestNeverWatches(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*stand)
		reason string
	}{
		{"denied", func(s *stand) { s.kube.fails = errDenied }, "watch: no right to watch"},
		{"API server away", func(s *stand) { s.kube.fails = errBroken }, "connection refused"},
		{"no Service's name", func(s *stand) { s.kube.refuses = kube.ErrTarget }, "not the name of a Service"},
		{"no such Service", func(s *stand) { s.kube.answer = as(noName) }, "no Service default/square"},
		{"no reason given", func(s *stand) { s.kube.answer = &endpoint.Set{Source: "kube"} }, "there are no EndpointSlices"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inStand(t, func(s *stand) { c.before(s); s.dns.answer = as(names(1, 2)) }, func(s *stand) {
				s.want("switch >dns: "+c.reason, "dns 1 2")
				s.after(time.Hour)
				s.dns.tell(names(1, 3))
				s.dns.fail(errBroken)
				s.dns.tell(names())
				s.want("dns 1 3", "fail connection refused", "dns none")
				s.wantDNS(1, 1)
			})
		})
	}
}

// TestNoCluster: one word about it, and no second try.
func TestNoCluster(t *testing.T) {
	inStand(t, func(s *stand) { s.dns.answer = as(names(1)) }, func(s *stand) {
		s.kube.end(errors.New("not in a cluster"))
		s.want("switch >dns: not in a cluster", "dns 1")
		s.after(time.Hour)
		s.want()
		if runs, _, _ := s.kube.state(); runs != 1 {
			t.Errorf("watched %d times", runs)
		}
		s.dns.end(errors.New("cannot mean it"))
		s.want("fail cannot mean it")
		if s.err == nil || !strings.Contains(s.err.Error(), "not in a cluster") || !strings.Contains(s.err.Error(), "cannot mean it") {
			t.Errorf("Run returned %v", s.err)
		}
	})
}

func TestWatchIsSlow(t *testing.T) {
	inStand(t, func(s *stand) { s.dns.answer = as(names(1, 2)) }, func(s *stand) {
		s.wantDNS(0, 0)
		s.after(headStart)
		s.want("switch >dns: EndpointSlices say nothing so far", "dns 1 2")
		s.kube.fail(errBroken)
		s.kube.fail(errBroken)
		s.want()
		s.after(asideEvery)
		s.kube.fail(errBroken)
		s.kube.fail(errBroken)
		s.want("warning the watch of EndpointSlices fails: connection refused")
		s.kube.tell(pods(1, 2))
		s.want("switch dns>kube: the watch", "kube 1 2")
		s.wantDNS(1, 0)
	})
}

// TestOutage: the API server goes and comes back; nothing is ever empty or less.
func TestOutage(t *testing.T) {
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2, 3)); s.dns.answer = as(names(1, 2, 3)) }, func(s *stand) {
		s.want("switch >kube", "kube 1 2 3")
		for i := range 3 {
			s.kube.fail(errBroken)
			s.after(grace - 1)
			s.want("fail connection refused")
			s.wantDNS(i, 0)
			s.after(1)
			s.want("switch kube>dns: connection refused", "dns 1 2 3")
			s.after(time.Minute)
			s.kube.tell(pods(1, 2, 3))
			s.want("switch dns>kube", "kube 1 2 3")
			s.wantDNS(i+1, 0)
		}
		s.kube.fail(errBroken)
		s.after(grace / 2)
		s.kube.tell(pods(1, 2, 3, 4))
		s.after(time.Hour)
		s.want("fail", "kube 1 2 3 4")
		s.wantDNS(3, 0)
		s.dns.answer = as(names(1, 2, 3, 4))
		s.kube.fail(errDenied) // the Role was taken away
		s.want("fail", "switch kube>dns: watch: no right", "dns 1 2 3 4")
	})
}

// TestUrged: DNS is asked at once when a connection broke while the watch is
// broken.
func TestUrged(t *testing.T) {
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2)); s.dns.answer = as(names(1, 2)) }, func(s *stand) {
		ask := s.src.(endpoint.Asker).Ask
		ask(endpoint.Question{})
		s.want("switch >kube", "kube 1 2")
		s.wantDNS(0, 0)
		s.kube.fail(errBroken)
		ask(endpoint.Question{Verify: true})
		s.want("fail", "switch kube>dns", "dns 1 2")
		ask(endpoint.Question{})
		synctest.Wait()
		if _, _, asks := s.kube.state(); len(asks) != 3 || !asks[1].Verify {
			t.Errorf("the watch was asked %v", asks)
		}
		if _, _, asks := s.dns.state(); len(asks) != 1 || asks[0].Verify {
			t.Errorf("DNS was asked %v", asks)
		}
	})
}

func TestFewer(t *testing.T) {
	setup := func(s *stand) { s.kube.answer = as(pods(1, 2, 3)); s.dns.answer = as(names(1)) }
	inStand(t, setup, func(s *stand) {
		s.want("switch >kube", "kube 1 2 3")
		s.kube.fail(errDenied)
		s.want("fail")
		s.dns.tell(names(1)) // too soon to count
		s.want()
		s.after(confirm)
		if _, _, asks := s.dns.state(); len(asks) != 1 || !asks[0].Verify {
			t.Errorf("DNS was asked %v", asks)
		}
		s.dns.tell(names(1))
		s.want("switch kube>dns", "dns 1")
	})
	inStand(t, setup, func(s *stand) {
		s.want("switch >kube", "kube 1 2 3")
		s.kube.fail(errDenied)
		s.dns.tell(names(3, 2, 1, 4))
		s.want("fail", "switch kube>dns", "dns 3 2 1 4")
	})
}

// TestUnreadyAreNotMissed: DNS has ready pods alone.
func TestUnreadyAreNotMissed(t *testing.T) {
	inStand(t, func(s *stand) {
		set := pods(1, 2, 3)
		set.Endpoints[2].Ready = false
		s.kube.answer, s.dns.answer = &set, as(names(1, 2))
	}, func(s *stand) {
		s.kube.fail(errDenied)
		s.want("switch >kube", "kube 1 2 3", "fail", "switch kube>dns", "dns 1 2")
	})
}

func TestBlankFromDNS(t *testing.T) {
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2)); s.dns.answer = as(names()) }, func(s *stand) {
		s.kube.fail(errBroken)
		s.after(time.Hour)
		s.dns.fail(errors.New("SERVFAIL"))
		s.kube.fail(errBroken)
		s.want("switch >kube", "kube 1 2", "fail", "warning DNS, which is to stand in for it, fails: SERVFAIL", "fail")
		s.kube.tell(pods(1, 2))
		s.want("kube 1 2")
		s.wantDNS(1, 0)
		s.kube.tell(pods())
		s.kube.fail(errBroken) // known to be none: none from DNS is no loss
		s.after(grace)
		s.want("kube none", "fail", "switch kube>dns", "dns none")
	})
}

// TestVirtualIP: a ClusterIP Service without a twin; the VIP would balance
// connections.
func TestVirtualIP(t *testing.T) {
	vip := names(96)
	note := endpoint.ClusterIPTarget{Name: "square.default.svc.cluster.local", VIP: vip.Endpoints[0].Addr().Addr()}
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2)) }, func(s *stand) {
		s.kube.fail(errBroken)
		s.after(grace)
		s.dns.note(note)
		s.dns.tell(vip)
		s.after(trust - grace - 1)
		s.dns.tell(vip)
		s.want("switch >kube", "kube 1 2", "fail", "note endpoint.ClusterIPTarget")
		s.after(1)
		s.want("switch kube>dns", "dns 96")
		s.kube.tell(pods(3, 4))
		s.want("switch dns>kube", "kube 3 4")
	})
	inStand(t, func(s *stand) { s.kube.fails = errDenied }, func(s *stand) {
		s.dns.note(note)
		s.dns.tell(vip) // better than nothing
		s.want("note", "switch >dns", "dns 96")
	})
	inStand(t, func(s *stand) { s.kube.answer = as(pods(1, 2)) }, func(s *stand) {
		s.kube.fail(errDenied)
		s.dns.note(note)
		note := note
		note.Twin = "square-headless.default.svc.cluster.local"
		s.dns.note(note)
		s.dns.tell(names(1, 2))
		s.want("switch >kube", "kube 1 2", "fail", "note", "note", "switch kube>dns", "dns 1 2")
	})
}

// TestOtherPort: DNS cannot know that a number stands for another one.
func TestOtherPort(t *testing.T) {
	inStand(t, func(s *stand) {
		s.kube.answer = as(pods(1, 2))
		wrong := endpoint.Set{Source: "dns", Endpoints: []endpoint.Endpoint{endpoint.At(addr(1, 80)), endpoint.At(addr(2, 80))}}
		s.dns.answer = &wrong
	}, func(s *stand) {
		s.kube.fail(errDenied)
		s.after(time.Hour)
		s.want("switch >kube", "kube 1 2", "fail", "warning DNS answers with port 80")
		s.wantDNS(1, 1)
		s.dns.tell(names(7, 8)) // all pods are others by now
		s.after(confirm)
		s.dns.tell(names(7, 8))
		s.want("switch kube>dns", "dns 7 8")
	})
}

// TestNobodyKnows: with no source that has anything, failures are told when both
// have failed, and the better reason for nothing wins.
func TestNobodyKnows(t *testing.T) {
	inStand(t, func(s *stand) { s.kube.fails = errDenied }, func(s *stand) {
		s.want()
		s.dns.fail(errors.New("SERVFAIL"))
		s.want("fail watch: no right to watch EndpointSlices")
		s.kube.fail(errDenied)
		s.want("fail watch: no right to watch EndpointSlices")
		s.dns.tell(names())
		s.want("switch >dns", "dns none")
	})
	inStand(t, func(s *stand) { s.kube.answer = as(noName); s.dns.answer = as(names()) }, func(s *stand) {
		s.want("switch >kube", "kube none")
		s.after(time.Minute)
		s.dns.tell(names(1)) // DNS knows the name, and went on looking
		s.want("switch kube>dns: no Service default/square", "dns 1")
		s.dns.tell(names())
		s.want("dns none")
		s.kube.tell(pods(1))
		s.want("switch dns>kube", "kube 1")
		s.wantDNS(1, 0)
	})
	inStand(t, func(s *stand) { s.kube.answer = as(noName); s.dns.fails = errors.New("SERVFAIL") }, func(s *stand) {
		s.want("switch >kube", "kube none")
	})
	inStand(t, func(s *stand) { s.dns.answer = as(names()) }, func(s *stand) {
		s.after(time.Minute)
		s.want() // the watch has said nothing yet
		s.kube.fail(errBroken)
		s.want("switch >dns", "dns none")
	})
}

func TestOneSourceAlone(t *testing.T) {
	inStand(t, func(s *stand) { s.dns.refuses = errors.New("no such option") }, func(s *stand) {
		s.kube.fail(errBroken)
		s.kube.tell(pods(1))
		s.kube.fail(errDenied)
		s.after(time.Hour)
		s.kube.tell(noName)
		s.want("fail connection refused", "switch >kube", "kube 1", "fail watch: no right", "kube none")
		s.kube.end(errors.New("over"))
		s.want("fail over")
		if s.err == nil || s.err.Error() != "over" {
			t.Errorf("Run returned %v", s.err)
		}
	})
	inStand(t, func(s *stand) { s.kube.refuses = kube.ErrTarget }, func(s *stand) {
		s.dns.fail(errBroken)
		s.dns.tell(names(1))
		s.want("fail connection refused", "switch >dns", "dns 1")
		s.dns.end(errors.New("over"))
		s.want("fail over")
		if s.err == nil || s.err.Error() != "over" {
			t.Errorf("Run returned %v", s.err)
		}
	})
	inStand(t, func(s *stand) { s.dns.answer = as(names(1)); s.kube.fails = errDenied }, func(s *stand) {
		s.dns.end(errors.New("over"))
		s.kube.tell(pods(1))
		s.want("switch >dns", "dns 1", "fail over", "switch dns>kube", "kube 1")
		s.kube.fail(errDenied)
		s.after(time.Hour)
		s.want("fail")
	})
}

func TestNeitherOpens(t *testing.T) {
	k, d := newFake("kube"), newFake("dns")
	k.refuses, d.refuses = kube.ErrTarget, errors.New("no such option")
	if _, err := of(k, d).Open(endpoint.Target{}); !errors.Is(err, kube.ErrTarget) || !errors.Is(err, d.refuses) {
		t.Errorf("Open: %v", err)
	}
}

// TestContract runs with a watch that works, and with one that may not.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name string
		of   func(works endpoint.Opener, fails *fake) endpoint.Opener
	}{
		{"watch", func(works endpoint.Opener, fails *fake) endpoint.Opener { return of(works, fails) }},
		{"DNS", func(works endpoint.Opener, fails *fake) endpoint.Opener { return of(fails, works) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			endpointtest.TestSource(t, endpointtest.Harness{New: func(t *testing.T) endpointtest.World {
				works, fails := static.New(), newFake("fails")
				fails.fails = errDenied
				src, err := c.of(works, fails).Open(endpoint.Target{Host: "square", Port: 6565})
				if err != nil {
					t.Fatal(err)
				}
				return endpointtest.World{Source: src, Put: func(eps ...endpoint.Endpoint) { works.Set(eps...) }}
			}})
		})
	}
}
