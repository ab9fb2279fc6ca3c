package sidecar

import (
	"testing"
	"testing/synctest"
	"time"
)

// crowded is a world with one pod that takes two calls on a connection, of which it
// gets four at most.
func crowded(t *testing.T, test func(w *world)) {
	t.Helper()
	inBubble(t, nil, func(o *Options) { o.Limits.MaxConnectionsPerPod = 4 }, func(w *world) {
		w.pod(1).streams = 2
		w.source.Set(endpoints(1)...)
		pass(time.Second)
		test(w)
	})
}

// calling makes n calls.
func (c *fakeClient) calling(n int) {
	for range n {
		c.call()
	}
}

// open are the connections that a pod has, as seen by the pod.
func (w *world) open(i int) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.podLocked(at(i)).conns {
		select {
		case <-c.done:
		default:
			n++
		}
	}
	return n
}

// takes fails unless a pod has n connections, and as many were made ever as made.
func (w *world) takes(when string, n, made int) {
	w.t.Helper()
	synctest.Wait()
	if got := w.open(1); got != n || w.dialled(1) != made {
		w.t.Errorf("%s: %d connections of %d, want %d of %d", when, got, w.dialled(1), n, made)
	}
}

// TestExtraConnectionsEnd: connections that a burst needed are given up when a
// minute did not need them, and no call is.
func TestExtraConnectionsEnd(t *testing.T) {
	crowded(t, func(w *world) {
		c := w.client()
		c.calling(8)
		w.takes("all calls at once", 4, 4)
		w.answerAll(false)
		pass(shedEvery - time.Second)
		w.takes("within a minute", 4, 4)
		pass(shedEvery + 2*time.Second)
		w.takes("two minutes later", 1, 4)
		if s := w.Stats().Pods[0]; s.Connections != 1 || s.State != StateReady {
			t.Errorf("%+v", s)
		}
		n := w.calls(1)
		c.calling(4)
		w.takes("the next burst", 2, 5)
		if w.calls(1)-n != 4 {
			t.Errorf("%d calls", w.calls(1)-n)
		}
	})
}

// TestExtraConnectionsStay: a need that varies around what one connection takes
// makes and ends nothing.
func TestExtraConnectionsStay(t *testing.T) {
	crowded(t, func(w *world) {
		c := w.client()
		for minute := range 20 {
			c.calling(2 + minute%2)
			pass(30 * time.Second)
			w.answerAll(false)
			pass(30 * time.Second)
		}
		w.takes("a need of two or three calls", 2, 2)
	})
}

// TestSpareConnections: a connection whose call goes on is kept without new ones,
// and taken back before another one is made.
func TestSpareConnections(t *testing.T) {
	crowded(t, func(w *world) {
		c := w.client()
		c.calling(8)
		conns := w.pod(1).conns
		for _, f := range conns {
			f.answer(f.calls[0], "0")
			if f != conns[0] {
				continue
			}
			f.answer(f.calls[1], "0")
		}
		pass(2*shedEvery + time.Second)
		// Three calls are open on three connections: that is what two take at most,
		// and more than three quarters of it.
		w.takes("two minutes later", 3, 4)
		for _, f := range conns[1:3] {
			f.answer(f.calls[1], "0")
		}
		pass(2 * shedEvery)
		w.takes("one call is left", 1, 4)
		c.calling(1)
		if n := len(conns[3].calls); n != 3 {
			t.Errorf("%d calls", n)
		}
	})
	crowded(t, func(w *world) {
		c := w.client()
		c.calling(4)
		conns := w.pod(1).conns
		w.Proxy.mu.Lock()
		w.Proxy.pods[0].extra.peak = 0 // as if all were short
		w.Proxy.mu.Unlock()
		pass(shedEvery + time.Second)
		w.takes("calls on both", 2, 2)
		if n := w.Stats().Pods[0].Connections; n != 1 {
			t.Errorf("%d connections take calls", n)
		}
		for _, f := range conns {
			f.answer(f.calls[0], "0")
		}
		c.calling(2)
		w.takes("one is taken back", 2, 2)
		if s := w.Stats(); s.Pods[0].Connections != 2 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestConfigureKeepsExtraConnections: a reload that is about something else takes
// none of them away.
func TestConfigureKeepsExtraConnections(t *testing.T) {
	crowded(t, func(w *world) {
		c := w.client()
		c.calling(6)
		w.takes("before", 3, 3)
		o := w.settings.Options
		o.Policy.SlowStart = 20 * time.Second
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		if n := w.Stats().Pods[0].Connections; n != 3 {
			t.Errorf("%d connections take calls", n)
		}
		o.Limits.MaxConnectionsPerPod = 2
		if err := w.Configure(o); err != nil {
			t.Fatal(err)
		}
		if n := w.Stats().Pods[0].Connections; n != 2 {
			t.Errorf("%d connections take calls, of 2 that are allowed", n)
		}
		w.answerAll(false)
		w.takes("after", 2, 3)
	})
}
