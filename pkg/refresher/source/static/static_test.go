package static_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint/endpointtest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestMain(m *testing.M) { os.Exit(endpointtest.CheckMain(m, os.Stderr, "source/static.")) }

func TestContract(t *testing.T) {
	endpointtest.TestSource(t, endpointtest.Harness{New: func(t *testing.T) endpointtest.World {
		source := static.New()
		opened, err := source.Open(endpoint.Target{})
		if err != nil {
			t.Fatal(err)
		}
		var last []endpoint.Endpoint
		return endpointtest.World{
			Source: opened,
			Put:    func(eps ...endpoint.Endpoint) { last = eps; source.Set(eps...) },
			Break:  func() { source.Fail(errors.New("broken")) },
			Mend:   func() { source.Set(last...) },
		}
	}})
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		addrs []string
		want  []string
		err   string
	}{
		"addresses of both families": {addrs: []string{"10.0.0.2:6565", "[fd00::1]:6565", "10.0.0.1:6565"}, want: []string{"10.0.0.1:6565", "10.0.0.2:6565", "[fd00::1]:6565"}},
		"none":                       {},
		"one twice":                  {addrs: []string{"10.0.0.1:1", "10.0.0.1:1"}, want: []string{"10.0.0.1:1"}},
		"mapped":                     {addrs: []string{"[::ffff:10.0.0.1]:1"}, want: []string{"10.0.0.1:1"}},
		"a name":                     {addrs: []string{"square:6565"}, err: `static address "square:6565": `},
		"no port":                    {addrs: []string{"10.0.0.1"}, err: `static address "10.0.0.1": `},
		"port 0":                     {addrs: []string{"10.0.0.1:0"}, err: "its port is a number from 1 to 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := static.Parse(c.addrs...)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			set := first(t, source)
			var got []string
			for _, e := range set.Endpoints {
				got = append(got, e.String())
				if !e.Ready || !e.Serving {
					t.Errorf("%v is not ready", e)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
			if !set.Authoritative || set.Source != static.Name {
				t.Errorf("Authoritative %v, Source %q", set.Authoritative, set.Source)
			}
		})
	}
}

// first returns what a client that opens now is told first.
func first(t *testing.T, source *static.Source) endpoint.Set {
	t.Helper()
	sink := open(t, source)
	return (<-sink).(endpoint.Set)
}

// told is a sink as a channel: of Sets and errors.
type told chan any

func (c told) Update(s endpoint.Set) { c <- s }
func (c told) Fail(err error)        { c <- err }
func (c told) Note(endpoint.Event)   {}

func open(t *testing.T, source *static.Source) told {
	t.Helper()
	opened, err := source.Open(endpoint.Target{Host: "whatever"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sink, done := make(told, 100), make(chan struct{})
	go func() {
		defer close(done)
		if err := opened.Run(ctx, sink); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return sink
}

func TestEveryOpenClientFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := at("10.0.0.1:1"), at("10.0.0.2:1")
		source := static.New(a)
		one, two := open(t, source), open(t, source)
		<-one
		<-two
		list := []endpoint.Endpoint{b, a}
		source.Set(list...)
		list[0] = at("10.9.9.9:9") // the caller's slice is the caller's
		synctest.Wait()
		for _, sink := range []told{one, two} {
			got := (<-sink).(endpoint.Set)
			if diff := cmp.Diff([]endpoint.Endpoint{a, b}, got.Endpoints, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		}
	})
}

func TestFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := static.New(at("10.0.0.1:1"))
		early := open(t, source)
		<-early
		cause := errors.New("no route")
		source.Fail(cause)
		synctest.Wait()
		if got := <-early; !errors.Is(got.(error), cause) {
			t.Errorf("told %v, want %v", got, cause)
		}
		late := open(t, source)
		if _, ok := (<-late).(endpoint.Set); !ok {
			t.Error("a client that opens after a failure is not told the last Set first")
		}
		if got := <-late; !errors.Is(got.(error), cause) {
			t.Errorf("then told %v, want %v", got, cause)
		}
	})
}

func TestTellAndAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := static.New()
		source.Tell(endpoint.Set{Reason: "NXDOMAIN", Source: "blip"})
		opened, err := source.Open(endpoint.Target{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sink, done := make(told, 100), make(chan struct{})
		go func() { defer close(done); _ = opened.Run(ctx, sink) }()
		got := (<-sink).(endpoint.Set)
		if got.Authoritative || got.Reason != "NXDOMAIN" || got.Source != "blip" || got.At.IsZero() || got.Verified {
			t.Errorf("told %+v", got)
		}
		opened.(endpoint.Asker).Ask(endpoint.Question{Verify: true})
		opened.(endpoint.Asker).Ask(endpoint.Question{})
		synctest.Wait()
		if got := (<-sink).(endpoint.Set); !got.Verified {
			t.Error("the Set that answers a question to verify is not Verified")
		}
		opened.(endpoint.Asker).Ask(endpoint.Question{})
		synctest.Wait()
		if got := (<-sink).(endpoint.Set); got.Verified {
			t.Error("the Set that answers a plain question is Verified")
		}
		cancel()
		<-done
		if len(sink) != 0 {
			t.Errorf("%d more calls than questions", len(sink))
		}
	})
}

func at(addr string) endpoint.Endpoint { return endpoint.At(netip.MustParseAddrPort(addr)) }

func TestNewKeepsNoReference(t *testing.T) {
	list := []endpoint.Endpoint{at("10.0.0.1:1"), at("10.0.0.2:1")}
	source := static.New(list...)
	slices.Reverse(list)
	list[0] = at("10.9.9.9:9")
	if got := first(t, source).Endpoints; got[0].String() != "10.0.0.1:1" || got[1].String() != "10.0.0.2:1" {
		t.Errorf("endpoints are %v", got)
	}
}
