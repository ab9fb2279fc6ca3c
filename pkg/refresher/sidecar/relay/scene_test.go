package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// scene is an Engine with peers in memory. It is the Host, and holds after each
// step that all accounts are right.
type scene struct {
	t       testing.TB
	e       *Engine
	now     policy.Nanos
	client  *peer
	pods    []*peer
	peers   []*peer
	refuse  *Status
	calls   []Call
	changed []string
}

// peer is the other end of one connection.
type peer struct {
	*scene
	name string
	conn *Conn
	fr   *http2.Framer // both ways
	in   bytes.Buffer  // what the relay wrote, and was not read yet
	out  bytes.Buffer  // what the peer wrote, and was not fed yet
	enc  *hpack.Encoder
	hbuf bytes.Buffer
	held bool // the transport takes nothing
	// What the peer allowed the relay, less what it got.
	win  int
	wins map[uint32]int
	init int
	err  error
}

// newScene has one client and some pods, all with their handshakes done.
func newScene(t testing.TB, pods int, change ...func(*Config)) *scene {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, now: 1_000_000_000}
	s.e = New(cfg, s)
	for range pods {
		s.addPod()
	}
	s.client = s.addClient("client")
	s.changed = nil
	return s
}

func (s *scene) addPod(settings ...http2.Setting) *peer {
	s.t.Helper()
	p := s.rawPod()
	p.do(func() { _ = p.fr.WriteSettings(settings...); _ = p.fr.WriteSettingsAck() })
	for _, set := range settings {
		if set.ID == http2.SettingInitialWindowSize {
			p.init = int(set.Val)
		}
	}
	p.got()
	return p
}

// rawPod is a pod that has not said anything.
func (s *scene) rawPod() *peer {
	p := s.peer(fmt.Sprintf("pod%d", len(s.pods)), s.e.Backend(s.now))
	s.pods = append(s.pods, p)
	return p
}

func (s *scene) addClient(name string, settings ...http2.Setting) *peer {
	s.t.Helper()
	p := s.peer(name, s.e.Client(s.now))
	p.out.WriteString(Preface)
	p.do(func() { _ = p.fr.WriteSettings(settings...); _ = p.fr.WriteSettingsAck() })
	for _, set := range settings {
		if set.ID == http2.SettingInitialWindowSize {
			p.init = int(set.Val)
		}
	}
	p.got()
	return p
}

func (s *scene) peer(name string, c *Conn) *peer {
	p := &peer{scene: s, name: name, conn: c, win: defaultWindow, init: defaultWindow, wins: make(map[uint32]int)}
	c.User = p
	p.fr = http2.NewFramer(&p.out, &p.in)
	p.fr.AllowIllegalWrites = true
	p.fr.ReadMetaHeaders = hpack.NewDecoder(defaultTable, nil)
	p.fr.MaxHeaderListSize = 16 << 20
	p.fr.SetMaxReadFrameSize(1 << 24)
	p.enc = hpack.NewEncoder(&p.hbuf)
	s.peers = append(s.peers, p)
	return p
}

// Pick, Done and Changed make the scene a Host: it takes the first pod with room.
func (s *scene) Pick(_ policy.Nanos, avoid *Conn) (*Conn, *Status) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	for _, p := range s.pods {
		if p.conn != avoid && p.conn.Room() {
			return p.conn, nil
		}
	}
	if avoid != nil && avoid.Room() {
		return avoid, nil
	}
	return nil, nil
}

func (s *scene) Done(c Call) { s.calls = append(s.calls, c) }

func (s *scene) Changed(c *Conn) {
	name := "?"
	if p, ok := c.User.(*peer); ok {
		name = p.name
	}
	s.changed = append(s.changed, name+" "+c.State().String())
}

// after lets time pass.
func (s *scene) after(d time.Duration) {
	s.now = s.now.Add(d)
	s.e.Tick(s.now)
	s.check()
}

// do writes frames and feeds them to the relay as one piece.
func (p *peer) do(write func()) {
	p.t.Helper()
	write()
	n, err := p.conn.Feed(p.now, p.out.Bytes())
	p.out.Next(n)
	p.err = err
	p.check()
}

// flush carries Out to the peer, unless its transport is held.
func (p *peer) flush() {
	for !p.held {
		b := p.conn.TakeOut(nil)
		if b == nil {
			return
		}
		p.in.Write(b)
		// What is used again must not be what is still read.
		clear(b)
		p.e.Recycle(b)
		p.conn.Written(p.now, len(b))
		p.check()
	}
}

// got reads what the relay wrote: one line for each frame.
func (p *peer) got() []string {
	p.t.Helper()
	p.flush()
	if !p.conn.client {
		p.in.Next(p.in.Len() - len(bytes.TrimPrefix(p.in.Bytes(), []byte(Preface))))
	}
	var lines []string
	for p.in.Len() > 0 {
		f, err := p.fr.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			p.t.Fatalf("%s cannot read what the relay wrote: %v", p.name, err)
		}
		p.account(f)
		lines = append(lines, describe(f))
	}
	return lines
}

// account holds the relay to the windows that the peer gave it.
func (p *peer) account(f http2.Frame) {
	p.t.Helper()
	h := f.Header()
	d, ok := f.(*http2.DataFrame)
	if !ok || h.Length == 0 {
		return
	}
	if h.Length > maxFrame {
		p.t.Errorf("%s got a frame of %d bytes", p.name, h.Length)
	}
	if _, known := p.wins[h.StreamID]; !known {
		p.wins[h.StreamID] = p.init
	}
	p.win -= len(d.Data())
	p.wins[h.StreamID] -= len(d.Data())
	if p.win < 0 || p.wins[h.StreamID] < 0 {
		p.t.Errorf("%s got DATA beyond its windows: %d left for all, %d for stream %d", p.name, p.win, p.wins[h.StreamID], h.StreamID)
	}
}

func describe(f http2.Frame) string {
	h := f.Header()
	end := ""
	if (h.Type == http2.FrameData || h.Type == http2.FrameHeaders) && h.Flags&flagEndStream != 0 {
		end = " END"
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		var b strings.Builder
		fmt.Fprintf(&b, "HEADERS %d%s", h.StreamID, end)
		for _, x := range f.Fields {
			fmt.Fprintf(&b, " %s=%s", x.Name, x.Value)
		}
		return b.String()
	case *http2.DataFrame:
		if s := string(f.Data()); len(s) < 32 {
			return fmt.Sprintf("DATA %d%s %s", h.StreamID, end, s)
		}
		return fmt.Sprintf("DATA %d%s (%d)", h.StreamID, end, len(f.Data()))
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST %d %s", h.StreamID, ErrCode(f.ErrCode))
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", h.StreamID, f.Increment)
	case *http2.GoAwayFrame:
		return strings.TrimSpace(fmt.Sprintf("GOAWAY %d %s %s", f.LastStreamID, ErrCode(f.ErrCode), f.DebugData()))
	case *http2.PingFrame:
		if f.IsAck() {
			return fmt.Sprintf("PONG %x", f.Data)
		}
		return fmt.Sprintf("PING %x", f.Data)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ACK"
		}
		var b strings.Builder
		b.WriteString("SETTINGS")
		_ = f.ForeachSetting(func(s http2.Setting) error {
			fmt.Fprintf(&b, " %d=%d", s.ID, s.Val)
			return nil
		})
		return b.String()
	}
	return h.String()
}

// expect holds that the relay wrote exactly these frames. A line that ends in "…"
// says how one begins.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	got := p.got()
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		if begin, open := strings.CutSuffix(want[i], "…"); open {
			same = strings.HasPrefix(got[i], begin)
		} else {
			same = got[i] == strings.TrimSuffix(want[i], "")
		}
	}
	if !same {
		p.t.Fatalf("%s got\n\t%s\nnot\n\t%s", p.name, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// fields makes a header list of "name=value".
func fields(f []string) []hpack.HeaderField {
	var out []hpack.HeaderField
	for _, x := range f {
		i := strings.Index(x[1:], "=") + 1
		out = append(out, hpack.HeaderField{Name: x[:i], Value: x[i+1:]})
	}
	return out
}

func (p *peer) block(f ...string) []byte {
	p.hbuf.Reset()
	for _, x := range fields(f) {
		_ = p.enc.WriteField(x)
	}
	return slices.Clone(p.hbuf.Bytes())
}

func (p *peer) headers(id uint32, end bool, f ...string) {
	p.t.Helper()
	b := p.block(f...)
	p.do(func() {
		first := true
		for first || len(b) > 0 {
			part := b[:min(len(b), maxFrame)]
			b = b[len(part):]
			if first {
				_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndStream: end, EndHeaders: len(b) == 0})
			} else {
				_ = p.fr.WriteContinuation(id, len(b) == 0, part)
			}
			first = false
		}
	})
}

func (p *peer) data(id uint32, end bool, s string) {
	p.t.Helper()
	p.do(func() { _ = p.fr.WriteData(id, end, []byte(s)) })
}

func (p *peer) reset(id uint32, code ErrCode) {
	p.t.Helper()
	p.do(func() { _ = p.fr.WriteRSTStream(id, http2.ErrCode(code)) })
}

func (p *peer) window(id uint32, n int) {
	p.t.Helper()
	if id == 0 {
		p.win += n
	} else {
		if _, known := p.wins[id]; !known {
			p.wins[id] = p.init
		}
		p.wins[id] += n
	}
	p.do(func() { _ = p.fr.WriteWindowUpdate(id, uint32(n)) })
}

// request and response are complete without a body; more adds fields.
var (
	request  = []string{":method=POST", ":scheme=http", ":path=/s/m", ":authority=pod", "content-type=application/grpc", "te=trailers"}
	response = []string{":status=200", "content-type=application/grpc"}
)

const (
	requestLine  = " :method=POST :scheme=http :path=/s/m :authority=pod content-type=application/grpc te=trailers"
	responseLine = " :status=200 content-type=application/grpc"
	unavailable  = " :status=200 content-type=application/grpc grpc-status=14 grpc-message="
)

func (p *peer) call(id uint32, end bool, more ...string) {
	p.t.Helper()
	p.headers(id, end, append(slices.Clone(request), more...)...)
}

func (p *peer) answer(id uint32, end bool, more ...string) {
	p.t.Helper()
	p.headers(id, end, append(slices.Clone(response), more...)...)
}

// lastCall is the call that ended last.
func (s *scene) lastCall() Call {
	s.t.Helper()
	if len(s.calls) == 0 {
		s.t.Fatal("no call has ended")
	}
	return s.calls[len(s.calls)-1]
}

// ended holds that a connection failed with that code, by error and by GOAWAY.
func (p *peer) ended(code ErrCode) {
	p.t.Helper()
	var err *Error
	if p.conn.State() != Closed || !errors.As(p.conn.Err(), &err) || err.Code != code {
		p.t.Fatalf("%s is %s with %v, not closed with %s", p.name, p.conn.State(), p.conn.Err(), code)
	}
	lines := p.got()
	if n := len(lines); n == 0 || !strings.HasPrefix(lines[n-1], "GOAWAY") || !strings.Contains(lines[n-1], code.String()) {
		p.t.Fatalf("%s got %q, not a GOAWAY with %s", p.name, lines, code)
	}
}

// over holds that nothing is left when all connections are gone.
func (s *scene) over() {
	s.t.Helper()
	for _, p := range s.peers {
		p.conn.Lost(s.now, io.EOF)
		s.check()
	}
	if n := s.e.Counters(); n.Streams != 0 || n.Waiting != 0 || n.Buffered != 0 || n.Retained != 0 || n.Metadata != 0 {
		s.t.Errorf("with all connections gone the engine holds %+v", n)
	}
	if len(s.e.conns) != 0 {
		s.t.Errorf("%d connections are not forgotten", len(s.e.conns))
	}
	for _, p := range s.peers {
		if p.conn.zombies != 0 || len(p.conn.resets) != 0 {
			s.t.Errorf("%s has %d cancelled calls, %d resets under way", p.name, p.conn.zombies, len(p.conn.resets))
		}
	}
}

func hpackField(name, value string) hpack.HeaderField {
	return hpack.HeaderField{Name: name, Value: value}
}
