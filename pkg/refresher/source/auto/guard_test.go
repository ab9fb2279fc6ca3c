package auto

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// TestBehindTheGuard: what the channel sees of switches. A member keeps its ID as
// long as its connections may live.
func TestBehindTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newFake("kube"), newFake("dns")
		k.answer, d.answer = as(pods(1, 2, 3, 4)), as(names(1, 2, 3, 4))
		src, err := of(k, d).Open(endpoint.Target{Host: "square", PortName: "grpc"})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var states []reconcile.State
		loop := reconcile.New(reconcile.Options{
			Source: src, Config: reconcile.DefaultConfig(),
			Publish: func(s reconcile.State) {
				mu.Lock()
				defer mu.Unlock()
				states = append(states, s)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		wait := func(d time.Duration) {
			timer := time.NewTimer(d)
			<-timer.C
			synctest.Wait()
		}
		// believed are the IDs of the members that get calls, over all states.
		believed := func() (all [][]uint64) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for _, s := range states {
				var ids []uint64
				for _, m := range s.Members() {
					if m.Standing == reconcile.Believed {
						ids = append(ids, m.ID)
					}
				}
				all = append(all, ids)
			}
			return all
		}
		wait(time.Second)
		first := believed()[0]
		for range 3 {
			k.fail(errBroken)
			wait(time.Minute)
			d.tell(names(4, 3, 2, 1))
			d.fail(errBroken)
			wait(time.Minute)
			k.tell(pods(1, 2, 3, 4))
			wait(time.Minute)
		}
		for _, ids := range believed() {
			if len(first) != 4 || !slices.Equal(ids, first) {
				t.Errorf("members %v, at first %v", ids, first)
			}
		}
		// In the outage DNS loses most of them: the guard holds them.
		k.fail(errBroken)
		wait(grace)
		d.tell(names(1))
		mu.Lock()
		last := states[len(states)-1]
		mu.Unlock()
		if n := len(last.Members()); n != 4 {
			t.Errorf("%d members after DNS lost three of four", n)
		}
		k.tell(pods(1, 2, 3, 4))
		wait(time.Second)
		if all := believed(); !slices.Equal(all[len(all)-1], first) {
			t.Errorf("members %v when the watch is back, at first %v", all[len(all)-1], first)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
