package reconcile

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Options say what a Loop drives.
type Options struct {
	// Source is asked. The loop runs it once.
	Source endpoint.Source
	// Config tunes the guard; the zero value stands for [DefaultConfig]. It must
	// be valid.
	Config Config
	// State is what to start from: [Loop.State] of an earlier loop for the same
	// target, or the zero value. Members that the earlier source vouched for
	// within EmptyGrace are published at once; older ones wait for the first
	// answer, and are used when there is an error in its place.
	State State
	// Publish takes each State whose members differ from the last one's, and at
	// the start the one that is known already. It runs on the loop's goroutine
	// and must not block for long: nothing is decided meanwhile. May be nil.
	Publish func(State)
	// Events takes what happened, on the loop's goroutine, before the State that
	// it led to is published. May be nil.
	Events func(endpoint.Event)
}

// Loop drives Step with a source. One goroutine owns the State.
type Loop struct {
	opts  Options
	state atomic.Pointer[State]
	// wake holds a token when something below is new.
	wake chan struct{}

	mu      sync.Mutex // guards what follows; held for moments, never while calling out
	ask     *endpoint.Question
	reports map[uint64]report
	order   []uint64 // of reports
	over    bool     // Run has returned: nobody will read them
}

// report is the newest about one member's connections.
type report struct{ connected, goAway bool }

// New returns a Loop that does nothing before Run.
func New(opts Options) *Loop {
	if opts.Config == (Config{}) {
		opts.Config = DefaultConfig()
	}
	l := &Loop{opts: opts, wake: make(chan struct{}, 1), reports: map[uint64]report{}}
	l.state.Store(&opts.State)
	return l
}

// State returns the newest State, also one that was not worth publishing, and
// after Run the last one. Any goroutine may ask.
func (l *Loop) State() State { return *l.state.Load() }

// Ask passes a question on to the source, if that is an [endpoint.Asker].
// Questions that wait become one. It never blocks; it may come before Run and,
// without effect, after it. Any goroutine may ask.
func (l *Loop) Ask(q endpoint.Question) {
	l.mu.Lock()
	if l.ask == nil {
		l.ask = &q
	} else {
		l.ask.Verify = l.ask.Verify || q.Verify
	}
	l.mu.Unlock()
	l.signal()
}

// Ended says that a member has no READY connection left; goAway that its server
// said GOAWAY first. Who owns the connections says so when the last one of a
// member ends, and for each Held member that it sees without one: those are not
// dialled again. It never blocks and is not lost while Run runs. Any goroutine
// may call it.
func (l *Loop) Ended(id uint64, goAway bool) {
	l.report(id, func(r report) report { return report{goAway: goAway || r.goAway && !r.connected} })
}

// Connected says that a member has a READY connection after Ended. That is only
// needed to take back a GOAWAY, which servers also say to limit the age of
// connections. Any goroutine may call it, as Ended.
func (l *Loop) Connected(id uint64) {
	l.report(id, func(report) report { return report{connected: true} })
}

func (l *Loop) report(id uint64, change func(report) report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	old, again := l.reports[id]
	if !again {
		l.order = append(l.order, id)
	}
	l.reports[id] = change(old)
	l.signal()
}

func (l *Loop) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // a token lies there
	}
}

// errEndedEarly is a source's fault: it returns nil only when its context ends.
var errEndedEarly = errors.New("the source ended without an error before it was told to")

// Run runs the source on a goroutine of its own until ctx ends, and returns nil
// then; when the source gives up it returns the source's error. The source has
// returned when Run returns, and nothing is published afterwards. A Loop runs
// once.
func (l *Loop) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.finish()
	told := make(chan message)
	ended := make(chan error, 1)
	r := &driver{Loop: l, timer: time.NewTimer(time.Hour)}
	defer r.timer.Stop()
	r.start()
	go func() { ended <- l.opts.Source.Run(ctx, sink{ctx, told}) }()
	for {
		select {
		case <-ctx.Done():
			<-ended
			r.stop()
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				r.stop()
				return nil
			}
			if err == nil {
				err = errEndedEarly
			}
			r.step(Failure{err})
			return err
		case m := <-told:
			if m.note != nil {
				r.event(m.note)
			} else {
				r.step(m.in)
			}
		case <-l.wake:
			r.drain()
		case <-r.timer.C:
			r.step(Tick{})
		}
	}
}

// finish forgets what nobody acts on any more.
func (l *Loop) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.ask, l.reports, l.order = true, nil, nil, nil
}

// message is one call of the Sink.
type message struct {
	in   Input
	note endpoint.Event
}

// sink hands what the source tells to the loop. The source waits while the loop
// is busy: a watch that changes quickly then has the newest Set to tell.
type sink struct {
	ctx  context.Context
	told chan<- message
}

func (s sink) send(m message) {
	select {
	case s.told <- m:
	case <-s.ctx.Done():
	}
}

func (s sink) Update(set endpoint.Set) { s.send(message{in: Answer{set}}) }
func (s sink) Fail(err error)          { s.send(message{in: Failure{err}}) }
func (s sink) Note(e endpoint.Event) {
	if e != nil {
		s.send(message{note: e})
	}
}

// driver is what only the loop's goroutine touches.
type driver struct {
	*Loop
	timer *time.Timer
}

func (r *driver) start() {
	s := r.opts.State.resumed(r.opts.Config, time.Now())
	r.state.Store(&s)
	if s.Known() {
		r.publish(s)
	}
	r.timer.Stop()
}

// stop makes the last State say until when the source vouched for it.
func (r *driver) stop() {
	s, _ := Step(r.opts.Config, r.State(), time.Now(), reports(nil))
	r.state.Store(&s)
}

func (r *driver) step(in Input) {
	now := time.Now()
	s, out := Step(r.opts.Config, r.State(), now, in)
	r.state.Store(&s)
	if out.WakeAt.IsZero() {
		r.timer.Stop()
	} else {
		r.timer.Reset(out.WakeAt.Sub(now))
	}
	for _, e := range out.Events {
		r.event(e)
	}
	if out.Changed {
		r.publish(s)
	}
	if out.Ask != nil {
		r.askSource(*out.Ask)
	}
}

// drain acts on what Ask, Ended and Connected left.
func (r *driver) drain() {
	r.mu.Lock()
	ask, order, news := r.ask, r.order, r.reports
	r.ask, r.order = nil, nil
	if len(order) > 0 {
		r.reports = map[uint64]report{}
	}
	r.mu.Unlock()
	if len(order) > 0 {
		slices.Sort(order)
		in := make(reports, 0, len(order))
		for _, id := range order {
			if news[id].connected {
				in = append(in, Connected{id})
			} else {
				in = append(in, Ended{id, news[id].goAway})
			}
		}
		r.step(in)
	}
	if ask != nil {
		r.askSource(*ask)
	}
}

func (r *driver) askSource(q endpoint.Question) {
	if a, ok := r.opts.Source.(endpoint.Asker); ok {
		a.Ask(q)
	}
}

func (r *driver) publish(s State) {
	if r.opts.Publish != nil {
		r.opts.Publish(s)
	}
}

func (r *driver) event(e endpoint.Event) {
	if r.opts.Events != nil {
		r.opts.Events(e)
	}
}
