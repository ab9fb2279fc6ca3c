// Package static is a source whose endpoints are given by the program: a fixed
// list, or one that a test changes while clients run. It looks nowhere.
//
//	source := static.New(endpoint.At(first), endpoint.At(second))
//	refresher.DialOption(refresher.WithSource(source))
//	source.Set(endpoint.At(second), endpoint.At(third)) // every open client follows
//
// What the program says is the truth: its Sets are authoritative, so that the
// guard of package reconcile believes each at once. A test of the guard itself
// hands over Sets that are not, with [Source.Tell].
package static

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Name is the Set's Source.
const Name = "static"

// Source is an [endpoint.Opener] that gives every target the same endpoints.
// All its methods may be called from any goroutine at any time.
type Source struct {
	mu   sync.Mutex
	now  news
	open map[*opened]struct{}
}

// news is the newest that was said. A source that runs skips what it had no time
// to tell.
type news struct {
	set endpoint.Set
	err error // said after set, nil when set is newer
	// seq counts what was said.
	seq uint64
}

// New returns a source of these endpoints; none means that there are really
// none. It keeps no reference to the slice.
func New(endpoints ...endpoint.Endpoint) *Source {
	s := &Source{open: map[*opened]struct{}{}}
	s.Set(endpoints...)
	return s
}

// Parse returns a source of fixed addresses, each "IP:PORT" or "[IPv6]:PORT".
// Names are refused: to resolve them is another source's task.
func Parse(addrs ...string) (*Source, error) {
	endpoints := make([]endpoint.Endpoint, 0, len(addrs))
	for _, text := range addrs {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("static address %q: %w", text, err)
		}
		if addr.Port() == 0 {
			return nil, fmt.Errorf("static address %q: its port is a number from 1 to 65535", text)
		}
		endpoints = append(endpoints, endpoint.At(addr))
	}
	return New(endpoints...), nil
}

// Open returns a source that tells the endpoints and every change. The target
// does not matter, and there is no error.
func (s *Source) Open(endpoint.Target) (endpoint.Source, error) {
	return &opened{from: s, wake: make(chan struct{}, 1)}, nil
}

// Set makes these all the endpoints, for good and at once: the Set is
// authoritative. The same ones again are no news, unless there was a Fail
// between. It keeps no reference to the slice.
func (s *Source) Set(endpoints ...endpoint.Endpoint) {
	set := filled(endpoint.Set{Endpoints: slices.Clone(endpoints), Authoritative: true})
	s.say(func(n *news) bool {
		if n.seq > 0 && n.err == nil && n.set.Authoritative && n.set.Source == set.Source &&
			slices.EqualFunc(n.set.Endpoints, set.Endpoints, endpoint.Endpoint.Equal) {
			return false
		}
		n.set, n.err = set, nil
		return true
	})
}

// Tell hands over any Set, for tests of what is made of it: one that is not
// authoritative, say, and empty because of an NXDOMAIN. Unlike Set it tells the
// same again, as a source that looks does. Source and At are filled in where
// they are zero. Nobody may write to its slices afterwards.
func (s *Source) Tell(set endpoint.Set) {
	set = filled(set)
	s.say(func(n *news) bool { n.set, n.err = set, nil; return true })
}

func filled(set endpoint.Set) endpoint.Set {
	if set.Source == "" {
		set.Source = Name
	}
	if set.At.IsZero() {
		set.At = time.Now()
	}
	return set.Normalize()
}

// Fail says that looking failed, as a source does that looks somewhere. err must
// not be nil. Clients that open later are told the last Set, then err.
func (s *Source) Fail(err error) {
	s.say(func(n *news) bool { n.err = err; return true })
}

// say notes what is new, if it is, and wakes all that run.
func (s *Source) say(change func(*news) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !change(&s.now) {
		return
	}
	s.now.seq++
	for o := range s.open {
		o.signal()
	}
}

// opened is the source of one target.
type opened struct {
	from *Source
	wake chan struct{} // holds a token when there is something to tell
	mu   sync.Mutex
	// asked means that a question waits for an answer.
	asked, verify bool
}

// Run tells the Set at once and then every change.
func (o *opened) Run(ctx context.Context, sink endpoint.Sink) error {
	o.from.mu.Lock()
	o.from.open[o] = struct{}{}
	o.from.mu.Unlock()
	defer func() {
		o.from.mu.Lock()
		delete(o.from.open, o)
		o.from.mu.Unlock()
	}()
	o.signal()
	told := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		}
		o.from.mu.Lock()
		now := o.from.now
		o.from.mu.Unlock()
		asked, verify := o.question()
		if now.seq == told && !asked {
			continue
		}
		set := now.set
		set.Verified = set.Verified || verify
		if now.err == nil || told == 0 {
			sink.Update(set)
		}
		if now.err != nil {
			sink.Fail(now.err)
		}
		told = now.seq
	}
}

// Ask has the newest Set, or the failure, told again.
func (o *opened) Ask(q endpoint.Question) {
	o.mu.Lock()
	o.asked, o.verify = true, o.verify || q.Verify
	o.mu.Unlock()
	o.signal()
}

func (o *opened) question() (asked, verify bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked, verify = o.asked, o.verify
	o.asked, o.verify = false, false
	return asked, verify
}

func (o *opened) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // a token lies there
	}
}
