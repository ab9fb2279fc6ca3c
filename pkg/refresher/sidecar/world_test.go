package sidecar

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// world is a Proxy in a bubble (testing/synctest): the network is pipes and the
// time is the test's.
type world struct {
	*Proxy
	t      *testing.T
	source *static.Source

	mu    sync.Mutex
	pods  map[netip.AddrPort]*fakePod
	dials map[netip.AddrPort][]time.Time
}

// fakePod says what becomes of connections to an address.
type fakePod struct {
	w       *world
	refuse  bool
	mute    bool // it takes connections and says nothing
	streams uint32
	conns   []*fakeConn
	delay   time.Duration // of the dial
}

// fakeConn is a pod's end of a connection: a server of HTTP/2 that a test leads by
// hand.
type fakeConn struct {
	nc     net.Conn
	mu     sync.Mutex
	f      *http2.Framer
	calls  []uint32
	reset  []uint32
	goaway bool
	done   chan struct{}
}

func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 6565)
}

func endpoints(n ...int) (out []endpoint.Endpoint) {
	for _, i := range n {
		out = append(out, endpoint.At(at(i)))
	}
	return out
}

// inBubble runs a test of a Proxy with these pods.
func inBubble(t *testing.T, n []int, change func(*Options), test func(w *world), prepare ...func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		pass(40 * 365 * 24 * time.Hour) // a bubble begins in 2000, and policy.Now long before 0
		w := &world{t: t, source: static.New(endpoints(n...)...), pods: map[netip.AddrPort]*fakePod{}, dials: map[netip.AddrPort][]time.Time{}}
		o := Options{
			Listen: []string{"127.0.0.1:6565"}, Target: "square.test:6565", Opener: w.source, Policy: config.Default(config.RoundRobin),
			Limits: Limits{ShutdownTimeout: time.Millisecond},
		}
		if change != nil {
			change(&o)
		}
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		w.Proxy = p
		p.dial = w.dial
		p.bind = func(context.Context, []netip.AddrPort) ([]net.Listener, error) { return nil, nil }
		p.look = func(*conn) (transport, bool) { return transport{}, true }
		for _, f := range prepare {
			f(w)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pod is the pod with a number; tests change it before it is dialled.
func (w *world) pod(i int) *fakePod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.podLocked(at(i))
}

func (w *world) podLocked(a netip.AddrPort) *fakePod {
	if w.pods[a] == nil {
		w.pods[a] = &fakePod{w: w}
	}
	return w.pods[a]
}

func (w *world) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dials[a] = append(w.dials[a], time.Now())
	pod := w.podLocked(a)
	delay, refuse := pod.delay, pod.refuse
	w.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if refuse {
		return nil, errRefused
	}
	near, far := net.Pipe()
	c := &fakeConn{nc: far, f: http2.NewFramer(far, far), done: make(chan struct{})}
	w.mu.Lock()
	pod.conns = append(pod.conns, c)
	mute, streams := pod.mute, pod.streams
	w.mu.Unlock()
	go c.run(mute, streams)
	return near, nil
}

var errRefused = errors.New("refused by the test")

func (c *fakeConn) run(mute bool, streams uint32) {
	defer close(c.done)
	defer c.nc.Close()
	if mute {
		_, _ = io.Copy(io.Discard, c.nc)
		return
	}
	if _, err := io.ReadFull(c.nc, make([]byte, len(relay.Preface))); err != nil {
		return
	}
	settings := []http2.Setting{}
	if streams > 0 {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streams})
	}
	if c.f.WriteSettings(settings...) != nil {
		return
	}
	for {
		f, err := c.f.ReadFrame()
		if err != nil {
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = c.f.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			c.calls = append(c.calls, f.StreamID)
		case *http2.RSTStreamFrame:
			c.reset = append(c.reset, f.StreamID)
		case *http2.GoAwayFrame:
			c.goaway = true
		}
		c.mu.Unlock()
	}
}

// answer ends a call.
func (c *fakeConn) answer(id uint32, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", code}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndHeaders: true, EndStream: true})
}

func (c *fakeConn) sayGoAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.f.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
}

// conn is the newest connection to a pod, how many there were ever, and the calls
// on all.
func (w *world) conn(i int) *fakeConn {
	pod := w.pod(i)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(pod.conns) == 0 {
		w.t.Fatalf("pod %d has no connection", i)
	}
	return pod.conns[len(pod.conns)-1]
}

func (w *world) dialled(i int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dials[at(i)])
}

func (w *world) calls(i int) (n int) {
	pod := w.pod(i)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range pod.conns {
		c.mu.Lock()
		n += len(c.calls)
		c.mu.Unlock()
	}
	return n
}

// state is the state of a pod, and why.
func (w *world) state(i int) (string, string) {
	for _, pod := range w.Stats().Pods {
		if pod.Addr == at(i).String() {
			return pod.State, pod.StateReason
		}
	}
	return "none", ""
}

func (w *world) want(i int, state, why string) {
	w.t.Helper()
	if got, reason := w.state(i); got != state || !strings.Contains(reason, why) {
		w.t.Errorf("pod %d is %s (%q), want %s (%q)", i, got, reason, state, why)
	}
}

// pass lets time go by.
func pass(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
	synctest.Wait()
}

// fakeClient is a client that a test leads by hand.
type fakeClient struct {
	w      *world
	nc     net.Conn
	f      *http2.Framer
	next   uint32
	mu     sync.Mutex
	status map[uint32]string
	text   map[uint32]string
	goaway int
	// farewell is what the last GOAWAY said.
	farewell string
	done     chan struct{}
}

func (w *world) client() *fakeClient {
	near, far := net.Pipe()
	w.admit(near)
	c := &fakeClient{w: w, nc: far, f: http2.NewFramer(far, far), next: 1, status: map[uint32]string{}, text: map[uint32]string{}, done: make(chan struct{})}
	c.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.mu.Lock() // the preface and SETTINGS come first
	go c.run()
	_, err := io.WriteString(far, relay.Preface)
	if err == nil {
		err = c.f.WriteSettings()
	}
	c.mu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = far.Close()
		<-c.done
	})
	return c
}

func (c *fakeClient) run() {
	defer close(c.done)
	for {
		f, err := c.f.ReadFrame()
		if err != nil {
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				switch h.Name {
				case "grpc-status":
					c.status[f.StreamID] = h.Value
				case "grpc-message":
					c.text[f.StreamID] = h.Value
				}
			}
		case *http2.GoAwayFrame:
			c.goaway++
			c.farewell = fmt.Sprintf("%v %s", f.ErrCode, f.DebugData())
		case *http2.SettingsFrame:
			if !f.IsAck() {
				go func() {
					c.mu.Lock()
					defer c.mu.Unlock()
					_ = c.f.WriteSettingsAck()
				}()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				go func(d [8]byte) {
					c.mu.Lock()
					defer c.mu.Unlock()
					_ = c.f.WritePing(true, d)
				}(f.Data)
			}
		}
		c.mu.Unlock()
	}
}

// call begins a call and returns its stream.
func (c *fakeClient) call() uint32 {
	id := c.next
	c.next += 2
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/grpc.testing.TestService/EmptyCall"}, {":authority", "square.test"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	c.mu.Lock()
	err := c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndHeaders: true, EndStream: true})
	c.mu.Unlock()
	if err != nil {
		c.w.t.Fatalf("%v (%s)", err, c.farewell)
	}
	synctest.Wait()
	return id
}

// ended is the grpc-status of a call, "" while it goes on, and its message.
func (c *fakeClient) ended(id uint32) (string, string) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status[id], c.text[id]
}
