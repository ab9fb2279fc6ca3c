package grpcresolver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/tuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// forgetAfter is how long a hub that no channel uses is kept. It is longer than
// gRPC's idle mode takes to come (30 minutes), and short enough that a program
// with ever new targets does not grow.
const forgetAfter = time.Hour

// hub is what the channels of one target share. See the package's
// documentation.
//
// Lock order: running, a balancer's mu, mu. Nothing is called back under mu.
type hub struct {
	name   string
	cfg    config.Config
	events *queue
	// open makes a source, nil for a hub without one: a balancer's over another
	// resolver.
	open func() (endpoint.Source, error)
	ours bool // channels have a policy of ours, which knows connections

	// running is held while the loop starts or stops, so that a channel that
	// leaves idle mode waits for the end of the loop it left.
	running sync.Mutex
	stop    func() // ends the loop and waits for it; nil while there is none

	nodes policy.NodeConfig

	mu        sync.Mutex
	loop      *reconcile.Loop // nil while none runs
	state     reconcile.State // of the last loop, while none runs
	snap      *snapshot       // of state; nil while nothing is known
	channels  map[*channel]struct{}
	balancers map[*balance]struct{}
	members   []*member     // by ID
	made      snapshot      // of members, whether or not they are known any more
	connected int           // believed members with a READY connection
	inUse     int           // of them, as of the latest picker: who waits for them finds them in use
	changed   chan struct{} // closed and replaced when connected, inUse or snap changes
	unused    time.Time     // since when there is no channel
	err       error         // why nothing is known
	warned    map[string]bool
	counts    counts
	eject     ejection

	tripped   atomic.Bool  // an evaluation is on its way
	notBefore atomic.Int64 // policy.Nanos: looking at many endpoints takes time
}

func newHub(name string, cfg config.Config, events *queue) *hub {
	h := &hub{
		name: name, cfg: cfg, events: events,
		channels: map[*channel]struct{}{}, balancers: map[*balance]struct{}{},
		changed: make(chan struct{}), warned: map[string]bool{},
		nodes: tuning.Nodes(cfg),
	}
	h.counts.init()
	h.eject.init(h)
	return h
}

// attach adds a channel and starts the source for the first one.
func (h *hub) attach(c *channel) error {
	h.running.Lock()
	defer h.running.Unlock()
	if h.stop == nil {
		if err := h.start(); err != nil {
			return err
		}
	}
	h.mu.Lock()
	h.channels[c] = struct{}{}
	h.mu.Unlock()
	return nil
}

// detach removes a channel and, with the last one, ends the source.
func (h *hub) detach(c *channel) {
	h.running.Lock()
	defer h.running.Unlock()
	h.mu.Lock()
	delete(h.channels, c)
	last := len(h.channels) == 0
	h.mu.Unlock()
	if !last || h.stop == nil {
		return
	}
	h.stop()
	h.stop = nil
	h.mu.Lock()
	h.state = h.loop.State()
	h.loop, h.unused, h.err = nil, time.Now(), nil
	h.mu.Unlock()
}

// start runs a loop with a new source. h.running is held.
func (h *hub) start() error {
	source, err := h.open()
	if err != nil {
		return err
	}
	h.mu.Lock()
	loop := reconcile.New(reconcile.Options{
		Source:  source,
		Config:  tuning.Guard(h.cfg.Refresh),
		State:   h.state,
		Publish: h.publish,
		Events:  h.observe,
	})
	h.loop = loop
	h.snap = nil // until the loop says that what was known is still good
	h.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := loop.Run(ctx); err != nil {
			h.fail(fmt.Errorf("the source gave up: %w", err))
			h.warn(fmt.Sprintf("%s: the source gave up, the endpoints stay as they are: %v", h.name, err))
		}
	}()
	h.stop = func() {
		cancel()
		<-done
	}
	return nil
}

// touch says that a channel is about to use the hub: until it is attached, another
// one that is built must not forget it.
func (h *hub) touch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unused = time.Now()
}

// forgotten reports whether no channel used the hub for long.
func (h *hub) forgotten() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.channels) == 0 && h.loop == nil && time.Since(h.unused) > forgetAfter
}

// ask has the source look again.
func (h *hub) ask(q endpoint.Question) {
	h.mu.Lock()
	loop := h.loop
	h.mu.Unlock()
	if loop != nil {
		loop.Ask(q)
	}
}

// current returns what channels should have: a snapshot, or why there is none,
// or neither while the first look runs.
func (h *hub) current() (*snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.snap, h.err
}

// publish takes a new state. It runs on the loop's goroutine.
func (h *hub) publish(s reconcile.State) {
	h.mu.Lock()
	if s.Known() {
		h.err = nil
		h.snapLocked(s.Refs())
	}
	// How many may be ejected depends on how many there are. Where nobody is, the
	// next evaluation is early enough.
	ejected := len(h.eject.until) > 0
	h.mu.Unlock()
	h.wakeAll()
	if ejected {
		h.trip()
	}
}

// stateLocked is the guard's newest state.
func (h *hub) stateLocked() reconcile.State {
	if h.loop != nil {
		return h.loop.State()
	}
	return h.state
}

// snapLocked makes members and the snapshot equal to the guard's members. What
// did not change is copied in runs and not looked at.
func (h *hub) snapLocked(in []*reconcile.Member) {
	snap := &snapshot{
		hub: h, refs: in, views: make([]view, 0, len(in)), endpoints: make([]resolver.Endpoint, 0, len(in)),
	}
	members := make([]*member, 0, len(in))
	old, next := &h.made, 0 // next is a position in old and h.members
	for i := 0; ; i++ {
		n := run(in[i:], old.refs[next:])
		members = append(members, h.members[next:next+n]...)
		snap.views = append(snap.views, old.views[next:next+n]...)
		snap.endpoints = append(snap.endpoints, old.endpoints[next:next+n]...)
		i, next = i+n, next+n
		for next < len(old.refs) && (i == len(in) || old.refs[next].ID < in[i].ID) {
			h.forgetLocked(h.members[next])
			next++
		}
		if i == len(in) {
			break
		}
		var m *member
		if next < len(old.refs) && old.refs[next].ID == in[i].ID {
			m = h.members[next]
			next++
		}
		if m == nil {
			m = h.newMember(in[i], len(in))
		} else {
			h.renewLocked(m, in[i])
		}
		members = append(members, m)
		snap.add(m)
	}
	h.members, h.made, h.snap = members, *snap, snap
	h.inUse = min(h.inUse, h.connected)
	h.broadcastLocked()
}

// run returns how many are the same from the first on.
func run(a, b []*reconcile.Member) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (s *snapshot) add(m *member) {
	s.views = append(s.views, view{m: m, held: m.held, weight: max(m.ep.Weight, 1)})
	s.endpoints = append(s.endpoints, resolver.Endpoint{Addresses: m.addrs})
}

// fail notes why nothing is known; what is known stays as it is.
func (h *hub) fail(err error) {
	h.mu.Lock()
	// What was known before an idle time may come into use just because of the
	// error; it is published after the error is told.
	if h.snap == nil && !h.stateLocked().Known() {
		h.err = fmt.Errorf("%s: %w", h.name, err)
	}
	h.mu.Unlock()
	h.wakeAll()
}

// wakeAll tells the channels that there is news.
func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.channels {
		c.wake()
	}
}

func (h *hub) broadcastLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// missing returns nil when n members are connected, or are believed where no
// balancer of ours knows connections; else what is missing, and a channel
// that is closed when that may have changed.
func (h *hub) missing(n int) (<-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snap == nil {
		if h.err != nil {
			return h.changed, h.err
		}
		return h.changed, fmt.Errorf("%s: no answer yet", h.name)
	}
	believed, _ := h.stateLocked().Counts()
	have, verb := believed, "known"
	if h.ours || len(h.balancers) > 0 {
		have, verb = h.inUse, fmt.Sprintf("connected of %d known", believed)
	}
	if have >= n {
		return nil, nil
	}
	return h.changed, fmt.Errorf("%s: %d endpoints are wanted, %d are %s", h.name, n, have, verb)
}

// emptyError says why a call has nowhere to go: what is known, from whom, since
// when.
func (h *hub) emptyError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		return fmt.Errorf("%s: the resolver has no endpoints", h.name)
	}
	s := h.stateLocked()
	text := h.name + " has no endpoints"
	if reason := s.Reason(); reason != "" {
		text += ": " + reason
	}
	if good := s.LastGood(); !good.IsZero() {
		text += fmt.Sprintf(" (%s answered %s ago)", s.Source(), age(good))
	}
	if err := s.LastErr(); err != nil {
		return fmt.Errorf("%s; since then: %w", text, err)
	}
	return errors.New(text)
}

// age is a duration for people.
func age(t time.Time) time.Duration {
	d := time.Since(t)
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

// join and leave keep the list of balancers that use the hub.
func (h *hub) join(b *balance) {
	h.mu.Lock()
	h.balancers[b] = struct{}{}
	h.mu.Unlock()
	h.trip()
}

func (h *hub) leave(b *balance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.balancers, b)
	if len(h.balancers) == 0 {
		h.eject.stop()
	}
}

// gained says that a connection to m is READY.
func (h *hub) gained(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.ready++
	if m.ready == 1 && !m.held && !m.gone {
		h.connected++
	}
}

// published says that a balancer gave gRPC a picker with all that are connected.
func (h *hub) published() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inUse != h.connected {
		h.inUse = h.connected
		h.broadcastLocked()
	}
}

// lost says that a connection to m that was READY is not any more.
func (h *hub) lost(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.ready--
	if m.ready == 0 && !m.held && !m.gone {
		h.connected--
		h.inUse = min(h.inUse, h.connected)
		h.broadcastLocked()
	}
}

// dialling notes that m is dialled and reports whether nobody has before.
func (h *hub) dialling(m *member) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first = !m.tried
	m.tried = true
	return first
}

// terminates reports whether the last that was known of m is that it terminates. A
// balancer sees only the newest snapshot, and may have missed the one that said so.
func (h *hub) terminates(m *member) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return m.ep.Terminating
}

// settle tells the guard that a held member has no connection: it goes then,
// because it is never dialled again. While another channel still makes one it
// stays: that one settles it when the attempt fails.
func (h *hub) settle(m *member) {
	h.mu.Lock()
	ended := m.held && m.ready == 0 && m.engaged == 0 && !m.gone
	loop := h.loop
	h.mu.Unlock()
	if ended && loop != nil {
		loop.Ended(m.id, false)
	}
}

// warn tells people something once.
func (h *hub) warn(text string) {
	h.mu.Lock()
	again := h.warned[text]
	h.warned[text] = true
	h.mu.Unlock()
	if !again {
		h.events.put(h.name, endpoint.Warning{Text: text})
	}
}
