package relay

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// raw writes one frame of any content.
func (p *peer) raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) {
	p.t.Helper()
	p.do(func() { _ = p.fr.WriteRawFrame(kind, flags, id, payload) })
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// What ends a connection, whichever side sends it. Stream 1 is open, 2 and 99 are
// idle.
func TestConnectionErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want ErrCode
	}{
		{"preface", func(p *peer) {
			q := p.peer("raw", p.e.Client(p.now))
			q.out.WriteString("GET / HTTP/1.1\r\n\r\n")
			q.do(func() {})
			q.ended(ProtocolError)
			p.raw(http2.FrameGoAway, 0, 1)
		}, ProtocolError},
		{"no SETTINGS at first", func(p *peer) {
			q := p.peer("raw", p.e.Client(p.now))
			q.out.WriteString(Preface)
			q.do(func() { _ = q.fr.WritePing(false, [8]byte{}) })
			q.ended(ProtocolError)
			p.raw(http2.FrameGoAway, 0, 1)
		}, ProtocolError},
		{"frame size", func(p *peer) { p.do(func() { p.out.Write([]byte{0, 0x40, 1, 0, 0, 0, 0, 0, 1}) }) }, FrameSizeError},
		{"DATA on stream 0", func(p *peer) { p.raw(http2.FrameData, 0, 0, 1) }, ProtocolError},
		{"DATA on an idle stream", func(p *peer) { p.raw(http2.FrameData, 0, 99, 1) }, ProtocolError},
		{"DATA with too much padding", func(p *peer) { p.raw(http2.FrameData, flagPadded, 1, 9, 0, 0) }, ProtocolError},
		{"DATA padded without a length", func(p *peer) { p.raw(http2.FrameData, flagPadded, 1) }, FrameSizeError},
		{"HEADERS on stream 0", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders, 0, 0x82) }, ProtocolError},
		{"HEADERS on an even stream", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders, 2, 0x82) }, ProtocolError},
		{"HEADERS with too much padding", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders|flagPadded, 1, 200, 0x82) }, ProtocolError},
		{"HEADERS too short for priority", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 1, 0, 0) }, FrameSizeError},
		{"HEADERS that cannot be decoded", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders, 1, 0xff, 0xff, 0xff, 0xff) }, CompressionError},
		{"HEADERS that end in a field", func(p *peer) { p.raw(http2.FrameHeaders, flagEndHeaders, 1, 0x40, 9, 'x') }, CompressionError},
		{"PRIORITY on stream 0", func(p *peer) { p.raw(http2.FramePriority, 0, 0, 0, 0, 0, 0, 0) }, ProtocolError},
		{"PRIORITY of a wrong length, idle", func(p *peer) { p.raw(http2.FramePriority, 0, 99, 0) }, FrameSizeError},
		{"RST_STREAM on stream 0", func(p *peer) { p.raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8) }, ProtocolError},
		{"RST_STREAM on an idle stream", func(p *peer) { p.raw(http2.FrameRSTStream, 0, 99, 0, 0, 0, 8) }, ProtocolError},
		{"RST_STREAM of a wrong length", func(p *peer) { p.raw(http2.FrameRSTStream, 0, 1, 0) }, FrameSizeError},
		{"SETTINGS on a stream", func(p *peer) { p.raw(http2.FrameSettings, 0, 1) }, ProtocolError},
		{"SETTINGS of a wrong length", func(p *peer) { p.raw(http2.FrameSettings, 0, 0, 1, 2, 3) }, FrameSizeError},
		{"SETTINGS ACK with content", func(p *peer) { p.raw(http2.FrameSettings, flagAck, 0, 0, 1, 0, 0, 0, 0) }, FrameSizeError},
		{"ENABLE_PUSH 2", func(p *peer) { p.raw(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 2) }, ProtocolError},
		{"INITIAL_WINDOW_SIZE 2^31", func(p *peer) { p.raw(http2.FrameSettings, 0, 0, 0, 4, 0x80, 0, 0, 0) }, FlowControlError},
		{"INITIAL_WINDOW_SIZE beyond a window", func(p *peer) {
			p.window(p.openID(), 1<<30)
			p.raw(http2.FrameSettings, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff)
		}, FlowControlError},
		{"MAX_FRAME_SIZE 16383", func(p *peer) { p.raw(http2.FrameSettings, 0, 0, 0, 5, 0, 0, 0x3f, 0xff) }, ProtocolError},
		{"MAX_FRAME_SIZE 2^24", func(p *peer) { p.raw(http2.FrameSettings, 0, 0, 0, 5, 1, 0, 0, 0) }, ProtocolError},
		{"PUSH_PROMISE", func(p *peer) { p.raw(http2.FramePushPromise, flagEndHeaders, 1, 0, 0, 0, 2, 0x82) }, ProtocolError},
		{"PING on a stream", func(p *peer) { p.raw(http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8) }, ProtocolError},
		{"PING of a wrong length", func(p *peer) { p.raw(http2.FramePing, 0, 0, 1) }, FrameSizeError},
		{"GOAWAY on a stream", func(p *peer) { p.raw(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0) }, ProtocolError},
		{"GOAWAY of a wrong length", func(p *peer) { p.raw(http2.FrameGoAway, 0, 0, 0) }, FrameSizeError},
		{"WINDOW_UPDATE of a wrong length", func(p *peer) { p.raw(http2.FrameWindowUpdate, 0, 0, 1) }, FrameSizeError},
		{"CONTINUATION alone", func(p *peer) { p.raw(http2.FrameContinuation, flagEndHeaders, 1, 0x82) }, ProtocolError},
		{"CONTINUATION of another stream", func(p *peer) {
			p.raw(http2.FrameHeaders, 0, 1, 0x82)
			p.raw(http2.FrameContinuation, flagEndHeaders, 3, 0x82)
		}, ProtocolError},
		{"interleaved PRIORITY", func(p *peer) {
			p.raw(http2.FrameHeaders, 0, 1, 0x82)
			p.raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 0)
		}, ProtocolError},
		{"interleaved unknown frame", func(p *peer) {
			p.raw(http2.FrameHeaders, 0, 1, 0x82)
			p.raw(77, 0, 1)
		}, ProtocolError},
	} {
		for _, side := range []string{"client", "pod"} {
			t.Run(c.name+", "+side, func(t *testing.T) {
				s := newScene(t, 1)
				s.client.call(1, false)
				s.pods[0].got()
				p := s.client
				if side == "pod" {
					p = s.pods[0]
				}
				c.do(p)
				p.ended(c.want)
				s.over()
			})
		}
	}
}

// openID is the stream that TestConnectionErrors opened, on this side.
func (p *peer) openID() uint32 { return 1 }

// Only a server must not set ENABLE_PUSH, a client may.
func TestEnablePush(t *testing.T) {
	s := newScene(t, 1)
	s.client.raw(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 1)
	s.client.expect("SETTINGS ACK")
	s.pods[0].raw(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 1)
	s.pods[0].ended(ProtocolError)
	s.over()
}

// What is unknown, deprecated or late is ignored.
func TestIgnored(t *testing.T) {
	s := newScene(t, 1)
	c := s.client
	c.call(1, true)
	c.raw(0x16, 0xff, 0, 1, 2, 3)
	c.raw(http2.FramePriority, 0, 99, 0, 0, 0, 1, 7)
	c.raw(http2.FrameSettings, 0, 0, 0, 0x99, 0, 0, 0, 1)
	c.raw(http2.FrameSettings, flagAck, 0)
	c.raw(http2.FramePing, flagAck, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	c.raw(http2.FrameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	c.do(func() {
		p := c.out.Len()
		c.out.Write([]byte{0, 0, 8, 6, 0, 0x80, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
		_ = p
	}) // the reserved bit
	c.expect("SETTINGS ACK", "PONG 0102030405060708")
	s.pods[0].got()
	s.pods[0].answer(1, true, "grpc-status=0")
	c.got()
	c.reset(1, Cancel)
	c.do(func() { _ = c.fr.WriteWindowUpdate(1, 5) })
	c.expect()
	s.over()
}

// What ends a request alone: RFC 9113, 5.1, 8.1.1, 8.2 and 8.3.
func TestMalformedRequests(t *testing.T) {
	get := []string{":method=GET", ":scheme=http", ":path=/"}
	with := func(more ...string) []string { return append(slices.Clone(get), more...) }
	for _, c := range []struct {
		name   string
		fields []string
		ok     bool
	}{
		{"plain", get, true},
		{"with all", with(":authority=a", "te=trailers", "x-y=  spaces ", "content-length=0"), true},
		{"CONNECT", []string{":method=CONNECT", ":authority=a:1"}, true},
		{"CONNECT with path", []string{":method=CONNECT", ":authority=a:1", ":path=/"}, false},
		{"no method", get[1:], false},
		{"no scheme", []string{":method=GET", ":path=/"}, false},
		{"no path", get[:2], false},
		{"empty path", []string{":method=GET", ":scheme=http", ":path="}, false},
		{"method twice", with(":method=GET"), false},
		{"status", with(":status=200"), false},
		{"unknown pseudo-header", with(":what=x"), false},
		{"pseudo-header behind others", []string{":method=GET", ":scheme=http", "x=y", ":path=/"}, false},
		{"upper case", with("X-Y=z"), false},
		{"empty name", with("=z"), false},
		{"space in a name", with("x y=z"), false},
		{"line feed in a value", with("x=a\nb"), false},
		{"NUL in a pseudo-header", []string{":method=GET", ":scheme=http", ":path=/\x00"}, false},
		{"CR in a known field", with("user-agent=a\rb"), false},
		{"connection", with("connection=close"), false},
		{"transfer-encoding", with("transfer-encoding=chunked"), false},
		{"upgrade", with("upgrade=h2c"), false},
		{"te gzip", with("te=gzip"), false},
		{"content-length but no content", with("content-length=5"), false},
		{"content-length is no number", with("content-length=+5"), false},
		{"two content-lengths", with("content-length=0", "content-length=1"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			s.client.hbuf.Reset()
			for _, f := range c.fields {
				i := strings.Index(f[min(1, len(f)):], "=") + min(1, len(f))
				if f[0] == '=' {
					i = 0
				}
				_ = s.client.enc.WriteField(hpackField(f[:i], f[i+1:]))
			}
			s.client.raw(http2.FrameHeaders, flagEndHeaders|flagEndStream, 1, s.client.hbuf.Bytes()...)
			if c.ok {
				if got := s.pods[0].got(); len(got) != 1 || !strings.HasPrefix(got[0], "HEADERS 1 END") {
					t.Errorf("the pod got %q", got)
				}
			} else {
				s.client.expect("RST 1 PROTOCOL_ERROR")
				s.pods[0].expect()
				// Our reset may have crossed what they sent.
				s.client.data(1, true, "x")
				s.client.headers(1, true, "x=y")
				s.client.expect()
			}
			s.over()
		})
	}
}

func TestMalformedStreams(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *peer)
		want string
	}{
		{"DATA behind the end", func(c *peer) { c.call(1, true); c.data(1, false, "x") }, "RST 1 STREAM_CLOSED"},
		{"HEADERS behind the end", func(c *peer) { c.call(1, true); c.headers(1, true, "x=y") }, "RST 1 STREAM_CLOSED"},
		{"headers in the midst", func(c *peer) { c.call(1, false); c.headers(1, false, "x=y") }, "RST 1 PROTOCOL_ERROR"},
		{"pseudo-header in trailers", func(c *peer) { c.call(1, false); c.headers(1, true, ":path=/") }, "RST 1 PROTOCOL_ERROR"},
		{"more than content-length", func(c *peer) { c.call(1, false, "content-length=1"); c.data(1, true, "xy") }, "RST 1 PROTOCOL_ERROR"},
		{"less than content-length", func(c *peer) { c.call(1, false, "content-length=9"); c.data(1, true, "xy") }, "RST 1 PROTOCOL_ERROR"},
		{"trailers before content-length", func(c *peer) { c.call(1, false, "content-length=9"); c.headers(1, true, "x=y") }, "RST 1 PROTOCOL_ERROR"},
		{"PRIORITY on itself", func(c *peer) { c.call(1, false); c.raw(http2.FramePriority, 0, 1, 0, 0, 0, 1, 0) }, "RST 1 PROTOCOL_ERROR"},
		{"PRIORITY of a wrong length", func(c *peer) { c.call(1, false); c.raw(http2.FramePriority, 0, 1, 0) }, "RST 1 FRAME_SIZE_ERROR"},
		{"HEADERS that depend on themselves", func(c *peer) {
			b := append(u32(1), 7)
			c.raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 1, append(b, c.block(request...)...)...)
		}, "RST 1 PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			c.do(s.client)
			s.client.expect(c.want)
			if got := s.pods[0].got(); len(got) > 0 && got[len(got)-1] != "RST 1 CANCEL" {
				t.Errorf("the pod got %q", got)
			}
			if s.client.conn.State() != Ready {
				t.Error("the connection did not survive")
			}
			s.over()
		})
	}
}

// Late frames on streams that both sides ended are the peer's fault.
func TestClosedStreams(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *peer)
		want ErrCode
	}{
		{"HEADERS on a closed stream", func(c *peer) { c.headers(5, true, "x=y") }, StreamClosed},
		{"a stream id that was left out", func(c *peer) { c.call(3, true) }, ProtocolError},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			s.client.call(5, true)
			s.pods[0].got()
			s.pods[0].answer(1, true, "grpc-status=0")
			s.client.got()
			c.do(s.client)
			s.client.ended(c.want)
			s.over()
		})
	}
	s := newScene(t, 1)
	s.client.call(1, false)
	s.client.reset(1, Cancel)
	s.client.data(1, false, "x")
	s.client.expect("RST 1 STREAM_CLOSED")
	s.client.data(1, false, "x")
	s.client.expect()
	s.over()
}

func TestMalformedResponses(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(p *peer)
		ok   bool
	}{
		{"no status", func(p *peer) { p.headers(1, true, "x=y") }, false},
		{"status of two digits", func(p *peer) { p.headers(1, true, ":status=20") }, false},
		{"status of letters", func(p *peer) { p.headers(1, true, ":status=2oo") }, false},
		{"status 099", func(p *peer) { p.headers(1, true, ":status=099") }, false},
		{"status 101", func(p *peer) { p.headers(1, false, ":status=101") }, false},
		{"a path", func(p *peer) { p.headers(1, true, ":status=200", ":path=/") }, false},
		{"informational end", func(p *peer) { p.headers(1, true, ":status=100") }, false},
		{"DATA first", func(p *peer) { p.data(1, false, "x") }, false},
		{"upper case", func(p *peer) { p.headers(1, true, ":status=200", "X=y") }, false},
		{"content-length", func(p *peer) { p.headers(1, true, ":status=200", "content-length=5") }, false},
		{"content-length of a 304", func(p *peer) { p.headers(1, true, ":status=304", "content-length=5") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			s.client.call(1, true)
			s.pods[0].got()
			c.do(s.pods[0])
			got := s.client.got()
			if c.ok {
				if len(got) != 1 || !strings.HasPrefix(got[0], "HEADERS 1 END :status=304") {
					t.Errorf("the client got %q", got)
				}
			} else {
				if len(got) != 1 || !strings.Contains(got[0], "grpc-status=13 grpc-message=the pod's response broke a rule of HTTP/2: ") {
					t.Errorf("the client got %q", got)
				}
				s.pods[0].expect("RST 1 PROTOCOL_ERROR")
			}
			s.over()
		})
	}
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want string
	}{
		{"headers in the midst", func(p *peer) { p.headers(1, false, "x=y") }, "PROTOCOL_ERROR"},
		{"too much content", func(p *peer) { p.data(1, true, "12345678") }, "PROTOCOL_ERROR"},
		{"too little content", func(p *peer) { p.headers(1, true, "grpc-status=0") }, "PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			s.client.call(1, true)
			s.pods[0].got()
			s.pods[0].answer(1, false, "content-length=7")
			s.client.got()
			c.do(s.pods[0])
			s.pods[0].expect("RST 1 " + c.want)
			if got := s.client.got(); !strings.Contains(got[len(got)-1], "END grpc-status=13") {
				t.Errorf("the client got %q", got)
			}
			s.over()
		})
	}
}

// A head's response has a length and no content.
func TestHeadRequest(t *testing.T) {
	s := newScene(t, 1)
	s.client.headers(1, true, ":method=HEAD", ":scheme=http", ":path=/")
	s.pods[0].got()
	s.pods[0].headers(1, true, ":status=200", "content-length=7")
	s.client.expect("HEADERS 1 END :status=200 content-length=7")
	s.over()
}

// Floods: each is legal frame by frame, and ends with ENHANCE_YOUR_CALM.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name  string
		flood func(p *peer, i int)
		sides []string
	}{
		{"PING", func(p *peer, _ int) { _ = p.fr.WritePing(false, [8]byte{}) }, []string{"client", "pod"}},
		{"SETTINGS", func(p *peer, _ int) { _ = p.fr.WriteSettings() }, []string{"client", "pod"}},
		{"SETTINGS ACK", func(p *peer, _ int) { _ = p.fr.WriteSettingsAck() }, []string{"client", "pod"}},
		{"empty DATA", func(p *peer, _ int) { _ = p.fr.WriteData(1, false, nil) }, []string{"client", "pod"}},
		{"WINDOW_UPDATE", func(p *peer, _ int) { _ = p.fr.WriteWindowUpdate(1, 1) }, []string{"client", "pod"}},
		{"PRIORITY", func(p *peer, i int) { _ = p.fr.WriteRawFrame(http2.FramePriority, 0, uint32(i+3), append(u32(0), 1)) }, []string{"client", "pod"}},
		{"unknown frames", func(p *peer, _ int) { _ = p.fr.WriteRawFrame(0x99, 0, 0, nil) }, []string{"client", "pod"}},
		{"rapid reset", func(p *peer, i int) {
			id := uint32(2*i + 3)
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(request...), EndHeaders: true})
			_ = p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}, []string{"client"}},
		{"resets that the relay is made to send", func(p *peer, i int) {
			id := uint32(2*i + 3)
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(request...), EndHeaders: true})
			_ = p.fr.WriteWindowUpdate(id, 0)
		}, []string{"client"}},
		{"malformed requests", func(p *peer, i int) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 3), BlockFragment: p.block("x=y"), EndHeaders: true})
		}, []string{"client"}},
		{"informational responses", func(p *peer, _ int) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status=100"), EndHeaders: true})
		}, []string{"pod"}},
	} {
		for _, side := range c.sides {
			t.Run(c.name+", "+side, func(t *testing.T) {
				s := newScene(t, 1)
				p := s.client
				p.call(1, false)
				s.pods[0].got()
				if side == "pod" {
					p = s.pods[0]
					if c.name == "empty DATA" {
						p.answer(1, false)
					}
				}
				n := 0
				for ; n < 40_000 && p.conn.State() != Closed; n += 100 {
					p.do(func() {
						for i := range 100 {
							c.flood(p, n+i)
						}
					})
					for _, q := range s.peers {
						if q.conn.State() != Closed {
							q.got()
						}
					}
				}
				p.ended(EnhanceYourCalm)
				t.Logf("closed after %d", n)
				s.over()
			})
		}
	}
}

// A budget comes back with time: a peer within its rate is never disturbed.
func TestBudgetsRefill(t *testing.T) {
	s := newScene(t, 1)
	rate := s.e.cfg.Budgets.Settings
	for range 20 * rate.Burst {
		s.client.do(func() { _ = s.client.fr.WriteSettings() })
		s.client.got()
		s.now = s.now.Add(time.Second / time.Duration(rate.PerSecond))
	}
	if s.client.conn.State() != Ready {
		t.Error(s.client.conn.Err())
	}
	s.over()
}

func TestContinuationsBounded(t *testing.T) {
	s := newScene(t, 1)
	c := s.client
	c.raw(http2.FrameHeaders, 0, 1)
	for c.conn.State() != Closed {
		c.raw(http2.FrameContinuation, 0, 1)
	}
	c.ended(EnhanceYourCalm)
	d := s.addClient("bytes")
	d.raw(http2.FrameHeaders, 0, 1)
	for range s.e.cfg.MaxHeaderBlock / maxFrame {
		d.raw(http2.FrameContinuation, 0, 1, make([]byte, maxFrame)...)
	}
	if len(d.conn.contBuf) > s.e.cfg.MaxHeaderBlock {
		t.Errorf("%d bytes of a header block", len(d.conn.contBuf))
	}
	d.raw(http2.FrameContinuation, 0, 1, 1)
	d.ended(EnhanceYourCalm)
	s.over()
}

// Cancelled calls count until the pod can know of it (CVE-2023-44487).
func TestCancelledStreamsCount(t *testing.T) {
	s := newScene(t, 1, func(c *Config) { c.MaxStreams = 10 })
	c, p := s.client, s.pods[0]
	p.held = true
	for i := range 20 {
		id := uint32(2*i + 1)
		c.call(id, true)
		c.reset(id, Cancel)
	}
	if n := s.e.Counters().Calls; n != 10 {
		t.Errorf("%d calls began", n)
	}
	if got := c.got(); len(got) != 10 || got[0] != "RST 21 REFUSED_STREAM" {
		t.Errorf("the client got %q", got)
	}
	p.held = false
	p.got()
	c.call(101, true)
	p.expect("HEADERS 21 END" + requestLine)
	c.reset(101, Cancel)
	p.conn.Lost(s.now, nil)
	s.over()
}
