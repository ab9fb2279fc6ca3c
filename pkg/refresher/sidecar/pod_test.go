package sidecar

import (
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestWeights: a pod of three times the weight gets three times the calls.
func TestWeights(t *testing.T) {
	inBubble(t, nil, nil, func(w *world) {
		both := endpoints(1, 2)
		both[0].Weight = 3
		w.source.Set(both...)
		pass(time.Second)
		w.client().calling(40)
		if w.calls(1) < 28 || w.calls(1) > 32 {
			t.Errorf("%d of 40 calls", w.calls(1))
		}
	})
}

// TestConnectionsShareCalls: of a pod's connections the one with the fewest calls is
// taken.
func TestConnectionsShareCalls(t *testing.T) {
	inBubble(t, []int{1}, func(o *Options) { o.Policy.ConnectionsPerEndpoint = 2 }, func(w *world) {
		w.client().calling(6)
		for i, c := range w.pod(1).conns {
			if n := len(c.got()); n != 3 {
				t.Errorf("%d calls on connection %d", n, i)
			}
		}
	})
}

// TestRefusedByTheOnlyPod: a call that the only pod did not look at goes there again.
func TestRefusedByTheOnlyPod(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		c := w.client()
		id := c.call()
		w.conn(1).refuse(w.conn(1).got()[0])
		if n := len(w.conn(1).got()); n != 2 {
			t.Fatalf("%d calls", n)
		}
		w.answerAll(false)
		if code, text := c.ended(id); code != "0" {
			t.Errorf("%s %q", code, text)
		}
	})
}

// TestSilentAfterItsCalls: what a pod does not acknowledge is waited for also when
// the call that it was for has ended: clients have deadlines.
func TestSilentAfterItsCalls(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		w.Proxy.mu.Lock()
		begun := time.Now()
		w.look = func(*conn) (transport, bool) { return transport{unacked: true, lastAck: time.Since(begun)}, true }
		w.Proxy.mu.Unlock()
		c := w.client()
		id := c.call()
		pass(time.Second)
		c.mu.Lock()
		err := c.f.WriteRSTStream(id, http2.ErrCodeCancel)
		c.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.want(1, StateSilent, "")
	})
}

// TestDeadWhileItDrains: calls of a removed pod do not outlive its machine.
func TestDeadWhileItDrains(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		c := w.client()
		c.calling(2)
		w.Proxy.mu.Lock()
		begun := time.Now()
		w.look = func(c *conn) (transport, bool) {
			return transport{unacked: c.pod.gone, lastAck: time.Since(begun)}, true
		}
		w.Proxy.mu.Unlock()
		w.source.Set(endpoints(2)...)
		pass(time.Second)
		w.want(1, StateDraining, "")
		pass(w.settings.Limits.DeadAfter)
		w.want(1, StateGone, "")
	})
}

// TestNoConnectionMoreForSlowPods: where a pod does not take what it has, more
// connections would not help.
func TestNoConnectionMoreForSlowPods(t *testing.T) {
	g := newGate()
	inBubble(t, nil, func(o *Options) { o.Limits.MaxConnectionsPerPod = 4 }, func(w *world) {
		w.pod(1).streams = 2
		w.source.Set(endpoints(1)...)
		pass(time.Second)
		open := g.close()
		c := w.client()
		c.upload(65_535)
		c.calling(2)
		if n := w.dialled(1); n != 1 || w.Stats().Waiting != 1 {
			t.Errorf("%d connections, %d calls wait", n, w.Stats().Waiting)
		}
		open()
		pass(time.Millisecond)
	}, g.dial)
}
