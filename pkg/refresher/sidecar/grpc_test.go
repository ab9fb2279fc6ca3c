package sidecar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

func TestUnary(t *testing.T) {
	a, b := startServer(t), startServer(t)
	p := startProxy(t, nil, a, b)
	c := p.client()
	p.ready(2)
	for range 20 {
		if _, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if a.calls.Load() != 10 || b.calls.Load() != 10 {
		t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
	}
	s := p.Stats()
	if s.Calls != 20 || s.Clients != 1 || len(s.Pods) != 2 || !s.Ready || s.Reason != "" || !s.Known || s.Source != "static" {
		t.Errorf("%+v", s)
	}
	for _, pod := range s.Pods {
		if pod.Calls != 10 || pod.Succeeded != 10 || pod.Codes["OK"] != 10 || pod.Recent != 10 || pod.Share != 0.5 || pod.P50 == 0 ||
			pod.P99 < pod.P50 || pod.Latency.Count != 10 || pod.EWMA == 0 || pod.Connections != 1 || pod.State != StateReady {
			t.Errorf("%+v", pod)
		}
	}
	if s.Propagation.Count != 2 || len(s.Refreshes) != 1 || len(s.Refreshes[0].Added) != 2 || s.Refreshes[0].Size != 2 {
		t.Errorf("%+v", s.Refreshes)
	}
}

func TestMetadataAndStatus(t *testing.T) {
	a := startServer(t)
	p := startProxy(t, nil, a)
	c := p.client()
	large := strings.Repeat("x", 20<<10)
	var header, trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(ctxOf(t), "echo", large)
	if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if header.Get("echo")[0] != large || trailer.Get("echo-trailer")[0] != large {
		t.Error("20 KB of metadata did not come back")
	}
	st := status.New(codes.NotFound, "there is no \u00e9l\u00e9phant")
	a.fail.Store(st)
	_, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{})
	if got := status.Convert(err); got.Code() != codes.NotFound || got.Message() != st.Message() {
		t.Errorf("%v", err)
	}
	if pod := p.pod(a); pod.Codes["NOT_FOUND"] != 1 || pod.Succeeded != 2 {
		t.Errorf("%+v", pod)
	}
	if _, err := c.UnimplementedCall(ctxOf(t), &testpb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

func TestLargeMessagesAndCompression(t *testing.T) {
	limit := grpc.MaxRecvMsgSize(8 << 20)
	p := startProxy(t, nil, startServer(t, limit), startServer(t, limit))
	c := p.client(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8 << 20)))
	random := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	for i, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
		body := random[:len(random)>>(2*i)]
		out, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.GetPayload().GetBody(), body) {
			t.Error("the message came back changed")
		}
	}
	s := p.Stats()
	if in := s.Pods[0].BytesIn + s.Pods[1].BytesIn; in < 3<<20 {
		t.Errorf("%d bytes are counted", in)
	}
}

func TestStreams(t *testing.T) {
	p := startProxy(t, nil, startServer(t))
	c := p.client()
	t.Run("server", func(t *testing.T) {
		in := &testpb.StreamingOutputCallRequest{}
		for range 50 {
			in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: 10_000})
		}
		s, err := c.StreamingOutputCall(ctxOf(t), in)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			_, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 50 {
			t.Errorf("%d messages", n)
		}
	})
	t.Run("client", func(t *testing.T) {
		s, err := c.StreamingInputCall(ctxOf(t))
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 10_000)}}); err != nil {
				t.Fatal(err)
			}
		}
		out, err := s.CloseAndRecv()
		if err != nil || out.GetAggregatedPayloadSize() != 500_000 {
			t.Errorf("%v %v", out, err)
		}
	})
	t.Run("both", func(t *testing.T) {
		s, err := c.FullDuplexCall(ctxOf(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			pingPong(t, s, i*100)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
}

func pingPong(t *testing.T, s testpb.TestService_FullDuplexCallClient, size int) {
	t.Helper()
	if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, size)}}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.GetPayload().GetBody()); n != size {
		t.Fatalf("%d bytes, want %d", n, size)
	}
}

func TestCancelAndDeadline(t *testing.T) {
	a := startServer(t)
	a.hold = make(chan struct{})
	p := startProxy(t, nil, a)
	c := p.client()
	ctx, cancel := context.WithCancel(ctxOf(t))
	ended := make(chan error, 1)
	go func() {
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		ended <- err
	}()
	eventually(t, "the call is there", func() bool { return a.calls.Load() == 1 })
	cancel()
	wantCode(t, <-ended, codes.Canceled)
	<-a.cancelled
	soon, cancel := context.WithTimeout(ctxOf(t), 50*time.Millisecond)
	defer cancel()
	_, err := c.UnaryCall(soon, &testpb.SimpleRequest{})
	wantCode(t, err, codes.DeadlineExceeded)
	<-a.cancelled
	p.until("nothing is in flight", func() bool { return p.pod(a).InFlight == 0 && p.pod(a).Calls == 2 })
	if pod := p.pod(a); pod.Neutral+pod.TimedOut != 2 {
		t.Errorf("%+v", pod)
	}
}

func noErrors(t *testing.T, n int, errs []error) {
	t.Helper()
	if n == 0 {
		t.Error("no call succeeded")
	}
	for i, err := range errs {
		if i < 5 {
			t.Errorf("failed: %v", err)
		}
	}
	t.Logf("%d calls, %d failed", n, len(errs))
}

// TestScale: pods that come get calls, pods that go lose none.
func TestScale(t *testing.T) {
	a, b, d := startServer(t), startServer(t), startServer(t)
	p := startProxy(t, nil, a)
	stop := load(t, p.client(), 4)
	p.ready(1)
	p.source.Set(a.endpoint(), b.endpoint(), d.endpoint())
	p.until("the new pods are called", func() bool { return b.calls.Load() > 10 && d.calls.Load() > 10 })
	p.source.Set(b.endpoint(), d.endpoint())
	p.until("the removed pod is gone", func() bool { return p.pod(a).State == StateGone })
	at := a.calls.Load()
	from := b.calls.Load()
	p.until("calls go on", func() bool { return b.calls.Load() > from+100 })
	if n := a.calls.Load(); n != at {
		t.Errorf("%d calls on a removed pod", n-at)
	}
	n, errs := stop()
	noErrors(t, n, errs)
}

// TestRollingReplacement: each pod is replaced by another one and stopped as a pod
// is, with no call lost.
func TestRollingReplacement(t *testing.T) {
	servers := []*server{startServer(t), startServer(t), startServer(t)}
	p := startProxy(t, func(o *Options) { o.Policy = config.Default(config.PeakEWMA) }, servers...)
	stop := load(t, p.client(), 4)
	p.ready(3)
	for i := range servers {
		old := servers[i]
		servers[i] = startServer(t)
		p.source.Set(servers[0].endpoint(), servers[1].endpoint(), servers[2].endpoint())
		old.grpc.GracefulStop()
		p.until("the new pod is called", func() bool { return servers[i].calls.Load() > 0 })
	}
	n, errs := stop()
	noErrors(t, n, errs)
}

// TestGoAway: servers that limit the age of connections cost no call.
func TestGoAway(t *testing.T) {
	age := grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second})
	a, b := startServer(t, age), startServer(t, age)
	p := startProxy(t, nil, a, b)
	stop := load(t, p.client(), 4)
	p.until("connections were replaced", func() bool { return p.reconnects() >= 4 })
	n, errs := stop()
	noErrors(t, n, errs)
}

// reconnects counts the connections to pods that replaced others.
func (p *proxy) reconnects() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, pd := range p.pods {
		n += pd.replaced
	}
	return n
}

// TestKilledPod: calls on a pod that dies end with UNAVAILABLE, all others go on.
func TestKilledPod(t *testing.T) {
	a, b := startServer(t), startServer(t)
	a.hold = make(chan struct{})
	p := startProxy(t, nil, a, b)
	c := p.client()
	p.ready(2)
	ended := make(chan error, 1)
	// Whose turn it is begins anew with each set of pods.
	eventually(t, "a call is on the pod", func() bool {
		go func() {
			_, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{})
			ended <- err
		}()
		eventually(t, "it is, or ends", func() bool { return a.calls.Load() == 1 || len(ended) > 0 })
		if len(ended) == 0 {
			return true
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return false
	})
	a.kill()
	wantCode(t, <-ended, codes.Unavailable)
	for range 10 {
		if _, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{}); err != nil {
			t.Error(err)
		}
	}
	p.until("it is unreachable", func() bool { return p.pod(a).State == StateUnreachable })
	if why := p.pod(a).StateReason; !strings.Contains(why, "refused") {
		t.Error(why)
	}
	again := startServerAt(t, a.addr.String())
	p.source.Fail(errTest)
	p.until("it is connected again", func() bool { return p.count(StateReady)+p.count(StateWarming) == 2 })
	p.until("it is called again", func() bool {
		_, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{})
		return err == nil && again.calls.Load() > 0
	})
	if s := p.Stats(); s.LastError != errTest.Error() || s.Refreshes[0].Error == "" {
		t.Errorf("%+v", s)
	}
}

// TestEjection: a pod whose calls fail gets none for a while.
func TestEjection(t *testing.T) {
	a, b, d := startServer(t), startServer(t), startServer(t)
	a.fail.Store(status.New(codes.Unavailable, "the test says so"))
	p := startProxy(t, nil, a, b, d)
	c := p.client()
	p.ready(3)
	for range 30 {
		_, _ = c.EmptyCall(ctxOf(t), &testpb.Empty{})
	}
	p.until("it is ejected", func() bool { return p.pod(a).State == StateEjected })
	before := a.calls.Load()
	for range 20 {
		if _, err := c.EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
			t.Error(err)
		}
	}
	if a.calls.Load() != before {
		t.Error("an ejected pod was called")
	}
	if pod := p.pod(a); pod.EjectedUntil.IsZero() || pod.StateReason == "" || pod.Failed == 0 || pod.Ejections != 1 || pod.RecentErrors == 0 {
		t.Errorf("%+v", pod)
	}
}

// TestStreamLimit: a pod that allows few streams on a connection gets more
// connections, up to the limit, and calls beyond that wait.
func TestStreamLimit(t *testing.T) {
	a := startServer(t, grpc.MaxConcurrentStreams(2))
	a.hold = make(chan struct{})
	p := startProxy(t, func(o *Options) { o.Limits.MaxConnectionsPerPod = 3 }, a)
	c := p.client()
	ended := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := c.UnaryCall(ctxOf(t), &testpb.SimpleRequest{})
			ended <- err
		}()
	}
	p.until("all places are taken", func() bool { return a.calls.Load() == 6 && p.Stats().Waiting == 4 })
	if n := p.pod(a).Connections; n != 3 {
		t.Errorf("%d connections", n)
	}
	close(a.hold)
	for range 10 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestEmpty: what is known to be nothing fails at once, and says why.
func TestEmpty(t *testing.T) {
	p := startProxy(t, nil)
	c := p.client()
	p.until("it is ready", func() bool { ok, _ := p.Ready(); return ok })
	_, err := c.EmptyCall(ctxOf(t), &testpb.Empty{})
	wantCode(t, err, codes.Unavailable)
	if !strings.Contains(err.Error(), "square.test:6565 has no endpoints") {
		t.Error(err)
	}
	if s := p.Stats(); s.Refused != 1 || !strings.Contains(s.Reason, "no endpoints") {
		t.Errorf("%+v", s)
	}
	a := startServer(t)
	p.source.Set(a.endpoint())
	p.ready(1)
	if _, err := c.EmptyCall(ctxOf(t), &testpb.Empty{}); err != nil {
		t.Error(err)
	}
}

// TestDrainUnderLoad: a client that has another way to go loses no call.
func TestDrainUnderLoad(t *testing.T) {
	a := startServer(t)
	p, next := startProxy(t, nil, a), startProxy(t, nil, a)
	c := p.client(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), twoAddresses(p.addr, next.addr))
	stop := load(t, c, 4)
	p.until("calls go through both", func() bool { return p.Stats().Calls > 100 && next.Stats().Calls > 100 })
	if err := p.Drain(ctxOf(t)); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	at := next.Stats().Calls
	p.until("calls go through the other one", func() bool { return next.Stats().Calls > at+100 })
	n, errs := stop()
	noErrors(t, n, errs)
	if s := p.Stats(); !s.Draining || s.Ready || s.Reason != "draining" {
		t.Errorf("%+v", s)
	}
}

// TestDrainByForce: what does not end in time ends with a status.
func TestDrainByForce(t *testing.T) {
	a := startServer(t)
	p := startProxy(t, func(o *Options) { o.Limits.ShutdownTimeout = 50 * time.Millisecond }, a)
	s, err := p.client().FullDuplexCall(ctxOf(t))
	if err != nil {
		t.Fatal(err)
	}
	pingPong(t, s, 10)
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	_, err = s.Recv()
	wantCode(t, err, codes.Unavailable)
	<-a.cancelled
}
