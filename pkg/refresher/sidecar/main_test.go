package sidecar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a pod: a gRPC server on loopback that counts.
type server struct {
	testpb.UnimplementedTestServiceServer
	t     *testing.T
	addr  netip.AddrPort
	grpc  *grpc.Server
	calls atomic.Int64
	// fail, if set, is the end of every unary call.
	fail atomic.Pointer[status.Status]
	// hold, if set, keeps unary calls until it is closed or the call is cancelled.
	hold      chan struct{}
	cancelled chan struct{} // gets one for each call that its client gave up
	stopOnce  sync.Once
}

func startServer(t *testing.T, opts ...grpc.ServerOption) *server {
	t.Helper()
	return startServerAt(t, "127.0.0.1:0", opts...)
}

func startServerAt(t *testing.T, addr string, opts ...grpc.ServerOption) *server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: l.Addr().(*net.TCPAddr).AddrPort(), grpc: grpc.NewServer(opts...), cancelled: make(chan struct{}, 100)}
	testpb.RegisterTestServiceServer(s.grpc, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.grpc.Serve(l)
	}()
	t.Cleanup(func() {
		s.kill()
		<-done
	})
	return s
}

func (s *server) kill() { s.stopOnce.Do(s.grpc.Stop) }

func (s *server) endpoint() endpoint.Endpoint { return endpoint.At(s.addr) }

func (s *server) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	s.calls.Add(1)
	if st := s.fail.Load(); st != nil {
		return nil, st.Err()
	}
	return &testpb.Empty{}, nil
}

func (s *server) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	s.calls.Add(1)
	if st := s.fail.Load(); st != nil {
		return nil, st.Err()
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			s.cancelled <- struct{}{}
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get("echo"); len(v) > 0 {
			_ = grpc.SetHeader(ctx, metadata.Pairs("echo", v[0]))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("echo-trailer", v[0]))
		}
	}
	return &testpb.SimpleResponse{Payload: in.GetPayload(), Hostname: s.addr.String()}, nil
}

func (s *server) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, out testpb.TestService_StreamingOutputCallServer) error {
	s.calls.Add(1)
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) StreamingInputCall(in testpb.TestService_StreamingInputCallServer) error {
	s.calls.Add(1)
	n := 0
	for {
		m, err := in.Recv()
		if err != nil {
			return in.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		n += len(m.GetPayload().GetBody())
	}
}

func (s *server) FullDuplexCall(both testpb.TestService_FullDuplexCallServer) error {
	s.calls.Add(1)
	for {
		m, err := both.Recv()
		if err != nil {
			if both.Context().Err() != nil {
				s.cancelled <- struct{}{}
			}
			return nil
		}
		if err := both.Send(&testpb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// proxy is a Proxy under test.
type proxy struct {
	*Proxy
	t      *testing.T
	source *static.Source
	addr   string
	stop   func() error // ends Run and returns its error
}

// startProxy runs a Proxy in front of the servers.
func startProxy(t *testing.T, change func(*Options), servers ...*server) *proxy {
	t.Helper()
	var endpoints []endpoint.Endpoint
	for _, s := range servers {
		endpoints = append(endpoints, s.endpoint())
	}
	source := static.New(endpoints...)
	return startProxyWith(t, source, change)
}

func startProxyWith(t *testing.T, source *static.Source, change func(*Options)) *proxy {
	t.Helper()
	o := Options{
		Listen: []string{"127.0.0.1:0"}, Target: "square.test:6565", Opener: source, Policy: config.Default(config.RoundRobin),
		Limits: Limits{ShutdownTimeout: 5 * time.Second},
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, p, source)
}

// run runs a Proxy until the test ends.
func run(t *testing.T, p *Proxy, source *static.Source) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	x := &proxy{Proxy: p, t: t, source: source, stop: sync.OnceValue(func() error {
		cancel()
		return <-done
	})}
	t.Cleanup(func() {
		if err := x.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	x.until("it listens", func() bool { return len(p.Listening()) > 0 })
	x.addr = p.Listening()[0].String()
	return x
}

// patience bounds waiting for something that must come.
const patience = time.Minute

// until waits for a condition.
func (p *proxy) until(what string, ok func() bool) {
	p.t.Helper()
	eventually(p.t, what, ok)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("in vain for %v: %s", patience, what)
		}
	}
}

// ready waits until n pods get calls: on a busy machine the picker is made anew some
// milliseconds after the last one came up.
func (p *proxy) ready(n int) {
	p.t.Helper()
	p.until("the pods are ready", func() bool {
		up := p.count(StateReady) + p.count(StateWarming)
		p.mu.Lock()
		defer p.mu.Unlock()
		return up == n && !p.stale
	})
}

func (p *proxy) count(state string) int {
	n := 0
	for _, pod := range p.Stats().Pods {
		if pod.State == state {
			n++
		}
	}
	return n
}

func (p *proxy) pod(s *server) Pod {
	for _, pod := range p.Stats().Pods {
		if pod.Addr == s.addr.String() {
			return pod
		}
	}
	return Pod{}
}

// client is a gRPC client of the Proxy.
func (p *proxy) client(opts ...grpc.DialOption) testpb.TestServiceClient {
	p.t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+p.addr, opts...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cc.Close() })
	return testpb.NewTestServiceClient(cc)
}

// twoAddresses has a client know two Proxies.
func twoAddresses(addrs ...string) grpc.DialOption {
	r := manual.NewBuilderWithScheme("passthrough")
	var state resolver.State
	for _, a := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(state)
	return grpc.WithResolvers(r)
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// load calls as fast as it may until stop, which returns how many succeeded and
// the errors.
func load(t *testing.T, c testpb.TestServiceClient, workers int) (stop func() (int, []error)) {
	var wg sync.WaitGroup
	var good atomic.Int64
	var mu sync.Mutex
	var errs []error
	done := make(chan struct{})
	ctx := t.Context()
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 100)}}); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				} else {
					good.Add(1)
				}
			}
		})
	}
	return sync.OnceValues(func() (int, []error) {
		close(done)
		wg.Wait()
		return int(good.Load()), errs
	})
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("code %v, want %v: %v", got, want, err)
	}
}

var errTest = errors.New("the test's")
