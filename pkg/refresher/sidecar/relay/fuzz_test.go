package relay

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tight has bounds that a few frames reach.
func tight(c *Config) {
	c.StreamWindow, c.ConnWindow = defaultWindow, 2*defaultWindow
	c.MaxHeaderList, c.MaxHeaderBlock, c.MaxContinuations = 4096, 8192, 4
	c.MaxStreams, c.MaxWaiting, c.MaxWait = 8, 4, time.Second
	c.MaxOut, c.MaxControl, c.MaxBuffered = 20<<10, 8<<10, 100<<10
	c.RetainRequest, c.RetainTotal, c.Retries = 1000, 2500, 2
	c.HandshakeTimeout, c.GoAwayGrace = 5*time.Second, time.Second
	for _, r := range []*Rate{&c.Budgets.Resets, &c.Budgets.Pings, &c.Budgets.Settings, &c.Budgets.Empty, &c.Budgets.Windows, &c.Budgets.Others} {
		*r = Rate{PerSecond: 100, Burst: 50}
	}
}

// tape gives the bytes of a fuzz input out, zeros at its end.
type tape struct{ b []byte }

func (t *tape) next(n int) int {
	if len(t.b) == 0 {
		return 0
	}
	v := int(t.b[0])
	t.b = t.b[1:]
	return v % n
}

// play has the peers do what the tape says. After each step all accounts are
// checked, and that the relay keeps to the windows.
func (s *scene) play(in *tape) {
	for range 300 {
		if len(in.b) == 0 || s.t.Failed() {
			break
		}
		p := s.peers[in.next(len(s.peers))]
		if p.conn.State() == Closed {
			if len(s.peers) < 12 {
				if p.conn.client {
					s.addClient("another")
				} else {
					s.addPod()
				}
			}
			continue
		}
		p.step(in)
		if b, _ := s.Pick(s.now, nil); b != nil && s.e.waiting > 0 {
			s.t.Errorf("%d calls wait, and a pod has room", s.e.waiting)
		}
	}
	for _, p := range s.peers {
		p.held = false
		p.got()
	}
	s.check()
	s.over()
}

// step is one thing that a peer or its transport does.
func (p *peer) step(in *tape) {
	what := in.next(16)
	if p.conn.client && len(p.conn.streams) == 0 && what < 8 {
		what = 0
	}
	id, ok := p.anyID(what < 3, in)
	if !ok && what < 8 {
		return
	}
	end := in.next(4) == 1
	switch what {
	case 0, 1, 2:
		p.anyHeaders(id, end, in)
	case 3, 4, 5:
		n := []int{0, 1, 100, 5000, maxFrame, maxFrame}[in.next(6)]
		if st := p.conn.streams[id]; in.next(32) != 1 {
			// Mostly within the windows.
			n = max(min(n, p.conn.recvWin), 0)
			if st != nil {
				n = min(n, st.incoming(p.conn).recv)
			}
		}
		p.do(func() { _ = p.fr.WriteData(id, end, make([]byte, n)) })
	case 6:
		p.reset(id, ErrCode(in.next(14)))
	case 7:
		if in.next(2) == 0 {
			id = 0
		}
		p.window(id, []int{1, 100, 10_000, defaultWindow}[in.next(4)])
	case 8:
		p.anySettings(in)
	case 9:
		p.do(func() { _ = p.fr.WritePing(in.next(2) == 1, [8]byte{0x64, 0x72, 0x61, 0x69, 0x6e, 0, 0, 1}) })
	case 10:
		if in.next(16) == 1 {
			p.do(func() { _ = p.fr.WriteGoAway(id, 0, nil) })
		}
	case 11:
		if in.next(32) != 1 {
			return
		}
		n := min(in.next(30), len(in.b))
		kind, flags := http2.FrameType(in.next(11)), http2.Flags(in.next(256))
		// What is a window here is one for the account of the test as well.
		if kind != http2.FrameSettings && kind != http2.FrameWindowUpdate && n <= len(in.b) {
			p.raw(kind, flags, id, in.b[:n]...)
			in.b = in.b[n:]
		}
	case 12:
		p.held = !p.held
		p.flush()
	case 13:
		p.got()
	case 14:
		p.owner(in)
	case 15:
		p.after(time.Duration(in.next(256)) * 10 * time.Millisecond)
	}
}

// anyID is mostly a stream that is open, or the next one; false when there is none.
func (p *peer) anyID(begin bool, in *tape) (uint32, bool) {
	k := in.next(256)
	if k == 255 {
		return uint32(2*in.next(12) + 1), true
	}
	open := p.conn.open(0)
	if begin && p.conn.client && (k%2 == 0 || len(open) == 0) {
		return p.conn.lastID + 2 - (p.conn.lastID+1)%2, true
	}
	if len(open) == 0 {
		return 1, false
	}
	if p.conn.client {
		return open[k%len(open)].fid, true
	}
	return open[k%len(open)].bid, true
}

func (p *peer) anyHeaders(id uint32, end bool, in *tape) {
	var f []string
	st := p.conn.streams[id]
	switch in.next(16) {
	default:
		switch {
		case st != nil && (p.conn.client || st.final):
			f, end = []string{"grpc-status=0", "grpc-message=x"}, true
		case p.conn.client:
			f = slices.Clone(request)
		default:
			f = slices.Clone(response)
		}
	case 6:
		f = []string{":status=100"}
	case 7:
		f = []string{":method=GET", ":scheme=http", ":path=/", "content-length=5"}
	}
	switch in.next(6) {
	case 1:
		f = append(f, "grpc-timeout=100m")
	case 2:
		f = append(f, "x-big="+strings.Repeat("b", 3000))
	case 3:
		f = append(f, "x-huge="+strings.Repeat("~", 5000))
	}
	p.headers(id, end, f...)
}

func (p *peer) anySettings(in *tape) {
	v := uint32([]int{0, 1, 5, 1000, 70_000}[in.next(5)])
	switch in.next(4) {
	case 0:
		if p.held {
			return // the account of the test begins when the peer has read all
		}
		p.got()
		for id := range p.wins {
			p.wins[id] += int(v) - p.init
		}
		p.init = int(v)
		p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: v}) })
	case 1:
		p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: v}) })
	case 2:
		p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: v}) })
	case 3:
		p.do(func() { _ = p.fr.WriteSettingsAck() })
	}
}

// owner is what the owner of the engine does.
func (p *peer) owner(in *tape) {
	switch in.next(30) {
	case 0:
		p.conn.Drain(p.now)
	case 1:
		p.conn.Lost(p.now, nil)
	case 2:
		p.conn.Abort(p.now, Status{14, "x"})
	case 3, 4:
		p.e.Retry(p.now)
	case 5:
		p.refuse = &Status{14, "no"}
	case 6:
		p.refuse = nil
	default:
		// A write that gets through in two parts, with other things between.
		b := p.conn.TakeOut(nil)
		p.in.Write(b)
		n := len(b) / 2
		p.conn.Written(p.now, n)
		p.check()
		p.conn.Written(p.now, len(b)-n)
	}
	p.check()
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 3, 2})
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0, 4, 5}, 8))
	f.Add(bytes.Repeat([]byte{2, 0, 1, 14, 0, 1, 3, 1, 0, 0, 2, 0, 0, 0, 12, 0, 1, 0, 10}, 6))
	for seed := range uint64(8) {
		f.Add(randomTape(seed, 400))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScene(t, 2, tight)
		s.addClient("second", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10_000})
		s.play(&tape{b})
	})
}

// FuzzHeaders gives the relay any header block, as a request and as a response. It
// passes what an HPACK decoder makes of it, or nothing.
func FuzzHeaders(f *testing.F) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, list := range [][]string{request, response, {":status=200", "grpc-status=0", "grpc-message=%"}, {":method=GET", ":path=/", ":scheme=http"}} {
		b.Reset()
		for _, x := range fields(list) {
			_ = enc.WriteField(x)
		}
		f.Add(b.Bytes(), true)
	}
	f.Fuzz(func(t *testing.T, block []byte, end bool) {
		s := newScene(t, 1, tight)
		if len(block) > maxFrame {
			return
		}
		var flags http2.Flags = flagEndHeaders
		if end {
			flags |= flagEndStream
		}
		want, bad := hpack.NewDecoder(defaultTable, nil).DecodeFull(block)
		s.client.raw(http2.FrameHeaders, flags, 1, block...)
		p := s.pods[0]
		got := p.heads()
		if len(got) > 1 || len(got) == 1 && (bad != nil || !sameFields(got[0], want)) {
			t.Fatalf("of %q, %v the pod got %q", want, bad, got)
		}
		c := s.addClient("other")
		c.call(1, true)
		p.heads()
		p.raw(http2.FrameHeaders, flags, p.conn.nextID-2, block...)
		answers := c.heads()
		for _, a := range answers {
			own := slices.ContainsFunc(a, func(x hpack.HeaderField) bool { return x.Name == "grpc-message" && x.Value != "" })
			if !own && (bad != nil || !sameFields(a, want)) {
				t.Fatalf("of %q, %v the client got %q", want, bad, a)
			}
		}
		s.over()
	})
}

// heads are the header lists that the relay wrote.
func (p *peer) heads() (lists [][]hpack.HeaderField) {
	p.t.Helper()
	p.flush()
	p.in.Next(p.in.Len() - len(bytes.TrimPrefix(p.in.Bytes(), []byte(Preface))))
	for p.in.Len() > 0 {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.t.Fatalf("%s cannot read what the relay wrote: %v", p.name, err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			lists = append(lists, slices.Clone(h.Fields))
		}
	}
	return lists
}

func sameFields(a, b []hpack.HeaderField) bool {
	return slices.EqualFunc(a, b, func(x, y hpack.HeaderField) bool { return x.Name == y.Name && x.Value == y.Value })
}

// FuzzSettings gives both sides any SETTINGS. Either they are an error, or calls
// go through as far as they allow.
func FuzzSettings(f *testing.F) {
	f.Add([]byte{0, 4, 0, 0, 0, 1}, false)
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff, 0, 5, 0, 0, 0x40, 0}, true)
	f.Fuzz(func(t *testing.T, payload []byte, pod bool) {
		s := newScene(t, 1, tight)
		c, p := s.client, s.pods[0]
		c.call(1, false)
		p.got()
		q := c
		if pod {
			q = p
		}
		if len(payload) > maxFrame {
			return
		}
		q.raw(http2.FrameSettings, 0, 0, payload...)
		for i := 0; i+6 <= len(payload) && q.conn.State() != Closed; i += 6 {
			if payload[i] == 0 && payload[i+1] == byte(settingInitialWindowSize) {
				q.init = int(payload[i+2])<<24 | int(payload[i+3])<<16 | int(payload[i+4])<<8 | int(payload[i+5])
			}
			if payload[i] == 0 && payload[i+1] == byte(settingHeaderTableSize) {
				q.fr.ReadMetaHeaders = nil // what it may have is said later; another target decodes
			}
		}
		q.got()
		c.data(1, true, strings.Repeat("x", 1000))
		p.got()
		if p.stream(1) != nil {
			p.answer(1, false)
			p.send(1, 1000, true)
		}
		c.got()
		s.over()
	})
}

// Long random plays find what a fuzzer that begins with nothing takes hours for.
// A failure names the seed.
func TestRandomPlays(t *testing.T) {
	for seed := range uint64(200) {
		s := newScene(t, 2, tight)
		s.addClient("second", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10_000})
		s.play(&tape{randomTape(seed, 2500)})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomTape(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
