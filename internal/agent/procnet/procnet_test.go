package procnet

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

const (
	heading  = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	listen4  = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0\n"
	mapped6  = "   1: 0000000000000000FFFF00000A01F40A:C36B 0000000000000000FFFF00000B02F40A:A1B2 01 00000000:00000000 02:00000A5F 00000000 65532        0 777 2 0000000000000000 20 4 30 10 -1\n"
	real6    = "   2: 000080FE00000000000000000A00F40A:0050 B80D0120000000000000000001000000:FFFF 06 00000000:00000000 03:00000A5F 00000000     0        0 0 3 0000000000000000\n"
	bigWords = "   0: 7F000001:1F90 0A000002:0050 01 00000000:00000000 00:00000000 00000000  1000        0 12345 1\n"
)

func socket(local, remote, state string, uid uint32, inode uint64) agentapi.Socket {
	return agentapi.Socket{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), State: state, UID: uid, Inode: inode}
}

var compareAddr = cmpopts.EquateComparable(netip.AddrPort{})

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		order    binary.ByteOrder
		want     []agentapi.Socket
		bad      string
	}{
		{name: "empty"},
		{name: "heading only", in: heading},
		{name: "both files", in: heading + listen4 + heading + mapped6 + real6, want: []agentapi.Socket{
			socket("127.0.0.1:8080", "0.0.0.0:0", "LISTEN", 1000, 12345),
			socket("10.244.1.10:50027", "10.244.2.11:41394", "ESTABLISHED", 65532, 777),
			socket("[fe80::af4:a]:80", "[2001:db8::1]:65535", "TIME_WAIT", 0, 0),
		}},
		{name: "big-endian", in: bigWords, order: binary.BigEndian, want: []agentapi.Socket{
			socket("127.0.0.1:8080", "10.0.0.2:80", "ESTABLISHED", 1000, 12345)}},
		{name: "good lines survive bad ones", in: "cat: /proc/net/tcp6: No such file\n" + listen4 + "   1: 0100007F:1F90 0000\n",
			want: []agentapi.Socket{socket("127.0.0.1:8080", "0.0.0.0:0", "LISTEN", 1000, 12345)}, bad: "(2 in all): line 1"},
		{name: "address of three bytes", in: strings.Replace(listen4, "0100007F", "010000", 1), bad: "address of 3 bytes"},
		{name: "port too large", in: strings.Replace(listen4, ":1F90", ":1F90F", 1), bad: "port"},
		{name: "state", in: strings.Replace(listen4, " 0A ", " XX ", 1), bad: "state"},
		{name: "unknown state", in: strings.Replace(listen4, " 0A ", " 7B ", 1),
			want: []agentapi.Socket{socket("127.0.0.1:8080", "0.0.0.0:0", "STATE_123", 1000, 12345)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(tt.in), tt.order)
			if diff := cmp.Diff(tt.want, got, compareAddr); diff != "" {
				t.Errorf("sockets: %s", diff)
			}
			if (err != nil) != (tt.bad != "") || (err != nil && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.bad))) {
				t.Errorf("error %v, want one with %q", err, tt.bad)
			}
		})
	}
}

func TestParseEndlessLine(t *testing.T) {
	if _, err := Parse(strings.NewReader(strings.Repeat("x", 5000)), nil); err == nil {
		t.Error("a line of 5,000 bytes was taken")
	}
}

func TestParseTooMany(t *testing.T) {
	got, err := Parse(strings.NewReader(strings.Repeat(listen4, MaxSockets+1)), nil)
	if !errors.Is(err, ErrTooMany) || len(got) != MaxSockets {
		t.Errorf("%d sockets, error %v", len(got), err)
	}
}

// TestParseThisMachine finds a socket of ours in the kernel's own text, mapped as a server on [::] sees it.
func TestParseThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc/net/tcp")
	}
	l, err := net.Listen("tcp", ":0") // [::] where there is IPv6
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", l.Addr().String()[strings.LastIndex(l.Addr().String(), ":")+1:]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var text strings.Builder
	files, err := filepath.Glob("/proc/net/tcp*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	got, err := Parse(strings.NewReader(text.String()), binary.NativeEndian)
	if err != nil {
		t.Fatal(err)
	}
	local, remote := c.RemoteAddr().String(), c.LocalAddr().String()
	if !slices.ContainsFunc(got, func(s agentapi.Socket) bool {
		return s.Local.String() == local && s.Remote.String() == remote && s.State == agentapi.StateEstablished
	}) {
		t.Errorf("%s <- %s not among %d sockets", local, remote, len(got))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(heading + listen4 + mapped6 + real6)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Parse(strings.NewReader(in), nil)
		if len(got) > strings.Count(in, "\n")+1 {
			t.Errorf("%d sockets, error %v", len(got), err)
		}
		for _, s := range got {
			if !s.Local.IsValid() || !s.Remote.IsValid() || s.Local.Addr().Is4In6() || s.State == "" {
				t.Errorf("socket %+v", s)
			}
		}
	})
}
