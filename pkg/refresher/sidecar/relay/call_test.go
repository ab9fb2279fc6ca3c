package relay

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// A whole unary call, byte for byte: no header added or altered.
func TestUnary(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	c.call(1, false, "grpc-timeout=1S", "user-agent=x", "x-a=1")
	c.data(1, true, "hello")
	p.expect("HEADERS 1"+requestLine+" grpc-timeout=1S user-agent=x x-a=1", "DATA 1 END hello")
	s.now += 1000
	p.answer(1, false, "grpc-encoding=gzip")
	p.data(1, false, "world")
	s.now += 1000
	p.headers(1, true, "grpc-status=0", "grpc-message=")
	c.expect("HEADERS 1"+responseLine+" grpc-encoding=gzip", "DATA 1 world", "HEADERS 1 END grpc-status=0 grpc-message=")
	want := Call{
		Client: c.conn, Backend: p.conn, Start: 1_000_000_000, FirstByte: 1_000_001_000, End: 1_000_002_000, HTTP: 200,
		Outcome: policy.Success, RequestBytes: 5, ResponseBytes: 5,
	}
	if got := s.lastCall(); got != want {
		t.Errorf("the call was %+v, not %+v", got, want)
	}
	p.expect()
	s.over()
}

func TestTrailersOnly(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, true)
	s.pods[0].expect("HEADERS 1 END" + requestLine)
	s.pods[0].answer(1, true, "grpc-status=5")
	s.client.expect("HEADERS 1 END" + responseLine + " grpc-status=5")
	s.pods[0].expect()
	if call := s.lastCall(); call.Code != 5 || call.Outcome != policy.Success {
		t.Errorf("the call was %+v", call)
	}
	s.over()
}

func TestInformationalHeadersPass(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, true)
	s.pods[0].headers(1, false, ":status=103", "link=x")
	s.pods[0].answer(1, true, "grpc-status=0")
	s.client.expect("HEADERS 1 :status=103 link=x", "HEADERS 1 END"+responseLine+" grpc-status=0")
	s.over()
}

func TestRequestTrailersPass(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, false)
	s.client.data(1, false, "a")
	s.client.headers(1, true, "checksum=7")
	s.pods[0].expect("HEADERS 1"+requestLine, "DATA 1 a", "HEADERS 1 END checksum=7")
	s.over()
}

func TestPaddingStripped(t *testing.T) {
	s := newScene(t, 1)
	s.client.do(func() {
		_ = s.client.fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: s.client.block(request...), EndHeaders: true, PadLength: 9,
			Priority: http2.PriorityParam{StreamDep: 3, Weight: 7},
		})
		_ = s.client.fr.WriteDataPadded(1, true, []byte("x"), make([]byte, 200))
	})
	s.pods[0].expect("HEADERS 1"+requestLine, "DATA 1 END x")
	s.over()
}

// Early END_STREAM: RFC 9113, 8.1.
func TestResponseBeforeRequestEnds(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	c.call(1, false)
	c.data(1, false, "a")
	p.got()
	p.answer(1, true, "grpc-status=3")
	c.expect("HEADERS 1 END"+responseLine+" grpc-status=3", "RST 1 NO_ERROR")
	p.expect("RST 1 CANCEL")
	// What crosses the resets hurts nobody.
	c.data(1, false, "b")
	c.data(1, true, "c")
	p.reset(1, NoError)
	p.expect()
	c.expect()
	s.over()
}

func TestHalfClose(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, false)
	s.pods[0].got()
	s.pods[0].answer(1, false)
	s.client.data(1, true, "")
	s.pods[0].expect("DATA 1 END ")
	s.pods[0].data(1, false, "more")
	s.pods[0].data(1, true, "")
	s.client.expect("HEADERS 1"+responseLine, "DATA 1 more", "DATA 1 END ")
	s.over()
}

func TestClientCancelReachesThePod(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, false)
	s.client.data(1, false, "a")
	s.client.reset(1, Cancel)
	s.pods[0].expect("HEADERS 1"+requestLine, "DATA 1 a", "RST 1 CANCEL")
	if call := s.lastCall(); call.Outcome != policy.Neutral {
		t.Errorf("the call was %+v", call)
	}
	// What the pod had sent before it knew is dropped.
	s.pods[0].answer(1, false)
	s.pods[0].data(1, true, "late")
	s.client.expect()
	s.over()
}

func TestPodResetReachesTheClient(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, true)
	s.pods[0].answer(1, false)
	s.pods[0].reset(1, EnhanceYourCalm)
	s.client.expect("HEADERS 1"+responseLine, "RST 1 ENHANCE_YOUR_CALM")
	if call := s.lastCall(); call.Outcome != policy.Overloaded {
		t.Errorf("the call was %+v", call)
	}
	s.over()
}

func TestClientGone(t *testing.T) {
	s := newScene(t, 1)
	s.client.call(1, false)
	s.client.call(3, true)
	s.pods[0].got()
	s.client.conn.Lost(s.now, nil)
	s.pods[0].expect("RST 1 CANCEL", "RST 3 CANCEL")
	s.over()
}

// Metadata beyond what one frame holds pass both ways; beyond the limit only the
// call ends.
func TestLargeMetadata(t *testing.T) {
	s := newScene(t, 1)
	c, p := s.client, s.pods[0]
	big := strings.Repeat("~", 20<<10)
	c.call(1, true, "x-big="+big)
	p.expect("HEADERS 1 END" + requestLine + " x-big=" + big)
	p.answer(1, false, "x-big="+big)
	p.headers(1, true, "grpc-status=0", "x-big="+big)
	c.expect("HEADERS 1"+responseLine+" x-big="+big, "HEADERS 1 END grpc-status=0 x-big="+big)

	huge := strings.Repeat("~", 100<<10)
	c.call(3, false, "x-big="+huge)
	c.expect("HEADERS 3 END :status=200 content-type=application/grpc grpc-status=8 grpc-message=too large for the sidecar: the request's metadata…", "RST 3 NO_ERROR")
	c.headers(5, true, ":method=GET", ":scheme=http", ":path=/", "x-big="+huge)
	c.expect("HEADERS 5 END :status=431 content-length=0")
	p.expect()

	c.call(7, true)
	p.got()
	p.answer(3, true, "x-big="+huge)
	p.expect("RST 3 CANCEL")
	c.expect("HEADERS 7 END :status=200 content-type=application/grpc grpc-status=8 grpc-message=too large for the sidecar: the response's metadata…")
	c.call(9, true)
	p.got()
	p.answer(5, false)
	p.data(5, false, "x")
	p.headers(5, true, "grpc-status=0", "x-big="+huge)
	p.expect("RST 5 CANCEL")
	c.expect("HEADERS 9"+responseLine, "DATA 9 x", "HEADERS 9 END grpc-status=8 grpc-message=too large for the sidecar: the response's trailers…")
	c.call(11, false)
	c.headers(11, true, "x-big="+huge)
	c.expect("HEADERS 11 END :status=200 content-type=application/grpc grpc-status=8 grpc-message=too large for the sidecar: the request's trailers…")
	p.expect("HEADERS 7"+requestLine, "RST 7 CANCEL")
	if c.conn.State() != Ready || p.conn.State() != Ready {
		t.Error("a connection did not survive")
	}
	s.over()
}

// HPACK: what changes with each call must not push the rest out of the table, and
// what is a secret must not be in it (RFC 7541, 7.1.3).
func TestPerCallFieldsNeverIndexed(t *testing.T) {
	s := newScene(t, 1)
	size := func(id uint32, more ...string) int {
		s.client.call(id, true, more...)
		return len(s.pods[0].conn.TakeOut(nil))
	}
	size(1)
	base := size(3)
	for i, name := range []string{"grpc-timeout", "traceparent", "authorization", "grpc-trace-bin", "x-request-id"} {
		id := uint32(5 + 4*i)
		first, again := size(id, name+"=1000000m"), size(id+2, name+"=1000000m")
		if first <= base || again != first {
			t.Errorf("%s: %d bytes at first, %d again, %d without: it was indexed", name, first, again, base)
		}
	}
	if first, again := size(101, "x-other=1000000m"), size(103, "x-other=1000000m"); again >= first {
		t.Errorf("any other field: %d bytes at first, %d again", first, again)
	}
	s.over()
}

// The tables stay in step whatever becomes of a stream.
func TestRefusedStreamsAreDecoded(t *testing.T) {
	s := newScene(t, 1, func(c *Config) { c.MaxStreams = 1 })
	c, p := s.client, s.pods[0]
	c.call(1, true)
	c.call(3, true, "x-new=in the table")
	c.expect("RST 3 REFUSED_STREAM")
	p.got()
	p.answer(1, true, "grpc-status=0", "x-pod=one")
	c.got()
	c.call(5, true, "x-new=in the table")
	p.expect("HEADERS 3 END" + requestLine + " x-new=in the table")
	c.reset(5, Cancel)
	p.answer(3, true, "grpc-status=0", "x-pod=two")
	p.expect("RST 3 CANCEL")
	c.call(7, true)
	p.got()
	p.answer(5, true, "grpc-status=0", "x-pod=two")
	c.expect("HEADERS 7 END" + responseLine + " grpc-status=0 x-pod=two")
	s.over()
}

func TestPeersTableSizeObeyed(t *testing.T) {
	s := newScene(t, 1)
	p := s.pods[0]
	s.client.call(1, true, "x-a=indexed")
	p.got()
	p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}) })
	// The decoder of the test refuses what the pod's would.
	p.fr.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(0)
	s.client.call(3, true, "x-a=indexed")
	p.expect("SETTINGS ACK", "HEADERS 3 END"+requestLine+" x-a=indexed")
	p.do(func() { _ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 20}) })
	p.fr.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(defaultTable)
	s.client.call(5, true, "x-a=indexed")
	s.client.call(7, true, "x-a=indexed")
	p.expect("SETTINGS ACK", "HEADERS 5 END"+requestLine+" x-a=indexed", "HEADERS 7 END"+requestLine+" x-a=indexed")
	s.over()
}
