package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

func TestHandshake(t *testing.T) {
	s := newScene(t, 0)
	p := s.rawPod()
	if !strings.HasPrefix(string(p.conn.Out()), Preface) {
		t.Error("a backend's Out does not begin with the preface")
	}
	p.expect("SETTINGS 2=0 4=131072 6=65536", "WINDOW_UPDATE 0 983041")
	if p.conn.Room() || p.conn.State() != Opening {
		t.Error("a backend has room before its SETTINGS")
	}
	p.do(func() { _ = p.fr.WriteSettings() })
	p.expect("SETTINGS ACK")
	if !p.conn.Room() || p.conn.State() != Ready || s.changed[0] != "pod0 ready" {
		t.Errorf("a backend is %s after its SETTINGS, changed %q", p.conn.State(), s.changed)
	}
	c := s.peer("raw", s.e.Client(s.now))
	c.expect("SETTINGS 3=10000 4=131072 6=65536", "WINDOW_UPDATE 0 983041")
	// The preface may come in pieces.
	for i := range len(Preface) {
		if n, err := c.conn.Feed(s.now, []byte(Preface[i:i+1])); n != 1 || err != nil {
			t.Fatalf("byte %d of the preface: %d, %v", i, n, err)
		}
	}
	s.over()
}

func TestHandshakeTimeout(t *testing.T) {
	s := newScene(t, 0)
	p := s.rawPod()
	c := s.peer("raw", s.e.Client(s.now))
	if next := s.e.NextTick(); next == 0 || next > s.now.Add(s.e.cfg.HandshakeTimeout) {
		t.Errorf("the next tick is at %d", next)
	}
	s.after(s.e.cfg.HandshakeTimeout)
	p.ended(SettingsTimeout)
	c.ended(SettingsTimeout)
	if s.client.conn.State() != Ready {
		t.Error("a client with its handshake done was closed")
	}
	if s.e.NextTick() != 0 {
		t.Error("there is nothing to wait for, yet a tick")
	}
	s.over()
}

func TestMaxConcurrentStreamsObeyed(t *testing.T) {
	s := newScene(t, 0)
	p := s.addPod(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	for id := uint32(1); id <= 9; id += 2 {
		s.client.call(id, true, fmt.Sprintf("x-n=%d", id))
	}
	p.expect("HEADERS 1 END"+requestLine+" x-n=1", "HEADERS 3 END"+requestLine+" x-n=3")
	if n := s.e.Counters(); n.Waiting != 3 || p.conn.Room() || p.conn.Streams() != 2 {
		t.Errorf("%+v with %d streams", n, p.conn.Streams())
	}
	// Who came first goes first.
	p.answer(3, true, "grpc-status=0")
	p.expect("HEADERS 5 END" + requestLine + " x-n=5")
	p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3}) })
	p.expect("SETTINGS ACK", "HEADERS 7 END"+requestLine+" x-n=7")
	s.client.reset(9, Cancel) // while it waits
	p.answer(1, true, "grpc-status=0")
	p.expect()
	if n := s.e.Counters(); n.Waiting != 0 {
		t.Errorf("%d calls wait", n.Waiting)
	}
	s.over()
}

func TestCallsWaitForTheirDeadline(t *testing.T) {
	s := newScene(t, 0, func(c *Config) { c.MaxWaiting = 3; c.MaxWait = 5 * time.Second })
	c := s.client
	c.call(1, false, "grpc-timeout=100m")
	c.data(1, true, strings.Repeat("x", 100))
	c.call(3, true)
	c.headers(5, true, ":method=GET", ":scheme=http", ":path=/")
	c.call(7, true)
	c.expect("HEADERS 7 END :status=200 content-type=application/grpc grpc-status=8 grpc-message=no pod has room, and too many calls wait already")
	s.after(99 * time.Millisecond)
	c.expect()
	s.after(time.Millisecond)
	c.expect("HEADERS 1 END :status=200 content-type=application/grpc grpc-status=4 grpc-message=no pod had room before the deadline")
	s.after(5 * time.Second)
	c.expect("HEADERS 3 END"+unavailable+"no pod had room for 5s", "HEADERS 5 END :status=503 content-length=0")
	if n := s.e.Counters(); n.Refused != 4 || n.Calls != 4 {
		t.Errorf("%+v", n)
	}
	c.call(9, false)
	c.data(9, true, "kept")
	p := s.addPod()
	s.pods = append(s.pods[:0], p)
	s.e.Retry(s.now)
	p.expect()
	if s.lastPodStream(p) == 0 {
		t.Error("a waiting call did not go to the new pod")
	}
	s.over()
}

// lastPodStream is the last stream id that a pod was given.
func (s *scene) lastPodStream(p *peer) uint32 { return p.conn.nextID - 1 }

func TestHostRefuses(t *testing.T) {
	s := newScene(t, 0)
	s.refuse = &Status{14, "no endpoints: NXDOMAIN ü"}
	s.client.call(1, false)
	s.client.expect("HEADERS 1 END"+unavailable+"no endpoints: NXDOMAIN %C3%BC", "RST 1 NO_ERROR")
	s.refuse = &Status{8, ""}
	s.client.headers(3, true, ":method=GET", ":scheme=http", ":path=/")
	s.client.expect("HEADERS 3 END :status=429 content-length=0")
	s.refuse = &Status{2, ""}
	s.client.headers(5, true, ":method=GET", ":scheme=http", ":path=/")
	s.client.expect("HEADERS 5 END :status=500 content-length=0")
	s.over()
}

// GOAWAY from a pod: what it will not look at goes elsewhere, the rest finishes.
func TestPodGoAway(t *testing.T) {
	s := newScene(t, 2)
	c, p, q := s.client, s.pods[0], s.pods[1]
	c.call(1, false, "x-n=1")
	c.call(3, false, "x-n=3")
	c.data(3, false, "first,")
	p.got()
	c.data(3, true, "second")
	p.do(func() { _ = p.fr.WriteGoAway(1, http2.ErrCodeNo, nil) })
	if p.conn.State() != Draining || s.changed[0] != "pod0 draining" {
		t.Errorf("the pod is %s, changed %q", p.conn.State(), s.changed)
	}
	q.expect("HEADERS 1"+requestLine+" x-n=3", "DATA 1 END first,second")
	if call := s.lastCall(); !call.Retried || call.Outcome != policy.Neutral || call.Backend != p.conn {
		t.Errorf("the call was %+v", call)
	}
	c.data(1, true, "x")
	p.answer(1, true, "grpc-status=0")
	p.expect("DATA 3 END second", "DATA 1 END x", "GOAWAY 0 NO_ERROR")
	c.expect("HEADERS 1 END" + responseLine + " grpc-status=0")
	if !p.conn.Done() || p.conn.Err() != nil {
		t.Errorf("the pod is %s with %v", p.conn.State(), p.conn.Err())
	}
	q.answer(1, true, "grpc-status=0")
	c.expect("HEADERS 3 END" + responseLine + " grpc-status=0")
	s.over()
}

func TestRefusedStreamGoesElsewhere(t *testing.T) {
	s := newScene(t, 3)
	c := s.client
	c.call(1, false)
	c.data(1, false, "ab")
	c.headers(1, true, "t=1")
	for i, p := range s.pods {
		p.expect("HEADERS 1"+requestLine, "DATA 1 ab", "HEADERS 1 END t=1")
		p.reset(1, RefusedStream)
		if call := s.lastCall(); call.Outcome != policy.Overloaded || call.Retried != (i < 2) || call.RequestBytes != 2 {
			t.Errorf("attempt %d was %+v", i, call)
		}
		// The scene takes the first that is not to be avoided.
		s.pods = s.pods[1:]
	}
	c.expect("RST 1 REFUSED_STREAM")
	if n := s.e.Counters(); n.Retried != 2 {
		t.Errorf("%+v", n)
	}
	s.over()
}

// A request that is too large to be kept cannot go elsewhere: the client is told
// that nobody looked at it.
func TestUnretainedRequestIsRefused(t *testing.T) {
	s := newScene(t, 2)
	c, p := s.client, s.pods[0]
	c.call(1, false)
	c.send(1, 20<<10, true)
	p.got()
	p.reset(1, RefusedStream)
	c.expect("RST 1 REFUSED_STREAM")
	// One whose data is still here needs no copy.
	c.call(3, false)
	q := s.stalled()
	s.pods = []*peer{q}
	c.reset(3, Cancel)
	c.call(5, false)
	c.send(5, 40<<10, true)
	c.got()
	p.got()
	q.got()
	s.pods = []*peer{p}
	q.reset(1, RefusedStream)
	if n := content(p.got()); n != 40<<10 {
		t.Errorf("%d bytes went to the second pod", n)
	}
	s.over()
}

// stalled is a pod that opens no window.
func (s *scene) stalled() *peer {
	return s.addPod(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
}

// A retry that comes while its own window stays closed must not lose a byte.
func TestRetainTotalBounds(t *testing.T) {
	s := newScene(t, 2, func(c *Config) { c.RetainTotal = 10 })
	s.client.call(1, false)
	s.client.data(1, false, "123456")
	s.client.call(3, false)
	s.client.data(3, false, "123456")
	if n := s.e.Counters().Retained; n != 6 {
		t.Errorf("%d bytes are retained", n)
	}
	s.pods[0].got()
	s.pods[0].reset(1, RefusedStream)
	s.pods[0].reset(3, RefusedStream)
	s.client.expect("RST 3 REFUSED_STREAM")
	s.pods[1].expect("HEADERS 1"+requestLine, "DATA 1 123456")
	s.over()
}

// Lost: what was never written goes elsewhere, the rest is UNAVAILABLE.
func TestLostBackend(t *testing.T) {
	s := newScene(t, 2)
	c, p, q := s.client, s.pods[0], s.pods[1]
	c.call(1, true)
	c.call(3, false)
	c.headers(5, true, ":method=GET", ":scheme=http", ":path=/")
	p.got()
	p.answer(3, false)
	p.data(3, false, "part")
	p.headers(5, false, ":status=200")
	p.held = true
	c.call(7, true, "x-n=7")
	c.got()
	p.conn.Lost(s.now, errors.New("reset by peer"))
	c.expect(
		"HEADERS 1 END"+unavailable+"the connection to the pod was lost: reset by peer",
		"HEADERS 3 END grpc-status=14 grpc-message=the connection to the pod was lost: reset by peer", "RST 3 NO_ERROR",
		"RST 5 INTERNAL_ERROR")
	q.expect("HEADERS 1 END" + requestLine + " x-n=7")
	for i, want := range []policy.Outcome{policy.Failed, policy.Failed, policy.Failed, policy.Neutral} {
		if got := s.calls[i].Outcome; got != want || s.calls[i].Retried != (i == 3) {
			t.Errorf("call %d was %+v", i, s.calls[i])
		}
	}
	s.over()
}

// A byte of a call that went to the transport makes it a call that was sent.
func TestLostBackendPartlyWritten(t *testing.T) {
	s := newScene(t, 2)
	s.client.call(1, true)
	b := s.pods[0].conn.TakeOut(nil)
	s.client.call(3, true)
	s.pods[0].conn.Written(s.now, 1)
	s.pods[0].conn.Lost(s.now, nil)
	s.client.expect("HEADERS 1 END" + unavailable + "the connection to the pod was lost")
	s.pods[1].expect("HEADERS 1 END" + requestLine)
	if len(b) < 2 {
		t.Error("nothing was taken")
	}
	s.over()
}

func TestTwoStepGoAway(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	c.call(1, true)
	c.conn.Drain(s.now)
	c.conn.Drain(s.now)
	c.expect("GOAWAY 2147483647 NO_ERROR", "PING 647261696e000001")
	// A call that crossed the GOAWAY is served.
	c.call(3, true)
	c.do(func() { _ = c.fr.WritePing(true, [8]byte{0x64, 0x72, 0x61, 0x69, 0x6e, 0, 0, 1}) })
	c.expect("GOAWAY 3 NO_ERROR")
	c.call(5, true)
	c.expect("RST 5 REFUSED_STREAM")
	p.got()
	p.answer(1, true, "grpc-status=0")
	if c.conn.Done() {
		t.Error("the connection is done before its calls are")
	}
	p.answer(3, true, "grpc-status=0")
	c.expect("HEADERS 1 END…", "HEADERS 3 END…")
	if !c.conn.Done() || c.conn.Err() != nil {
		t.Errorf("the connection is %s with %v", c.conn.State(), c.conn.Err())
	}
	// One that does not answer is told the last id all the same, an idle one at once.
	d := s.addClient("other")
	d.conn.Drain(s.now)
	s.after(s.e.cfg.GoAwayGrace)
	d.expect("GOAWAY 2147483647 NO_ERROR", "PING…", "GOAWAY 0 NO_ERROR")
	o := s.peer("opening", s.e.Client(s.now))
	o.conn.Drain(s.now)
	o.expect("SETTINGS…", "WINDOW_UPDATE…", "GOAWAY 2147483647 NO_ERROR", "GOAWAY 0 NO_ERROR")
	if !d.conn.Done() || !o.conn.Done() {
		t.Error("an idle connection is not done")
	}
	s.over()
}

func TestDrainBackend(t *testing.T) {
	s := newScene(t, 2)
	s.client.call(1, true)
	p := s.pods[0]
	p.got()
	p.conn.Drain(s.now)
	p.conn.Drain(s.now)
	s.client.call(3, true)
	p.expect()
	p.answer(1, true, "grpc-status=0")
	p.expect("GOAWAY 0 NO_ERROR")
	if !p.conn.Done() {
		t.Error("the drained connection is not done")
	}
	s.pods[1].got()
	idle := s.addPod()
	idle.conn.Drain(s.now)
	idle.expect("GOAWAY 0 NO_ERROR")
	s.over()
}

func TestAbort(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, false)
	s.client.call(3, true)
	s.pods[0].got()
	s.client.conn.Abort(s.now, Status{14, "the sidecar ends"})
	s.client.conn.Abort(s.now, Status{14, "again"})
	s.client.expect("HEADERS 1 END"+unavailable+"the sidecar ends", "RST 1 NO_ERROR", "HEADERS 3 END"+unavailable+"the sidecar ends", "GOAWAY 3 NO_ERROR")
	s.pods[0].expect("RST 1 CANCEL", "RST 3 CANCEL")
	d := s.addClient("other")
	d.call(1, true)
	s.pods[0].got()
	s.pods[0].conn.Abort(s.now, Status{14, "gone"})
	d.expect("HEADERS 1 END" + unavailable + "gone")
	s.over()
}

func TestStreamIDsRunOut(t *testing.T) {
	s := newScene(t, 1)
	p := s.pods[0]
	p.conn.nextID = maxStreamID
	s.client.call(1, true)
	s.client.call(3, true)
	p.expect(fmt.Sprintf("HEADERS %d END%s", uint32(maxStreamID), requestLine))
	if p.conn.State() != Draining || s.e.Counters().Waiting != 1 {
		t.Errorf("the connection is %s, %d wait", p.conn.State(), s.e.Counters().Waiting)
	}
	p.answer(maxStreamID, true, "grpc-status=0")
	if !p.conn.Done() {
		t.Error("the connection is not done")
	}
	s.over()
}

func TestPing(t *testing.T) {
	s := newScene(t, 1)
	s.client.do(func() { _ = s.client.fr.WritePing(false, [8]byte{1}) })
	s.client.expect("PONG 0100000000000000")
	p := s.pods[0]
	p.do(func() { _ = p.fr.WriteRawFrame(http2.FramePing, 0, 0, []byte("short")) })
	p.conn.Drain(s.now)
	if n, err := p.conn.Feed(s.now, []byte("anything")); n != 8 || err == nil {
		t.Errorf("a closed connection takes %d, %v", n, err)
	}
	s.over()
}
