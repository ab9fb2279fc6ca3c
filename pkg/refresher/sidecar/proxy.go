package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/tuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// Proxy serves one target. Its methods may be called from any goroutine.
type Proxy struct {
	// A test has its own of these.
	dial dialFunc
	bind func(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error)
	look func(c *conn) (transport, bool)
	// countEvery is how long bytes that were spliced may be uncounted.
	countEvery time.Duration

	ctx        context.Context // of connections that are made; ends with Run
	goroutines sync.WaitGroup
	events     *events
	failing    string // of the events' goroutine: the last error that was logged
	spliced    atomic.Uint64

	stopping  chan struct{} // closed when Drain begins
	idle      chan struct{} // closed when no client is left after that
	knownSoon chan struct{} // closed when the endpoints are known

	// configure is held while the loop is started, stopped or exchanged. It comes
	// before mu.
	configure sync.Mutex
	stopLoop  func() // nil while none runs

	// mu guards everything below, the engine and all pods.
	mu        sync.Mutex
	settings  settings
	engine    *relay.Engine
	started   bool
	draining  bool
	closed    bool
	isIdle    bool
	listeners []net.Listener
	clients   map[*conn]struct{}
	sniffing  map[net.Conn]bool // all other clients; true: it is spliced
	splices   map[*splice]struct{}
	dirty     []*conn
	changes   []*conn
	growing   []*pod

	timer   *time.Timer
	alarmAt policy.Nanos

	loop      *reconcile.Loop
	known     bool
	sourceErr error        // why nothing is known
	firstBy   policy.Nanos // when a first answer without endpoints is believed; 0: there was none
	askAt     policy.Nanos // when the source is asked again until then
	pods      []*pod       // members by ID
	removed   []*pod
	dialling  int
	dialQueue []*pod
	nodes     policy.NodeConfig
	policy    policy.Policy
	picker    policy.Picker // nil while no call can be served
	choices   []*pod        // the picker's
	refusal   *relay.Status // while there is no picker; nil: calls wait
	stale     bool          // picker does not fit the pods any more
	rebuildAt policy.Nanos  // not before
	pollAt    policy.Nanos

	ejector           *policy.Ejector // nil when nothing is ever ejected
	evaluateAt        policy.Nanos
	evaluateNotBefore policy.Nanos
	ejectedCount      int
	panicked          bool

	ready       bool
	rejected    uint64
	passthrough Passthrough
	saidFailed  policy.Nanos // when the log last said that splices fail
	looks       looks
}

// New returns a Proxy that does nothing before Run. The error names every option
// that cannot be used.
func New(o Options) (*Proxy, error) {
	s, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	if _, err := s.open(); err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	p := &Proxy{
		dial: dialTCP, bind: bind, look: (*conn).transport, settings: s, events: newEvents(), looks: newLooks(), countEvery: countEvery,
		stopping: make(chan struct{}), idle: make(chan struct{}), knownSoon: make(chan struct{}),
		clients: map[*conn]struct{}{}, sniffing: map[net.Conn]bool{}, splices: map[*splice]struct{}{},
		passthrough: Passthrough{Kinds: map[string]uint64{}},
	}
	p.engine = relay.New(s.Limits.Relay, host{p})
	p.tune()
	return p, nil
}

// tune puts the policy of the settings in force.
func (p *Proxy) tune() {
	c := p.settings.Policy
	p.policy, p.nodes = tuning.Policy(c), tuning.Nodes(c)
	switch eject := p.nodes.Eject; {
	case !eject.Enabled():
		p.ejector, p.evaluateAt = nil, 0
		for _, pd := range p.pods {
			pd.out, pd.ejectedUntil = false, time.Time{}
		}
	case p.ejector == nil:
		p.ejector = policy.NewEjector(eject)
	default:
		p.ejector.Configure(eject)
	}
	p.stale = true
}

// Run binds the addresses and serves until ctx ends; then it drains for
// Limits.ShutdownTimeout, unless Drain did that, closes everything and returns
// nil. It returns soon, with an error that says which address cannot be bound and
// what to do about it, when that is so. A Proxy runs once.
func (p *Proxy) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.started {
		p.mu.Unlock()
		return errors.New("sidecar: Run was called before: a Proxy runs once")
	}
	p.started = true
	addrs := p.settings.listen
	p.mu.Unlock()
	listeners, err := p.bind(ctx, addrs)
	if err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	source, err := p.source()
	if err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return fmt.Errorf("sidecar: %w", err)
	}
	p.configure.Lock()
	p.ctx = running
	p.startLoop(source, reconcile.State{})
	p.configure.Unlock()
	delivered := make(chan struct{})
	stopEvents := make(chan struct{})
	go func() {
		defer close(delivered)
		p.events.run(stopEvents, p.deliver)
	}()
	p.begin(listeners)
	<-ctx.Done()
	drain, done := context.WithTimeout(running, p.limits().ShutdownTimeout)
	if err := p.Drain(drain); err != nil {
		p.logger().Warn("not everything ended in time", "err", err)
	}
	done()
	p.shutDown(cancel)
	close(stopEvents)
	<-delivered
	return nil
}

// begin accepts clients, unless Drain was called meanwhile.
func (p *Proxy) begin(listeners []net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		for _, l := range listeners {
			_ = l.Close()
		}
		return
	}
	p.listeners = listeners
	for _, l := range listeners {
		p.goroutines.Go(func() { p.accept(l) })
	}
}

// startLoop follows the source from a state on. p.configure is held.
func (p *Proxy) startLoop(source endpoint.Source, from reconcile.State) {
	p.mu.Lock()
	loop := reconcile.New(reconcile.Options{
		Source: source, Config: tuning.Guard(p.settings.Policy.Refresh), State: from, Publish: p.publish, Events: p.observe,
	})
	p.loop = loop
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := loop.Run(ctx); err != nil {
			p.gaveUp(err)
		}
	}()
	p.stopLoop = func() {
		cancel()
		<-done
	}
}

// source opens a source as the settings want it.
func (p *Proxy) source() (endpoint.Source, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings.open()
}

// gaveUp follows a source that will never say anything again.
func (p *Proxy) gaveUp(err error) {
	err = fmt.Errorf("the source gave up: %w", err)
	now := policy.Now()
	p.mu.Lock()
	p.sourceFailed(err)
	p.release(now)
	p.events.put(endpoint.Warning{Text: "the endpoints stay as they are: " + err.Error()})
}

// Drain stops listening at once, so that another Proxy may bind the addresses,
// asks the clients to go (two GOAWAY frames, RFC 9113 section 6.8, so that no call
// is lost) and waits until their calls have ended. When ctx ends before, those
// that are left end with UNAVAILABLE, and the error says how many they were.
//
// A client that has not gone by itself finds nobody listening when it comes back.
// Drain is for the time when there is no client (a native sidecar is told to end
// after the pod's containers, KEP-753) or another Proxy takes over the address.
func (p *Proxy) Drain(ctx context.Context) error {
	now := policy.Now()
	p.mu.Lock()
	if !p.draining {
		p.draining = true
		close(p.stopping)
		for _, l := range p.listeners {
			_ = l.Close()
		}
		p.listeners = nil
		for c := range p.clients {
			c.rl.Drain(now)
		}
		for nc, spliced := range p.sniffing {
			if !spliced {
				_ = nc.Close() // it has said nothing yet
			}
		}
		p.checkIdle()
	}
	p.release(now)
	select {
	case <-p.idle:
		return nil
	case <-ctx.Done():
	}
	now = policy.Now()
	p.mu.Lock()
	calls, spliced := p.abortAll(now)
	p.release(now)
	if calls+spliced == 0 {
		return nil
	}
	return fmt.Errorf("%d calls and %d spliced connections were ended by force: %w", calls, spliced, context.Cause(ctx))
}

// shutDown ends everything and waits for all goroutines.
func (p *Proxy) shutDown(cancel func()) {
	p.configure.Lock()
	stop := p.stopLoop
	p.stopLoop = nil
	p.configure.Unlock()
	if stop != nil {
		stop()
	}
	now := policy.Now()
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.abortAll(now)
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			for _, c := range append([]*conn(nil), pd.links...) {
				c.rl.Abort(now, relay.Status{Code: codeUnavailable, Message: "grpclb-refresher: the sidecar ends"})
			}
		}
	}
	p.release(now)
	cancel()
	p.goroutines.Wait()
}

// Configure changes name, policy, limits, logger and events, and drops no connection.
// Listen and Target must be the same. Opener and Limits.Relay stay as they were,
// whatever o says: connections and calls exist that were told them. An error
// changes nothing.
func (p *Proxy) Configure(o Options) error {
	s, err := o.check()
	if err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	p.configure.Lock()
	defer p.configure.Unlock()
	now := policy.Now()
	p.mu.Lock()
	old := p.settings
	if s.target != old.target || len(s.listen) != len(old.listen) {
		p.mu.Unlock()
		return errors.New("sidecar: another target or other addresses to listen on need another Proxy")
	}
	for i := range s.listen {
		if s.listen[i] != old.listen[i] {
			p.mu.Unlock()
			return errors.New("sidecar: other addresses to listen on need another Proxy")
		}
	}
	s.Opener, s.Limits.Relay = old.Opener, old.Limits.Relay
	source, err := s.open()
	if err != nil {
		p.mu.Unlock()
		return fmt.Errorf("sidecar: %w", err)
	}
	p.settings = s
	p.tune()
	for _, pd := range p.pods {
		pd.node.Configure(p.nodes)
		pd.retune(now)
	}
	p.evaluateSoon(now)
	stop := p.stopLoop
	p.release(now)
	if stop == nil || old.Policy.Refresh == s.Policy.Refresh {
		return nil
	}
	stop()
	p.mu.Lock()
	state := p.loop.State()
	p.mu.Unlock()
	p.startLoop(source, state)
	return nil
}

// retune changes how many connections the pod has.
func (pd *pod) retune(now policy.Nanos) {
	extra := pd.active() - pd.want()
	for i := len(pd.links) - 1; i >= 0 && extra > 0; i-- {
		if c := pd.links[i]; c.rl.State() == relay.Ready && !c.link.spare {
			c.link.ours = true
			c.rl.Drain(now)
			extra--
		}
	}
	pd.connect(now)
}

// Listening returns the addresses that are bound, in the order of Options.Listen;
// nil before and after that.
func (p *Proxy) Listening() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []netip.AddrPort
	for _, l := range p.listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			ap := a.AddrPort()
			out = append(out, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
	return out
}

// Refresh has the source look at once.
func (p *Proxy) Refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ask()
}

func (p *Proxy) limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings.Limits
}

func (p *Proxy) logger() *slog.Logger {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings.Logger.With("target", p.settings.Name)
}
