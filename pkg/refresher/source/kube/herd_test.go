package kube

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// sinks counts what many sources tell.
type sinks struct {
	mu            sync.Mutex
	updates, full int
}

func (s *sinks) Update(set endpoint.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates++
	if len(set.Endpoints) == 2 {
		s.full++
	}
}
func (s *sinks) Fail(error)          {}
func (s *sinks) Note(endpoint.Event) {}

// TestHerd: many clients whose watches break in the same moment, or whose API
// server was away, do not come back in the same moment.
func TestHerd(t *testing.T) {
	const clients, window = 300, 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		srv := kubetest.NewLocal(t, svc(), es("a", 1))
		srv.BookmarkEvery(time.Minute)
		opener := New(WithConfig(srv.Config()), WithNamespace(ns))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var told sinks
		for range clients {
			src, err := opener.Open(endpoint.Target{Host: svcName, PortName: "grpc"})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				if err := src.Run(ctx, &told); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// back is how many requests came in the fullest window, and in how many
		// windows all watches stood again.
		back := func() (most, windows int) {
			before := srv.Count("", "")
			for windows = 1; srv.Watching() < clients; windows++ {
				timer := time.NewTimer(window)
				<-timer.C
				synctest.Wait()
				n := srv.Count("", "")
				most, before = max(most, n-before), n
			}
			return most, windows
		}
		srv.CutWatches()
		synctest.Wait()
		most, windows := back()
		t.Logf("%d watches break: all are back after %s, at most %d requests in %s", clients, time.Duration(windows)*window, most, window)
		if most > clients/5 || windows > 15 {
			t.Errorf("%d requests at once; back after %d windows", most, windows)
		}
		for _, away := range []time.Duration{5 * time.Second, 5 * time.Minute} {
			srv.Down(true)
			timer := time.NewTimer(away)
			<-timer.C
			srv.Down(false)
			most, windows = back()
			t.Logf("the server is away for %s: all are back after %s, at most %d requests in %s", away, time.Duration(windows)*window, most, window)
			if most > clients/5 || time.Duration(windows)*window > retryMost*3/2+time.Second {
				t.Errorf("%d requests at once; back after %d windows", most, windows)
			}
		}
		srv.Set(es("a", 1, 2))
		timer := time.NewTimer(time.Second)
		<-timer.C
		synctest.Wait()
		if told.full != clients {
			t.Errorf("%d of %d clients have the new pod", told.full, clients)
		}
		cancel()
		all.Wait()
	})
}

// BenchmarkMerge is one event of a Service of 10,000 endpoints: a slice of 100
// is taken in and all are merged.
func BenchmarkMerge(b *testing.B) {
	all := map[string]slice{}
	var last sliceBuilder
	for i := range 100 {
		var pods []int
		for j := range 100 {
			pods = append(pods, i*100+j+1)
		}
		last = es(fmt.Sprintf("s%d", i), pods...).version(i + 1)
		all[last.Name] = project(last.EndpointSlice, uint64(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		all[last.Name] = project(last.EndpointSlice, 1000)
		if n := len(merge(all, choice{name: "grpc"}, false)); n != 10_000 {
			b.Fatal(n)
		}
	}
}
