//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// The pod's methods.
const (
	echoMethod = "/conformance.Pod/Echo" // returns every message, and the request's x-echo metadata in headers and trailers
	hangMethod = "/conformance.Pod/Hang" // sends headers and waits for the call's end
	pourMethod = "/conformance.Pod/Pour" // sends messages for as long as they are taken
)

// bytesMessage is a message that nobody decodes.
type bytesMessage struct{ data []byte }

type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*bytesMessage)
	if !ok {
		return nil, fmt.Errorf("%T is no message of the pod's", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*bytesMessage)
	if !ok {
		return fmt.Errorf("%T is no message of the pod's", v)
	}
	m.data = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "bytes" }

// turned is an encoding that nobody but these tests knows: every bit is turned.
type turned struct{}

const turnedName = "x-turned"

func (turned) Name() string { return turnedName }

func (turned) Compress(w io.Writer) (io.WriteCloser, error) { return turnedWriter{w}, nil }

func (turned) Decompress(r io.Reader) (io.Reader, error) { return turnedReader{r}, nil }

type turnedWriter struct{ to io.Writer }

func (w turnedWriter) Write(b []byte) (int, error) {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return w.to.Write(out)
}

func (turnedWriter) Close() error { return nil }

type turnedReader struct{ from io.Reader }

func (r turnedReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	for i := range n {
		b[i] = ^b[i]
	}
	return n, err
}

var registerTurned = sync.OnceFunc(func() { encoding.RegisterCompressor(turned{}) })

// pod is a gRPC server that takes part in a test.
type pod struct {
	addr string
	// hanging gets the context of each call to hangMethod, when it began.
	hanging chan context.Context
	mu      sync.Mutex
	seen    []string // grpc-encoding of requests
}

func startPod(t *testing.T) *pod {
	t.Helper()
	registerTurned()
	l := listen(t)
	p := &pod{addr: l.Addr().String(), hanging: make(chan context.Context, 1000)}
	serve(t, grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(8<<20), grpc.StatsHandler(p),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			method, _ := grpc.Method(s.Context())
			switch method {
			case echoMethod:
				return echo(s)
			case hangMethod:
				return p.hang(s)
			case pourMethod:
				return pour(s)
			}
			return status.Error(codes.Unimplemented, method)
		})), l)
	return p
}

func echo(s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	for _, v := range md.Get("x-echo") {
		if err := s.SetHeader(metadata.Pairs("x-echo", v)); err != nil {
			return err
		}
		s.SetTrailer(metadata.Pairs("x-echo", v))
	}
	for {
		m := &bytesMessage{}
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

func (p *pod) hang(s grpc.ServerStream) error {
	if err := s.SendHeader(nil); err != nil {
		return err
	}
	p.hanging <- s.Context()
	<-s.Context().Done()
	return s.Context().Err()
}

func pour(s grpc.ServerStream) error {
	m := &bytesMessage{data: []byte(strings.Repeat("pour", 16<<10))}
	for {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// TagRPC implements stats.Handler.
func (*pod) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (*pod) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*pod) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler: it notes the encodings of requests.
func (p *pod) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok {
		p.mu.Lock()
		p.seen = append(p.seen, in.Compression)
		p.mu.Unlock()
	}
}

// channel is a client's connection for the time of a test.
func channel(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := dial(addr, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(8<<20), grpc.MaxCallSendMsgSize(8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}
