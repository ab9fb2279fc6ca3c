package sidecar

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// spliced are the pods that connections which are no HTTP/2 would go to.
func (w *world) spliced() map[string]int {
	to := map[string]int{}
	for range 12 {
		if pd := w.spliceTo(nil); pd != nil {
			to[pd.addr]++
		}
	}
	return to
}

// TestSpliceWhere: connections that are passed through go where calls go.
func TestSpliceWhere(t *testing.T) {
	inBubble(t, []int{1, 2}, nil, func(w *world) {
		c := w.client()
		for range 12 {
			c.call()
			w.answerPods("14", 1)
			w.answerPods("0", 2)
		}
		pass(time.Second)
		w.want(1, StateEjected, "")
		if to := w.spliced(); to[at(2).String()] != 12 {
			t.Errorf("%v", to)
		}
	})
	inBubble(t, []int{1, 2, 3}, holding, func(w *world) {
		w.source.Tell(endpoint.Set{Endpoints: endpoints(3)})
		pass(time.Millisecond)
		w.want(1, StateHeld, "")
		w.want(2, StateHeld, "")
		if to := w.spliced(); to[at(3).String()] != 12 {
			t.Errorf("%v", to)
		}
	})
}

// TestSpliceReachedTooLate: a connection to a pod that was removed while it was made
// does not begin.
func TestSpliceReachedTooLate(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		w.meet(1, func(pod *fakePod) { pod.delay = 2 * time.Second })
		near, far := net.Pipe()
		defer far.Close()
		w.admit(near)
		if _, err := io.WriteString(far, "hi, pod!"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.source.Set(endpoints(2)...)
		pass(2 * time.Second)
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if s := w.Stats().Passthrough; s.Open != 0 || s.Failed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestMaxClientsOfTheSilent: those who have said nothing yet count.
func TestMaxClientsOfTheSilent(t *testing.T) {
	inBubble(t, []int{1}, func(o *Options) { o.Limits.MaxClients = 1 }, func(w *world) {
		for i := range 2 {
			near, far := net.Pipe()
			defer far.Close()
			w.admit(near)
			synctest.Wait()
			_ = far.SetReadDeadline(time.Now())
			if _, err := far.Read(make([]byte, 1)); errors.Is(err, io.EOF) != (i == 1) {
				t.Errorf("client %d: %v", i, err)
			}
		}
		if n := w.Stats().RejectedClients; n != 1 {
			t.Errorf("%d", n)
		}
	})
}

// TestSpliceDrains: what goes to a removed pod ends with the drain time-out, also when
// there are no calls that would have time looked at.
func TestSpliceDrains(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		near, far := net.Pipe()
		defer far.Close()
		w.admit(near)
		if _, err := io.WriteString(far, "hi, pod!"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.source.Set(endpoints(2)...)
		pass(5*time.Minute - time.Second)
		w.want(1, StateDraining, "")
		pass(2 * time.Second)
		w.want(1, StateGone, "")
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
