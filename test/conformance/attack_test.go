//go:build conformance

package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacker is a client that sends what it likes.
type attacker struct {
	net.Conn
	out    bytes.Buffer // frames that are to be sent
	frames *http2.Framer
	id     uint32 // of the next stream
}

// attack connects and says what HTTP/2 wants first. Unless deaf, it takes all that is sent to it.
func attack(t *testing.T, addr string, deaf bool, settings ...http2.Setting) (*attacker, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	a := &attacker{Conn: conn, id: 1}
	a.frames = http2.NewFramer(&a.out, nil)
	a.frames.AllowIllegalWrites = true
	a.out.WriteString(http2.ClientPreface)
	a.put(a.frames.WriteSettings(settings...))
	if !deaf {
		go func() { _, _ = io.Copy(io.Discard, conn) }() // until the connection ends
	}
	return a, a.flush()
}

// put is for writes into memory.
func (*attacker) put(error) {}

// flush sends what was put. A peer that takes nothing for a while is an end, too.
func (a *attacker) flush() error {
	if err := a.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return err
	}
	_, err := a.Write(a.out.Bytes())
	a.out.Reset()
	return err
}

// block is the header block of a call, without a dynamic table, so that it can be sent any number of times; more is appended.
func block(method string, more ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "pod"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		f.Sensitive = true
		_ = e.WriteField(f) // into memory
	}
	return b.Bytes()
}

// call puts the head of a call.
func (a *attacker) call(block []byte, end bool) uint32 {
	id := a.id
	a.id += 2
	a.put(a.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end}))
	return id
}

// flood is one way to attack. wave puts about as many bytes as one write should have, again and again; begin is called once for each
// connection before, and may be nil.
type flood struct {
	name string
	// why is the number under which others speak of it, if it has one.
	why   string
	deaf  bool
	begin func(a *attacker)
	wave  func(a *attacker)
}

var floods = []flood{
	{
		name: "CONTINUATION without an end", why: "VU#421644",
		begin: func(a *attacker) {
			a.put(a.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(echoMethod)}))
		},
		wave: func(a *attacker) {
			field := block("/", hpack.HeaderField{Name: "x-more", Value: strings.Repeat("m", 8000)})
			a.put(a.frames.WriteContinuation(1, false, field))
		},
	},
	{
		name: "empty CONTINUATION without an end",
		begin: func(a *attacker) {
			a.put(a.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(echoMethod)}))
		},
		wave: func(a *attacker) {
			for range 1000 {
				a.put(a.frames.WriteContinuation(1, false, nil))
			}
		},
	},
	{
		name: "rapid reset", why: "CVE-2023-44487",
		wave: func(a *attacker) {
			head := block(echoMethod)
			for range 200 {
				a.put(a.frames.WriteRSTStream(a.call(head, false), http2.ErrCodeCancel))
			}
		},
	},
	{
		name: "calls that the server resets", why: "CVE-2025-8671",
		wave: func(a *attacker) {
			head := block(hangMethod)
			for range 200 {
				id := a.call(head, false)
				a.put(a.frames.WriteWindowUpdate(id, 0)) // a stream error (RFC 9113, 6.9)
			}
		},
	},
	{
		name: "PING, answers unread", why: "CVE-2019-9512", deaf: true,
		wave: func(a *attacker) {
			for range 1000 {
				a.put(a.frames.WritePing(false, [8]byte{}))
			}
		},
	},
	{
		name: "SETTINGS, acknowledgements unread", why: "CVE-2019-9515", deaf: true,
		wave: func(a *attacker) {
			for range 1000 {
				a.put(a.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535}))
			}
		},
	},
	{
		name: "empty DATA", why: "CVE-2019-9518",
		begin: func(a *attacker) { a.call(block(echoMethod), false) },
		wave: func(a *attacker) {
			for range 1000 {
				a.put(a.frames.WriteData(1, false, nil))
			}
		},
	},
	{
		name:  "WINDOW_UPDATE by one",
		begin: func(a *attacker) { a.call(block(hangMethod), false) },
		wave: func(a *attacker) {
			for range 500 {
				a.put(a.frames.WriteWindowUpdate(0, 1))
				a.put(a.frames.WriteWindowUpdate(1, 1))
			}
		},
	},
	{
		name: "PRIORITY",
		wave: func(a *attacker) {
			for i := range uint32(1000) {
				a.put(a.frames.WritePriority(1+2*i, http2.PriorityParam{StreamDep: 0, Weight: 1}))
			}
		},
	},
	{
		name: "HPACK bomb: one long field, named thousands of times", why: "CVE-2016-6581",
		wave: func(a *attacker) {
			fields := append(block(echoMethod), bomb(a.id == 1)...)
			a.call(fields, true)
		},
	},
	{
		name: "frames of unknown kinds",
		wave: func(a *attacker) {
			for range 1000 {
				a.put(a.frames.WriteRawFrame(0xbe, 0, 0, nil))
			}
		},
	},
}

// bomb puts a field of 4,000 bytes into the dynamic table, on a connection's first call, and names it 12,000 times in a byte each: 48 MB.
func bomb(first bool) []byte {
	var b []byte
	if first {
		const name, value = "x-bomb", 4000
		b = append(b, 0x40, byte(len(name)))
		b = append(b, name...)
		b = append(b, 0x7f) // a length of 127 and more (RFC 7541, section 5.1)
		b = binary.AppendUvarint(b, value-127)
		b = append(b, strings.Repeat("b", value)...)
	}
	return append(b, bytes.Repeat([]byte{0x80 | 62}, 12_000)...)
}

// run floods for a while on a few connections at a time, each replaced when it ends, and counts.
func (f flood) run(t *testing.T, addr string, stop <-chan struct{}) (sent int64, ended int) {
	t.Helper()
	const connections = 3
	var mu sync.Mutex
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := f.once(t, addr, stop)
				mu.Lock()
				sent += n
				if err != nil {
					ended++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sent, ended
}

// once floods on one connection until that ends, which is the error, or until stop.
func (f flood) once(t *testing.T, addr string, stop <-chan struct{}) (sent int64, err error) {
	t.Helper()
	a, err := attack(t, addr, f.deaf)
	if err != nil {
		return 0, err
	}
	defer func() { _ = a.Close() }() // it may be closed already
	if f.begin != nil {
		f.begin(a)
	}
	for {
		f.wave(a)
		n := int64(a.out.Len())
		if err := a.flush(); errors.Is(err, os.ErrDeadlineExceeded) {
			select { // it takes no more: as good as closed, but there is no hurry to come again
			case <-stop:
			case <-time.After(200 * time.Millisecond):
			}
			return sent, err
		} else if err != nil {
			return sent, err
		}
		sent += n
		select {
		case <-stop:
			return sent, nil
		default:
		}
	}
}
