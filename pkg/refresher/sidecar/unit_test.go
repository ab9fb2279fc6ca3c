package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// TestBuckets: they follow each other without a gap, and a quantile is off by an
// eighth at most.
func TestBuckets(t *testing.T) {
	for i := 1; i < buckets; i++ {
		if bucket(lower(i)) != i || bucket(lower(i)-1) != i-1 {
			t.Errorf("bucket %d begins at %v, which is in %d; before it %d", i, lower(i), bucket(lower(i)), bucket(lower(i)-1))
		}
	}
	if bucket(-1) != 0 || bucket(time.Hour) != buckets-1 {
		t.Error("the ends are open")
	}
	for range 1000 {
		d := time.Duration(rand.Int64N(int64(time.Minute)))
		var w window
		w.add(1, d, false)
		s := w.sum(1)
		if got := s.quantile(0.5); got < d*7/8-16*time.Microsecond || got > d*9/8+16*time.Microsecond {
			t.Errorf("%v is told as %v", d, got)
		}
	}
}

func TestQuantile(t *testing.T) {
	var w window
	for i := range 1000 {
		w.add(policy.Nanos(time.Hour), time.Duration(i+1)*time.Millisecond, i%10 == 0)
	}
	s := w.sum(policy.Nanos(time.Hour))
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := s.quantile(q); got < want*9/10 || got > want*11/10 {
			t.Errorf("%v: %v", q, got)
		}
	}
	if s.calls != 1000 || s.errors != 100 {
		t.Errorf("%d calls, %d errors", s.calls, s.errors)
	}
	if empty := (slice{}); empty.quantile(0.5) != 0 {
		t.Error("no calls have a quantile")
	}
}

// TestWindow: what is older than a minute does not count, whatever the clock's sign.
func TestWindow(t *testing.T) {
	for _, start := range []policy.Nanos{1, policy.Nanos(-35 * time.Second), policy.Nanos(-time.Hour)} {
		var w window
		for i := range 30 { // one every 5 s
			w.add(start.Add(time.Duration(i)*5*time.Second), time.Millisecond, false)
		}
		last := start.Add(29 * 5 * time.Second)
		if n := w.sum(last).calls; n < 12 || n > 14 {
			t.Errorf("from %d: %d calls in the last minute", start, n)
		}
		if n := w.sum(last.Add(2 * time.Minute)).calls; n != 0 {
			t.Errorf("from %d: %d calls two minutes later", start, n)
		}
	}
	if (*window)(nil).sum(1).calls != 0 {
		t.Error("nothing was counted")
	}
}

func TestRecordCodes(t *testing.T) {
	var r record
	for _, c := range []relay.Call{
		{Code: 0, HTTP: 200}, {Code: 14, HTTP: 200, Outcome: policy.Failed}, {Code: 99, HTTP: 200, Outcome: policy.Erred},
		{Code: -1, HTTP: 404}, {Code: -1, HTTP: 200, Outcome: policy.Neutral}, {Code: -1, Outcome: policy.Failed},
		{Code: 0, Retried: true, ResponseBytes: 5},
	} {
		c.Start, c.End = 1, policy.Nanos(time.Millisecond)
		r.add(&c)
	}
	want := map[string]uint64{"OK": 1, "UNAVAILABLE": 1, "99": 1, "HTTP 404": 1, "NONE": 2}
	if got := r.byCode(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if r.calls != 6 || r.in != 5 || r.outcomes[policy.Success] != 2 || r.latency.histogram().Count != 6 {
		t.Errorf("%+v", r)
	}
	for i := range 100 {
		r.add(&relay.Call{Code: -1, HTTP: 500 + i, Outcome: policy.Failed})
	}
	if got := r.byCode(); len(got) > maxCodes+3 || got["OTHER"] == 0 {
		t.Errorf("%d codes", len(got))
	}
}

func TestHistogram(t *testing.T) {
	var x times
	x.add(time.Millisecond) // a bound belongs to what is below it
	x.add(1100 * time.Microsecond)
	x.add(time.Hour)
	h := x.histogram()
	if h.Count != 3 || len(h.Counts) != len(h.Bounds)+1 || h.Counts[1] != 1 || h.Counts[2] != 1 || h.Counts[boundCount] != 1 || !slices.IsSorted(h.Bounds) {
		t.Errorf("%+v", h)
	}
}

// TestStatsJSON: durations are seconds, and what is written can be read.
func TestStatsJSON(t *testing.T) {
	s := Stats{
		Pods:      []Pod{{Addr: "10.0.0.1:1", EWMA: 1500 * time.Microsecond, P99: 2 * time.Second, Codes: map[string]uint64{"OK": 1}}},
		Refreshes: []Refresh{{Source: "dns", Took: 20 * time.Millisecond, Added: []string{"a"}}},
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ewma":0.0015`, `"p99":2`, `"took":0.02`, `"refreshDuration":{`} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	var back Stats
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v, %v", back, err)
	}
	for _, v := range []json.Unmarshaler{&Pod{}, &Refresh{}} {
		if v.UnmarshalJSON([]byte(`[]`)) == nil {
			t.Error("it takes a list")
		}
	}
}

func TestLooks(t *testing.T) {
	l := newLooks()
	look := func(outcome string) endpoint.Refreshed {
		return endpoint.Refreshed{Source: "dns", Outcome: outcome, Took: time.Millisecond}
	}
	changed := endpoint.SetChanged{Diff: endpoint.Diff{Added: endpoints(1)}, Size: 1, Source: "dns"}
	held := endpoint.GuardDecision{Verdict: endpoint.VerdictHeld, Reason: "too few"}
	for _, e := range []endpoint.Event{
		changed, look("ok"), look("unchanged"), look("unchanged"), look("unchanged"),
		held, endpoint.SetChanged{Diff: endpoint.Diff{Removed: endpoints(1)}, Held: 1, Source: "dns"}, look("nxdomain"),
		endpoint.RefreshFailed{Err: errTest}, look("timeout"), endpoint.RefreshFailed{Err: errTest}, look("timeout"),
		endpoint.RefreshFailed{Source: "static", Err: errTest}, endpoint.RefreshFailed{Source: "static", Err: errTest}, changed, changed,
		endpoint.Warning{Text: "nothing"},
	} {
		l.take(e)
	}
	var s Stats
	l.report(&s)
	var got []string
	for _, r := range s.Refreshes {
		got = append(got, fmt.Sprintf("%s %s x%d %v%v %d+%d %s%s", r.Source, r.Outcome, r.Looks, r.Added, r.Removed, r.Size, r.Held, r.Guard, r.Error))
	}
	want := []string{
		"dns changed x1 [10.0.0.1:6565][] 1+0 ",
		"dns changed x1 [10.0.0.1:6565][] 1+0 ",
		"static error x1 [][] 0+1 " + errTest.Error(),
		"static error x1 [][] 0+1 " + errTest.Error(),
		"dns timeout x2 [][] 0+1 " + errTest.Error(),
		"dns nxdomain x1 [][10.0.0.1:6565] 0+1 held: too few",
		"dns unchanged x3 [][] 1+0 ",
		"dns ok x1 [10.0.0.1:6565][] 1+0 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if s.RefreshOutcomes["dns/unchanged"] != 3 || s.GuardDecisions["held"] != 1 || s.RefreshDuration.Count != 7 {
		t.Errorf("%+v", s)
	}
	for range 100 {
		l.take(changed)
		l.take(look("ok"))
	}
	if l.report(&s); len(s.Refreshes) != maxLooks {
		t.Errorf("%d rows", len(s.Refreshes))
	}
}

// TestLog: every event has a line, and a source that fails again and again one
// warning.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, nil)) // without Debug
	p := &Proxy{}
	for _, e := range []endpoint.Event{
		endpoint.RefreshFailed{Err: errTest}, endpoint.RefreshFailed{Err: errTest}, endpoint.Refreshed{Outcome: "ok"},
		endpoint.RefreshFailed{Err: errTest}, endpoint.SetChanged{}, endpoint.GuardDecision{}, endpoint.SourceSwitched{},
		endpoint.ClusterIPTarget{}, endpoint.Ejected{}, endpoint.Returned{}, endpoint.Panicked{On: true}, endpoint.Panicked{},
		endpoint.Warning{}, endpoint.FirstCall{},
	} {
		p.log(l, e)
	}
	if n := strings.Count(out.String(), "\n"); n != 11 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
}

// TestEventsAreBounded: a consumer that is behind loses events and holds nobody up.
func TestEventsAreBounded(t *testing.T) {
	q := newEvents()
	for range queueSize + 10 {
		q.put(endpoint.Warning{})
	}
	stop := make(chan struct{})
	close(stop)
	n := 0
	q.run(stop, func(endpoint.Event) { n++ })
	if n != queueSize {
		t.Errorf("%d events", n)
	}
}

// TestUnreachable: each reason says what to do.
func TestUnreachable(t *testing.T) {
	for want, err := range map[string]error{
		"nothing listens":                      &net.OpError{Err: syscall.ECONNREFUSED},
		"raise the sidecar's limit":            syscall.EMFILE,
		"no route":                             syscall.EHOSTUNREACH,
		"no answer within 5s: the pod or its ": context.DeadlineExceeded,
		"one; two":                             errors.Join(errors.New("one"), errors.New("two")),
	} {
		if got := unreachable(err, 5*time.Second); !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// failingListener has no file descriptors for a while.
type failingListener struct {
	net.Listener
	fails atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	switch n := l.fails.Add(-1); {
	case n > 2:
		return nil, syscall.EMFILE
	case n >= 0:
		return nil, syscall.ECONNABORTED
	}
	return l.Listener.Accept()
}

// TestAcceptWithoutDescriptors: the listener pauses, says so once, and goes on.
func TestAcceptWithoutDescriptors(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	a := startServer(t)
	p, err := New(Options{
		Listen: []string{"127.0.0.1:0"}, Target: "a:1", Opener: static.New(a.endpoint()),
		Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.bind = func(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error) {
		ls, err := bind(ctx, addrs)
		if err != nil {
			return nil, err
		}
		l := &failingListener{Listener: ls[0]}
		l.fails.Store(6)
		return []net.Listener{l}, nil
	}
	x := run(t, p, nil)
	if _, err := x.client().EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(out.String(), "cannot accept"); n != 1 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// TestPodThatStopsReading: a closed window is no silence. The pod's machine
// acknowledges and lives; its connection stays, however long that takes.
func TestPodThatStopsReading(t *testing.T) {
	resume := make(chan struct{})
	var got atomic.Int64
	pod := tcpPod(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(8 << 10)
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		_ = f.WriteWindowUpdate(0, 1<<30)
		<-resume
		n, _ := io.Copy(io.Discard, c)
		got.Add(n)
	})
	var looks atomic.Int64
	p, err := New(Options{
		Listen: []string{"127.0.0.1:0"}, Target: "a:1", Opener: static.New(endpoint.At(pod)),
		Limits: Limits{SilentAfter: 100 * time.Millisecond, DeadAfter: 300 * time.Millisecond, ShutdownTimeout: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	var kernel atomic.Bool // it says that something is on its way
	p.look = func(c *conn) (transport, bool) {
		looks.Add(1)
		t, ok := c.transport()
		kernel.Store(kernel.Load() || ok && t.acked > 0)
		return t, ok
	}
	x := run(t, p, nil)
	x.until("the pod is ready", func() bool { return x.Stats().Pods[0].State == StateReady })
	ctx, cancel := context.WithCancel(ctxOf(t))
	defer cancel()
	s, err := x.client().StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 200 {
			if s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 64<<10)}}) != nil {
				return
			}
		}
	}()
	from := looks.Load()
	x.until("it was looked at for longer than a dead pod has", func() bool { return looks.Load() > from+60 })
	if pod := x.Stats().Pods[0]; pod.State != StateReady || pod.Connections != 1 || pod.InFlight != 1 {
		t.Errorf("%s: %s", pod.State, pod.StateReason)
	}
	if !kernel.Load() {
		t.Skip("the kernel tells nothing about connections")
	}
	close(resume)
	cancel()
	<-sent
}
