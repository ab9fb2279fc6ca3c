// Package endpointtest holds the contract of [endpoint.Source] as tests. Every
// source of the refresher runs it, and so should one that an application writes:
//
//	func TestContract(t *testing.T) {
//		endpointtest.TestSource(t, endpointtest.Harness{New: newWorld})
//	}
//
// It makes no servers and knows no source: the harness brings the world that the
// source looks at. It never sleeps; what takes time is waited for, at most
// [Harness.Within].
package endpointtest

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// World is what one source looks at, in a test's hands.
type World struct {
	// Source has not run yet. When it is an [endpoint.Asker], that is tested too.
	Source endpoint.Source
	// Put makes these all the endpoints that exist. It may be called before Run,
	// while Run runs and after it, and returns when it is done. Which source has
	// looked by then does not matter.
	Put func(endpoints ...endpoint.Endpoint)
	// Break makes every look fail until Mend. Both are nil for a source that
	// cannot fail.
	Break, Mend func()
}

// Harness says how to test one kind of source.
type Harness struct {
	// New makes a world without endpoints. What it starts ends by t.Cleanup.
	New func(t *testing.T) World
	// Endpoint returns the i-th endpoint (from 0; fewer than 20 are used) that a
	// world may have. nil means At 10.0.0.(i+1):6565.
	Endpoint func(i int) endpoint.Endpoint
	// Looks means that the source looks (DNS), and so tells a Set after every
	// look. One that watches tells a Set when it changed.
	Looks bool
	// Within is how long the source may take to tell what is new, 0 means 20 s.
	Within time.Duration

	prompt time.Duration
}

// prompt is how long Run may take to return after its ctx ended.
const prompt = 5 * time.Second

// patience is how long a source gets to do what it must not do.
const patience = 100 * time.Millisecond

// TestSource runs the contract suite.
func TestSource(t *testing.T, h Harness) {
	if h.Endpoint == nil {
		h.Endpoint = func(i int) endpoint.Endpoint {
			return endpoint.At(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 6565))
		}
	}
	if h.Within == 0 {
		h.Within = 20 * time.Second
	}
	if h.prompt == 0 {
		h.prompt = prompt
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, *stand)
	}{
		{"the first Set is complete", firstSet},
		{"every Set is complete", everySet},
		{"the order does not matter", order},
		{"the same again is no news", again},
		{"none is a Set too", none},
		{"an error empties nothing", failing},
		{"a question never blocks", asking},
		{"a question is answered", verified},
		{"cancel ends a run that works", cancelWorking},
		{"cancel ends a run that fails", cancelFailing},
		{"cancel ends a run whose sink is slow", cancelSlow},
		{"cancel comes before the run", cancelFirst},
		{"nothing outlives the run", outlive},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, &stand{h: h, world: h.New(t)})
		})
	}
}

// stand is one world with its source.
type stand struct {
	h     Harness
	world World
}

// some returns endpoints by number.
func (s *stand) some(numbers ...int) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, 0, len(numbers))
	for _, i := range numbers {
		out = append(out, s.h.Endpoint(i))
	}
	return out
}

// promptly fails the test when do takes long, and does not wait for it then.
func (s *stand) promptly(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(s.h.prompt):
		t.Fatal(what)
	}
}

// running is a run of the source.
type running struct {
	*recorder
	prompt time.Duration
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

// run starts the source; the run ends with the test.
func (s *stand) run(t *testing.T) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{recorder: newRecorder(t, s.h.Within), prompt: s.h.prompt, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.world.Source.Run(ctx, r.recorder)
		r.end()
	}()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the run and demands that it takes no time and no error.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	r.ended(t)
}

func (r *running) ended(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
		if r.err != nil {
			t.Errorf("Run returned %v after its context ended: it returns nil then", r.err)
		}
	case <-time.After(r.prompt):
		t.Fatalf("Run has not returned %v after its context ended", r.prompt)
	}
}

func firstSet(t *testing.T, s *stand) {
	s.world.Put(s.some(0, 1, 2)...)
	r := s.run(t)
	r.wait("the first Set", func(told) bool { return true })
	if first := r.all()[0]; !first.failed && !first.has(s.some(0, 1, 2)) {
		t.Errorf("the first Set is %v, not all that exists: it was told before the source knew everything", first.set.Endpoints)
	}
	r.waitSet(s.some(0, 1, 2))
}

func everySet(t *testing.T, s *stand) {
	s.world.Put(s.some(0, 1, 2)...)
	r := s.run(t)
	r.waitSet(s.some(0, 1, 2))
	before := []int{0, 1, 2}
	for _, after := range [][]int{{0, 1, 2, 3, 4, 5}, {1, 2, 3}, {3}, {4, 5, 6}, {0, 1, 2, 3, 4, 5, 6}} {
		mark := r.mark()
		s.world.Put(s.some(after...)...)
		r.waitSet(s.some(after...))
		stayed, existed := map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
		for _, i := range before {
			existed[s.h.Endpoint(i).Addr()] = true
		}
		for _, i := range after {
			a := s.h.Endpoint(i).Addr()
			stayed[a] = existed[a]
			existed[a] = true
		}
		for _, got := range r.since(mark) {
			if got.failed {
				continue
			}
			addrs := got.addrs()
			for a := range stayed {
				if stayed[a] && !addrs[a] {
					t.Errorf("from %v to %v a Set lacks %v, which existed all the time: it is not complete", before, after, a)
				}
			}
			for a := range addrs {
				if !existed[a] {
					t.Errorf("from %v to %v a Set has %v, which never existed", before, after, a)
				}
			}
		}
		before = after
	}
}

func order(t *testing.T, s *stand) {
	s.world.Put(s.some(0, 1, 2)...)
	r := s.run(t)
	first := r.waitSet(s.some(0, 1, 2))
	s.world.Put(s.some(2, 0, 1)...)
	s.world.Put(s.some(1, 2, 0, 3)...)
	last := r.waitSet(s.some(0, 1, 2, 3))
	diff := first.set.Normalize().Diff(last.set.Normalize())
	if len(diff.Added) != 1 || len(diff.Removed)+len(diff.Changed) != 0 {
		t.Errorf("adding one and shuffling the others changed +%v -%v ~%v", diff.Added, diff.Removed, diff.Changed)
	}
}

func again(t *testing.T, s *stand) {
	s.world.Put(s.some(0, 1)...)
	r := s.run(t)
	r.waitSet(s.some(0, 1))
	for range 2 {
		mark := r.mark()
		s.world.Put(s.some(0, 1)...)
		// Nothing may come of it, so there is nothing to wait for but time: a source
		// that tells it again is seldom slower.
		eventually(patience, func() bool { return r.mark() > mark })
	}
	s.world.Put(s.some(0, 1, 2)...)
	r.waitSet(s.some(0, 1, 2))
	var before *told
	for _, got := range r.all() {
		if got.failed {
			before = nil
			continue
		}
		if before != nil && !s.h.Looks && got.set.Authoritative == before.set.Authoritative && got.set.Source == before.set.Source &&
			before.set.Normalize().Diff(got.set.Normalize()).Empty() {
			t.Errorf("a source that watches told the same Set twice: %v", got.set.Endpoints)
		}
		before = &got
	}
	if !s.h.Looks {
		return
	}
	mark := r.mark()
	r.waitAfter(mark+1, "a Set for each look although nothing changed", func(g told) bool { return g.has(s.some(0, 1, 2)) })
}

func none(t *testing.T, s *stand) {
	s.world.Put(s.some(0, 1)...)
	r := s.run(t)
	r.waitSet(s.some(0, 1))
	s.world.Put()
	empty := r.waitSet(nil)
	if !empty.set.Authoritative && empty.set.Reason == "" {
		t.Error("the empty Set of a source that is not authoritative has no Reason")
	}
	s.world.Put(s.some(1)...)
	r.waitSet(s.some(1))
}

func failing(t *testing.T, s *stand) {
	if s.world.Break == nil {
		t.Skip("this source cannot fail")
	}
	s.world.Put(s.some(0, 1)...)
	r := s.run(t)
	r.waitSet(s.some(0, 1))
	mark := r.mark()
	s.world.Break()
	r.waitAfter(mark, "Fail", func(g told) bool { return g.failed })
	s.world.Mend()
	broken := r.mark()
	r.waitAfter(broken, "the Set again after the failure, although it is the same", func(g told) bool { return g.has(s.some(0, 1)) })
	for _, got := range r.since(mark) {
		if !got.failed && !got.has(s.some(0, 1)) {
			t.Errorf("a source that could not look told the Set %v", got.set.Endpoints)
		}
	}
}

func asking(t *testing.T, s *stand) {
	asker, ok := s.world.Source.(endpoint.Asker)
	if !ok {
		t.Skip("this source cannot be asked")
	}
	s.world.Put(s.some(0)...)
	ask := func(when string) {
		t.Helper()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := range 200 {
					asker.Ask(endpoint.Question{Verify: i%2 == 0})
				}
			})
		}
		s.promptly(t, "Ask "+when+" blocks", all.Wait)
	}
	ask("before Run")
	r := s.run(t)
	ask("during Run")
	r.waitSet(s.some(0))
	ask("during Run")
	r.stop(t)
	ask("after Run")
}

func verified(t *testing.T, s *stand) {
	asker, ok := s.world.Source.(endpoint.Asker)
	if !ok || !s.h.Looks {
		t.Skip("this source does not look when it is asked")
	}
	s.world.Put(s.some(0, 1)...)
	r := s.run(t)
	r.waitSet(s.some(0, 1))
	mark := r.mark()
	asker.Ask(endpoint.Question{Verify: true})
	r.waitAfter(mark, "a verified Set", func(g told) bool { return g.set.Verified && g.has(s.some(0, 1)) })
}

func cancelWorking(t *testing.T, s *stand) {
	s.world.Put(s.some(0)...)
	r := s.run(t)
	r.waitSet(s.some(0))
	r.stop(t)
}

func cancelFailing(t *testing.T, s *stand) {
	if s.world.Break == nil {
		t.Skip("this source cannot fail")
	}
	s.world.Break()
	r := s.run(t)
	r.wait("Fail", func(g told) bool { return g.failed })
	r.stop(t)
}

func cancelSlow(t *testing.T, s *stand) {
	s.world.Put(s.some(0)...)
	ctx, cancel := context.WithCancel(t.Context())
	sink := slow{ctx, make(chan struct{}, 1)}
	r := &running{prompt: s.h.prompt, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.world.Source.Run(ctx, sink)
	}()
	select {
	case <-sink.called:
	case <-time.After(s.h.Within):
		t.Errorf("nothing was told within %v", s.h.Within)
	}
	r.stop(t)
}

func cancelFirst(t *testing.T, s *stand) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &running{recorder: newRecorder(t, s.h.Within), prompt: s.h.prompt, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.world.Source.Run(ctx, r.recorder)
		r.end()
	}()
	r.ended(t)
}

func outlive(t *testing.T, s *stand) {
	before := goroutines("")
	s.world.Put(s.some(0)...)
	r := s.run(t)
	r.waitSet(s.some(0))
	r.stop(t)
	if left := s.leftovers(before); left != "" {
		t.Errorf("goroutines of the source outlive Run:\n%s", left)
	}
	s.world.Put(s.some(1, 2)...)
	if asker, ok := s.world.Source.(endpoint.Asker); ok {
		s.promptly(t, "Ask after Run blocks", func() { asker.Ask(endpoint.Question{Verify: true}) })
	}
	// What is told from now on fails the test in the recorder. A source that
	// still works is given the time of one that runs.
	fresh := &stand{h: s.h, world: s.h.New(t)}
	fresh.world.Put(fresh.some(0)...)
	fresh.run(t).waitSet(fresh.some(0))
	eventually(patience, t.Failed)
}

// leftovers returns the stacks of the source's own goroutines that were not
// there before.
func (s *stand) leftovers(before map[string]string) string {
	typ := reflect.TypeOf(s.world.Source)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	left := ""
	eventually(s.h.prompt, func() bool {
		left = ""
		for id, stack := range goroutines(typ.PkgPath() + ".") {
			if _, old := before[id]; !old {
				left += fmt.Sprintf("goroutine %s %s\n\n", id, stack)
			}
		}
		return left == ""
	})
	return left
}
