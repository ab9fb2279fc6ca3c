package endpointtest

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// told is one call of Update or Fail.
type told struct {
	set    endpoint.Set
	failed bool
}

func (g told) addrs() map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, e := range g.set.Endpoints {
		for _, a := range e.Addrs {
			out[a] = true
		}
	}
	return out
}

// has reports whether it is a Set of exactly these endpoints.
func (g told) has(want []endpoint.Endpoint) bool {
	if g.failed || len(g.set.Endpoints) != len(want) {
		return false
	}
	ix := endpoint.Index(g.set.Endpoints)
	for _, e := range want {
		if _, ok := ix.Find(g.set.Endpoints, e); !ok {
			return false
		}
	}
	return true
}

// recorder is a Sink that keeps what it is told, and holds the source to the
// Sink's own rules.
type recorder struct {
	t      *testing.T
	within time.Duration

	mu    sync.Mutex
	calls []told
	busy  bool
	over  bool
	// closed means that the test is over.
	closed bool
	fresh  chan struct{} // closed by the next call
}

func newRecorder(t *testing.T, within time.Duration) *recorder {
	r := &recorder{t: t, within: within, fresh: make(chan struct{})}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = true
	})
	return r
}

// blame fails the test, if it is still there to fail.
func (r *recorder) blame(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.t.Errorf(format, args...)
	}
}

// Update implements endpoint.Sink.
func (r *recorder) Update(set endpoint.Set) {
	defer r.enter("Update")()
	if set.Source == "" {
		r.blame("a Set does not name its Source")
	}
	if set.At.IsZero() {
		r.blame("a Set does not say when it was learned")
	}
	for _, e := range set.Endpoints {
		if !e.Addr().IsValid() || e.Addr().Port() == 0 {
			r.blame("a Set has an endpoint without a usable address: %+v", e)
		}
	}
	r.record(told{set: set})
}

// Fail implements endpoint.Sink.
func (r *recorder) Fail(err error) {
	defer r.enter("Fail")()
	if err == nil {
		r.blame("Fail was called without an error")
	}
	r.record(told{failed: true})
}

// Note implements endpoint.Sink.
func (r *recorder) Note(e endpoint.Event) {
	defer r.enter("Note")()
	switch e.(type) {
	case nil:
		r.blame("Note was called without an event")
	case endpoint.RefreshFailed, endpoint.SetChanged, endpoint.GuardDecision:
		r.blame("the source noted a %T, which is the guard's to say", e)
	}
}

// enter watches that calls come one at a time and none after the run.
func (r *recorder) enter(method string) (leave func()) {
	r.mu.Lock()
	over, busy := r.over, r.busy
	r.busy = true
	r.mu.Unlock()
	if over {
		r.blame("%s was called after Run had returned", method)
	}
	if busy {
		r.blame("%s was called while another call of the sink was going on", method)
	}
	return func() {
		runtime.Gosched() // let a second call meet this one
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy = false
	}
}

func (r *recorder) record(g told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, g)
	close(r.fresh)
	r.fresh = make(chan struct{})
}

// end says that Run has returned.
func (r *recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// mark is the number of calls so far; since returns those after a mark.
func (r *recorder) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

func (r *recorder) since(mark int) []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls[mark:])
}

func (r *recorder) all() []told { return r.since(0) }

// waitSet waits for a Set of exactly these endpoints as the newest that was told.
func (r *recorder) waitSet(want []endpoint.Endpoint) told {
	r.t.Helper()
	return r.waitLast("a Set of "+names(want), func(g told) bool { return g.has(want) })
}

func (r *recorder) wait(what string, ok func(told) bool) told {
	r.t.Helper()
	return r.waitAfter(0, what, ok)
}

// waitAfter waits for a call after the mark that is ok.
func (r *recorder) waitAfter(mark int, what string, ok func(told) bool) told {
	r.t.Helper()
	return r.await(what, func(calls []told) (told, bool) {
		if len(calls) > mark {
			if i := slices.IndexFunc(calls[mark:], ok); i >= 0 {
				return calls[mark+i], true
			}
		}
		return told{}, false
	})
}

// waitLast waits until the last call is ok.
func (r *recorder) waitLast(what string, ok func(told) bool) told {
	r.t.Helper()
	return r.await(what, func(calls []told) (told, bool) {
		if n := len(calls); n > 0 && ok(calls[n-1]) {
			return calls[n-1], true
		}
		return told{}, false
	})
}

func (r *recorder) await(what string, look func([]told) (told, bool)) told {
	r.t.Helper()
	timeout := time.NewTimer(r.within)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		got, found := look(r.calls)
		fresh, last := r.fresh, "nothing"
		if n := len(r.calls); n > 0 {
			if last = names(r.calls[n-1].set.Endpoints); r.calls[n-1].failed {
				last = "a failure"
			}
		}
		r.mu.Unlock()
		if found {
			return got
		}
		select {
		case <-fresh:
		case <-timeout.C:
			r.t.Fatalf("%s was not told within %v; the last was %s", what, r.within, last)
		}
	}
}

func names(endpoints []endpoint.Endpoint) string {
	if len(endpoints) == 0 {
		return "no endpoints"
	}
	out := make([]string, 0, len(endpoints))
	for _, e := range endpoints {
		out = append(out, e.String())
	}
	return strings.Join(out, " ")
}

// slow is a Sink whose calls last as long as they may: until the context ends.
type slow struct {
	ctx    context.Context
	called chan struct{}
}

func (s slow) Update(endpoint.Set) { s.block() }
func (s slow) Fail(error)          { s.block() }
func (s slow) Note(endpoint.Event) {}

func (s slow) block() {
	select {
	case s.called <- struct{}{}:
	default:
	}
	<-s.ctx.Done()
}

// goroutines returns the stacks that hold a text by the goroutine's number, but
// not those of tests themselves.
func goroutines(holding string) map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	out := map[string]string{}
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		id, stack, _ := strings.Cut(strings.TrimPrefix(g, "goroutine "), " ")
		if strings.Contains(stack, holding) && !strings.Contains(stack, "testing.tRunner(") {
			out[id] = stack
		}
	}
	return out
}

// eventually looks again and again whether cond holds, for at most d.
func eventually(d time.Duration, cond func() bool) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
	return true
}

// CheckMain runs a package's tests and then demands that none of its goroutines
// is left: those whose stack holds one of the texts, usually the end of an import
// path with a dot. It writes what is left to out and returns the code to exit
// with:
//
//	func TestMain(m *testing.M) { os.Exit(endpointtest.CheckMain(m, os.Stderr, "source/dns.")) }
func CheckMain(m interface{ Run() int }, out io.Writer, holding ...string) int {
	return checkMain(m, prompt, out, holding)
}

func checkMain(m interface{ Run() int }, within time.Duration, out io.Writer, holding []string) int {
	code := m.Run()
	left := map[string]string{}
	if eventually(within, func() bool {
		clear(left)
		for _, text := range holding {
			for id, stack := range goroutines(text) {
				// The one that runs the tests is in a TestMain that may have the name.
				if !strings.Contains(stack, "endpointtest.checkMain(") {
					left[id] = stack
				}
			}
		}
		return len(left) == 0
	}) {
		return code
	}
	for id, stack := range left {
		_, _ = fmt.Fprintf(out, "left behind: goroutine %s %s\n\n", id, stack)
	}
	return max(code, 1)
}
