package h2probe

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tapeConn plays bytes as the peer and swallows what is written.
type tapeConn struct {
	net.Conn
	r io.Reader
}

func (c *tapeConn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *tapeConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *tapeConn) Close() error                { return nil }

func tape(build func(*http2.Framer, func(...string) []byte)) []byte {
	var out, block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	build(http2.NewFramer(&out, nil), func(kv ...string) []byte {
		block.Reset()
		for i := 0; i < len(kv); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return block.Bytes()
	})
	return out.Bytes()
}

// FuzzServer feeds arbitrary bytes to a connection with calls on it: nothing may panic, hang, or succeed with a broken answer.
func FuzzServer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(tape(func(fr *http2.Framer, _ func(...string) []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		_ = fr.WriteWindowUpdate(0, 10)
		_ = fr.WriteWindowUpdate(1, 10)
		_ = fr.WritePing(false, [8]byte{1})
		_ = fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	}))
	f.Add(tape(func(fr *http2.Framer, block func(...string) []byte) {
		_ = fr.WriteSettings()
		for id := uint32(1); id < 5; id += 2 {
			b := block(":status", "200", "content-type", "application/grpc")
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndHeaders: true})
			_ = fr.WriteDataPadded(id, false, []byte{0, 0, 0, 0, 2, 8, 1}, make([]byte, 3))
			b = block("grpc-status", "0")
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndHeaders: true, EndStream: true})
		}
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		dial := func(context.Context) (net.Conn, error) { return &tapeConn{r: bytes.NewReader(data)}, nil }
		id, err := Identify(ctx, dial, IdentifyOptions{StepTimeout: 2 * time.Second})
		if err != nil || id.Proto == "" {
			t.Errorf("identity %+v, error %v", id, err)
		}
		for _, e := range append(id.Evidence, id.Error, id.Server) {
			for _, r := range e {
				if r < ' ' || r > '~' {
					t.Errorf("unsafe text %q", e)
				}
			}
		}
	})
}

// FuzzStream drives one call's answer through the state machine without a connection.
func FuzzStream(f *testing.F) {
	f.Add("200", "application/grpc", "0", "m", []byte{0, 0, 0, 0, 1, 9}, true)
	f.Add("100", "", "", "", []byte{}, false)
	f.Fuzz(func(t *testing.T, status, contentType, code, message string, body []byte, trailers bool) {
		s := &stream{limit: 64, done: make(chan struct{})}
		fs := &fields{status: status, contentType: contentType, grpcStatus: code, grpcMessage: message}
		ended, err := s.takeHeaders(fs, !trailers)
		if err == nil && !ended {
			if err = s.takeData(body, false); err == nil {
				ended, err = s.takeHeaders(fs, true)
			}
		}
		if len(s.body) > prefixLen+s.limit {
			t.Errorf("holds %d bytes", len(s.body))
		}
		if err == nil && ended && s.reply.Code == OK && len(s.reply.Body)+prefixLen != len(body) {
			t.Errorf("message of %d bytes out of %d", len(s.reply.Body), len(body))
		}
	})
}
