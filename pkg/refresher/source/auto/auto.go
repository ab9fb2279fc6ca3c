package auto

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// Option changes what New makes.
type Option func(*options)

type options struct {
	kube []kube.Option
	dns  []dns.Option
}

// WithKube passes options to the source that watches EndpointSlices.
func WithKube(opts ...kube.Option) Option {
	return func(o *options) { o.kube = append(o.kube, opts...) }
}

// WithDNS passes options to the source that asks DNS.
func WithDNS(opts ...dns.Option) Option {
	return func(o *options) { o.dns = append(o.dns, opts...) }
}

// New returns an opener of sources that watch EndpointSlices or ask DNS. Its
// sources are [endpoint.Asker] as well.
func New(opts ...Option) endpoint.Opener {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return opener{o}
}

// of is New with any two openers.
func of(watch, ask endpoint.Opener) endpoint.Opener {
	return endpoint.OpenerFunc(func(t endpoint.Target) (endpoint.Source, error) {
		s := &source{asked: make(chan struct{}, 1)}
		var errDNS error
		s.watch, s.noWatch = watch.Open(t)
		if s.first, errDNS = ask.Open(t); errDNS == nil {
			s.openDNS = func() (endpoint.Source, error) { return ask.Open(t) }
		} else if s.noWatch != nil {
			return nil, fmt.Errorf("%w; nor by DNS: %w", s.noWatch, errDNS)
		}
		return s, nil
	})
}

// When what is done.
const (
	// headStart is how long the watch may take before DNS is asked as well; it
	// takes some 50 ms in a cluster that is well.
	headStart = time.Second
	// grace is how long a watch that worked may be broken before DNS is asked.
	grace = 3 * time.Second
	// confirm is how far apart two answers of DNS are that lack known pods before
	// they are switched to.
	confirm = 2 * time.Second
	// trust is how long known pods are preferred to their Service's virtual IP.
	trust = 5 * time.Minute
	// asideEvery is how far apart failures of the source that does not count are
	// told.
	asideEvery = 5 * time.Minute
)

// source is one target's.
type source struct {
	watch   endpoint.Source // nil when the target cannot be watched; noWatch says why
	noWatch error
	first   endpoint.Source // of openDNS, for the first run
	openDNS func() (endpoint.Source, error)

	asked chan struct{} // a question waits

	mu      sync.Mutex
	waiting bool
	verify  bool
}

// Ask implements [endpoint.Asker]: the sources that run are asked.
func (s *source) Ask(q endpoint.Question) {
	s.mu.Lock()
	s.waiting = true
	s.verify = s.verify || q.Verify
	s.mu.Unlock()
	select {
	case s.asked <- struct{}{}:
	default: // one waits already
	}
}

func (s *source) question() (q endpoint.Question, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, waiting = endpoint.Question{Verify: s.verify}, s.waiting
	s.waiting, s.verify = false, false
	return q, waiting
}

// Run implements [endpoint.Source]. It ends with an error when neither source can
// ever serve.
func (s *source) Run(ctx context.Context, sink endpoint.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	r := &run{source: s, ctx: ctx, sink: sink, heard: make(chan message), began: time.Now(), told: map[string]bool{}}
	err := r.loop()
	cancel()
	r.children.Wait()
	return err
}
