package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/pool"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

const target = "refresh:///square-service.default:grpc"

// soon is a drain timeout that a test can wait for.
const soon = 50 * time.Millisecond

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startPods(t *testing.T, n int, opts ...grpc.ServerOption) []*grpcpod.Pod {
	t.Helper()
	pods := make([]*grpcpod.Pod, n)
	for i := range pods {
		pod, err := grpcpod.Start(fmt.Sprintf("square-%d", i+1), opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pod.Stop)
		pods[i] = pod
	}
	return pods
}

// newPool makes a pool over a source that ends with the test.
func newPool(t *testing.T, source *static.Source, opts ...pool.Option) *pool.Pool {
	t.Helper()
	own := []pool.Option{
		pool.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials())),
		pool.WithRefresherOptions(refresher.WithSource(source), refresher.WithLogger(slog.New(slog.DiscardHandler))),
	}
	p, err := pool.New(target, append(own, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// openStream begins a stream and shows that it runs.
func openStream(ctx context.Context, t *testing.T, p *pool.Pool) testpb.TestService_FullDuplexCallClient {
	t.Helper()
	s, err := testpb.NewTestServiceClient(p).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, s)
	return s
}

func exchange(t *testing.T, s testpb.TestService_FullDuplexCallClient) {
	t.Helper()
	if err := s.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
}

// TestConnectionsPerEndpoint: four streams against servers that take two a
// connection run side by side.
func TestConnectionsPerEndpoint(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1, grpc.MaxConcurrentStreams(2))
	p := newPool(t, static.New(pods[0].Endpoint()), pool.WithConnectionsPerEndpoint(2))
	if err := p.Ready(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for p.Stats().Targets[0].Endpoints[0].Connections < 2 {
		if ctx.Err() != nil {
			t.Fatal("no second connection")
		}
	}
	for range 4 {
		openStream(ctx, t, p)
	}
	if s := p.Stats(); s.InFlight != 4 || s.Draining != 0 || s.Forced != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// TestConnectionsAndConfig: the number that the pool is given wins over a whole
// configuration, whichever comes first, and that one over the pool's default.
func TestConnectionsAndConfig(t *testing.T) {
	c := config.Default(config.RoundRobin)
	c.ConnectionsPerEndpoint = 3
	whole := pool.WithRefresherOptions(refresher.WithConfig(c))
	for want, opts := range map[int][]pool.Option{
		3: {whole},
		4: {pool.WithConnectionsPerEndpoint(4), whole},
		5: {whole, pool.WithConnectionsPerEndpoint(5)},
	} {
		ctx := within(t)
		pods := startPods(t, 1)
		p := newPool(t, static.New(pods[0].Endpoint()), opts...)
		if err := p.Ready(ctx, 1); err != nil {
			t.Fatal(err)
		}
		for p.Stats().Targets[0].Endpoints[0].Connections != want {
			if ctx.Err() != nil {
				t.Fatalf("%d connections, want %d", p.Stats().Targets[0].Endpoints[0].Connections, want)
			}
		}
	}
}

// TestDrainTimeout: a stream on a removed pod is ended with a reason, one on
// another pod is not, and the server sees a cancellation.
func TestDrainTimeout(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 2)
	source := static.New(pods[0].Endpoint())
	p := newPool(t, source, pool.WithDrainTimeout(soon))
	gone := openStream(ctx, t, p)
	source.Set(pods[1].Endpoint())
	_, err := gone.Recv()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), pods[0].Addr().String()+" was removed") ||
		!strings.Contains(err.Error(), "drain timeout of 50ms") {
		t.Errorf("the stream's error is %v", err)
	}
	if err := gone.Send(&testpb.StreamingOutputCallRequest{}); err == nil {
		t.Error("a message was sent on a stream that ended")
	}
	if n := p.Stats().Forced; n != 1 {
		t.Errorf("%d calls were ended, want 1", n)
	}
	if err := p.Ready(ctx, 1); err != nil { // until then the removed pod may get calls
		t.Fatal(err)
	}
	stays := openStream(ctx, t, p)
	if pods[1].Calls() != 1 {
		t.Errorf("the second pod has %d calls, want the new stream", pods[1].Calls())
	}
	exchange(t, stays)
}

// TestDrainTimeoutOfUnaryCalls: they get the same error, although what ends them
// is a cancellation.
func TestDrainTimeoutOfUnaryCalls(t *testing.T) {
	ctx := within(t)
	held := make(chan struct{})
	came := make(chan struct{}, 1)
	pods := startPods(t, 2, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		came <- struct{}{}
		select {
		case <-held:
			return h(ctx, req)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	source := static.New(pods[0].Endpoint())
	p := newPool(t, source, pool.WithDrainTimeout(soon))
	failed := make(chan error, 1)
	go func() {
		_, err := testpb.NewTestServiceClient(p).UnaryCall(ctx, &testpb.SimpleRequest{})
		failed <- err
	}()
	<-came
	source.Set(pods[1].Endpoint())
	if err := <-failed; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "drain timeout") {
		t.Errorf("the call's error is %v", err)
	}
	close(held)
	if _, err := testpb.NewTestServiceClient(p).UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
		t.Error(err)
	}
}

// TestReturnCancelsTheEnd: an endpoint that comes back in time keeps its calls.
func TestReturnCancelsTheEnd(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 2)
	source := static.New(pods[0].Endpoint())
	changes := make(chan int, 10)
	const timeout = time.Second // far longer than the change back takes
	p := newPool(t, source, pool.WithDrainTimeout(timeout), pool.WithRefresherOptions(refresher.WithEvents(func(e refresher.Event) {
		if c, ok := e.What.(endpoint.SetChanged); ok {
			changes <- len(c.Diff.Removed)
		}
	})))
	stream := openStream(ctx, t, p)
	<-changes
	source.Set(pods[1].Endpoint())
	if removed := <-changes; removed != 1 {
		t.Fatalf("%d removed", removed)
	}
	source.Set(pods[0].Endpoint(), pods[1].Endpoint())
	<-changes
	over := time.NewTimer(timeout + soon)
	defer over.Stop()
	<-over.C
	exchange(t, stream)
	if s := p.Stats(); s.Forced != 0 || s.Draining != 0 || s.InFlight != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// TestCallsOnARemovedEndpointEnd: while nothing replaces it a removed endpoint
// still gets calls, and those end, too.
func TestCallsOnARemovedEndpointEnd(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := endpoint.At(netip.MustParseAddrPort(refused.Addr().String()))
	_ = refused.Close()
	source := static.New(pods[0].Endpoint())
	p := newPool(t, source, pool.WithDrainTimeout(soon))
	stream := openStream(ctx, t, p)
	source.Set(nobody)
	for range 2 {
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "drain timeout") {
			t.Fatalf("the stream's error is %v", err)
		}
		if stream, err = testpb.NewTestServiceClient(p).FullDuplexCall(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHeldEndpointsKeepTheirCalls: what the guard does not believe ends nothing.
func TestHeldEndpointsKeepTheirCalls(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 3)
	source := static.New()
	source.Tell(endpoint.Set{Endpoints: []endpoint.Endpoint{pods[0].Endpoint(), pods[1].Endpoint(), pods[2].Endpoint()}})
	removed := make(chan int, 10)
	p := newPool(t, source, pool.WithDrainTimeout(soon), pool.WithRefresherOptions(refresher.WithEvents(func(e refresher.Event) {
		if c, ok := e.What.(endpoint.SetChanged); ok && len(c.Diff.Removed) > 0 {
			removed <- c.Held
		}
	})))
	if err := p.Ready(ctx, 3); err != nil {
		t.Fatal(err)
	}
	streams := []testpb.TestService_FullDuplexCallClient{openStream(ctx, t, p), openStream(ctx, t, p), openStream(ctx, t, p)}
	source.Tell(endpoint.Set{Reason: "NXDOMAIN"})
	if held := <-removed; held != 3 {
		t.Fatalf("%d are held, want 3", held)
	}
	over := time.NewTimer(4 * soon)
	defer over.Stop()
	<-over.C
	for _, s := range streams {
		exchange(t, s)
	}
}

// TestWithoutDrainTimeout: 0 makes it a channel, and keeps nothing about calls.
func TestWithoutDrainTimeout(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	source := static.New(pods[0].Endpoint())
	p := newPool(t, source, pool.WithDrainTimeout(0))
	stream := openStream(ctx, t, p)
	if _, err := testpb.NewTestServiceClient(p).UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
		t.Error(err)
	}
	source.Set()
	exchange(t, stream)
	if s := p.Stats(); s.InFlight != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// TestStreamsEnd: each way in which a stream ends takes it from the books.
func TestStreamsEnd(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	p := newPool(t, static.New(pods[0].Endpoint()))
	both := openStream(ctx, t, p)
	if _, err := both.Header(); err != nil {
		t.Error(err)
	}
	if err := both.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	one, err := p.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, testpb.TestService_UnaryCall_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.SendMsg(&testpb.SimpleRequest{}), one.CloseSend(), one.RecvMsg(&testpb.SimpleResponse{})); err != nil {
		t.Error(err)
	}
	// A message that cannot be sent ends the stream: nobody needs to receive. What
	// is left behind under a context that lives on is a goroutine, which the end of
	// all tests finds.
	large, err := p.NewStream(endless{ctx}, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, testpb.TestService_FullDuplexCall_FullMethodName, grpc.MaxCallSendMsgSize(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.SendMsg(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 10)}}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message that is too large: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.NewStream(ended, &grpc.StreamDesc{}, "/a/b"); status.Code(err) != codes.Canceled {
		t.Errorf("a stream under an ended context: %v", err)
	}
	if s := p.Stats(); s.InFlight != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// endless is a context that never ends and is of no type that the standard
// library knows: what derives from it costs a goroutine while it is not canceled.
type endless struct{ context.Context }

func (endless) Done() <-chan struct{} { return make(chan struct{}) }

func TestClose(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 2)
	source := static.New(pods[0].Endpoint())
	removed := make(chan struct{}, 1)
	p := newPool(t, source, pool.WithDrainTimeout(time.Hour), pool.WithRefresherOptions(refresher.WithEvents(func(e refresher.Event) {
		if c, ok := e.What.(endpoint.SetChanged); ok && len(c.Diff.Removed) > 0 {
			removed <- struct{}{}
		}
	})))
	stream := openStream(ctx, t, p)
	source.Set(pods[1].Endpoint())
	<-removed
	for p.Stats().Draining != 1 {
		if ctx.Err() != nil {
			t.Fatal("the stream on the removed pod is not draining")
		}
	}
	if p.Conn() == nil || p.Refresher() == nil {
		t.Error("no channel or no refresher")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the stream's error is %v", err)
	}
	if err := p.Invoke(ctx, "/a/b", nil, nil); !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // what Close promises
		t.Errorf("a call afterwards: %v", err)
	}
	if err := p.Close(); !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // what Close promises
		t.Errorf("a second Close: %v", err)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	creds := pool.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()))
	for _, tc := range []struct {
		target string
		opts   []pool.Option
		want   string
	}{
		{target, []pool.Option{creds, pool.WithDrainTimeout(-1)}, "pool: the drain timeout is -1ns: 0 means none"},
		{target, []pool.Option{creds, pool.WithConnectionsPerEndpoint(0)}, "connectionsPerEndpoint: 0 is out of range"},
		{target, nil, "pool: grpc: no transport security set"},
	} {
		p, err := pool.New(tc.target, tc.opts...)
		if err == nil {
			_ = p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error is %v\nwant one with: %s", err, tc.want)
		}
	}
}
