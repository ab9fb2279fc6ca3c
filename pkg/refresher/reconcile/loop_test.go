package reconcile

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint/endpointtest"
)

func TestMain(m *testing.M) { os.Exit(endpointtest.CheckMain(m, os.Stderr, "refresher/reconcile.")) }

// world is a name server that drifts: what it answers is a function of the time
// since the start and of the question. It is a source that looks every 5 s, and
// when it is asked.
type world struct {
	answer func(at time.Duration, verify bool) (endpoint.Set, error)
	every  time.Duration
	start  time.Time

	asked  chan endpoint.Question
	mu     sync.Mutex
	looks  int
	verify int
}

func newWorld(answer func(at time.Duration, verify bool) (endpoint.Set, error)) *world {
	return &world{answer: answer, every: 5 * time.Second, start: time.Now(), asked: make(chan endpoint.Question, 1)}
}

func (w *world) Run(ctx context.Context, sink endpoint.Sink) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	var q endpoint.Question
	for {
		w.mu.Lock()
		w.looks++
		if q.Verify {
			w.verify++
		}
		w.mu.Unlock()
		set, err := w.answer(time.Since(w.start), q.Verify)
		if err != nil {
			sink.Fail(err)
		} else {
			set.Source, set.At, set.Verified = "dns", time.Now(), q.Verify
			sink.Update(set)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			q = endpoint.Question{}
		case q = <-w.asked:
		}
	}
}

func (w *world) Ask(q endpoint.Question) {
	select {
	case w.asked <- q:
	default:
	}
}

// log keeps what a Loop published, as "10s a b | c", and its events.
type log struct {
	mu     sync.Mutex
	start  time.Time
	lines  []string
	events []endpoint.Event
}

func (l *log) options(source endpoint.Source) Options {
	l.start = time.Now()
	return Options{
		Source: source,
		Publish: func(s State) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lines = append(l.lines, time.Since(l.start).String()+" "+(&scene{}).render(s, false))
		},
		Events: func(e endpoint.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, e)
		},
	}
}

func (l *log) verdicts() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.events {
		if d, ok := e.(endpoint.GuardDecision); ok {
			out = append(out, string(d.Verdict))
		}
	}
	return strings.Join(out, " ")
}

func (l *log) want(t *testing.T, lines ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, lines) {
		t.Errorf("published:\n\t%s\nwant:\n\t%s", strings.Join(l.lines, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// run runs the loop for a time.
func run(t *testing.T, loop *Loop, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := loop.Run(ctx); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// TestDrift plays half an hour of a drifting name server.
func TestDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"a", "b", "c", "d", "e", "f"}
		w := newWorld(func(at time.Duration, verify bool) (endpoint.Set, error) {
			s := at.Seconds()
			switch {
			case s < 60:
				return endpoint.Set{Endpoints: eps(all[:3]...)}, nil
			case s < 120: // scaled out
				return endpoint.Set{Endpoints: eps(all...)}, nil
			case s < 180: // one server is behind: every other plain answer has only the old ones
				if !verify && int(s)/5%2 == 0 {
					return endpoint.Set{Endpoints: eps(all[:1]...)}, nil
				}
				return endpoint.Set{Endpoints: eps(all...)}, nil
			case s < 240: // CoreDNS is gone
				return endpoint.Set{}, errLook
			case s < 280: // it is back, and empty-headed
				return endpoint.Set{Reason: "NXDOMAIN"}, nil
			case s < 600: // all is well
				return endpoint.Set{Endpoints: eps(all...)}, nil
			case s < 900: // really scaled in
				return endpoint.Set{Endpoints: eps(all[:1]...)}, nil
			case s < 1200: // really to zero
				return endpoint.Set{Reason: "NXDOMAIN"}, nil
			default:
				return endpoint.Set{Endpoints: eps(all[3:]...)}, nil
			}
		})
		l := &log{}
		loop := New(l.options(w))
		run(t, loop, 30*time.Minute)

		var flaps []string
		for s := 120; s < 180; s += 10 {
			at := time.Duration(s) * time.Second
			flaps = append(flaps, at.String()+" a | b c d e f", at.String()+" a b c d e f")
		}
		want := slices.Concat([]string{"0s a b c", "1m0s a b c d e f"}, flaps, []string{
			"4m0s | a b c d e f",
			"4m40s a b c d e f",
			"10m0s a | b c d e f",
			"10m1s a",
			"15m0s | a",
			"16m0s none",
			"20m0s d e f",
		})
		l.want(t, want...)
		verdicts := strings.Repeat("held restored ", 7) + "held believed held zero"
		if got := l.verdicts(); got != verdicts {
			t.Errorf("decided %q, want %q", got, verdicts)
		}
		if got := loop.State(); got.LastErr() != nil || got.Source() != "dns" || time.Since(got.LastGood()) > 5*time.Second {
			t.Errorf("at the end: error %v, source %q, last answer %v ago", got.LastErr(), got.Source(), time.Since(got.LastGood()))
		}
		// A guard that asks all the time would be an outage of its own.
		if regular := int(30 * time.Minute / w.every); w.looks > regular+60 {
			t.Errorf("%d looks, %d of them to verify, where %d are regular", w.looks, w.verify, regular)
		}
	})
}

func TestLoopWithASourceThatCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(at time.Duration, _ bool) (endpoint.Set, error) {
			if at < 12*time.Second {
				return endpoint.Set{Endpoints: eps("a", "b", "c", "d")}, nil
			}
			return endpoint.Set{Endpoints: eps("a")}, nil
		})
		l := &log{}
		loop := New(l.options(struct{ endpoint.Source }{w})) // hides Ask
		loop.Ask(endpoint.Question{})
		run(t, loop, time.Minute)
		l.want(t, "0s a b c d", "15s a | b c d", "20s a")
	})
}

// manual is a source in the test's hands.
type manual struct {
	sink  chan endpoint.Sink
	asked chan endpoint.Question
	err   error
	stop  chan struct{}
}

func newManual() *manual {
	return &manual{sink: make(chan endpoint.Sink, 1), asked: make(chan endpoint.Question, 100), stop: make(chan struct{})}
}

func (m *manual) Run(ctx context.Context, sink endpoint.Sink) error {
	m.sink <- sink
	select {
	case <-ctx.Done():
		return ctx.Err() // a loop does not take this for a failure
	case <-m.stop:
		return m.err
	}
}

func (m *manual) Ask(q endpoint.Question) { m.asked <- q }

// going is a loop that runs in the background of a test.
type going struct {
	*Loop
	*log
	source *manual
	sink   endpoint.Sink
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, change func(*Options)) *going {
	t.Helper()
	g := &going{log: &log{}, source: newManual(), done: make(chan error, 1)}
	opts := g.log.options(g.source)
	if change != nil {
		change(&opts)
	}
	g.Loop = New(opts)
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(t.Context())
	go func() { g.done <- g.Run(ctx) }()
	g.sink = <-g.source.sink
	return g
}

func (g *going) end(t *testing.T) {
	t.Helper()
	g.cancel()
	if err := <-g.done; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestLoopReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, nil)
		g.sink.Update(endpoint.Set{Endpoints: eps("a", "b", "c", "d")})
		g.Ended(4, true)
		g.Ended(4, false) // the GOAWAY still counts
		g.Ended(3, true)  // this one does not,
		synctest.Wait()
		g.Connected(3)    // because of this
		g.Ended(2, false) // nothing
		g.Connected(99)   // nobody
		synctest.Wait()
		g.sink.Update(endpoint.Set{Reason: "NXDOMAIN"})
		synctest.Wait()
		g.Ended(1, false)
		g.Ended(1, false)
		g.Ended(2, true)
		synctest.Wait()
		g.end(t)
		g.want(t, "0s a b c d", "0s | a b c", "0s | c")
		g.Ended(3, false)
		g.Connected(3)
		g.Ask(endpoint.Question{})
		if len(g.reports)+len(g.order) > 0 {
			t.Error("what is reported after Run piles up")
		}
	})
}

func TestLoopAskBeforeRunAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newManual()
		loop := New(Options{Source: source})
		loop.Ask(endpoint.Question{Verify: true})
		loop.Ask(endpoint.Question{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		synctest.Wait()
		if len(source.asked) != 1 || !(<-source.asked).Verify {
			t.Error("two questions before Run are not one, to verify")
		}
		loop.Ask(endpoint.Question{})
		synctest.Wait()
		if len(source.asked) != 1 || (<-source.asked).Verify {
			t.Error("a plain question is not asked plainly")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestLoopSlowPublish: who reports and asks does not wait for who listens.
func TestLoopSlowPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var members []int
		g := start(t, func(o *Options) {
			o.Publish = func(s State) { members = append(members, len(s.Members())); <-release }
		})
		all := make([]string, 0, 20)
		for c := 'a'; c < 'u'; c++ {
			all = append(all, string(c))
		}
		g.sink.Update(endpoint.Set{Endpoints: eps(all...)})
		synctest.Wait() // in Publish
		told := make(chan struct{})
		go func() { g.sink.Update(endpoint.Set{}); close(told) }()
		began := time.Now()
		for id := range uint64(20) {
			for range 1000 {
				g.Ended(id+1, false)
				g.Ask(endpoint.Question{Verify: id == 3})
			}
		}
		if time.Since(began) != 0 {
			t.Errorf("the calls blocked for %v", time.Since(began))
		}
		if len(g.order) > 20 || len(g.Loop.reports) > 20 {
			t.Errorf("%d reports wait for 20 members", len(g.order))
		}
		if n := len(g.State().Members()); n != 20 {
			t.Errorf("State has %d members while they are being published", n)
		}
		close(release)
		<-told
		synctest.Wait()
		// The reports came before or after the empty answer; either way nothing that
		// has no connection is held in the end.
		if got := len(g.State().Members()); got != 0 && got != 20 {
			t.Errorf("%d members", got)
		}
		g.end(t)
		if len(g.source.asked) == 0 || len(g.source.asked) > 3 {
			t.Errorf("the source was asked %d times", len(g.source.asked))
		}
	})
}

func TestLoopEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, nil)
		warning := endpoint.Warning{Text: "mind the gap"}
		g.sink.Note(warning)
		g.sink.Note(nil)
		g.sink.Update(endpoint.Set{Source: "dns", Endpoints: eps("a", "b", "c")})
		g.sink.Update(endpoint.Set{Source: "dns", Endpoints: eps("a", "b", "c")})
		g.sink.Update(endpoint.Set{Source: "dns", Endpoints: eps("d")})
		g.sink.Fail(errLook)
		g.sink.Fail(nil)
		synctest.Wait()
		g.end(t)
		if len(g.events) != 6 {
			t.Fatalf("%d events: %+v", len(g.events), g.events)
		}
		if g.events[0] != endpoint.Event(warning) {
			t.Errorf("the first event is %+v", g.events[0])
		}
		if e := g.events[1].(endpoint.SetChanged); len(e.Diff.Added) != 3 || e.Size != 3 || e.Held != 0 || e.Source != "dns" {
			t.Errorf("the first change is %+v", e)
		}
		if e := g.events[2].(endpoint.GuardDecision); e.Verdict != endpoint.VerdictHeld || e.Before != 3 || e.After != 1 || e.Reason != "3 of 3 endpoints are missing at once: asking again" {
			t.Errorf("the decision is %+v", e)
		}
		if e := g.events[3].(endpoint.SetChanged); len(e.Diff.Added) != 1 || len(e.Diff.Removed) != 3 || e.Size != 1 || e.Held != 3 {
			t.Errorf("the second change is %+v", e)
		}
		if e := g.events[4].(endpoint.RefreshFailed); !errors.Is(e.Err, errLook) || e.Source != "dns" {
			t.Errorf("the failure is %+v", e)
		}
		if e := g.events[5].(endpoint.RefreshFailed); e.Err == nil {
			t.Error("a failure without an error has none in the event")
		}
		if g.State().LastErr() == nil {
			t.Error("LastErr is nil after a failure")
		}
	})
}

func TestLoopSourceGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"with an error": {errors.New("no such port"), "no such port"},
		"silently":      {nil, "the source ended without an error before it was told to"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := start(t, nil)
				defer g.cancel()
				g.sink.Update(endpoint.Set{Endpoints: eps("a")})
				g.source.err = c.err
				close(g.source.stop)
				err := <-g.done
				if err == nil || err.Error() != c.want {
					t.Errorf("Run returned %v", err)
				}
				if !errors.Is(g.State().LastErr(), err) {
					t.Errorf("LastErr is %v", g.State().LastErr())
				}
				g.want(t, "0s a")
				g.sink.Update(endpoint.Set{Endpoints: eps("b")}) // against its contract
				g.want(t, "0s a")
			})
		})
	}
}

// TestLoopCancelled: a source that is in the sink when the loop ends returns.
func TestLoopCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := newWorld(func(time.Duration, bool) (endpoint.Set, error) { return endpoint.Set{Endpoints: eps("a")}, nil })
		if err := New(Options{Source: w}).Run(ctx); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestLoopResume(t *testing.T) {
	up := func(time.Duration, bool) (endpoint.Set, error) {
		return endpoint.Set{Endpoints: eps("a", "b", "d")}, nil
	}
	down := func(time.Duration, bool) (endpoint.Set, error) { return endpoint.Set{}, errLook }
	for name, c := range map[string]struct {
		idle   time.Duration
		answer func(time.Duration, bool) (endpoint.Set, error)
		want   []string
	}{
		"soon":                 {30 * time.Second, up, []string{"0s a b c", "0s a b d"}},
		"soon, and DNS is ill": {30 * time.Second, down, []string{"0s a b c"}},
		"late":                 {time.Hour, up, []string{"0s a b d"}},
		"late, and DNS is ill": {time.Hour, down, []string{"0s a b c"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := New((&log{}).options(newWorld(func(time.Duration, bool) (endpoint.Set, error) {
					return endpoint.Set{Endpoints: eps("a", "b", "c")}, nil
				})))
				run(t, before, time.Hour)
				wait(c.idle)
				l := &log{}
				opts := l.options(newWorld(c.answer))
				opts.State = before.State()
				loop := New(opts)
				run(t, loop, 4*time.Second)
				l.want(t, c.want...)
				for i, m := range loop.State().Members()[:2] {
					if m.ID != uint64(i+1) {
						t.Errorf("member %d has the ID %d after the idle time", i, m.ID)
					}
				}
			})
		})
	}
}

// TestLoopWatch: a watch tells nothing for hours, and its members are still
// young when the channel goes idle.
func TestLoopWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, nil)
		g.sink.Update(endpoint.Set{Endpoints: eps("a"), Authoritative: true})
		wait(3 * time.Hour)
		g.end(t)
		wait(10 * time.Second)
		next := start(t, func(o *Options) { o.State = g.State() })
		synctest.Wait()
		next.end(t)
		next.want(t, "0s a")
	})
}

// wait lets the bubble's time pass.
func wait(d time.Duration) { <-time.After(d) }

func TestDefaults(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	if l := New(Options{}); l.opts.Config != DefaultConfig() {
		t.Error("the zero Config is not the default")
	}
}

func TestValidate(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"EmptyGrace":   func(c *Config) { c.EmptyGrace = -1 },
		"MaxShrink":    func(c *Config) { c.MaxShrink = 1.01 },
		"MinShrink":    func(c *Config) { c.MinShrink = 0 },
		"ConfirmAfter": func(c *Config) { c.ConfirmAfter = -1 },
		"HoldFor":      func(c *Config) { c.HoldFor = c.ConfirmAfter - 1 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+" is ") {
			t.Errorf("a bad %s gives %v", field, err)
		}
	}
	nan := DefaultConfig()
	nan.MaxShrink /= 0 * nan.MaxShrink
	if nan.Validate() == nil {
		t.Error("infinity is taken for a share")
	}
}

func TestStandingString(t *testing.T) {
	if Believed.String() != "believed" || Held.String() != "held" {
		t.Errorf("the standings are %v and %v", Believed, Held)
	}
}

func TestReason(t *testing.T) {
	for script, want := range map[string]string{
		"0s dns":        "NXDOMAIN",
		"0s kube":       "the answer is empty",
		"0s kube a! b!": "none of the 2 listed is ready",
		"0s dns a":      "",
		"0s fail":       "",
	} {
		s := newScene(t, DefaultConfig())
		in := strings.Fields(script)
		set := endpoint.Set{Authoritative: in[1] == "kube", Endpoints: eps(in[2:]...)}
		if in[1] == "dns" && len(in) == 2 {
			set.Reason = "NXDOMAIN"
		}
		var step Input = Answer{set}
		if in[1] == "fail" {
			step = Failure{errLook}
		}
		state, _ := Step(s.cfg, State{}, s.start, step)
		if got := state.Reason(); got != want {
			t.Errorf("%s: the reason is %q, want %q", script, got, want)
		}
	}
}
