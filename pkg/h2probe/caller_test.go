package h2probe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

const (
	unaryCall = "/grpc.testing.TestService/UnaryCall"
	emptyCall = "/grpc.testing.TestService/EmptyCall"
)

func caller(t testing.TB, addr net.Addr, opts h2probe.CallerOptions) *h2probe.Caller {
	t.Helper()
	conn, err := dialer(addr)(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := h2probe.NewCaller(testContext(t), deafConn{conn}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestCallEchoes sends more than the server's windows hold, both ways, so that flow control is used.
func TestCallEchoes(t *testing.T) {
	c := caller(t, grpcServer(t), h2probe.CallerOptions{MaxMessage: 1 << 20})
	for _, size := range []int{0, 1, 16384, 65536, 900_000} {
		want := bytes.Repeat([]byte{7}, size)
		msg, err := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: want}})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := c.Call(testContext(t), h2probe.Request{Method: unaryCall, Message: msg})
		if err != nil || reply.Code != h2probe.OK || reply.TrailersOnly || reply.Elapsed <= 0 {
			t.Fatalf("%d bytes: %v, error %v", size, reply.Code, err)
		}
		var out testpb.SimpleResponse
		if err := proto.Unmarshal(reply.Body, &out); err != nil || !bytes.Equal(out.GetPayload().GetBody(), want) {
			t.Errorf("%d bytes: came back as %d bytes, error %v", size, len(out.GetPayload().GetBody()), err)
		}
	}
}

// TestCallsTakeTurns makes more calls at once than the server allows.
func TestCallsTakeTurns(t *testing.T) {
	c := caller(t, grpcServer(t, grpc.MaxConcurrentStreams(3)), h2probe.CallerOptions{})
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := c.Call(testContext(t), h2probe.Request{Method: h2probe.HealthMethod})
			errs <- err
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCallDeadline(t *testing.T) {
	c := caller(t, grpcServer(t), h2probe.CallerOptions{})
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	reply, _ := c.Call(ctx, h2probe.Request{Method: emptyCall}) // either end may notice first
	if reply.Code != h2probe.DeadlineExceeded {
		t.Errorf("code = %s", reply.Code)
	}
	if reply, err := c.Call(testContext(t), h2probe.Request{Method: h2probe.HealthMethod}); err != nil {
		t.Errorf("next call on the same connection: %v %v", reply.Code, err)
	}
}

func TestCallCancelReachesServer(t *testing.T) {
	seen := make(chan error, 1)
	addr := grpcServer(t, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		out, err := h(ctx, req)
		seen <- ctx.Err()
		return out, err
	}))
	c := caller(t, addr, h2probe.CallerOptions{})
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	reply, err := c.Call(ctx, h2probe.Request{Method: emptyCall})
	if reply.Code != h2probe.Cancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("%s, error %v", reply.Code, err)
	}
	select {
	case err := <-seen:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("server saw %v", err)
		}
	case <-testContext(t).Done():
		t.Error("server never saw the cancellation")
	}
}

func TestCallStatusMessage(t *testing.T) {
	addr := grpcServer(t, grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.FailedPrecondition, "größe 100%\nzwei")
	}))
	reply, err := caller(t, addr, h2probe.CallerOptions{}).Call(testContext(t), h2probe.Request{Method: unaryCall})
	if err != nil || reply.Code != h2probe.FailedPrecondition || reply.Message != "größe 100%\nzwei" {
		t.Errorf("%s %q, error %v", reply.Code, reply.Message, err)
	}
}

func TestCallMessageLimit(t *testing.T) {
	c := caller(t, grpcServer(t), h2probe.CallerOptions{MaxMessage: 100})
	msg, err := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 200)}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := c.Call(testContext(t), h2probe.Request{Method: unaryCall, Message: msg})
	if !errors.Is(err, h2probe.ErrMessageTooLarge) || reply.Code != h2probe.ResourceExhausted {
		t.Errorf("%s, error %v", reply.Code, err)
	}
}

func TestCallBadRequest(t *testing.T) {
	c := caller(t, grpcServer(t), h2probe.CallerOptions{})
	for _, method := range []string{"", "Check", "/a", "/a/", "/a/b/c", "/a/b\r\nx: y", "/ä/b"} {
		if _, err := c.Call(testContext(t), h2probe.Request{Method: method}); !errors.Is(err, h2probe.ErrBadRequest) {
			t.Errorf("method %q: error %v", method, err)
		}
	}
}

func TestCallAfterMaxConnectionAge(t *testing.T) {
	addr := grpcServer(t, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: 50 * time.Millisecond}))
	c := caller(t, addr, h2probe.CallerOptions{})
	select {
	case <-c.Done():
	case <-testContext(t).Done():
		t.Fatal("connection outlived its age")
	}
	reply, err := c.Call(testContext(t), h2probe.Request{Method: h2probe.HealthMethod})
	if err == nil || reply.Code != h2probe.Unavailable {
		t.Errorf("%s, error %v", reply.Code, err)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	c := caller(t, grpcServer(t), h2probe.CallerOptions{})
	errs := make(chan error, 1)
	go func() {
		_, err := c.Call(testContext(t), h2probe.Request{Method: emptyCall})
		errs <- err
	}()
	time.AfterFunc(20*time.Millisecond, func() { _ = c.Close() })
	if err := <-errs; !errors.Is(err, h2probe.ErrClosed) {
		t.Errorf("error %v", err)
	}
	_ = c.Close()
	if err := c.Err(); !errors.Is(err, h2probe.ErrClosed) {
		t.Errorf("Err() = %v", err)
	}
}

func TestNewCallerAgainstHostilePeers(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn)
		check func(error) bool
	}{
		{"silent", drain, is(h2probe.ErrSilent)},
		{"hangs up", func(c net.Conn) { _, _ = c.Read(make([]byte, 100)) }, func(err error) bool {
			var not *h2probe.NotHTTP2Error
			return errors.As(err, &not) && len(not.First) == 0 && not.Err != nil
		}},
		{"slow drip", func(c net.Conn) { _, _ = c.Write([]byte{0, 0}); drain(c) }, func(err error) bool {
			var not *h2probe.NotHTTP2Error
			return errors.As(err, &not) && bytes.Equal(not.First, []byte{0, 0})
		}},
		{"settings on a stream", raw("\x00\x00\x00\x04\x00\x00\x00\x00\x01"), as[*h2probe.NotHTTP2Error]()},
		{"settings of 7 bytes", raw("\x00\x00\x07\x04\x00\x00\x00\x00\x00abcdefg"), as[*h2probe.NotHTTP2Error]()},
		{"huge window", raw("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff"), as[*h2probe.ProtocolError]()},
		{"frame size 1", raw("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01"), as[*h2probe.ProtocolError]()},
		{"goaway at once", func(c net.Conn) { _ = framer(c).WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("go")); drain(c) },
			as[*h2probe.GoAwayError]()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := dialer(rawServer(t, tt.serve))(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			c, err := h2probe.NewCaller(testContext(t), deafConn{conn}, h2probe.CallerOptions{HandshakeTimeout: 300 * time.Millisecond})
			if err == nil {
				_ = c.Close()
			}
			if err == nil || !tt.check(err) {
				t.Errorf("error %v (%T)", err, err)
			}
		})
	}
}

func raw(s string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, s); drain(c) }
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func as[T error]() func(error) bool {
	return func(err error) bool {
		var target T
		return errors.As(err, &target)
	}
}

// framer reads and writes frames on the server's side, and may break every rule.
func framer(c net.Conn) *http2.Framer {
	f := http2.NewFramer(c, c)
	f.AllowIllegalWrites, f.AllowIllegalReads = true, true
	return f
}

// scripted starts a server that does the HTTP/2 handshake, waits for the request of stream 1 and then runs script.
func scripted(t testing.TB, settings []http2.Setting, script func(*http2.Framer, net.Conn)) net.Addr {
	return rawServer(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := framer(c)
		_ = f.WriteSettings(settings...)
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if fr.Header().StreamID == 1 {
				break
			}
		}
		script(f, c)
		drain(c)
	})
}

func block(kv ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(kv); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return b.Bytes()
}

func headers(f *http2.Framer, end bool, kv ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(kv...), EndHeaders: true, EndStream: end})
}

// hostile is what a server does after a request, and how the call must end.
type hostile struct {
	name   string
	script func(*http2.Framer, net.Conn)
	code   h2probe.Code
	check  func(error) bool
}

func runHostile(t *testing.T, tests []hostile) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := caller(t, scripted(t, nil, tt.script), h2probe.CallerOptions{})
			ctx, cancel := context.WithTimeout(testContext(t), time.Second)
			defer cancel()
			reply, err := c.Call(ctx, h2probe.Request{Method: h2probe.HealthMethod})
			if !tt.check(err) || reply.Code != tt.code {
				t.Errorf("code %s, want %s; error %v", reply.Code, tt.code, err)
			}
		})
	}
}

func grpcOK(more ...string) []string {
	return append([]string{":status", "200", "content-type", "application/grpc"}, more...)
}

// TestBrokenConnections: what ends the whole connection is UNAVAILABLE to the calls on it.
func TestBrokenConnections(t *testing.T) {
	runHostile(t, []hostile{
		{"goaway", func(f *http2.Framer, _ net.Conn) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }, h2probe.Unavailable, as[*h2probe.GoAwayError]()},
		{"hangs up", func(_ *http2.Framer, c net.Conn) { _ = c.Close() }, h2probe.Unavailable, func(err error) bool {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || as[*net.OpError]()(err)
		}},
		{"headers without end", func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(grpcOK()...)})
			for f.WriteContinuation(1, false, nil) == nil {
			}
		}, h2probe.Unavailable, is(h2probe.ErrHeadersTooLarge)},
		{"headers too long", func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(grpcOK()...)})
			junk := block("x", string(bytes.Repeat([]byte{1}, 8000)))
			for f.WriteContinuation(1, false, junk) == nil {
			}
		}, h2probe.Unavailable, is(h2probe.ErrHeadersTooLarge)},
		{"headers that unfold", func(f *http2.Framer, _ net.Conn) {
			b := block("x", string(bytes.Repeat([]byte{'a'}, 3000)))
			b = append(b, bytes.Repeat([]byte{0x80 | 62}, 10000)...) // the newest table entry, again and again
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndHeaders: true})
		}, h2probe.Unavailable, is(h2probe.ErrHeadersTooLarge)},
		{"frame too large", func(f *http2.Framer, _ net.Conn) { _ = f.WriteData(1, false, make([]byte, 20000)) },
			h2probe.Unavailable, is(h2probe.ErrFrameTooLarge)},
		{"bad compression", func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, h2probe.Unavailable, as[*h2probe.ProtocolError]()},
		{"push", func(f *http2.Framer, _ net.Conn) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: block(), EndHeaders: true})
		}, h2probe.Unavailable, as[*h2probe.ProtocolError]()},
		{"stream of its own", func(f *http2.Framer, _ net.Conn) { _ = f.WriteData(2, false, []byte("x")) },
			h2probe.Unavailable, as[*h2probe.ProtocolError]()},
		{"settings flood", func(f *http2.Framer, c net.Conn) {
			go drain(c)
			for f.WriteSettings() == nil {
			}
		}, h2probe.Unavailable, func(err error) bool { return errors.Is(err, h2probe.ErrFlood) || errors.Is(err, h2probe.ErrNotReading) }},
		{"data flood without a byte", func(f *http2.Framer, c net.Conn) {
			headers(f, false, grpcOK()...)
			for f.WriteData(1, false, nil) == nil {
			}
		}, h2probe.Unavailable, is(h2probe.ErrFlood)},
	})
}

// TestBrokenAnswers: what is wrong with one answer ends one call.
func TestBrokenAnswers(t *testing.T) {
	runHostile(t, []hostile{
		{"never answers", func(*http2.Framer, net.Conn) {}, h2probe.DeadlineExceeded, is(context.DeadlineExceeded)},
		{"refused stream", func(f *http2.Framer, _ net.Conn) { _ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream) },
			h2probe.Unavailable, as[*h2probe.ResetError]()},
		{"reset for calm", func(f *http2.Framer, _ net.Conn) { _ = f.WriteRSTStream(1, http2.ErrCodeEnhanceYourCalm) },
			h2probe.ResourceExhausted, as[*h2probe.ResetError]()},
		{"data first", func(f *http2.Framer, _ net.Conn) { _ = f.WriteData(1, true, nil) }, h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"no status", func(f *http2.Framer, _ net.Conn) {
			headers(f, false, grpcOK()...)
			_ = f.WriteData(1, true, make([]byte, 5))
		},
			h2probe.Unknown, is(h2probe.ErrNoStatus)},
		{"no :status", func(f *http2.Framer, _ net.Conn) { headers(f, true, "grpc-status", "0") }, h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"web page", func(f *http2.Framer, _ net.Conn) { headers(f, false, ":status", "503", "content-type", "text/html") },
			h2probe.Unavailable, as[*h2probe.NotGRPCError]()},
		{"grpc-web", func(f *http2.Framer, _ net.Conn) {
			headers(f, true, ":status", "200", "content-type", "application/grpc-web", "grpc-status", "12")
		}, h2probe.Unknown, as[*h2probe.NotGRPCError]()},
		{"OK without a message", func(f *http2.Framer, _ net.Conn) { headers(f, true, grpcOK("grpc-status", "0")...) },
			h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"two messages", func(f *http2.Framer, _ net.Conn) {
			headers(f, false, grpcOK()...)
			_ = f.WriteData(1, false, make([]byte, 10))
			headers(f, true, "grpc-status", "0")
		}, h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"compressed", func(f *http2.Framer, _ net.Conn) {
			headers(f, false, grpcOK()...)
			_ = f.WriteData(1, false, []byte{1, 0, 0, 0, 0})
			headers(f, true, "grpc-status", "0")
		}, h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"promises 4 GB", func(f *http2.Framer, _ net.Conn) {
			headers(f, false, grpcOK()...)
			_ = f.WriteData(1, false, []byte{0, 255, 255, 255, 255})
		}, h2probe.ResourceExhausted, is(h2probe.ErrMessageTooLarge)},
		{"window beyond bounds", func(f *http2.Framer, _ net.Conn) { _ = f.WriteWindowUpdate(1, 1<<31-1) },
			h2probe.Internal, as[*h2probe.ProtocolError]()},
		{"unknown number", func(f *http2.Framer, _ net.Conn) {
			_ = f.WriteSettings(http2.Setting{ID: 0x99, Val: 1})
			_ = f.WriteRawFrame(0xfa, 0, 0, []byte("greased"))
			headers(f, false, ":status", "103")
			headers(f, true, grpcOK("grpc-status", "77", "grpc-message", "a%20b%zz")...)
		}, h2probe.Unknown, func(err error) bool { return err == nil }},
	})
}

// TestSplitHeaders: an answer whose headers come in pieces, padded, is as good as any.
func TestSplitHeaders(t *testing.T) {
	addr := scripted(t, nil, func(f *http2.Framer, _ net.Conn) {
		b := block(":status", "200", "content-type", "application/grpc+proto", "grpc-status", "5", "grpc-message", "na%C3%AFve")
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], EndStream: true, PadLength: 7})
		_ = f.WriteContinuation(1, false, b[3:10])
		_ = f.WriteContinuation(1, true, b[10:])
	})
	reply, err := caller(t, addr, h2probe.CallerOptions{}).Call(testContext(t), h2probe.Request{Method: h2probe.HealthMethod})
	if err != nil || reply.Code != h2probe.NotFound || reply.Message != "naïve" || !reply.TrailersOnly {
		t.Errorf("%+v, error %v", reply, err)
	}
}

// TestZeroWindow: a server that opens with a window of 0 gets the message only as it gives credit.
func TestZeroWindow(t *testing.T) {
	got := make(chan int, 1)
	addr := scripted(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, func(f *http2.Framer, _ net.Conn) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
		_ = f.WriteWindowUpdate(1, 4)
		n := 0
		for n < 5+10 {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if d, ok := fr.(*http2.DataFrame); ok {
				n += len(d.Data())
				if n == 7 {
					_ = f.WriteWindowUpdate(1, 100)
				}
			}
		}
		got <- n
		headers(f, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")
	})
	c := caller(t, addr, h2probe.CallerOptions{})
	reply, err := c.Call(testContext(t), h2probe.Request{Method: h2probe.HealthMethod, Message: make([]byte, 10)})
	if err != nil || reply.Code != h2probe.Unimplemented {
		t.Fatalf("%s, error %v", reply.Code, err)
	}
	if n := <-got; n != 15 {
		t.Errorf("server got %d bytes", n)
	}
}

// TestPeerThatDoesNotRead: over a pipe, where nothing is buffered, not even the deadline's RST_STREAM can be written.
func TestPeerThatDoesNotRead(t *testing.T) {
	ours, theirs := net.Pipe()
	started := make(chan struct{})
	serve(t, func() {
		buf := make([]byte, 1024)
		_, _ = theirs.Read(buf) // the preface
		_ = framer(theirs).WriteSettings()
		close(started)
	}, func() { _ = theirs.Close() })
	c, err := h2probe.NewCaller(testContext(t), deafConn{ours}, h2probe.CallerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	reply, err := c.Call(ctx, h2probe.Request{Method: h2probe.HealthMethod})
	if reply.Code != h2probe.DeadlineExceeded {
		t.Errorf("%s, error %v", reply.Code, err)
	}
	_ = c.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("call and close took %s", took)
	}
}

func TestCodes(t *testing.T) {
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		var back h2probe.Code
		text, _ := h2probe.Code(c).MarshalText()
		if err := back.UnmarshalText(text); err != nil || back != h2probe.Code(c) {
			t.Errorf("%s does not come back: %v", text, err)
		}
		var theirs codes.Code
		if err := theirs.UnmarshalJSON(fmt.Appendf(nil, "%q", text)); err != nil || theirs != c {
			t.Errorf("grpc-go does not know %s as %d: %v", text, c, err)
		}
	}
	if got := h2probe.Code(99).String(); got != "CODE_99" {
		t.Errorf("got %s", got)
	}
	if err := new(h2probe.Code).UnmarshalText([]byte("NOPE")); err == nil {
		t.Error("an unknown name was taken")
	}
}
