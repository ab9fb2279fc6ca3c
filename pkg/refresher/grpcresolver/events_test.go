package grpcresolver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// A slow consumer loses events and is never waited for; what it gets is in order
// and comes one at a time.
func TestQueue(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{}, 1)
	var got []int
	var active atomic.Int32
	q := &queue{}
	q.deliver = func(n named) {
		if active.Add(1) != 1 {
			t.Error("two deliveries at a time")
		}
		select {
		case started <- struct{}{}:
		default:
		}
		<-release
		if w, ok := n.event.(endpoint.Panicked); ok {
			got = append(got, w.Size)
		}
		active.Add(-1)
	}
	q.put("t", endpoint.Panicked{Size: 0})
	<-started
	for i := 1; i <= queueSize+10; i++ {
		q.put("t", endpoint.Panicked{Size: i})
	}
	if n := q.drops(); n != 10 {
		t.Errorf("%d dropped, want 10", n)
	}
	close(release)
	eventually(t, "all are delivered", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return !q.busy
	})
	if len(got) != queueSize+1 {
		t.Fatalf("%d delivered", len(got))
	}
	for i, n := range got {
		if n != i {
			t.Fatalf("event %d came at place %d", n, i)
		}
	}
	(&queue{}).put("t", endpoint.Warning{}) // nobody listens
}

func TestEventsOfAChannel(t *testing.T) {
	bs := backends(t, 2)
	var mu sync.Mutex
	var events []endpoint.Event
	source := static.New(bs[0].endpoint())
	b := newBuilder(t, source, func(o *Options) {
		o.Events = func(target string, e endpoint.Event) {
			mu.Lock()
			defer mu.Unlock()
			if target != square {
				t.Errorf("an event of %q", target)
			}
			events = append(events, e)
		}
	})
	c, _ := open(t, b, 1)
	mustCall(t, c)
	mustCall(t, c)
	source.Tell(endpoint.Set{Endpoints: endpoints(bs...), Authoritative: true, Changed: time.Now().Add(-time.Second)})
	wait(t, b, 2)
	firsts := func() (out []endpoint.FirstCall) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			if f, ok := e.(endpoint.FirstCall); ok {
				out = append(out, f)
			}
		}
		return out
	}
	eventually(t, "each has its first call once", func() bool {
		mustCall(t, c)
		return len(firsts()) == 2
	})
	f := firsts()
	if f[0].Endpoint.Addr() != bs[0].addr || f[0].SinceSeen <= 0 || f[0].SinceChange != 0 {
		t.Errorf("the first is %+v", f[0])
	}
	if f[1].Endpoint.Addr() != bs[1].addr || f[1].SinceChange < time.Second {
		t.Errorf("the second is %+v", f[1])
	}
	s := b.Stats()[0]
	if s.FirstCall.Count != 2 || s.FirstCallSinceChange.Count != 1 || s.Changes != 2 {
		t.Errorf("stats %+v", s)
	}
	if _, ok := events[0].(endpoint.SetChanged); !ok {
		t.Errorf("the first event is %#v", events[0])
	}
}

func TestStats(t *testing.T) {
	bs := backends(t, 2)
	bs[1].stop()
	b := newBuilder(t, endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) {
		return sourceFunc(func(ctx context.Context, s endpoint.Sink) error {
			s.Note(endpoint.Refreshed{Source: "test", Took: 30 * time.Millisecond, Outcome: "ok"})
			s.Note(endpoint.Refreshed{Source: "test", Outcome: "unchanged"})
			s.Note(endpoint.GuardDecision{Verdict: endpoint.VerdictHeld})
			s.Update(endpoint.Set{Endpoints: endpoints(bs...), Source: "test"})
			s.Fail(errors.New("SERVFAIL"))
			<-ctx.Done()
			return nil
		}), nil
	}))
	c, _ := open(t, b, 1)
	mustCall(t, c)
	eventually(t, "the failure is known", func() bool { return b.Stats()[0].LastErr != nil })
	s := b.Stats()[0]
	if s.Target != square || s.Channels != 1 || s.Source != "test" || !s.Known || time.Since(s.LastGood) > time.Minute {
		t.Errorf("got %+v", s)
	}
	if s.Refreshes["ok"] != 1 || s.Refreshes["unchanged"] != 1 || s.Verdicts[endpoint.VerdictHeld] != 1 {
		t.Errorf("counts %v %v", s.Refreshes, s.Verdicts)
	}
	if s.RefreshTime.Count != 1 || s.RefreshTime.Sum != 30*time.Millisecond || s.RefreshTime.Counts[5] != 1 {
		t.Errorf("times %+v over %v", s.RefreshTime, Bounds())
	}
	for _, e := range s.Endpoints {
		up := e.Addr() == bs[0].addr
		if e.Connections != map[bool]int{true: 1}[up] || (e.State == connectivity.Ready) != up || e.Since.IsZero() || e.Held {
			t.Errorf("endpoint %+v", e)
		}
	}
	var h Histogram
	h.add(time.Hour)
	if h.Counts[len(Bounds())] != 1 {
		t.Error("an hour is within a bound")
	}
}

// The log: what a person should act on is a warning, once.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	b := newBuilder(t, nothing(), func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	failed := endpoint.RefreshFailed{Source: "dns", Err: errors.New("SERVFAIL")}
	for _, tt := range []struct {
		e    endpoint.Event
		want string
	}{
		{endpoint.SetChanged{Size: 3}, "DEBUG"},
		{endpoint.GuardDecision{Reason: "because"}, "INFO"},
		{failed, "WARN"},
		{failed, "DEBUG"},
		{endpoint.Refreshed{Outcome: "servfail"}, "DEBUG"},
		{failed, "DEBUG"},
		{endpoint.Refreshed{Outcome: "ok"}, "DEBUG"},
		{failed, "WARN"},
		{endpoint.SetChanged{}, "DEBUG"},
		{failed, "WARN"},
		{endpoint.SourceSwitched{To: "kube"}, "INFO"},
		{endpoint.SourceSwitched{From: "kube", To: "dns"}, "WARN"},
		{endpoint.ClusterIPTarget{Name: "square", VIP: netip.MustParseAddr("10.96.0.1")}, "WARN"},
		{endpoint.Ejected{Reason: "5 calls"}, "WARN"},
		{endpoint.Returned{}, "INFO"},
		{endpoint.Panicked{On: true}, "WARN"},
		{endpoint.Panicked{}, "INFO"},
		{endpoint.Warning{Text: "look"}, "WARN"},
		{endpoint.FirstCall{}, "DEBUG"},
	} {
		out.Reset()
		b.deliver(named{square, tt.e})
		if !strings.Contains(out.String(), "level="+tt.want) || !strings.Contains(out.String(), square) {
			t.Errorf("%T: %s, want level %s and the target", tt.e, out.String(), tt.want)
		}
	}
}
