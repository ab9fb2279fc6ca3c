package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

type bytesValue = wrapperspb.BytesValue

// echoServer is a gRPC server with one method of each kind.
type echoServer struct {
	begun    chan struct{} // a "hang" call began
	canceled chan error    // and how it ended
}

func (s *echoServer) unary(ctx context.Context, in *bytesValue) (*bytesValue, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		if strings.HasPrefix(k, "x-") {
			_ = grpc.SetHeader(ctx, metadata.MD{k: v})
			_ = grpc.SetTrailer(ctx, metadata.MD{"t-" + k: v})
		}
	}
	switch string(in.GetValue()) {
	case "fail":
		return nil, status.Error(codes.FailedPrecondition, "ö % not today\n")
	case "hang":
		s.begun <- struct{}{}
		<-ctx.Done()
		s.canceled <- ctx.Err()
		return nil, ctx.Err()
	}
	return in, nil
}

// chat echoes each message; "end" ends with half a conversation.
func (s *echoServer) chat(stream grpc.ServerStream) error {
	for {
		in := new(bytesValue)
		if err := stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if string(in.GetValue()) == "end" {
			return status.Error(codes.Aborted, "enough")
		}
		if err := stream.SendMsg(in); err != nil {
			return err
		}
	}
}

func (s *echoServer) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "relay.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Unary",
			Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := new(bytesValue)
				if err := dec(in); err != nil {
					return nil, err
				}
				return s.unary(ctx, in)
			},
		}},
		Streams: []grpc.StreamDesc{{
			StreamName: "Chat", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.chat(stream) },
		}},
	}
}

// world is a gRPC client, the relay and some gRPC servers.
type world struct {
	*pump
	echo    *echoServer
	servers []*grpc.Server
	cc      *grpc.ClientConn
}

func newWorld(t testing.TB, pods int) *world {
	t.Helper()
	w := &world{pump: newPump(t, DefaultConfig()), echo: &echoServer{begun: make(chan struct{}, 16), canceled: make(chan error, 16)}}
	for range pods {
		w.addServer()
	}
	cc, err := grpc.NewClient("passthrough:///relay", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			w.add(far, true)
			return near, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	w.cc = cc
	t.Cleanup(func() {
		_ = cc.Close()
		for _, s := range w.servers {
			s.Stop()
		}
	})
	w.await(func() bool {
		for _, c := range w.pods {
			if !c.Room() {
				return false
			}
		}
		return true
	})
	return w
}

func (w *world) addServer() {
	l := bufconn.Listen(256 << 10)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxConcurrentStreams(100))
	s.RegisterService(w.echo.desc(), nil)
	go func() { _ = s.Serve(l) }()
	w.servers = append(w.servers, s)
	nc, err := l.Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(nc, false)
}

func (w *world) unary(ctx context.Context, msg []byte, opts ...grpc.CallOption) ([]byte, error) {
	out := new(bytesValue)
	err := w.cc.Invoke(ctx, "/relay.Echo/Unary", wrapperspb.Bytes(msg), out, opts...)
	return out.GetValue(), err
}

func (w *world) chat(ctx context.Context, opts ...grpc.CallOption) grpc.ClientStream {
	w.t.Helper()
	s, err := w.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/relay.Echo/Chat", opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// last returns the call that ended last, once n have.
func (w *world) last(n int) Call {
	w.await(func() bool { return len(w.calls) >= n })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[n-1]
}

func TestGRPCMessages(t *testing.T) {
	random := make([]byte, 3<<20)
	_, _ = rand.Read(random)
	for _, c := range []struct {
		name string
		msg  []byte
		opts []grpc.CallOption
	}{
		{name: "empty"},
		{name: "small", msg: []byte("hello")},
		{name: "a frame", msg: random[:16384-5]},
		{name: "64 KB", msg: random[:64<<10]},
		{name: "3 MB", msg: random},
		{name: "gzip", msg: bytes.Repeat([]byte("abc"), 50_000), opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{name: "gzip of what does not shrink", msg: random[:100_000], opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 2)
			for i := range 4 {
				got, err := w.unary(t.Context(), c.msg, c.opts...)
				if err != nil || !bytes.Equal(got, c.msg) {
					t.Fatalf("call %d: %d bytes of %d, %v", i, len(got), len(c.msg), err)
				}
			}
			if call := w.last(4); call.Outcome != policy.Success || call.Code != 0 || call.HTTP != 200 || call.FirstByte == 0 {
				t.Errorf("the call was %+v", call)
			}
			s := w.chat(t.Context(), c.opts...)
			for range 3 {
				got := new(bytesValue)
				if err := errors.Join(s.SendMsg(wrapperspb.Bytes(c.msg)), s.RecvMsg(got)); err != nil || !bytes.Equal(got.GetValue(), c.msg) {
					t.Fatalf("stream: %d bytes of %d, %v", len(got.GetValue()), len(c.msg), err)
				}
			}
			_ = s.CloseSend()
			if err := s.RecvMsg(new(bytesValue)); !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
}

func TestGRPCStatusAndMetadata(t *testing.T) {
	w := newWorld(t, 1)
	_, err := w.unary(t.Context(), []byte("fail"))
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "ö % not today\n" {
		t.Errorf("got %v", err)
	}
	if call := w.last(1); call.Code != int(codes.FailedPrecondition) || call.Outcome != policy.Success {
		t.Errorf("the call was %+v", call)
	}
	big := strings.Repeat("v", 20<<10)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-big", big, "x-two", "a", "x-two", "b", "x-bin", "\x00\xff")
	var head, trail metadata.MD
	if _, err := w.unary(ctx, nil, grpc.Header(&head), grpc.Trailer(&trail)); err != nil {
		t.Fatal(err)
	}
	if head.Get("x-big")[0] != big || len(head.Get("x-two")) != 2 || trail.Get("t-x-bin")[0] != "\x00\xff" {
		t.Errorf("metadata came back as %d, %v, %v", len(head.Get("x-big")[0]), head.Get("x-two"), trail.Get("t-x-bin"))
	}
}

func TestGRPCDeadlineAndCancel(t *testing.T) {
	w := newWorld(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.echo.begun
		cancel()
	}()
	if _, err := w.unary(ctx, []byte("hang")); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if err := <-w.echo.canceled; !errors.Is(err, context.Canceled) {
		t.Errorf("the pod saw %v", err)
	}
	if call := w.last(1); call.Outcome != policy.Neutral {
		t.Errorf("a cancelled call was %+v", call)
	}
	// On a busy machine the first deadline may pass before the pod has the call.
	for timeout, begun := 50*time.Millisecond, false; !begun; timeout *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		_, err := w.unary(ctx, []byte("hang"))
		cancel()
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		select {
		case <-w.echo.begun:
			begun = true
		default:
		}
	}
	<-w.echo.canceled
	// The client's reset, the pod's or its status is first: only the first says that
	// nobody answered.
	if call := w.last(2); call.Outcome != policy.TimedOut && call.Outcome != policy.Neutral {
		t.Errorf("a call that timed out was %+v", call)
	}
}

func TestGRPCEarlyEnd(t *testing.T) {
	w := newWorld(t, 1)
	for range 20 {
		s := w.chat(t.Context())
		if err := s.SendMsg(wrapperspb.Bytes([]byte("end"))); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(bytesValue)); status.Code(err) != codes.Aborted {
			t.Fatalf("the stream ended with %v", err)
		}
	}
	if _, err := w.unary(t.Context(), []byte("x")); err != nil {
		t.Error(err)
	}
}

// A pod that stops in good order costs no call, whenever it does so.
func TestGRPCGracefulStop(t *testing.T) {
	w := newWorld(t, 3)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.servers[0].GracefulStop()
		w.servers[1].GracefulStop()
	}()
	for i := 0; ; i++ {
		if _, err := w.unary(t.Context(), []byte("x")); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		select {
		case <-stopped:
			return
		default:
		}
	}
}

// A connection that breaks ends its calls with UNAVAILABLE.
func TestGRPCLostPod(t *testing.T) {
	w := newWorld(t, 1)
	go func() {
		<-w.echo.begun
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = w.links[w.pods[0]].nc.Close()
	}()
	_, err := w.unary(t.Context(), []byte("hang"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "lost") {
		t.Errorf("got %v", err)
	}
	if call := w.last(1); call.Outcome != policy.Failed {
		t.Errorf("the call was %+v", call)
	}
}
