package relay

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A pod that takes nothing has no room; when it takes what was written, those who
// wait go on without any other reason.
func TestRoomComesBackWithTheTransport(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	c.call(1, false)
	p.window(0, 1<<20)
	p.window(1, 1<<20)
	p.got()
	p.held = true
	c.send(1, s.e.cfg.MaxOut, false)
	for id := uint32(3); p.conn.Room(); id += 2 {
		c.call(id, true, "x-big="+strings.Repeat("~", 50<<10))
	}
	c.call(101, true, "x-n=101")
	if s.e.Counters().Waiting != 1 {
		t.Fatalf("%+v", s.e.Counters())
	}
	p.held = false
	lines := p.got()
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, "x-n=101") {
		t.Errorf("the last frame is %.60s", last)
	}
	s.over()
}

// A call that comes in the moment of new room stands behind those who wait.
func TestNobodyOvertakes(t *testing.T) {
	s := newScene(t, 0)
	p := s.addPod(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	c := s.client
	c.call(1, true)
	c.call(3, true, "x-n=3")
	b := c.block(append(request, "x-n=5")...)
	c.do(func() {
		_ = c.fr.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: b, EndHeaders: true, EndStream: true})
	})
	p.expect("HEADERS 1 END"+requestLine, "RST 1 CANCEL", "HEADERS 3 END"+requestLine+" x-n=3")
	s.over()
}

// A table that shrinks and grows before the next block: a decoder in use fails at
// two updates in one block when its table is not empty.
func TestTableShrinksAndGrows(t *testing.T) {
	s := newScene(t, 1)
	p := s.pods[0]
	s.client.call(1, true, "x-a=indexed")
	p.got()
	for _, n := range []uint32{1000, 4096} {
		p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: n}) })
	}
	s.client.call(3, true, "x-a=indexed")
	s.client.call(5, true, "x-a=indexed")
	p.expect("SETTINGS ACK", "SETTINGS ACK", "HEADERS 3 END"+requestLine+" x-a=indexed", "HEADERS 5 END"+requestLine+" x-a=indexed")
	s.over()
}

// A field that came as never indexed stays so (RFC 7541, 6.2.3).
func TestNeverIndexedStaysSo(t *testing.T) {
	s := newScene(t, 1)
	for _, want := range []bool{true, false} {
		s.client.hbuf.Reset()
		for _, f := range fields(append(request, "x-secret=hush")) {
			f.Sensitive = want && f.Name == "x-secret"
			_ = s.client.enc.WriteField(f)
		}
		s.client.raw(http2.FrameHeaders, flagEndHeaders|flagEndStream, s.client.conn.lastID+1+(s.client.conn.lastID)%2, s.client.hbuf.Bytes()...)
		heads := s.pods[0].heads()
		last := heads[len(heads)-1]
		if got := last[len(last)-1]; got.Name != "x-secret" || got.Sensitive != want {
			t.Errorf("%+v, want never indexed %v", got, want)
		}
	}
	s.over()
}

// Only calls that were cancelled before any answer are charged.
func TestResetsOfAnsweredCallsAreFree(t *testing.T) {
	s := newScene(t, 1, func(c *Config) { c.Budgets.Resets = Rate{PerSecond: 1, Burst: 3} })
	c, p := s.client, s.pods[0]
	for i := range 20 {
		id := uint32(2*i + 1)
		c.call(id, true)
		p.got()
		if i%2 == 0 {
			p.answer(id, false)
		} else {
			s.now = s.now.Add(2 * time.Second)
		}
		c.reset(id, Cancel)
		p.got()
	}
	if c.conn.State() != Ready {
		t.Error(c.conn.Err())
	}
	s.over()
}

// Headers wait too when the client does not read.
func TestHeadersWaitForTheTransport(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	s.begin(4)
	c.call(101, true)
	p.got()
	c.window(0, 1<<30)
	c.held = true
	for _, id := range []uint32{1, 3, 5, 7} {
		c.window(id, 1<<20)
		p.send(id, 80<<10, false)
	}
	was := c.conn.Unwritten()
	p.headers(9, false, ":status=103", "link=x")
	p.answer(9, false)
	if n := c.conn.Unwritten(); n != was {
		t.Errorf("%d bytes more were put into a full Out", n-was)
	}
	p.headers(9, true, "grpc-status=0")
	c.held = false
	lines := c.got()
	found := strings.Join(lines, "\n")
	if !strings.Contains(found, "HEADERS 101"+responseLine+"\nHEADERS 101 END grpc-status=0") || strings.Contains(found, "103") {
		t.Errorf("%d frames, the headers that waited are not right", len(lines))
	}
	s.over()
}

// What SETTINGS set going obeys them and comes behind their acknowledgement, in
// whatever order they stand: a decoder that knows of it refuses a block that does
// not tell of its smaller table first (RFC 7541, 4.2).
func TestSettingsActBehindTheirAck(t *testing.T) {
	window := http2.Setting{ID: http2.SettingInitialWindowSize, Val: defaultWindow + 1000}
	table := http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}
	for name, settings := range map[string][]http2.Setting{"window first": {window, table}, "table first": {table, window}} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1)
			s.begin(1)
			p, c := s.pods[0], s.client
			c.window(0, 1<<20)
			p.send(1, defaultWindow, false)
			c.got()
			p.send(1, 100, false)
			p.headers(1, true, "grpc-status=0")
			c.expect()
			c.wins[1] += 1000
			c.do(func() { _ = c.fr.WriteSettings(settings...) })
			// An empty frame, one with 100 bytes, and the one that matters.
			trailers := c.conn.Out()[frameHeader+frameHeader+100:]
			if trailers[3] != frameHeaders || trailers[frameHeader]&0xe0 != 0x20 {
				t.Errorf("the block begins with %x", trailers)
			}
			c.expect("SETTINGS ACK", "DATA 1 (100)", "HEADERS 1 END grpc-status=0")
			s.over()
		})
	}
}

// The end of a response that has no content stands behind its headers, though
// nothing of it needs a window.
func TestEndWaitsForTheHeaders(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	s.begin(4)
	c.headers(101, true, ":method=GET", ":scheme=http", ":path=/")
	p.got()
	c.window(0, 1<<30)
	c.held = true
	for _, id := range []uint32{1, 3, 5, 7} {
		c.window(id, 1<<20)
		p.send(id, 80<<10, false)
	}
	p.headers(9, false, ":status=204")
	p.data(9, true, "")
	c.held = false
	if found := strings.Join(c.got(), "\n"); !strings.Contains(found, "HEADERS 101 :status=204\nDATA 101 END") {
		t.Error("the end does not follow the headers")
	}
	s.over()
}

// Beyond MaxBuffered a stream that is read goes on, however small its share is.
func TestMaxBufferedEndsNobodyWhoReads(t *testing.T) {
	s := newScene(t, 1, func(c *Config) { c.MaxBuffered = 1 << 20 })
	p, c := s.pods[0], s.client
	const open = 200
	s.begin(open)
	c.window(0, 1<<30)
	for id := uint32(1); s.e.Counters().Buffered+maxFrame <= s.e.cfg.MaxBuffered; id += 2 {
		p.send(id, s.e.cfg.StreamWindow, false)
		c.got()
	}
	if share := s.e.cfg.MaxBuffered / open; share >= maxFrame {
		t.Fatalf("each has a share of %d bytes", share)
	}
	p.send(2*open-1, maxFrame, false)
	if n := content(c.got()); n != maxFrame {
		t.Errorf("%d bytes went through", n)
	}
	s.over()
}

// The only pod goes: what it will not look at does not come there again, and stands
// before those who have waited less long.
func TestGoAwayOfTheOnlyPod(t *testing.T) {
	s := newScene(t, 0)
	p, c := s.addPod(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2}), s.client
	for _, n := range []string{"1", "3", "5"} {
		c.call(uint32(n[0]-'0'), true, "x-n="+n)
	}
	p.got()
	p.do(func() { _ = p.fr.WriteGoAway(1, http2.ErrCodeNo, nil) })
	p.expect()
	if n := s.e.Counters().Waiting; n != 2 {
		t.Errorf("%d calls wait", n)
	}
	q := s.rawPod()
	q.do(func() { _ = q.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}) })
	q.expect("SETTINGS…", "WINDOW_UPDATE…", "SETTINGS ACK", "HEADERS 1 END"+requestLine+" x-n=3")
	s.over()
}

// A pod that has not answered yet is not waited for when it is to be drained.
func TestDrainOpeningBackend(t *testing.T) {
	s := newScene(t, 0)
	p := s.rawPod()
	p.conn.Drain(s.now)
	if !p.conn.Done() {
		t.Errorf("it is %s", p.conn.State())
	}
	s.over()
}

// A peer that never acknowledges our SETTINGS is given up, though its own came (RFC
// 9113, 6.5.3).
func TestUnacknowledgedSettings(t *testing.T) {
	s := newScene(t, 0)
	p := s.rawPod()
	p.do(func() { _ = p.fr.WriteSettings() })
	s.after(s.e.cfg.HandshakeTimeout - 1)
	if p.conn.State() != Ready {
		t.Errorf("it is %s", p.conn.State())
	}
	s.after(1)
	p.ended(SettingsTimeout)
	s.over()
}

// A request that has ended gets no credit any more.
func TestNoCreditBehindTheEnd(t *testing.T) {
	s := newScene(t, 0)
	p, c := s.addPod(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}), s.client
	p.window(0, 1<<20)
	for i, end := range []bool{true, false} {
		id := uint32(2*i + 1)
		c.call(id, false)
		c.send(id, s.e.cfg.StreamWindow/2, end)
		if n := content(p.got()); n != s.e.cfg.StreamWindow/2 {
			t.Fatalf("%d bytes came", n)
		}
	}
	c.expect("WINDOW_UPDATE 3 65536")
	s.over()
}

// A call that a pod did not look at takes the place that it leaves, though no more
// calls may wait.
func TestRefusedStreamWithAFullRow(t *testing.T) {
	s := newScene(t, 0, func(c *Config) { c.MaxWaiting = 1 })
	p, c := s.addPod(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}), s.client
	c.call(1, true, "x-n=1")
	c.call(3, true, "x-n=3")
	p.got()
	p.reset(1, RefusedStream)
	p.expect("HEADERS 3 END" + requestLine + " x-n=1")
	c.expect()
	s.over()
}

// Answers to PINGs fill a transport as well: calls that find no room because of
// them go on when it takes them.
func TestRoomComesBackBehindPings(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	c.call(1, false)
	p.window(0, 1<<20)
	p.window(1, 1<<20)
	p.got()
	p.held = true
	c.send(1, s.e.cfg.MaxOut, false)
	for p.conn.Room() {
		p.do(func() { _ = p.fr.WritePing(false, [8]byte{}) })
	}
	c.call(3, true, "x-n=3")
	if n := s.e.Counters().Waiting; n != 1 {
		t.Fatalf("%d calls wait", n)
	}
	p.held = false
	lines := p.got()
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, "x-n=3") {
		t.Errorf("the last frame is %.60s", last)
	}
	s.over()
}

// A pod that answered a call and then says that it never saw it does not have it
// run twice.
func TestGoAwayBehindTheHeaders(t *testing.T) {
	s := newScene(t, 2)
	c, p := s.client, s.pods[0]
	c.call(1, true)
	p.got()
	p.answer(1, false)
	p.do(func() { _ = p.fr.WriteGoAway(0, http2.ErrCodeNo, nil) })
	s.pods[1].expect()
	c.expect("HEADERS 1"+responseLine, "RST 1 REFUSED_STREAM")
	s.over()
}

// A client that does not read is not told that it cancelled its call.
func TestAbortOfOneWhoDoesNotRead(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	s.begin(8)
	c.window(0, 1<<30)
	c.held = true
	for id := uint32(1); id < 16; id += 2 {
		p.send(id, defaultWindow, false)
	}
	if !c.conn.full() {
		t.Fatal("there is room")
	}
	c.conn.Abort(s.now, Status{14, "the sidecar ends"})
	c.held = false
	lines := c.got()
	for _, l := range lines {
		if strings.HasPrefix(l, "RST") {
			t.Error(l)
		}
	}
	if last := lines[len(lines)-1]; last != "GOAWAY 15 NO_ERROR" {
		t.Error(last)
	}
	s.over()
}

// What waits for a pod that has answered is dropped, though the client has not read
// the answer yet.
func TestAnsweredRequestHoldsNothing(t *testing.T) {
	s := newScene(t, 0)
	p := s.stalled()
	c := s.addClient("slow", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	s.pods = []*peer{p}
	c.call(1, false)
	c.data(1, false, "nobody reads this")
	p.answer(1, false)
	p.data(1, true, "answer")
	if n := s.e.Counters().Buffered; n != len("answer") {
		t.Errorf("%d bytes wait", n)
	}
	s.over()
}

// An idle pod's GOAWAY ends the connection at once.
func TestGoAwayOfAnIdlePod(t *testing.T) {
	s := newScene(t, 1)
	p := s.pods[0]
	p.do(func() { _ = p.fr.WriteGoAway(0, http2.ErrCodeNo, nil) })
	p.expect("GOAWAY 0 NO_ERROR")
	if !p.conn.Done() {
		t.Errorf("it is %s", p.conn.State())
	}
	s.over()
}

// Calls wait for MaxWait at most, however late their deadline is.
func TestMaxWaitBeforeTheDeadline(t *testing.T) {
	s := newScene(t, 0, func(c *Config) { c.MaxWait = 5 * time.Second })
	s.client.call(1, true, "grpc-timeout=10S")
	s.after(5 * time.Second)
	s.client.expect("HEADERS 1 END" + unavailable + "no pod had room for 5s")
	s.over()
}

// Padding uses a stream's window (RFC 9113, 6.9.1), and is returned to it.
func TestPaddingIsReturned(t *testing.T) {
	s := newScene(t, 1)
	c := s.client
	c.call(1, false)
	for range s.e.cfg.StreamWindow/2/257 + 1 {
		c.do(func() { _ = c.fr.WriteDataPadded(1, false, []byte("x"), make([]byte, 255)) })
	}
	if got := c.got(); len(got) != 1 || !strings.HasPrefix(got[0], "WINDOW_UPDATE 1 ") {
		t.Errorf("%q", got)
	}
	s.over()
}
