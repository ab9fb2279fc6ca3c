package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// gate keeps the writes to pods back while it is closed, and counts how many there
// are at a time.
type gate struct {
	mu            sync.Mutex
	shut          chan struct{} // nil: it is open
	writers, most int
}

func newGate() *gate { return &gate{} }

// close closes it and returns what opens it.
func (g *gate) close() (open func()) {
	shut := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.most = shut, 0
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = nil
		close(shut)
	})
}

// dial has the connections of a world go through it.
func (g *gate) dial(w *world) {
	w.Proxy.dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		nc, err := w.dial(ctx, a)
		if err != nil {
			return nil, err
		}
		return gated{nc, g}, nil
	}
}

type gated struct {
	net.Conn
	*gate
}

func (c gated) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writers++
	c.most = max(c.most, c.writers)
	shut := c.shut
	c.mu.Unlock()
	if shut != nil {
		<-shut
	}
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	c.writers--
	c.mu.Unlock()
	return n, err
}

// upload begins a call that sends n bytes and goes on.
func (c *fakeClient) upload(n int) uint32 {
	id := c.next
	c.next += 2
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/grpc.testing.TestService/StreamingInputCall"}, {":authority", "square.test"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	c.mu.Lock()
	err := c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndHeaders: true})
	for ; err == nil && n > 0; n -= min(n, 16<<10) {
		err = c.f.WriteData(id, false, make([]byte, min(n, 16<<10)))
	}
	c.mu.Unlock()
	if err != nil {
		c.w.t.Fatal(err)
	}
	synctest.Wait()
	return id
}

// TestOneWriter: a connection is written by one goroutine at a time, which also
// writes what came meanwhile.
func TestOneWriter(t *testing.T) {
	g := newGate()
	inBubble(t, []int{1}, nil, func(w *world) {
		pass(time.Second)
		open := g.close()
		c := w.client()
		c.calling(3)
		if w.calls(1) != 0 || g.most != 1 {
			t.Errorf("%d calls came through, %d writers", w.calls(1), g.most)
		}
		open()
		synctest.Wait()
		if w.calls(1) != 3 || g.most != 1 {
			t.Errorf("%d calls came through, %d writers", w.calls(1), g.most)
		}
	}, g.dial)
}

// TestFarewellBehindASlowWrite: what is being written when a connection ends is
// followed by the GOAWAY.
func TestFarewellBehindASlowWrite(t *testing.T) {
	g := newGate()
	inBubble(t, []int{1}, func(o *Options) { o.Limits.DrainTimeout = time.Second }, func(w *world) {
		pass(time.Second)
		open := g.close()
		c := w.client()
		id := c.call()
		w.source.Set()
		pass(1500 * time.Millisecond)
		if code, text := c.ended(id); code != "14" || !strings.Contains(text, "was removed 1s ago") {
			t.Errorf("%s %q", code, text)
		}
		open()
		pass(time.Millisecond)
		pod := w.conn(1)
		pod.mu.Lock()
		defer pod.mu.Unlock()
		if len(pod.calls) != 1 || !pod.goaway {
			t.Errorf("%d calls, GOAWAY %v", len(pod.calls), pod.goaway)
		}
	}, g.dial)
}

// halfCloser is a pipe that a TCP connection's end of one direction is told, which
// the other end does not notice.
type halfCloser struct{ net.Conn }

func (halfCloser) CloseWrite() error { return nil }

// rawClient is a client's end of a connection that was greeted as one should be, of
// a client that does what it likes afterwards.
func (w *world) rawClient(wrap func(net.Conn) net.Conn) net.Conn {
	near, far := net.Pipe()
	w.admit(wrap(near))
	w.t.Cleanup(func() { _ = far.Close() })
	if _, err := io.WriteString(far, relay.Preface); err != nil {
		w.t.Fatal(err)
	}
	if err := http2.NewFramer(far, nil).WriteSettings(); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	return far
}

// drainNow drains without patience.
func (w *world) drainNow() {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Millisecond)
	defer cancel()
	_ = w.Drain(ctx)
}

// TestClientThatDoesNotRead: one that takes nothing, not even the GOAWAY, is left
// after a while.
func TestClientThatDoesNotRead(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		far := w.rawClient(func(nc net.Conn) net.Conn { return nc })
		w.drainNow()
		pass(2 * lingerFor)
		if n := w.Stats().Clients; n != 0 {
			t.Errorf("%d clients", n)
		}
		_ = far.Close()
	})
}

// TestClientThatDoesNotClose: one that was told GOAWAY has a time to read it, and is
// not waited for afterwards.
func TestClientThatDoesNotClose(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		far := w.rawClient(func(nc net.Conn) net.Conn { return halfCloser{nc} })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, far)
		}()
		w.drainNow()
		pass(lingerFor / 2)
		select {
		case <-ended:
			t.Error("it had no time to read")
		default:
		}
		pass(lingerFor)
		select {
		case <-ended:
		default:
			t.Error("the connection is open")
		}
		_ = far.Close()
		<-ended
	})
}

// TestClientThatTalks: one that goes on sending when it was told GOAWAY is cut off
// before its time is over.
func TestClientThatTalks(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		far := w.rawClient(func(nc net.Conn) net.Conn { return halfCloser{nc} })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, far)
		}()
		w.drainNow()
		sent := 0
		var err error
		for err == nil && sent < 4*lingerBytes {
			var n int
			n, err = far.Write(make([]byte, 32<<10))
			sent += n
		}
		if !errors.Is(err, io.ErrClosedPipe) || sent < lingerBytes || sent > lingerBytes+readBuffer {
			t.Errorf("%d bytes were taken, then %v", sent, err)
		}
		<-ended
	})
}

// TestDrainOfSilentClient: a client that has said nothing yet does not hold up the
// end.
func TestDrainOfSilentClient(t *testing.T) {
	inBubble(t, []int{1}, nil, func(w *world) {
		near, far := net.Pipe()
		w.admit(near)
		synctest.Wait()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if err := w.Drain(ctx); err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// TestLoserIsClosed: of two addresses of a pod that are both reached one connection
// is kept.
func TestLoserIsClosed(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:6565")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		far := map[netip.AddrPort]net.Conn{}
		dial := func(_ context.Context, a netip.AddrPort) (net.Conn, error) {
			near, other := net.Pipe()
			mu.Lock()
			far[a] = other
			mu.Unlock()
			<-time.After(raceDelay + 50*time.Millisecond)
			return near, nil
		}
		won, err := dialAny(t.Context(), dial, []netip.AddrPort{six, at(1)})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = won.Write([]byte{7}) }()
		b := make([]byte, 1)
		if _, err := far[six].Read(b); err != nil || b[0] != 7 {
			t.Errorf("the first one's: %v", err)
		}
		_ = far[at(1)].SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far[at(1)].Read(b); !errors.Is(err, io.EOF) {
			t.Errorf("the second one's: %v", err)
		}
	})
}
