package serve_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

// slowSquare answers only once it is released, and tells when a call has begun.
type slowSquare struct {
	squarepb.UnimplementedSquareServiceServer
	begun, release chan struct{}
}

func (s slowSquare) FindSquareUnary(ctx context.Context, in *squarepb.Input) (*squarepb.Output, error) {
	s.begun <- struct{}{}
	select {
	case <-s.release:
		return &squarepb.Output{Number: in.GetNumber()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type running struct {
	client squarepb.SquareServiceClient
	health healthpb.HealthClient
	impl   slowSquare
	// address is where the server listens.
	address string
	// stop asks the server to stop, done gives Run's result.
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, how serve.Stop) running {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := running{impl: slowSquare{begun: make(chan struct{}, 1), release: make(chan struct{})}, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.address = cancel, listener.Addr().String()
	server := serve.GRPC{
		Listener: listener,
		Register: func(s grpc.ServiceRegistrar) { squarepb.RegisterSquareServiceServer(s, r.impl) },
		Stop:     how,
	}
	go func() { r.done <- server.Run(ctx) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	r.client, r.health = squarepb.NewSquareServiceClient(conn), healthpb.NewHealthClient(conn)
	return r
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func waitFor(t *testing.T, what string, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-deadline(t).Done():
		t.Fatalf("no %s after 10 s", what)
		return nil
	}
}

// waitClosed returns once nobody listens on address any more.
func waitClosed(t *testing.T, address string) {
	t.Helper()
	limit := deadline(t)
	for {
		conn, err := net.Dial("tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = conn.Close()
		}
		select {
		case <-limit.Done():
			t.Fatalf("%s still listens after 10 s", address)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestHealthCoversTheServerAndItsServices(t *testing.T) {
	r := start(t, serve.Stop{})
	for _, service := range []string{"", "square.SquareService"} {
		answer, err := r.health.Check(deadline(t), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v; want SERVING", service, answer.GetStatus(), err)
		}
	}
	_, err := r.health.Check(deadline(t), &healthpb.HealthCheckRequest{Service: "no.such"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("health of an unknown service: %v, want NotFound", err)
	}
}

func TestStopTurnsHealthOffAndStillServes(t *testing.T) {
	r := start(t, serve.Stop{Drain: 500 * time.Millisecond, Grace: 10 * time.Millisecond})
	watch, err := r.health.Watch(deadline(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("first health: %v, %v", first.GetStatus(), err)
	}
	r.stop()
	if next, err := watch.Recv(); err != nil || next.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("health after the stop: %v, %v; want NOT_SERVING", next.GetStatus(), err)
	}
	close(r.impl.release)
	if _, err := r.client.FindSquareUnary(deadline(t), &squarepb.Input{Number: 1}); err != nil {
		t.Errorf("a call while draining failed: %v", err)
	}
	if err := waitFor(t, "end of Run", r.done); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStopWaitsForCallsInFlight(t *testing.T) {
	r := start(t, serve.Stop{Grace: 10 * time.Second})
	answered := make(chan error, 1)
	go func() {
		_, err := r.client.FindSquareUnary(deadline(t), &squarepb.Input{Number: 1}, grpc.WaitForReady(true))
		answered <- err
	}()
	<-r.impl.begun
	r.stop()
	waitClosed(t, r.address)
	select {
	case err := <-r.done:
		t.Fatalf("Run ended with a call in flight: %v", err)
	default:
	}
	close(r.impl.release)
	if err := waitFor(t, "answer", answered); err != nil {
		t.Errorf("the call in flight failed: %v", err)
	}
	if err := waitFor(t, "end of Run", r.done); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStopCutsWhatOutlastsTheGrace(t *testing.T) {
	r := start(t, serve.Stop{Grace: 10 * time.Millisecond})
	answered := make(chan error, 1)
	go func() {
		_, err := r.client.FindSquareUnary(deadline(t), &squarepb.Input{Number: 1}, grpc.WaitForReady(true))
		answered <- err
	}()
	<-r.impl.begun
	r.stop()
	if err := waitFor(t, "end of Run", r.done); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := waitFor(t, "end of the call", answered); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: %v, want Unavailable", err)
	}
}

func TestABrokenListenerIsAnError(t *testing.T) {
	for name, run := range map[string]func(net.Listener) error{
		"gRPC": func(l net.Listener) error {
			return serve.GRPC{Listener: l, Register: func(grpc.ServiceRegistrar) {}}.Run(t.Context())
		},
		"HTTP": func(l net.Listener) error { return serve.HTTP{Listener: l}.Run(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			if err := run(listener); !errors.Is(err, net.ErrClosed) {
				t.Errorf("error %v, want %v", err, net.ErrClosed)
			}
		})
	}
}

func TestHTTPFinishesItsRequests(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, "done")
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done, answered := make(chan error, 1), make(chan error, 1)
	go func() {
		done <- serve.HTTP{Listener: listener, Handler: handler, Stop: serve.Stop{Grace: 10 * time.Second}}.Run(ctx)
	}()
	go func() {
		response, err := http.Get("http://" + listener.Addr().String())
		if err == nil {
			_, err = io.ReadAll(response.Body)
			_ = response.Body.Close()
		}
		answered <- err
	}()
	<-begun
	stop()
	close(release)
	if err := waitFor(t, "answer", answered); err != nil {
		t.Errorf("the request in flight failed: %v", err)
	}
	if err := waitFor(t, "end of Run", done); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestListenSaysWhichPort(t *testing.T) {
	taken, err := serve.Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	if second, err := serve.Listen(t.Context(), port); err == nil {
		_ = second.Close()
		t.Errorf("port %d could be opened twice", port)
	}
}
