package endpointtest

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// fault is what a fake source does wrong.
type fault string

// fake is a source, a watch or one that looks, with at most one fault.
type fake struct {
	fault fault
	looks bool

	mu      sync.Mutex
	eps     []endpoint.Endpoint
	broken  bool
	changed bool
	verify  bool

	wake chan struct{}
}

func newFake(f fault, looks bool) *fake {
	return &fake{fault: f, looks: looks, wake: make(chan struct{}, 1)}
}

func (f *fake) world() World {
	w := World{
		Source: f,
		Put: func(eps ...endpoint.Endpoint) {
			f.set(func() { f.changed = f.changed || f.fault == "repeats itself" || !equal(f.eps, eps); f.eps = eps })
		},
		Break: func() { f.set(func() { f.broken, f.changed = true, true }) },
		Mend:  func() { f.set(func() { f.broken, f.changed = false, f.fault != "recovers silently" }) },
	}
	if f.fault == "cannot fail" {
		w.Break, w.Mend = nil, nil
	}
	return w
}

func equal(a, b []endpoint.Endpoint) bool {
	return (endpoint.Set{Endpoints: a}).Normalize().Diff((endpoint.Set{Endpoints: b}).Normalize()).Empty()
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	f.signal()
}

func (f *fake) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fake) Ask(q endpoint.Question) {
	if f.fault == "blocks in Ask" {
		select {}
	}
	f.set(func() { f.changed, f.verify = f.changed || f.looks, f.verify || q.Verify })
}

func (f *fake) Run(ctx context.Context, sink endpoint.Sink) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	f.set(func() { f.changed = true })
	var last []endpoint.Endpoint
	for {
		select {
		case <-tick.C:
			if !f.looks {
				continue
			}
		case <-f.wake:
		case <-ctx.Done():
			return f.end(ctx, sink)
		}
		f.mu.Lock()
		eps, broken, changed, verify := f.eps, f.broken, f.changed, f.verify
		f.changed, f.verify = false, false
		f.mu.Unlock()
		if !changed && !f.looks {
			continue
		}
		f.tell(sink, eps, last, broken, verify)
		last = eps
	}
}

func (f *fake) end(ctx context.Context, sink endpoint.Sink) error {
	switch f.fault {
	case "does not end":
		select {}
	case "returns the context's error":
		return ctx.Err()
	case "leaves a goroutine":
		go forever()
	case "tells afterwards":
		go func() {
			<-time.After(10 * time.Millisecond)
			sink.Update(endpoint.Set{Source: "fake", At: time.Now()})
		}()
	}
	return nil
}

func forever() { select {} }

func (f *fake) tell(sink endpoint.Sink, eps, last []endpoint.Endpoint, broken, verify bool) {
	set := endpoint.Set{Endpoints: eps, Source: "fake", At: time.Now(), Verified: verify}
	if len(eps) == 0 {
		set.Reason = "NXDOMAIN"
	}
	switch f.fault {
	case "no source":
		set.Source = ""
	case "no time":
		set.At = time.Time{}
	case "no reason":
		set.Reason = ""
	case "not verified":
		set.Verified = false
	case "no address":
		set.Endpoints = append([]endpoint.Endpoint{{}}, eps...)
	case "a part first":
		if last == nil && len(eps) > 1 {
			set.Endpoints = eps[:1]
			f.signal()
			f.set(func() { f.changed = true })
		}
	case "only what is new":
		if set := (endpoint.Set{Endpoints: last}).Normalize().Diff((endpoint.Set{Endpoints: eps}).Normalize()); last != nil && len(set.Added) > 0 {
			sink.Update(endpoint.Set{Source: "fake", At: time.Now(), Endpoints: set.Added})
		}
	case "what is gone":
		if last != nil && len(eps) > 0 {
			sink.Update(endpoint.Set{Source: "fake", At: time.Now(), Endpoints: append(eps[:len(eps):len(eps)], endpoint.At(eps[0].Addrs[0]), invented)})
		}
	case "notes the guard's events":
		sink.Note(endpoint.RefreshFailed{})
	case "notes nothing":
		sink.Note(nil)
	case "fails without an error":
		if broken {
			sink.Fail(nil)
			return
		}
	case "empties when it fails":
		if broken {
			sink.Update(endpoint.Set{Source: "fake", At: time.Now(), Reason: "down"})
		}
	case "tells twice at once":
		var both sync.WaitGroup
		for range 50 {
			both.Go(func() { sink.Note(endpoint.Warning{}) })
		}
		both.Wait()
	}
	if broken {
		sink.Fail(errors.New("broken"))
		return
	}
	sink.Update(set)
}

var invented = endpoint.At(netip.MustParseAddrPort("192.0.2.1:1"))

func TestGoodSources(t *testing.T) {
	for name, f := range map[string]*fake{
		"a watch":              newFake("", false),
		"one that looks":       newFake("", true),
		"one that cannot fail": newFake("cannot fail", false),
	} {
		t.Run(name, func(t *testing.T) {
			TestSource(t, Harness{Looks: f.looks, New: func(*testing.T) World { return newFake(f.fault, f.looks).world() }})
		})
	}
	t.Run("one that cannot be asked", func(t *testing.T) {
		TestSource(t, Harness{New: func(*testing.T) World {
			w := newFake("", false).world()
			w.Source = struct{ endpoint.Source }{w.Source}
			return w
		}})
	})
}

// TestBadSource is a run of the suite for one fault, started by
// TestBadSourcesAreFound.
func TestBadSource(t *testing.T) {
	f := fault(os.Getenv("ENDPOINTTEST_FAULT"))
	if f == "" {
		t.Skip("run by TestBadSourcesAreFound")
	}
	looks := os.Getenv("ENDPOINTTEST_LOOKS") != ""
	TestSource(t, Harness{
		Looks: looks, Within: 500 * time.Millisecond, prompt: 300 * time.Millisecond,
		New: func(*testing.T) World { return newFake(f, looks).world() },
	})
}

func TestBadSourcesAreFound(t *testing.T) {
	for f, c := range map[fault]struct {
		looks bool
		want  string
	}{
		"no source":                   {false, "does not name its Source"},
		"no time":                     {false, "does not say when it was learned"},
		"no reason":                   {false, "has no Reason"},
		"no address":                  {false, "without a usable address"},
		"not verified":                {true, "a verified Set was not told"},
		"a part first":                {false, "told before the source knew everything"},
		"only what is new":            {false, "it is not complete"},
		"what is gone":                {false, "which never existed"},
		"repeats itself":              {false, "told the same Set twice"},
		"recovers silently":           {false, "the Set again after the failure"},
		"notes the guard's events":    {false, "which is the guard's to say"},
		"notes nothing":               {false, "Note was called without an event"},
		"fails without an error":      {false, "Fail was called without an error"},
		"empties when it fails":       {false, "a source that could not look told the Set"},
		"tells twice at once":         {false, "while another call of the sink was going on"},
		"blocks in Ask":               {false, "Ask before Run blocks"},
		"does not end":                {false, "Run has not returned"},
		"returns the context's error": {false, "Run returned context canceled"},
		"leaves a goroutine":          {false, "goroutines of the source outlive Run"},
		"tells afterwards":            {true, "after Run had returned"},
	} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBadSource$", "-test.timeout=50s")
			cmd.Env = append(os.Environ(), "ENDPOINTTEST_FAULT="+string(f))
			if c.looks {
				cmd.Env = append(cmd.Env, "ENDPOINTTEST_LOOKS=1")
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("the suite says (error %v), without %q:\n%s", err, c.want, out)
			}
		})
	}
}

// code is a run of tests that ends with a code.
type code int

func (c code) Run() int { return int(c) }

func TestCheckMain(t *testing.T) {
	var out bytes.Buffer
	if got := CheckMain(code(0), &out, "no such package."); got != 0 || out.Len() > 0 {
		t.Errorf("the code is %d, the text %q", got, &out)
	}
	if got := CheckMain(code(3), &out, "no such package."); got != 3 {
		t.Errorf("the code of failed tests is %d", got)
	}
	started, stop, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go lingers(started, stop, done)
	<-started
	if got := checkMain(code(0), patience, &out, []string{"endpointtest.lingers"}); got != 1 || !strings.Contains(out.String(), "left behind: goroutine") {
		t.Errorf("with a goroutine that lingers the code is %d, the text %q", got, &out)
	}
	close(stop)
	<-done
}

func lingers(started, stop, done chan struct{}) {
	close(started)
	<-stop
	close(done)
}
