package relay

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// wire is an Engine between one client and one pod that cost next to nothing: what
// they send was encoded before, what they get is thrown away.
type wire struct {
	b           *testing.B
	e           *Engine
	now         policy.Nanos
	client, pod *Conn
	spare       []byte
	id          uint32 // of the client's last stream
	bid         uint32 // of the pod's
}

// Pick, Done and Changed make it a Host.
func (w *wire) Pick(policy.Nanos, *Conn) (*Conn, *Status) { return w.pod, nil }

func (w *wire) Done(Call) {}

func (w *wire) Changed(*Conn) {}

func newWire(b *testing.B) *wire {
	w := &wire{b: b, now: 1_000_000_000}
	w.restart()
	b.ReportAllocs()
	return w
}

// restart begins with new connections: stream ids are finite.
func (w *wire) restart() {
	s := newScene(w.b, 1)
	w.e, w.client, w.pod = s.e, s.client.conn, s.pods[0].conn
	w.e.host = w
	w.id, w.bid = ^uint32(0), ^uint32(0)
	for _, c := range []*Conn{w.client, w.pod} {
		c.sendWin, c.initWin = 1<<30, 1<<30
	}
}

func (w *wire) feed(c *Conn, b []byte) {
	w.now += 1000
	if n, err := c.Feed(w.now, b); n != len(b) || err != nil {
		w.b.Fatalf("%d of %d, %v", n, len(b), err)
	}
	w.flush()
}

func (w *wire) flush() {
	for _, c := range w.e.Dirty() {
		out := c.TakeOut(w.spare)
		c.sendWin = 1 << 30
		c.Written(w.now, len(out))
		w.spare = out
	}
}

// patch sets the stream id of all frames in b but those of stream 0.
func patch(b []byte, id uint32) {
	for len(b) > 0 {
		n := frameHeader + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
		if b[5]|b[6]|b[7]|b[8] != 0 {
			b[5], b[6], b[7], b[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
		}
		b = b[n:]
	}
}

// messages are the frames of a request and of its response, each as one read. The
// tables have been filled by a first one.
func messages(b *testing.B, w *wire, size int, more ...string) (req, res []byte) {
	s := newScene(b, 0)
	c, p := s.client, s.peer("pod", s.e.Backend(s.now))
	build := func() ([]byte, []byte) {
		c.out.Reset()
		p.out.Reset()
		_ = c.fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, EndHeaders: true,
			BlockFragment: c.block(append(append([]string(nil), request...), more...)...),
		})
		_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: p.block(response...)})
		for n := size; ; n -= maxFrame {
			k := min(n, maxFrame)
			_ = c.fr.WriteData(1, k == n, make([]byte, k))
			_ = p.fr.WriteData(1, false, make([]byte, k))
			if k == n {
				break
			}
		}
		_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: p.block("grpc-status=0", "grpc-message=")})
		return append([]byte(nil), c.out.Bytes()...), append([]byte(nil), p.out.Bytes()...)
	}
	w.call(build())
	return build()
}

func (w *wire) call(req, res []byte) {
	if w.id += 2; w.id > maxStreamID && w.id != 1 {
		w.b.Fatal("stream ids ran out")
	}
	w.bid += 2
	patch(req, w.id)
	w.feed(w.client, req)
	patch(res, w.bid)
	w.feed(w.pod, res)
}

func benchmarkCalls(b *testing.B, size int, more ...string) {
	w := newWire(b)
	req, res := messages(b, w, size, more...)
	b.SetBytes(int64(2 * size))
	for b.Loop() {
		w.call(req, res)
	}
	if n := w.e.Counters(); n.Streams != 0 {
		b.Fatalf("%+v", n)
	}
}

func BenchmarkUnary(b *testing.B) { benchmarkCalls(b, 100, "user-agent=grpc-go/1.76.0") }

// A time-out differs from call to call: it is the one field that is decoded to a
// string of its own.
func BenchmarkUnaryTimeout(b *testing.B) {
	benchmarkCalls(b, 100, "user-agent=grpc-go/1.76.0", "grpc-timeout=999999u")
}

func BenchmarkMessage1K(b *testing.B) { benchmarkCalls(b, 1<<10) }

func BenchmarkMessage64K(b *testing.B) { benchmarkCalls(b, 64<<10) }

// One message each way on a stream that stays open.
func BenchmarkPingPong(b *testing.B) {
	w := newWire(b)
	req, res := messages(b, w, 100)
	w.id, w.bid = w.id+2, w.bid+2
	head := frameHeader + int(req[1])<<8 + int(req[2])
	patch(req, w.id)
	w.feed(w.client, req[:head])
	head = frameHeader + int(res[1])<<8 + int(res[2])
	patch(res, w.bid)
	w.feed(w.pod, res[:head])
	msg := append([]byte{0, 0, 100, frameData, 0, 0, 0, 0, 1}, make([]byte, 100)...)
	for b.Loop() {
		patch(msg, w.id)
		w.feed(w.client, msg)
		patch(msg, w.bid)
		w.feed(w.pod, msg)
	}
}

// Sixty-four calls in each read: what batching saves.
func BenchmarkUnaryBatch(b *testing.B) {
	w := newWire(b)
	req, res := messages(b, w, 100, "user-agent=grpc-go/1.76.0")
	const batch = 64
	reqs, ress := make([]byte, 0, batch*len(req)), make([]byte, 0, batch*len(res))
	for i := 0; b.Loop(); i++ {
		if i%batch != 0 {
			continue
		}
		reqs, ress = reqs[:0], ress[:0]
		for range batch {
			w.id, w.bid = w.id+2, w.bid+2
			patch(req, w.id)
			patch(res, w.bid)
			reqs, ress = append(reqs, req...), append(ress, res...)
		}
		w.feed(w.client, reqs)
		w.feed(w.pod, ress)
	}
}
