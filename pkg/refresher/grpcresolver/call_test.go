package grpcresolver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestOutcome(t *testing.T) {
	answered := func(c codes.Code) balancer.DoneInfo {
		return balancer.DoneInfo{Err: status.Error(c, "x"), BytesSent: true, BytesReceived: true}
	}
	silent := func(c codes.Code) balancer.DoneInfo {
		return balancer.DoneInfo{Err: status.Error(c, "x"), BytesSent: true}
	}
	pushed := func(i balancer.DoneInfo) balancer.DoneInfo {
		i.Trailer = metadata.Pairs(pushback, "100")
		return i
	}
	for name, tt := range map[string]struct {
		in   balancer.DoneInfo
		want policy.Outcome
	}{
		"ok":                                {balancer.DoneInfo{BytesSent: true, BytesReceived: true}, policy.Success},
		"the connection was gone":           {balancer.DoneInfo{}, policy.Neutral},
		"never sent":                        {balancer.DoneInfo{Err: status.Error(codes.Unavailable, "draining")}, policy.Neutral},
		"the application says no":           {answered(codes.NotFound), policy.Success},
		"the caller may not":                {answered(codes.PermissionDenied), policy.Success},
		"unavailable":                       {answered(codes.Unavailable), policy.Failed},
		"the connection broke":              {silent(codes.Unavailable), policy.Failed},
		"internal":                          {answered(codes.Internal), policy.Erred},
		"an error without a status":         {answered(codes.Unknown), policy.Erred},
		"data loss":                         {answered(codes.DataLoss), policy.Erred},
		"canceled":                          {silent(codes.Canceled), policy.Neutral},
		"canceled with push-back":           {pushed(answered(codes.Canceled)), policy.Neutral},
		"no byte before the deadline":       {silent(codes.DeadlineExceeded), policy.TimedOut},
		"bytes before the deadline":         {answered(codes.DeadlineExceeded), policy.Neutral},
		"overloaded":                        {answered(codes.ResourceExhausted), policy.Overloaded},
		"the client's own limit, sending":   {silent(codes.ResourceExhausted), policy.Neutral},
		"the client's own limit, receiving": {balancer.DoneInfo{Err: status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), BytesSent: true, BytesReceived: true}, policy.Neutral},
		"push-back":                         {pushed(answered(codes.Unavailable)), policy.Overloaded},
		"push-back with a code of its own":  {pushed(answered(codes.Aborted)), policy.Overloaded},
		"not a status":                      {balancer.DoneInfo{Err: errors.New("x"), BytesSent: true, BytesReceived: true}, policy.Erred},
		"the stream was reset":              {silent(codes.Internal), policy.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome(tt.in); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What real calls make of an endpoint, so that what grpc-go says at the end of a
// call is held to what outcome takes it for.
func TestOutcomesOfRealCalls(t *testing.T) {
	// A server knows the deadline as well; one that answers at it may be first.
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	for name, tt := range map[string]struct {
		answer func(context.Context) error
		req    *testpb.SimpleRequest
		opts   []grpc.CallOption
		after  time.Duration // deadline
		want   func(policy.NodeStats) uint64
	}{
		"success":   {want: func(s policy.NodeStats) uint64 { return s.Succeeded }},
		"not found": {answer: func(context.Context) error { return status.Error(codes.NotFound, "") }, want: func(s policy.NodeStats) uint64 { return s.Succeeded }},
		"fails":     {answer: func(context.Context) error { return unavailable }, want: func(s policy.NodeStats) uint64 { return s.Failed }},
		"exhausted": {answer: func(context.Context) error { return status.Error(codes.ResourceExhausted, "") }, want: func(s policy.NodeStats) uint64 { return s.Overloaded }},
		"pushes back": {answer: func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, "-1"))
			return status.Error(codes.Aborted, "")
		}, want: func(s policy.NodeStats) uint64 { return s.Overloaded }},
		"silent": {answer: func(context.Context) error { <-over; return nil }, after: 50 * time.Millisecond, want: func(s policy.NodeStats) uint64 { return s.TimedOut }},
		"headers, then silent": {answer: func(ctx context.Context) error {
			_ = grpc.SendHeader(ctx, metadata.Pairs("a", "b"))
			<-over
			return nil
		}, after: time.Second, want: func(s policy.NodeStats) uint64 { return s.Neutral }},
		"too large to receive": {req: &testpb.SimpleRequest{ResponseSize: 100}, opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(10)}, want: func(s policy.NodeStats) uint64 { return s.Neutral }},
		"too large to send":    {req: &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 100)}}, opts: []grpc.CallOption{grpc.MaxCallSendMsgSize(10)}, want: func(s policy.NodeStats) uint64 { return 1 - s.Started + s.Neutral }},
	} {
		t.Run(name, func(t *testing.T) {
			be := newBackend(t)
			if tt.answer != nil {
				be.answers(tt.answer)
			}
			b := newBuilder(t, static.New(be.endpoint()))
			c, _ := open(t, b, 1)
			ctx, cancel := context.WithTimeout(t.Context(), max(tt.after, 0)+map[bool]time.Duration{true: patience}[tt.after == 0])
			defer cancel()
			req := tt.req
			if req == nil {
				req = &testpb.SimpleRequest{}
			}
			_, _ = c.UnaryCall(ctx, req, tt.opts...)
			eventually(t, "it counts as that", func() bool { return tt.want(b.Stats()[0].Endpoints[0].Calls) == 1 })
			if n := b.Stats()[0].Endpoints[0].Calls.InFlight; n != 0 {
				t.Errorf("%d calls are in flight", n)
			}
		})
	}
}

// An endpoint that fails fast is ejected, comes back, and all that is told.
func TestEjection(t *testing.T) {
	bs := backends(t, 4)
	events := make(chan endpoint.Event, 1000)
	b := newBuilder(t, static.New(endpoints(bs...)...),
		withPolicy("grpclb_refresher_round_robin", `{"ejection":{"consecutiveFailures":3,"baseEjectionTime":"0.2s","interval":"1s"}}`),
		func(o *Options) { o.Events = func(_ string, e endpoint.Event) { events <- e } })
	c, _ := open(t, b, 4)
	bs[2].answers(func(context.Context) error { return unavailable })
	failed := 0
	for range 100 {
		if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
			failed++
		}
		if b.Stats()[0].Endpoints[2].EjectedUntil.After(time.Now()) {
			break
		}
	}
	// It is evaluated beside the calls, and not at once again after an evaluation that took long: some more may fail.
	if failed < 3 || failed >= 25 {
		t.Errorf("%d calls failed before the ejection, 3 make one and 25 had the chance", failed)
	}
	eventually(t, "it is said", func() bool {
		e, ok := next[endpoint.Ejected](events)
		return ok && e.Endpoint.Addr() == bs[2].addr && strings.Contains(e.Reason, "calls in a row failed")
	})
	bs[2].answers(func(context.Context) error { return nil })
	eventually(t, "its return is said", func() bool {
		e, ok := next[endpoint.Returned](events)
		return ok && e.Endpoint.Addr() == bs[2].addr
	})
	eventually(t, "it gets calls again", func() bool { return answeredBy(t, c, 8)[bs[2].addr.String()] > 0 })
}

// When most endpoints fail, ejections are set aside: better a bad endpoint than
// an overloaded good one.
func TestPanic(t *testing.T) {
	bs := backends(t, 2)
	events := make(chan endpoint.Event, 1000)
	b := newBuilder(t, static.New(endpoints(bs...)...),
		withPolicy("grpclb_refresher_round_robin", `{"ejection":{"consecutiveFailures":2,"panicPercent":80}}`),
		func(o *Options) { o.Events = func(_ string, e endpoint.Event) { events <- e } })
	c, _ := open(t, b, 2)
	bs[0].answers(func(context.Context) error { return unavailable })
	eventually(t, "the panic is said", func() bool {
		_, _ = c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		e, ok := next[endpoint.Panicked](events)
		return ok && e.On && e.Size == 2
	})
	before := bs[0].calls.Load()
	eventually(t, "the failing one still gets calls", func() bool {
		_, _ = c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		return bs[0].calls.Load() > before+2
	})
	if !b.Stats()[0].Panic {
		t.Error("the stats know no panic")
	}
}

// next returns the next event of a type that has come already.
func next[E endpoint.Event](events <-chan endpoint.Event) (E, bool) {
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok {
				return e, true
			}
		default:
			var zero E
			return zero, false
		}
	}
}

// A healthCheckConfig takes endpoints out that say NOT_SERVING, as with
// round_robin.
func TestHealthCheck(t *testing.T) {
	bs := backends(t, 2)
	b := newBuilder(t, static.New(endpoints(bs...)...), withConfig(`{"healthCheckConfig":{"serviceName":"square"}}`))
	bs[0].health.SetServingStatus("square", healthpb.HealthCheckResponse_SERVING)
	bs[1].health.SetServingStatus("square", healthpb.HealthCheckResponse_NOT_SERVING)
	c, _ := open(t, b, 1)
	if got := answeredBy(t, c, 20); got[bs[1].addr.String()] > 0 {
		t.Errorf("an unhealthy endpoint got calls: %v", got)
	}
	bs[1].health.SetServingStatus("square", healthpb.HealthCheckResponse_SERVING)
	eventually(t, "it gets calls when it is healthy", func() bool { return answeredBy(t, c, 20)[bs[1].addr.String()] > 0 })
	bs[0].health.SetServingStatus("square", healthpb.HealthCheckResponse_NOT_SERVING)
	eventually(t, "the other one gets none", func() bool { return answeredBy(t, c, 20)[bs[0].addr.String()] == 0 })
	bs[1].health.SetServingStatus("square", healthpb.HealthCheckResponse_NOT_SERVING)
	eventually(t, "calls are told why they fail", func() bool {
		_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		return err != nil && strings.Contains(err.Error(), "health check") && strings.Contains(err.Error(), "NOT_SERVING")
	})
	if n := bs[0].conns.Load() + bs[1].conns.Load(); n != 2 {
		t.Errorf("%d connections: an unhealthy one need not be made again", n)
	}
	bs[0].health.SetServingStatus("square", healthpb.HealthCheckResponse_SERVING)
	wait(t, b, 1)
	mustCall(t, c)
}

// A call on a marked stream leaves the latency alone; an unmarked one of the same
// length does not.
func TestMarkStream(t *testing.T) {
	be := newBackend(t)
	b := newBuilder(t, static.New(be.endpoint()))
	c, _ := open(t, b, 1)
	stream := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		s, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err == nil {
			t.Fatal("the stream goes on")
		}
	}
	latency := func() time.Duration { return b.Stats()[0].Endpoints[0].Calls.EWMA }
	stream(MarkStream(t.Context()))
	if got := latency(); got != 0 {
		t.Errorf("a stream gave a latency of %v", got)
	}
	stream(t.Context())
	if latency() == 0 {
		t.Error("an unmarked call gave no latency")
	}
}

// Several connections to an endpoint share its calls.
func TestConnectionsPerEndpoint(t *testing.T) {
	be := newBackend(t, serving(grpc.MaxConcurrentStreams(2)))
	release := make(chan struct{})
	be.answers(func(context.Context) error { <-release; return nil })
	b := newBuilder(t, static.New(be.endpoint()), withPolicy("grpclb_refresher_peak_ewma", `{"connectionsPerEndpoint":3}`))
	c, _ := open(t, b, 1)
	eventually(t, "three connections", func() bool { return b.Stats()[0].Endpoints[0].Connections == 3 })
	done := make(chan error, 6)
	for range 6 {
		go func() {
			_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
			done <- err
		}()
	}
	// Six calls at a time fit into three connections of two.
	eventually(t, "all run at the same time", func() bool { return be.calls.Load() == 6 })
	close(release)
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A message that cannot be written is the client's fault: five of them must not
// eject an endpoint that never saw any.
func TestMessageThatCannotBeSent(t *testing.T) {
	b := newBuilder(t, static.New(endpoints(backends(t, 1)...)...))
	c, _ := open(t, b, 1)
	_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Message: "\xff"}})
	if status.Code(err) != codes.Internal {
		t.Fatalf("got %v", err)
	}
	eventually(t, "the call ended", func() bool { return b.Stats()[0].Endpoints[0].Calls.InFlight == 0 })
	if got := b.Stats()[0].Endpoints[0].Calls; got.Failed != 0 || got.Neutral != 1 {
		t.Errorf("%d calls failed and %d were neutral", got.Failed, got.Neutral)
	}
}
