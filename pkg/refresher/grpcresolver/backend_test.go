package grpcresolver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for things that must happen; it is long because it is
// never waited out by a test that passes.
const patience = 20 * time.Second

// backend is a gRPC server in the place of a pod.
type backend struct {
	testpb.UnimplementedTestServiceServer
	addr   netip.AddrPort
	server *grpc.Server
	health *health.Server
	conns  atomic.Int64
	calls  atomic.Int64
	// answer makes the end of unary calls; nil is success.
	answer atomic.Pointer[func(context.Context) error]
	done   chan struct{}
	once   sync.Once
}

type backendOption func(*backendConfig)

type backendConfig struct {
	opts []grpc.ServerOption
}

func serving(opts ...grpc.ServerOption) backendOption {
	return func(c *backendConfig) { c.opts = append(c.opts, opts...) }
}

// newBackend serves on a free port of the loopback until the test ends.
func newBackend(t testing.TB, options ...backendOption) *backend {
	t.Helper()
	var cfg backendConfig
	for _, o := range options {
		o(&cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{
		addr: netip.MustParseAddrPort(l.Addr().String()), server: grpc.NewServer(cfg.opts...), health: health.NewServer(),
		done: make(chan struct{}),
	}
	testpb.RegisterTestServiceServer(b.server, b)
	healthpb.RegisterHealthServer(b.server, b.health)
	go func() {
		defer close(b.done)
		_ = b.server.Serve(countingListener{l, &b.conns})
	}()
	t.Cleanup(b.stop)
	return b
}

type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// stop ends every connection at once.
func (b *backend) stop() {
	b.once.Do(func() {
		b.server.Stop()
		<-b.done
	})
}

func (b *backend) answers(f func(context.Context) error) { b.answer.Store(&f) }

func (b *backend) endpoint() endpoint.Endpoint { return endpoint.At(b.addr) }

func (b *backend) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	b.calls.Add(1)
	if f := b.answer.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{ServerId: b.addr.String(), Payload: &testpb.Payload{Body: make([]byte, req.GetResponseSize())}}, nil
}

func (b *backend) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	b.calls.Add(1)
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

func endpoints(backends ...*backend) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, len(backends))
	for i, b := range backends {
		out[i] = b.endpoint()
	}
	return out
}

func backends(t testing.TB, n int) []*backend {
	t.Helper()
	out := make([]*backend, n)
	for i := range out {
		out[i] = newBackend(t)
	}
	return out
}

// newBuilder is a Builder over a static source unless edit says otherwise.
func newBuilder(t testing.TB, source endpoint.Opener, edit ...func(*Options)) *Builder {
	t.Helper()
	o := Options{Opener: source}
	for _, f := range edit {
		f(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func withConfig(json string) func(*Options) { return func(o *Options) { o.ServiceConfig = json } }

func withPolicy(name, json string) func(*Options) {
	return withConfig(`{"loadBalancingConfig":[{"` + name + `":` + json + `}]}`)
}

const square = "refresh:///square.default:50051"

// dial opens a channel to square until the test ends.
func dial(t testing.TB, b *Builder, opts ...grpc.DialOption) (testpb.TestServiceClient, *grpc.ClientConn) {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(b)}, opts...)
	cc, err := grpc.NewClient(square, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return testpb.NewTestServiceClient(cc), cc
}

// open is dial that waits for n connected endpoints.
func open(t testing.TB, b *Builder, n int, opts ...grpc.DialOption) (testpb.TestServiceClient, *grpc.ClientConn) {
	t.Helper()
	c, cc := dial(t, b, opts...)
	cc.Connect()
	wait(t, b, n)
	return c, cc
}

func wait(t testing.TB, b *Builder, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.Wait(ctx, square, n); err != nil {
		t.Fatal(err)
	}
}

// call is one call that must succeed; it returns who answered.
func mustCall(t testing.TB, c testpb.TestServiceClient) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetServerId()
}

// failing is one call that must fail; it returns the status.
func failing(t testing.TB, c testpb.TestServiceClient) *status.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{})
	if err == nil {
		t.Fatal("the call succeeded")
	}
	s, _ := status.FromError(err)
	return s
}

// eventually polls: what it waits for is a matter of real sockets.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-end:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// answeredBy counts who answers n calls.
func answeredBy(t testing.TB, c testpb.TestServiceClient, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		out[mustCall(t, c)]++
	}
	return out
}

func waitState(t testing.TB, cc *grpc.ClientConn, want connectivity.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for s := cc.GetState(); s != want; s = cc.GetState() {
		if !cc.WaitForStateChange(ctx, s) {
			t.Fatalf("the channel is %v, never %v", s, want)
		}
	}
}

var unavailable = status.Error(codes.Unavailable, "not today")

func nothing() *static.Source { return static.New() }

// enterIdle waits until gRPC has taken the channel's resolver and balancer away;
// the channel must be dialled with a short WithIdleTimeout.
func enterIdle(t testing.TB, cc *grpc.ClientConn) {
	t.Helper()
	waitState(t, cc, connectivity.Idle)
}

func authorityOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(":authority"), ",")
}
