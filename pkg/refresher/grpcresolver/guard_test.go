package grpcresolver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// dnsSays is a Set as a DNS server answers it: not the whole truth.
func dnsSays(bs ...*backend) endpoint.Set {
	s := endpoint.Set{Endpoints: endpoints(bs...), Source: "dns"}
	if len(bs) == 0 {
		s.Reason = "NXDOMAIN"
	}
	return s
}

func held(b *Builder) int {
	n := 0
	for _, e := range b.Stats()[0].Endpoints {
		if e.Held {
			n++
		}
	}
	return n
}

// An NXDOMAIN while a pod restarts closes nothing.
func TestEmptyAnswerIsNotBelieved(t *testing.T) {
	bs := backends(t, 2)
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source)
	c, _ := open(t, b, 2)
	source.Tell(dnsSays())
	eventually(t, "both are held", func() bool { return held(b) == 2 })
	if got := answeredBy(t, c, 40); len(got) != 2 {
		t.Errorf("held endpoints got %v", got)
	}
	source.Fail(errors.New("SERVFAIL"))
	mustCall(t, c)
	source.Tell(dnsSays(bs...))
	eventually(t, "both are back", func() bool { return held(b) == 0 })
	if n := bs[0].conns.Load() + bs[1].conns.Load(); n != 2 {
		t.Errorf("%d connections were made for 2 endpoints", n)
	}
}

// A held endpoint gets no calls while a believed one is READY, gets them when
// none is, and goes with its connection.
func TestHeldEndpoints(t *testing.T) {
	bs := backends(t, 6)
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source, withPolicy("grpclb_refresher_round_robin", `{"refresh":{"confirmAfter":"30s","holdFor":"60s"}}`))
	c, _ := open(t, b, 6)
	source.Tell(dnsSays(bs[0]))
	eventually(t, "five are held", func() bool { return held(b) == 5 })
	eventually(t, "the believed one gets all calls", func() bool { return len(answeredBy(t, c, 12)) == 1 })
	bs[0].stop()
	eventually(t, "the held ones get them", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err == nil && r.GetServerId() != bs[0].addr.String()
	})
	bs[1].stop()
	eventually(t, "it goes with its connection", func() bool { return held(b) == 4 })
	if n := bs[1].conns.Load(); n != 1 {
		t.Errorf("a held endpoint was dialled %d times", n)
	}
}

// While all are held, one that fails is ejected as at other times, and one that
// was ejected before stays so.
func TestEjectedWhileHeld(t *testing.T) {
	bs := backends(t, 4)
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source, withPolicy("grpclb_refresher_round_robin", `{"ejection":{"consecutiveFailures":3}}`))
	c, _ := open(t, b, 4)
	failed := func(calls int) (n int) {
		for range calls {
			if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
				n++
			}
		}
		return n
	}
	ejected := func(i int) bool {
		return slices.ContainsFunc(b.Stats()[0].Endpoints, func(e EndpointStats) bool {
			return e.Endpoint.Addr() == bs[i].addr && e.EjectedUntil.After(time.Now())
		})
	}
	bs[0].answers(func(context.Context) error { return unavailable })
	eventually(t, "it is ejected", func() bool { failed(4); return ejected(0) })
	source.Tell(dnsSays())
	eventually(t, "all are held", func() bool { return held(b) == 4 })
	if n := failed(100); n > 0 {
		t.Errorf("%d of 100 calls went to an endpoint that is ejected and held", n)
	}
	bs[1].answers(func(context.Context) error { return unavailable })
	eventually(t, "another one is ejected while it is held", func() bool { failed(3); return ejected(1) })
	eventually(t, "no call fails", func() bool { return failed(30) == 0 })
}

// A held endpoint without a connection is of no use and goes at once.
func TestHeldWithoutConnection(t *testing.T) {
	bs := backends(t, 4)
	for _, dead := range bs[2:] {
		dead.stop()
	}
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source, withPolicy("grpclb_refresher_peak_ewma", `{"refresh":{"confirmAfter":"30s","holdFor":"60s","minShrink":1,"maxShrinkPercent":10}}`))
	c, _ := open(t, b, 2)
	source.Tell(dnsSays(bs[0]))
	eventually(t, "only the connected one is held", func() bool { return held(b) == 1 && len(b.Stats()[0].Endpoints) == 2 })
	mustCall(t, c)
}

// When all are held and the last connection ends, calls are told so.
func TestLastHeldEnds(t *testing.T) {
	bs := backends(t, 1)
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source)
	c, _ := open(t, b, 1)
	mustCall(t, c)
	source.Tell(dnsSays())
	eventually(t, "it is held", func() bool { return held(b) == 1 })
	bs[0].stop()
	eventually(t, "calls fail with the reason", func() bool {
		s := failing(t, c)
		return s.Code() == codes.Unavailable && strings.Contains(s.Message(), "has no endpoints")
	})
}

// asking counts the questions that reach a source.
type asking struct {
	*static.Source
	asked atomic.Int64
}

func (a *asking) Open(t endpoint.Target) (endpoint.Source, error) {
	s, err := a.Source.Open(t)
	return &askingSource{s, a}, err
}

type askingSource struct {
	endpoint.Source
	by *asking
}

func (a *askingSource) Ask(endpoint.Question) { a.by.asked.Add(1) }

// The source is asked when a connection ends, by GOAWAY or not, and by Refresh.
func TestSourceIsAsked(t *testing.T) {
	bs := backends(t, 2)
	source := &asking{Source: static.New(endpoints(bs...)...)}
	b := newBuilder(t, source)
	_, cc := open(t, b, 2)
	before := source.asked.Load()
	go bs[0].server.GracefulStop() // GOAWAY
	eventually(t, "asked after GOAWAY", func() bool { return source.asked.Load() > before })
	before = source.asked.Load()
	bs[1].stop()
	eventually(t, "asked after a connection broke", func() bool { return source.asked.Load() > before })
	before = source.asked.Load()
	b.Refresh()
	eventually(t, "asked by Refresh", func() bool { return source.asked.Load() > before })
	_ = cc.Close()
	before = source.asked.Load()
	b.Refresh() // nobody uses the target
	if source.asked.Load() != before {
		t.Error("a source that does not run was asked")
	}
}

// Calls do not fail while endpoints come and go under them, without any retry.
func TestNoCallFailsUnderChange(t *testing.T) {
	for _, name := range []string{"grpclb_refresher_peak_ewma", "grpclb_refresher_round_robin"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bs := backends(t, 8)
			source := static.New(endpoints(bs...)...)
			b := newBuilder(t, source, withPolicy(name, `{"connectionsPerEndpoint":2}`))
			c, _ := open(t, b, 8)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var wg sync.WaitGroup
			var n atomic.Int64
			for range 8 {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
							t.Errorf("after %d calls: %v", n.Load(), err)
							return
						}
						n.Add(1)
					}
				})
			}
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					// A window over the backends that moves, so that all of them are
					// replaced again and again.
					var now []*backend
					for j := range 3 + i%3 {
						now = append(now, bs[(i*3+j)%len(bs)])
					}
					source.Set(endpoints(now...)...)
					select {
					case <-time.After(3 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
			wg.Wait()
			t.Logf("%d calls", n.Load())
		})
	}
}

// What is known outlives gRPC's idle mode: with a source that has no answer any
// more, a channel that wakes up still works.
func TestIdleModeKeepsWhatIsKnown(t *testing.T) {
	bs := backends(t, 3)
	source := static.New(endpoints(bs...)...)
	var opened atomic.Int64
	var broken atomic.Bool
	opener := endpoint.OpenerFunc(func(target endpoint.Target) (endpoint.Source, error) {
		opened.Add(1)
		if broken.Load() {
			return failingSource{errors.New("SERVFAIL")}, nil
		}
		return source.Open(target)
	})
	b := newBuilder(t, opener)
	c, cc := open(t, b, 3, grpc.WithIdleTimeout(300*time.Millisecond))
	mustCall(t, c)
	before := b.Stats()[0]
	enterIdle(t, cc)
	eventually(t, "no channel uses the hub", func() bool { return b.Stats()[0].Channels == 0 })
	broken.Store(true)
	mustCall(t, c)
	wait(t, b, 3)
	after := b.Stats()[0]
	if opened.Load() != 2 {
		t.Errorf("the source was opened %d times", opened.Load())
	}
	var calls [2]uint64
	for i, s := range []TargetStats{before, after} {
		if len(s.Endpoints) != 3 {
			t.Fatalf("%d endpoints", len(s.Endpoints))
		}
		for _, e := range s.Endpoints {
			calls[i] += e.Calls.Succeeded
		}
	}
	if calls[1] <= calls[0] {
		t.Errorf("calls were %d before and %d after: the Nodes were forgotten", calls[0], calls[1])
	}
	waitState(t, cc, connectivity.Ready)
}

// Channels of one Builder share a target's source and what is learned.
func TestChannelsShare(t *testing.T) {
	bs := backends(t, 2)
	var opened atomic.Int64
	source := static.New(endpoints(bs...)...)
	b := newBuilder(t, endpoint.OpenerFunc(func(target endpoint.Target) (endpoint.Source, error) {
		opened.Add(1)
		return source.Open(target)
	}))
	one, cc := open(t, b, 2)
	two, _ := open(t, b, 2)
	mustCall(t, one)
	mustCall(t, two)
	_ = cc.Close()
	answeredBy(t, two, 10)
	s := b.Stats()
	if opened.Load() != 1 || len(s) != 1 || s[0].Channels != 1 {
		t.Errorf("opened %d times, %d hubs, %d channels", opened.Load(), len(s), s[0].Channels)
	}
	eventually(t, "12 calls are counted", func() bool {
		n := uint64(0)
		for _, e := range b.Stats()[0].Endpoints {
			n += e.Calls.Succeeded
		}
		return n == 12
	})
}
