package load

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/bench/sidecar/internal/echo"
)

// serve starts an echo server for the time of a test.
func serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- echo.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestModes(t *testing.T) {
	addrs := []string{serve(t), serve(t)}
	for name, cfg := range map[string]Config{
		"open":                            {Mode: Open, Rate: 500, Size: 100},
		"more than a window":              {Mode: Open, Rate: 50, Size: 200_000},
		"empty messages":                  {Mode: Open, Rate: 200, Size: 0},
		"closed":                          {Mode: Closed, Streams: 8, Size: 1000},
		"ping-pong":                       {Mode: PingPong, Streams: 8, Size: 100},
		"ping-pong of more than a window": {Mode: PingPong, Streams: 2, Size: 300_000},
	} {
		t.Run(name, func(t *testing.T) {
			var marks atomic.Int32
			cfg.Addrs, cfg.Warm, cfg.Duration = addrs, 20*time.Millisecond, 300*time.Millisecond
			cfg.Mark = func() { marks.Add(1) }
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed != 0 || r.Unserved != 0 || r.Calls == 0 || len(r.Latency) == 0 {
				t.Errorf("%d ended, %d failed (%s), %d without an answer, %d times", r.Calls, r.Failed, r.Error, r.Unserved, len(r.Latency))
			}
			if marks.Load() != 2 {
				t.Errorf("%d marks, want one at each end", marks.Load())
			}
			if r.Quantile(0) <= 0 || r.Quantile(1) < r.Quantile(0) {
				t.Errorf("times from %s to %s", r.Quantile(0), r.Quantile(1))
			}
		})
	}
}

// A server that stands still makes all calls of that time late, not only those that it had.
func TestStandStillIsCounted(t *testing.T) {
	const still = 200 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	stalls := &stalling{Listener: l, still: still}
	go func() { done <- echo.Serve(ctx, stalls) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	r, err := Run(t.Context(), Config{Addrs: []string{l.Addr().String()}, Mode: Open, Rate: 100, Size: 10, Duration: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, d := range r.Latency {
		if d > still/4 {
			late++
		}
	}
	if late < 5 {
		t.Errorf("%d of %d calls were late; 20 were to begin while the server stood still", late, len(r.Latency))
	}
}

// stalling is a listener whose connections are read only some time after their first bytes.
type stalling struct {
	net.Listener
	still time.Duration
}

func (l *stalling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stalled{Conn: c, still: l.still}, nil
}

type stalled struct {
	net.Conn
	still time.Duration
	reads int
}

func (c *stalled) Read(b []byte) (int, error) {
	if c.reads++; c.reads == 4 { // after the preface, the SETTINGS and the first call's head
		timer := time.NewTimer(c.still)
		defer timer.Stop()
		<-timer.C
	}
	return c.Conn.Read(b)
}

func TestFailuresAreTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.Error(codes.ResourceExhausted, "full")
	}))
	go func() { _ = refusing.Serve(l) }() // until Stop
	defer refusing.Stop()
	r, err := Run(t.Context(), Config{Addrs: []string{l.Addr().String()}, Mode: Open, Rate: 100, Size: 1, Duration: 100 * time.Millisecond})
	if err != nil || r.Failed == 0 || !strings.Contains(r.Error, "grpc-status 8") {
		t.Errorf("%d failed with %q, %v; want grpc-status 8", r.Failed, r.Error, err)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }() // it served its time
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, Config{Addrs: []string{silent.Addr().String()}, Mode: Closed, Streams: 1, Duration: time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a peer without SETTINGS: %v", err)
	}
	_ = silent.Close() // so that the next is refused
	if _, err := Run(t.Context(), Config{Addrs: []string{silent.Addr().String()}, Mode: Open, Rate: 1, Duration: time.Millisecond}); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}

// Frames that no sane peer sends end the connection with an error and not with a crash.
func TestStrangeFrames(t *testing.T) {
	for name, f := range map[string]struct {
		kind  http2.FrameType
		flags http2.Flags
		body  []byte
	}{
		"padding":        {http2.FrameData, http2.FlagDataPadded, []byte{0}},
		"half a block":   {http2.FrameHeaders, 0, nil},
		"no HPACK":       {http2.FrameHeaders, http2.FlagHeadersEndHeaders, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"a push":         {http2.FramePushPromise, 0, nil},
		"a short update": {http2.FrameWindowUpdate, 0, []byte{1}},
		"a farewell":     {http2.FrameGoAway, 0, make([]byte, 8)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer func() { _ = b.Close() }() // nothing is left in it
			c := &conn{nc: a, streams: map[uint32]*stream{}}
			c.dec = hpack.NewDecoder(4096, c.field)
			if err := c.take(f.kind, f.flags, 1, f.body); err == nil {
				t.Error("taken without an error")
			}
		})
	}
}
