package grpcresolver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// Every policy of ours, and the stock ones, use every endpoint that our resolver
// finds, and each new one without being asked.
func TestEveryPolicyFollows(t *testing.T) {
	for _, name := range append(config.Names(), "round_robin", "least_request_experimental") {
		t.Run(name, func(t *testing.T) {
			bs := backends(t, 4)
			source := static.New(endpoints(bs[:3]...)...)
			b := newBuilder(t, source, withPolicy(name, `{}`))
			c, _ := open(t, b, 3)
			reached := func(n int) func() bool {
				return func() bool { return len(answeredBy(t, c, 40)) == n }
			}
			eventually(t, "all three get calls", reached(3))
			source.Set(endpoints(bs...)...)
			eventually(t, "the fourth gets calls", reached(4))
			source.Set(endpoints(bs[1:]...)...)
			eventually(t, "the removed one gets none", reached(3))
		})
	}
}

// pick_first and ring_hash over our resolver: one endpoint for all calls, until
// it is removed.
func TestPoliciesThatStay(t *testing.T) {
	for name, json := range map[string]string{"pick_first": `{}`, "ring_hash_experimental": `{"requestHashHeader":"square"}`} {
		t.Run(name, func(t *testing.T) {
			bs := backends(t, 2)
			source := static.New(endpoints(bs...)...)
			b := newBuilder(t, source, withPolicy(name, json))
			c, _ := dial(t, b, grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				return invoke(metadata.AppendToOutgoingContext(ctx, "square", "4"), method, req, reply, cc, opts...)
			}))
			first := mustCall(t, c)
			if got := answeredBy(t, c, 20); len(got) != 1 {
				t.Fatalf("%s used %v", name, got)
			}
			i := slices.IndexFunc(bs, func(b *backend) bool { return b.addr.String() != first })
			source.Set(bs[i].endpoint())
			eventually(t, "the other one is used", func() bool { return mustCall(t, c) != first })
		})
	}
}

func TestNoEndpoints(t *testing.T) {
	source := nothing()
	source.Tell(endpoint.Set{Source: "dns", Reason: "NXDOMAIN"})
	b := newBuilder(t, source)
	c, cc := dial(t, b)
	s := failing(t, c)
	if s.Code() != codes.Unavailable {
		t.Errorf("code %v", s.Code())
	}
	for _, part := range []string{square, "no endpoints", "dns", "NXDOMAIN", "ago"} {
		if !strings.Contains(s.Message(), part) {
			t.Errorf("%q does not say %q", s.Message(), part)
		}
	}
	waitState(t, cc, connectivity.TransientFailure)

	// A call that waits for ready gets the endpoint that comes.
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.WaitForReady(true))
		done <- err
	}()
	bs := backends(t, 1)
	source.Set(bs[0].endpoint())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// With a stock policy the text is not ours, but the last resolver error is told
// by those that tell it.
func TestNoEndpointsStockPolicy(t *testing.T) {
	b := newBuilder(t, nothing(), withPolicy("pick_first", `{}`))
	c, _ := dial(t, b)
	eventually(t, "the reason is told", func() bool { return strings.Contains(failing(t, c).Message(), "static answered") })
}

func TestNothingKnown(t *testing.T) {
	source := failingSource{errors.New("SERVFAIL from 10.96.0.10")}
	b := newBuilder(t, source)
	c, _ := dial(t, b)
	s := failing(t, c)
	if s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "SERVFAIL from 10.96.0.10") || !strings.Contains(s.Message(), square) {
		t.Errorf("got %v: %q", s.Code(), s.Message())
	}
}

// failingSource never knows anything.
type failingSource struct{ err error }

func (f failingSource) Open(endpoint.Target) (endpoint.Source, error) { return f, nil }
func (f failingSource) Run(ctx context.Context, s endpoint.Sink) error {
	s.Fail(f.err)
	<-ctx.Done()
	return nil
}

// A source that gives up leaves what is known in use.
func TestSourceGivesUp(t *testing.T) {
	bs := backends(t, 1)
	give := make(chan struct{})
	warned := make(chan string, 1)
	b := newBuilder(t, endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) {
		return sourceFunc(func(ctx context.Context, s endpoint.Sink) error {
			s.Update(endpoint.Set{Endpoints: endpoints(bs...), Source: "test"})
			select {
			case <-give:
				return errors.New("the name means nothing")
			case <-ctx.Done():
				return nil
			}
		}), nil
	}), func(o *Options) {
		o.Events = func(_ string, e endpoint.Event) {
			if w, ok := e.(endpoint.Warning); ok {
				warned <- w.Text
			}
		}
	})
	c, _ := open(t, b, 1)
	mustCall(t, c)
	close(give)
	if text := <-warned; !strings.Contains(text, "the name means nothing") {
		t.Errorf("warned of %q", text)
	}
	mustCall(t, c)
}

type sourceFunc func(context.Context, endpoint.Sink) error

func (f sourceFunc) Run(ctx context.Context, s endpoint.Sink) error { return f(ctx, s) }

func TestUnreachable(t *testing.T) {
	gone := backends(t, 2)
	for _, b := range gone {
		b.stop()
	}
	b := newBuilder(t, static.New(endpoints(gone...)...))
	c, _ := dial(t, b)
	eventually(t, "the error says that nothing could be reached", func() bool {
		m := failing(t, c).Message()
		return strings.Contains(m, "no connection to any of 2 endpoints") && strings.Contains(m, "127.0.0.1:") && strings.Contains(m, "refused")
	})
}

// Calls and streams on an endpoint that is removed end by themselves.
func TestRemovalDrains(t *testing.T) {
	bs := backends(t, 2)
	release := make(chan struct{})
	for _, b := range bs {
		b.answers(func(context.Context) error { <-release; return nil })
	}
	source := static.New(bs[0].endpoint())
	b := newBuilder(t, source)
	c, _ := open(t, b, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ping := func() error {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		done <- err
	}()
	eventually(t, "the call is on its way", func() bool { return bs[0].calls.Load() == 2 })
	source.Set(bs[1].endpoint())
	eventually(t, "the first is gone", func() bool { return b.Stats()[0].Endpoints[0].Addr() == bs[1].addr })
	wait(t, b, 1)
	if err := ping(); err != nil {
		t.Errorf("the stream on the removed endpoint: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the call on the removed endpoint: %v", err)
	}
	if got := mustCall(t, c); got != bs[1].addr.String() {
		t.Errorf("a new call went to %s", got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}

// Make before break: an endpoint that was replaced takes calls until the one
// that replaces it is connected.
func TestMakeBeforeBreak(t *testing.T) {
	bs := backends(t, 2)
	source := static.New(bs[0].endpoint())
	b := newBuilder(t, source)
	hold := make(chan struct{})
	c, _ := open(t, b, 1, grpc.WithContextDialer(slowDialer(bs[1].addr.String(), hold)))
	source.Set(bs[1].endpoint())
	eventually(t, "the set changed", func() bool {
		s := b.Stats()[0]
		return len(s.Endpoints) == 1 && s.Endpoints[0].Addr() == bs[1].addr
	})
	for range 20 {
		if got := mustCall(t, c); got != bs[0].addr.String() {
			t.Fatalf("a call went to %s", got)
		}
	}
	close(hold)
	wait(t, b, 1)
	eventually(t, "the new one takes over", func() bool { return mustCall(t, c) == bs[1].addr.String() })
	for range 20 {
		if got := mustCall(t, c); got != bs[1].addr.String() {
			t.Fatalf("a call went back to %s", got)
		}
	}
}

// A removed endpoint that terminates gets nothing more.
func TestNoLingeringOnTerminating(t *testing.T) {
	bs := backends(t, 2)
	source := static.New(bs[0].endpoint())
	b := newBuilder(t, source)
	hold := make(chan struct{})
	c, _ := open(t, b, 1, grpc.WithContextDialer(slowDialer(bs[1].addr.String(), hold)))
	ending := bs[0].endpoint()
	ending.Terminating, ending.Ready = true, false
	source.Set(ending)
	eventually(t, "it terminates", func() bool { return b.Stats()[0].Endpoints[0].Terminating })
	source.Set(bs[1].endpoint())
	eventually(t, "the set changed", func() bool { return b.Stats()[0].Endpoints[0].Addr() == bs[1].addr })
	begin := time.Now()
	eventually(t, "it gets no call", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err != nil
	})
	if took := time.Since(begin); took > lingerFor/2 {
		t.Errorf("an endpoint that terminates and was removed got calls for %v", took)
	}
	close(hold)
	mustCall(t, c)
}

// A call that waits for ready waits, whatever a source that speaks gRPC itself
// says about a target without endpoints.
func TestStatusOfSourceEndsNoCall(t *testing.T) {
	src := static.New()
	b := newBuilder(t, src)
	c, _ := dial(t, b)
	failing(t, c)
	src.Fail(status.Error(codes.PermissionDenied, "not for you"))
	eventually(t, "the source's error is known", func() bool { return b.Stats()[0].LastErr != nil })
	if s := failing(t, c); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "not for you") {
		t.Errorf("a call got %v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.WaitForReady(true)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call that waits for ready got %v", err)
	}
}
