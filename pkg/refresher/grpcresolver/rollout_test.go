package grpcresolver

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// under runs calls while during does, one stream as well, and demands that none
// fails. There is no retry policy; what is left is gRPC's transparent retry of
// calls that no server has seen.
func under(t *testing.T, c testpb.TestServiceClient, during func()) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var n atomic.Int64
	for range 6 {
		wg.Go(func() {
			for !stop.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
				cancel()
				if err != nil {
					t.Errorf("after %d calls: %v", n.Load(), err)
					return
				}
				n.Add(1)
			}
		})
	}
	during()
	stop.Store(true)
	wg.Wait()
	if n.Load() == 0 {
		t.Error("no call was made")
	}
	t.Logf("%d calls", n.Load())
}

// A rolling update in both orders: the pod says GOAWAY before it leaves the set,
// as without a preStop hook, or after.
func TestRollingUpdate(t *testing.T) {
	for name, goAwayFirst := range map[string]bool{"removed first": false, "GOAWAY first": true} {
		t.Run(name, func(t *testing.T) {
			old := backends(t, 4)
			source := static.New(endpoints(old...)...)
			b := newBuilder(t, source)
			c, _ := open(t, b, 4)
			now := append([]*backend(nil), old...)
			under(t, c, func() {
				for i := range old {
					next := newBackend(t)
					now = append(now[1:], next)
					both := endpoints(append([]*backend{old[i]}, now...)...)
					source.Set(both...)
					wait(t, b, len(both))
					if goAwayFirst {
						old[i].server.GracefulStop()
						source.Set(endpoints(now...)...)
					} else {
						source.Set(endpoints(now...)...)
						eventually(t, "the old one is out", func() bool { return len(b.Stats()[0].Endpoints) == 4 })
						old[i].server.GracefulStop()
					}
				}
			})
			eventually(t, "all new ones answer", func() bool { return len(answeredBy(t, c, 60)) == 4 })
		})
	}
}

// Random sets, errors and empty answers, on channels that come, go and fall
// asleep, with every policy option that changes how connections are kept.
func TestRandomChanges(t *testing.T) {
	bs := backends(t, 10)
	source := nothing()
	source.Tell(dnsSays(bs...))
	b := newBuilder(t, source, withPolicy("grpclb_refresher_least_request", `{"connectionsPerEndpoint":2,"refresh":{"confirmAfter":"0.01s","holdFor":"0.05s","emptyGrace":"60s"}}`))
	c, _ := open(t, b, 10)
	under(t, c, func() {
		end := time.Now().Add(time.Second)
		for i := 0; time.Now().Before(end); i++ {
			rand.Shuffle(len(bs), func(i, j int) { bs[i], bs[j] = bs[j], bs[i] })
			switch i % 7 {
			case 2:
				// An empty answer right after one with strangers alone, whom no channel
				// had the time to dial, would leave nobody.
				source.Tell(dnsSays(bs...))
				wait(t, b, len(bs))
			case 3:
				source.Tell(dnsSays())
			case 4:
				source.Fail(errRefused)
			default:
				source.Tell(dnsSays(bs[:1+rand.IntN(len(bs))]...))
			}
			if i%5 == 0 {
				other, cc := dial(t, b, grpc.WithIdleTimeout(5*time.Millisecond))
				// One that opens while all are held has nobody it may dial.
				_, _ = other.UnaryCall(t.Context(), &testpb.SimpleRequest{})
				if i%2 == 0 {
					_ = cc.Close()
				}
			}
			select {
			case <-time.After(time.Duration(rand.IntN(8)) * time.Millisecond):
			case <-t.Context().Done():
			}
		}
	})
	source.Tell(dnsSays(bs...))
	eventually(t, "all are believed in the end", func() bool { return held(b) == 0 && len(b.Stats()[0].Endpoints) == len(bs) })
	wait(t, b, len(bs))
}
