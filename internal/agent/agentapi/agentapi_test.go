package agentapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

var compareAddr = cmpopts.EquateComparable(netip.AddrPort{})

func socketReport(n int) agentapi.SocketReport {
	rx, rate := uint64(1<<60), 1234.5
	r := agentapi.SocketReport{Version: agentapi.Version, At: time.Unix(1_000_000, 0).UTC(), Host: "square-app-5d9c-4x2lq", Interval: 2.01, Samples: 2}
	for i := range n {
		r.Sockets = append(r.Sockets, agentapi.Socket{
			Local:  netip.MustParseAddrPort("10.244.1.10:6565"),
			Remote: netip.AddrPortFrom(netip.MustParseAddr("10.244.2.11"), uint16(i)), State: agentapi.StateEstablished,
			RxBytes: &rx, RxRate: &rate, UID: 65532, Inode: uint64(i)})
	}
	return r
}

func probeReport() agentapi.ProbeReport {
	limit := uint32(100)
	return agentapi.ProbeReport{Version: agentapi.Version, At: time.Unix(1_000_000, 0).UTC(), Method: "/a/b", Elapsed: 1.5,
		Targets: []agentapi.Target{{Name: "clusterip", Target: "square-service:6565", Resolved: 1}, {Name: "x", Target: "x:1", Error: "no such host"}},
		Channels: []agentapi.Channel{{Name: "clusterip", Target: "square-service:6565", Local: netip.MustParseAddrPort("10.244.1.10:50027"),
			Remote: netip.MustParseAddrPort("10.96.120.7:6565"), Calls: 3, Failed: 1, Codes: map[string]int{"OK": 2, "UNAVAILABLE": 1},
			Latency: &agentapi.Latency{P50: 1, P90: 2, P99: 3, Samples: 2}, Settings: &agentapi.Settings{MaxConcurrentStreams: &limit}},
			{Name: "x", Target: "x:1", StartError: "no address"}},
		Errors: []string{"one", "two"}}
}

func write(t *testing.T, r any) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch r := r.(type) {
	case agentapi.SocketReport:
		err = agentapi.WriteSockets(&b, r)
	case agentapi.ProbeReport:
		err = agentapi.WriteProbe(&b, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range bytes.SplitAfter(b.Bytes(), []byte("\n")) {
		if len(l) > agentapi.MaxLine {
			t.Errorf("line %d has %d bytes", i, len(l))
		}
	}
	return b.Bytes()
}

func TestReportsComeBack(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		want := socketReport(n)
		got, err := agentapi.ReadSockets(bytes.NewReader(write(t, want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, compareAddr); diff != "" {
			t.Errorf("%d sockets: %s", n, diff)
		}
	}
	got, err := agentapi.ReadProbe(bytes.NewReader(write(t, probeReport())))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(probeReport(), got, compareAddr); diff != "" {
		t.Errorf("probe: %s", diff)
	}
}

// TestGolden pins the wire form: a plugin and an agent of different builds must understand each other.
func TestGolden(t *testing.T) {
	const want = `{"version":"grpclb.dev/agent/v1","kind":"SocketReport","head":{"version":"grpclb.dev/agent/v1","at":"1970-01-12T13:46:40Z","host":"square-app-5d9c-4x2lq","interval":2.01,"samples":2}}
{"version":"grpclb.dev/agent/v1","kind":"SocketReport","sockets":[{"local":"10.244.1.10:6565","remote":"10.244.2.11:0","state":"ESTABLISHED","rxBytes":1152921504606846976,"rxRate":1234.5,"uid":65532}]}
{"version":"grpclb.dev/agent/v1","kind":"SocketReport","end":{"lines":2,"items":1}}
`
	if diff := cmp.Diff(want, string(write(t, socketReport(1)))); diff != "" {
		t.Error(diff)
	}
}

// TestReadStopsAtTheEnd: the log may still be followed while the agent holds its connections.
func TestReadStopsAtTheEnd(t *testing.T) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := w.Write(append([]byte("some runtime's greeting\n"), write(t, probeReport())...))
		written <- err // the pipe stays open
	}()
	got, err := agentapi.ReadProbe(r)
	if err != nil || len(got.Channels) != 2 {
		t.Errorf("%d channels, error %v", len(got.Channels), err)
	}
	_ = r.Close()
	<-written
}

func TestCutAtEveryByte(t *testing.T) {
	whole := write(t, socketReport(200))
	for n := 0; n < len(whole); n += 131 {
		got, err := agentapi.ReadSockets(bytes.NewReader(whole[:n]))
		if !errors.Is(err, agentapi.ErrCut) && !errors.Is(err, agentapi.ErrNoReport) {
			t.Fatalf("cut at %d of %d: %d sockets, error %v", n, len(whole), len(got.Sockets), err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	whole := string(write(t, socketReport(200)))
	lines := strings.SplitAfter(whole, "\n")
	tests := []struct {
		name, in string
		want     error
		text     string
	}{
		{"a line lost", strings.Join(append([]string{lines[0]}, lines[2:]...), ""), agentapi.ErrCut, "items"},
		{"a line torn", lines[0] + lines[1][:100] + "\n" + strings.Join(lines[2:], ""), agentapi.ErrCut, "items"},
		{"nothing", "", agentapi.ErrNoReport, "nothing was printed"},
		{"another program", "exec /grpclb-refresher: exec format error\n", agentapi.ErrNoReport, "exec format error"},
		{"an end alone", lines[len(lines)-2], agentapi.ErrCut, ""},
		{"another kind", string(write(t, probeReport())), agentapi.ErrNoReport, ""},
		{"a newer agent", strings.ReplaceAll(whole, "agent/v1", "agent/v2"), agentapi.ErrVersion, "v2"},
		{"an endless line", strings.Repeat("x", 100<<10), agentapi.ErrTooLong, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := agentapi.ReadSockets(strings.NewReader(tt.in))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// TestHostileTexts: what a server says ends up in a report and must not make its lines too long.
func TestHostileTexts(t *testing.T) {
	evil := strings.Repeat("\x00<\u2028", 4000)
	r := probeReport()
	r.Host, r.Method = evil, evil
	for i := range 30 {
		r.Errors = append(r.Errors, fmt.Sprint(i, evil))
		r.Targets = append(r.Targets, agentapi.Target{Name: evil, Target: evil, Error: evil})
		r.Channels = append(r.Channels, agentapi.Channel{Name: evil, Target: evil, StartError: evil, EndError: evil})
	}
	got, err := agentapi.ReadProbe(bytes.NewReader(write(t, r)))
	if err != nil || len(got.Channels) != len(r.Channels) || len(got.Errors) != len(r.Errors) {
		t.Errorf("%d channels, %d errors, error %v", len(got.Channels), len(got.Errors), err)
	}
}

func TestWriteReportsItsError(t *testing.T) {
	r, w := io.Pipe()
	_ = r.CloseWithError(io.ErrShortWrite)
	if err := agentapi.WriteSockets(w, socketReport(3)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v", err)
	}
}

func TestCut(t *testing.T) {
	for _, s := range []string{strings.Repeat("ä", 400), strings.Repeat("\U0001F600", 400), strings.Repeat("\x80", 2000)} {
		got := agentapi.Cut(s)
		if len(got) > agentapi.MaxText || !strings.HasSuffix(got, "…") || (utf8.ValidString(s) && !utf8.ValidString(got)) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
	if got := agentapi.Cut("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}

func TestTCPState(t *testing.T) {
	for n, want := range map[uint8]string{0: "STATE_0", 1: "ESTABLISHED", 6: "TIME_WAIT", 10: "LISTEN", 12: "NEW_SYN_RECV", 200: "STATE_200"} {
		if got := agentapi.TCPState(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func FuzzReadSockets(f *testing.F) {
	var b bytes.Buffer
	_ = agentapi.WriteSockets(&b, socketReport(2))
	f.Add(b.String())
	f.Fuzz(func(t *testing.T, in string) {
		r, err := agentapi.ReadSockets(strings.NewReader(in))
		if err == nil && !strings.Contains(in, `"end"`) {
			t.Errorf("whole without an end: %+v", r)
		}
	})
}
