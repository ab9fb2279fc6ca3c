package relay

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// begin opens n calls whose response is about to come.
func (s *scene) begin(n int) {
	s.t.Helper()
	for i := range n {
		s.client.call(uint32(2*i+1), true)
	}
	s.pods[0].got()
	for i := range n {
		s.pods[0].answer(uint32(2*i+1), false)
	}
	s.client.got()
}

// send is DATA of n bytes in frames as large as may be.
func (p *peer) send(id uint32, n int, end bool) {
	p.t.Helper()
	for n > 0 || end {
		k := min(n, maxFrame)
		n -= k
		p.data(id, end && n == 0, strings.Repeat("d", k))
		if n == 0 {
			return
		}
	}
}

// content is how many bytes of DATA some lines tell of.
func content(lines []string) (n int) {
	for _, l := range lines {
		l, data := strings.CutPrefix(l, "DATA ")
		if !data {
			continue
		}
		_, l, _ = strings.Cut(l, " ")
		l = strings.TrimPrefix(l, "END ")
		k := 0
		if i, _ := fmt.Sscanf(l, "(%d)", &k); i != 1 {
			k = len(l)
		}
		n += k
	}
	return n
}

func TestWindowsHoldDataBack(t *testing.T) {
	s := newScene(t, 1)
	s.begin(1)
	p, c := s.pods[0], s.client
	p.send(1, 100_000, false)
	p.headers(1, true, "grpc-status=0")
	if n := content(c.got()); n != defaultWindow {
		t.Fatalf("%d bytes through a window of %d", n, defaultWindow)
	}
	c.window(1, 20_000)
	if n := content(c.got()); n != 0 {
		t.Fatalf("%d bytes through the connection's window of 0", n)
	}
	c.window(0, 50_000)
	if n := content(c.got()); n != 20_000 {
		t.Fatalf("%d bytes through a stream's window of 20000", n)
	}
	c.window(1, 1<<20)
	lines := c.got()
	if n := content(lines); n != 100_000-defaultWindow-20_000 {
		t.Fatalf("%d bytes at last", n)
	}
	if last := lines[len(lines)-1]; last != "HEADERS 1 END grpc-status=0" {
		t.Errorf("the last frame is %q", last)
	}
	s.over()
}

func TestStreamCreditFollowsForwarding(t *testing.T) {
	s := newScene(t, 1)
	s.begin(1)
	p, c := s.pods[0], s.client
	p.send(1, 128<<10, false)
	c.got()
	p.expect()
	c.window(0, 1<<20)
	c.window(1, 100<<10)
	p.expect("WINDOW_UPDATE 1 131072")
	s.over()
}

func TestSettingsAdjustOpenWindows(t *testing.T) {
	s := newScene(t, 1)
	s.begin(2)
	p, c := s.pods[0], s.client
	p.send(1, 60_000, false)
	c.got()
	set := func(n int) {
		c.do(func() { _ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n)}) })
		for id := range c.wins {
			c.wins[id] += n - c.init
		}
		c.init = n
	}
	// Below zero: 60000 are used of 1000.
	set(1000)
	c.wins[1] += 60_000 // the account of the test must not call it an error
	p.send(1, 40, false)
	p.send(3, 2000, false)
	if n := content(c.got()); n != 1000 {
		t.Fatalf("%d bytes through a window of 1000", n)
	}
	if w := p.stream(1).res.win; w != 1000-60_000 {
		t.Fatalf("the window is %d", w)
	}
	c.window(0, 1<<20)
	set(59_000 + 2000)
	if n := content(c.got()); n != 40+1000 {
		t.Fatalf("%d bytes after the window grew", n)
	}
	s.over()
}

// stream is a pod's stream inside the relay.
func (p *peer) stream(id uint32) *stream { return p.conn.streams[id] }

// Zero-length DATA is never flow-controlled (RFC 9113, 6.9): END_STREAM passes
// below a window of zero.
func TestEmptyDataPassesANegativeWindow(t *testing.T) {
	s := newScene(t, 1)
	s.begin(1)
	p, c := s.pods[0], s.client
	p.send(1, defaultWindow, false)
	c.got()
	c.do(func() { _ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) })
	p.data(1, true, "")
	c.expect("SETTINGS ACK", "DATA 1 END ")
	s.over()
}

func TestWindowUpdateErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		id     uint32
		n      uint32
		stream ErrCode // of RST_STREAM
		conn   ErrCode // of GOAWAY
	}{
		{name: "0 on a stream", id: 1, n: 0, stream: ProtocolError},
		{name: "0 on the connection", id: 0, n: 0, conn: ProtocolError},
		{name: "too large on a stream", id: 1, n: math.MaxInt32, stream: FlowControlError},
		{name: "too large on the connection", id: 0, n: math.MaxInt32, conn: FlowControlError},
		{name: "idle stream", id: 99, n: 1, conn: ProtocolError},
	} {
		for _, side := range []string{"client", "pod"} {
			t.Run(c.name+", "+side, func(t *testing.T) {
				s := newScene(t, 1)
				s.begin(1)
				p := s.client
				if side == "pod" {
					p = s.pods[0]
					s.client.call(3, false)
					p.got()
				}
				id := c.id
				if id == 1 && side == "pod" {
					id = 3
				}
				p.do(func() { _ = p.fr.WriteWindowUpdate(id, c.n) })
				if c.conn != NoError {
					p.ended(c.conn)
				} else {
					p.expect(fmt.Sprintf("RST %d %s", id, c.stream))
					if p.conn.State() != Ready {
						t.Error("the connection did not survive")
					}
				}
				s.over()
			})
		}
	}
}

func TestDataBeyondTheWindowsRefused(t *testing.T) {
	s := newScene(t, 1)
	c := s.client
	c.call(1, false)
	s.pods[0].got()
	c.send(1, s.e.cfg.StreamWindow, false)
	c.data(1, false, "x")
	lines := c.got()
	if !slices.Contains(lines, "RST 1 FLOW_CONTROL_ERROR") {
		t.Errorf("got %q", lines)
	}
	// The pods took 64 KB of the connection; all came back but those below the threshold.
	c.conn.recvWin, c.conn.credit = 10, s.e.cfg.ConnWindow-10-1
	c.conn.recvWin++ // the account stays right
	c.do(func() { _ = c.fr.WriteData(1, false, make([]byte, 100)) })
	c.ended(FlowControlError)
	s.over()
}

// One stalled stream must not stop the others, nor 200; and memory is bound.
func TestUnreadStreamsStopNoOther(t *testing.T) {
	s := newScene(t, 1)
	p, c := s.pods[0], s.client
	const unread = 200
	s.begin(unread + 1)
	c.window(0, 1<<30)
	for i := range unread {
		id := uint32(2*i + 1)
		p.send(id, s.e.cfg.StreamWindow, false)
	}
	n := s.e.Counters()
	if most := unread * s.e.cfg.StreamWindow; n.Buffered > most || n.Buffered < most-unread*defaultWindow {
		t.Errorf("%d bytes wait, not %d", n.Buffered, most-unread*defaultWindow)
	}
	c.got()
	id := uint32(2*unread + 1)
	for range 100 {
		p.send(id, 32<<10, false)
		if got := content(c.got()); got != 32<<10 {
			t.Fatalf("%d bytes went through", got)
		}
		c.window(id, 32<<10)
	}
	s.over()
}

// Beyond MaxBuffered those end who hold more than their share; all others go on.
func TestMaxBufferedEndsWhoHoldsMost(t *testing.T) {
	s := newScene(t, 1, func(c *Config) { c.MaxBuffered = 1 << 20 })
	p, c := s.pods[0], s.client
	const unread = 20
	s.begin(unread + 1)
	c.window(0, 1<<30)
	for i := range unread {
		for id := uint32(2*i + 1); p.stream(id) != nil && p.stream(id).res.recv >= maxFrame; {
			p.send(id, maxFrame, false)
		}
	}
	if n := s.e.Counters().Buffered; n > 2*s.e.cfg.MaxBuffered || n < s.e.cfg.MaxBuffered {
		t.Errorf("%d bytes wait", n)
	}
	var ended []string
	for _, l := range p.got() {
		if strings.HasPrefix(l, "RST") {
			ended = append(ended, l)
		}
	}
	if len(ended) == 0 || len(ended) > unread*2/3 {
		t.Errorf("%q", ended)
	}
	// The ended ones say so behind what they had.
	told := 0
	lines := c.got()
	for i := range unread {
		c.window(uint32(2*i+1), 1<<20)
	}
	for _, l := range append(lines, c.got()...) {
		if strings.Contains(l, " END grpc-status=8 grpc-message=too many messages wait") {
			told++
		}
	}
	if told != len(ended) {
		t.Errorf("%d of %d were told", told, len(ended))
	}
	id := uint32(2*unread + 1)
	for range 100 {
		p.send(id, 32<<10, false)
		if got := content(c.got()); got != 32<<10 {
			t.Fatalf("%d bytes went through", got)
		}
		c.window(id, 32<<10)
	}
	s.over()
}

// A slow reader's Out is bounded: messages, headers and trailers wait, and go on
// when it reads.
func TestOutBounded(t *testing.T) {
	s := newScene(t, 1)
	p, c := s.pods[0], s.client
	const calls = 100
	s.begin(calls)
	c.window(0, 1<<30)
	c.held = true
	for i := range calls {
		id := uint32(2*i + 1)
		c.window(id, 1<<20)
		p.send(id, 64<<10, false)
		p.headers(id, true, "grpc-status=0")
	}
	if n := c.conn.Unwritten(); n > s.e.cfg.MaxOut+maxFrame+frameHeader {
		t.Errorf("%d bytes to write", n)
	}
	// Headers that come now wait as well.
	c.call(1001, true)
	p.got()
	p.answer(201, false)
	p.headers(201, true, "grpc-status=0")
	c.held = false
	lines := c.got()
	if n := content(lines); n != calls*64<<10 {
		t.Errorf("%d bytes came", n)
	}
	ends := 0
	for _, l := range lines {
		if strings.HasSuffix(l, "END grpc-status=0") {
			ends++
		}
	}
	if ends != calls+1 || !slices.Contains(lines, "HEADERS 1001"+responseLine) {
		t.Errorf("%d of %d calls ended", ends, calls+1)
	}
	s.over()
}

// A peer that makes work and reads nothing is disconnected.
func TestControlFramesBounded(t *testing.T) {
	s := newScene(t, 1)
	c := s.client
	c.held = true
	for i := 0; c.conn.State() != Closed && i < 200_000; i++ {
		s.now += 1_000_000 // within the budget of PINGs
		c.do(func() { _ = c.fr.WritePing(false, [8]byte{}) })
	}
	if n := c.conn.Unwritten(); n > s.e.cfg.MaxOut+s.e.cfg.MaxControl+2*maxFrame {
		t.Errorf("%d bytes to write", n)
	}
	c.held = false
	c.ended(EnhanceYourCalm)
	s.over()
}

// Metadata that has to be kept is bounded as messages are.
func TestMetadataBounded(t *testing.T) {
	s := newScene(t, 0, func(c *Config) { c.MaxBuffered = 100 << 10 })
	big := "x-big=" + strings.Repeat("~", 30<<10)
	for _, id := range []uint32{1, 3, 5} {
		s.client.call(id, true, big)
	}
	s.client.call(7, false, big)
	const full = "grpc-status=8 grpc-message=too many calls with large metadata are open in the sidecar"
	s.client.expect("HEADERS 7 END"+responseLine+" "+full, "RST 7 NO_ERROR")
	s.over()

	s = newScene(t, 1, func(c *Config) { c.MaxBuffered, c.MaxOut = 64<<10, maxFrame })
	c, p := s.client, s.pods[0]
	s.begin(3)
	c.held = true
	p.send(1, maxFrame, false)
	for _, id := range []uint32{1, 3, 5} {
		p.headers(id, true, "grpc-status=0", big)
	}
	p.expect("RST 5 CANCEL")
	c.held = false
	lines := c.got()
	if last := lines[len(lines)-1]; len(lines) != 4 || last != "HEADERS 5 END "+full {
		t.Errorf("%d frames, %s at last", len(lines), last)
	}
	s.over()
}

// Those who wait for the same thing take turns.
func TestTurns(t *testing.T) {
	s := newScene(t, 1)
	p, c := s.pods[0], s.client
	s.begin(3)
	for _, id := range []uint32{1, 3, 5} {
		c.window(id, 1<<20)
		p.send(id, 128<<10, false)
	}
	c.got()
	c.window(0, 4*turn)
	got := make(map[string]int)
	for _, l := range c.got() {
		got[strings.Fields(l)[1]] += content([]string{l})
	}
	if len(got) != 3 {
		t.Errorf("the window was shared as %v", got)
	}
	c.window(0, 1<<20)
	if n := content(c.got()); n != 3*128<<10-defaultWindow-4*turn {
		t.Errorf("%d bytes at last", n)
	}
	s.over()
}
