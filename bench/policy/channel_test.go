package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// channel is a balancer's ClientConn without a network: whatever is connected is READY a moment later.
type channel struct {
	balancer.ClientConn // never set: a method that is missing below is a bug and ends the program

	mu     sync.Mutex
	events []func() // what gRPC would call on its goroutine
	// prompt delivers what happened to earlier connections before the next one is made. Stock balancers hold back their picker while they
	// are told of endpoints, and otherwise make one of all endpoints for each of them that is READY: for 10,000 that takes from a minute
	// (round_robin) to many (weighted_round_robin).
	prompt bool
	wake   chan struct{}
	ready  map[balancer.SubConn]bool
	picker balancer.Picker
	state  connectivity.State
}

func newChannel() *channel {
	return &channel{wake: make(chan struct{}, 1), ready: map[balancer.SubConn]bool{}}
}

func (c *channel) later(do func()) {
	c.mu.Lock()
	c.events = append(c.events, do)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// settle calls what is to be called until done says that it is enough.
func (c *channel) settle(done func() bool) error {
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for !done() {
		if c.deliver() {
			continue
		}
		select {
		case <-c.wake:
		case <-time.After(10 * time.Millisecond):
		case <-limit.C:
			return fmt.Errorf("not settled: %v, %d connections", c.state, c.connected())
		}
	}
	return nil
}

// deliver calls what is to be called by now and reports whether there was anything.
func (c *channel) deliver() bool {
	c.mu.Lock()
	events := c.events
	c.events = nil
	c.mu.Unlock()
	for _, do := range events {
		do()
	}
	return len(events) > 0
}

func (c *channel) connected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ready)
}

func (c *channel) current() (connectivity.State, balancer.Picker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.picker
}

func (c *channel) NewSubConn(addrs []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	for c.prompt && c.deliver() {
	}
	return &subConn{channel: c, addr: addrs[0].Addr, listen: o.StateListener}, nil
}

func (c *channel) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.picker = s.ConnectivityState, s.Picker
}

func (c *channel) RemoveSubConn(sc balancer.SubConn)                    { sc.Shutdown() }
func (c *channel) UpdateAddresses(balancer.SubConn, []resolver.Address) {}
func (c *channel) ResolveNow(resolver.ResolveNowOptions)                {}
func (c *channel) Target() string                                       { return "bench:///x" }
func (c *channel) MetricsRecorder() estats.MetricsRecorder              { return noMetrics{} }

type noMetrics struct {
	estats.UnimplementedMetricsRecorder
}

func (noMetrics) RegisterAsyncReporter(estats.AsyncMetricReporter, ...estats.AsyncMetric) func() {
	return func() {}
}

type subConn struct {
	balancer.SubConn // never set
	channel          *channel
	addr             string
	listen           func(balancer.SubConnState)
}

func (s *subConn) Connect() {
	s.channel.later(func() { s.listen(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) })
	s.channel.later(func() {
		s.channel.mu.Lock()
		s.channel.ready[s] = true
		s.channel.mu.Unlock()
		s.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	})
}

func (s *subConn) RegisterHealthListener(listen func(balancer.SubConnState)) {
	s.channel.later(func() { listen(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *subConn) Shutdown() {
	s.channel.mu.Lock()
	defer s.channel.mu.Unlock()
	delete(s.channel.ready, s)
}

func (s *subConn) UpdateAddresses([]resolver.Address) {}

func (s *subConn) GetOrBuildProducer(b balancer.ProducerBuilder) (balancer.Producer, func()) {
	return b.Build(nil)
}

// endpoints are so many endpoints with one address each, from a number on.
func endpoints(from, n int) []resolver.Endpoint {
	out := make([]resolver.Endpoint, n)
	for i := range out {
		k := from + i
		out[i].Addresses = []resolver.Address{{Addr: fmt.Sprintf("10.%d.%d.%d:6565", k>>16&255, k>>8&255, k&255)}}
	}
	return out
}

// driven is a gRPC balancer at work on a channel.
type driven struct {
	*channel
	balancer balancer.Balancer
	config   serviceconfig.LoadBalancingConfig
}

// drive starts the balancer that is registered under a name, with all endpoints READY.
func drive(name, config string, n int) (*driven, error) {
	builder := balancer.Get(name)
	if builder == nil {
		return nil, fmt.Errorf("no balancer is registered as %q", name)
	}
	d := &driven{channel: newChannel()}
	// These hold a lock while they are told, which what happens to a connection needs as well.
	d.prompt = !strings.HasPrefix(name, "grpclb_") && name != weightedroundrobin.Name
	if p, ok := builder.(balancer.ConfigParser); ok {
		var err error
		if d.config, err = p.ParseConfig(json.RawMessage(config)); err != nil {
			return nil, err
		}
	}
	d.balancer = builder.Build(d.channel, balancer.BuildOptions{})
	if err := d.update(endpoints(0, n)); err != nil {
		return nil, err
	}
	return d, d.settle(func() bool {
		state, _ := d.current()
		if state != connectivity.Ready || d.connected() < n {
			return false
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.events) == 0
	})
}

func (d *driven) update(to []resolver.Endpoint) error {
	s := resolver.State{Endpoints: to}
	for _, e := range to {
		s.Addresses = append(s.Addresses, e.Addresses...)
	}
	return d.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: d.config})
}

// all calls until every endpoint had one, so that nothing is measured that happens once.
func (d *driven) all(tb testing.TB, n int, done func(i int) balancer.DoneInfo) {
	tb.Helper()
	seen := map[balancer.SubConn]bool{}
	limit := time.Now().Add(time.Minute) // a balancer may take its time to tell of the last ones
	for i := 0; len(seen) < n; i++ {
		_, p := d.current()
		r, err := p.Pick(balancer.PickInfo{FullMethodName: "/bench/Call", Ctx: context.Background()})
		if err != nil {
			tb.Fatal(err)
		}
		seen[r.SubConn] = true
		if r.Done != nil {
			r.Done(done(i))
		}
		if i%1000 == 0 && time.Now().After(limit) {
			tb.Fatalf("%d of %d endpoints were picked in %d calls", len(seen), n, i)
		}
	}
}
