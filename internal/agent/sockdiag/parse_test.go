package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// kernel builds answers as the kernel does; the zero value of each field is valid.
type kernel struct {
	family, state uint8
	local, remote string
	info          []byte // struct tcp_info
	cookie        uint32
	flags         uint16
}

func (k kernel) message() []byte {
	b := make([]byte, messageLen)
	b[0], b[1] = k.family, k.state
	put := func(text string, at, port int) {
		ap := netip.MustParseAddrPort(text)
		if k.family == familyIPv4 {
			copy(b[at:], ap.Addr().AsSlice())
		} else {
			a := ap.Addr().As16()
			copy(b[at:], a[:])
		}
		binary.BigEndian.PutUint16(b[port:], ap.Port())
	}
	put(k.local, 8, 4)
	put(k.remote, 24, 6)
	binary.NativeEndian.PutUint32(b[44:], k.cookie)
	binary.NativeEndian.PutUint32(b[64:], 65532)
	binary.NativeEndian.PutUint32(b[68:], 4242)
	b = append(b, attr(7, []byte{1, 2, 3})...) // another attribute, with padding
	if k.info != nil {
		b = append(b, attr(attrInfo, k.info)...)
	}
	return message(typeDiag, k.flags, b)
}

func attr(kind uint16, payload []byte) []byte {
	b := make([]byte, 4, 8+len(payload))
	binary.NativeEndian.PutUint16(b, uint16(4+len(payload)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, payload...)
	return append(b, make([]byte, -len(b)&3)...)
}

func message(kind, flags uint16, payload []byte) []byte {
	b := make([]byte, headerLen, headerLen+len(payload)+3)
	binary.NativeEndian.PutUint32(b, uint32(headerLen+len(payload)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], 1)
	b = append(b, payload...)
	return append(b, make([]byte, -len(b)&3)...)
}

func done(code int32) []byte {
	return message(typeDone, 0, binary.NativeEndian.AppendUint32(nil, uint32(code)))
}

func failure(errno int32) []byte {
	return message(typeError, 0, binary.NativeEndian.AppendUint32(nil, uint32(-errno)))
}

func info(length int) []byte {
	b := make([]byte, 300)
	binary.NativeEndian.PutUint32(b[offRTT:], 150)
	binary.NativeEndian.PutUint64(b[offBytesAcked:], 1000)
	binary.NativeEndian.PutUint64(b[offBytesReceived:], 1<<40)
	binary.NativeEndian.PutUint32(b[offSegsIn:], 12)
	return b[:length]
}

func ptr[T any](v T) *T { return &v }

var compareAddr = cmpopts.EquateComparable(netip.AddrPort{})

func TestAnswer(t *testing.T) {
	base := agentapi.Socket{Local: netip.MustParseAddrPort("10.0.0.1:80"), Remote: netip.MustParseAddrPort("10.0.0.2:4000"),
		State: "ESTABLISHED", UID: 65532, Inode: 4242}
	with := func(change func(*agentapi.Socket)) Record {
		r := Record{Socket: base, Cookie: 9}
		change(&r.Socket)
		return r
	}
	v4 := kernel{family: familyIPv4, state: 1, local: "10.0.0.1:80", remote: "10.0.0.2:4000", cookie: 9}
	mapped := kernel{family: familyIPv6, state: 1, local: "[::ffff:10.0.0.1]:80", remote: "[::ffff:10.0.0.2]:4000", cookie: 9}
	full := func(s *agentapi.Socket) {
		s.RxBytes, s.TxBytes, s.SegsIn, s.RTTMicros = ptr[uint64](1<<40), ptr[uint64](1000), ptr[uint32](12), ptr[uint32](150)
	}
	tests := []struct {
		name string
		in   []byte
		want []Record
		done bool
		intr bool
		err  error
	}{
		{name: "IPv4", in: append(func() []byte { k := v4; k.info = info(248); return k.message() }(), done(0)...), want: []Record{with(full)}, done: true},
		{name: "IPv4-mapped", in: func() []byte { k := mapped; k.info = info(248); return k.message() }(), want: []Record{with(full)}},
		{name: "kernel 2.6: 104 bytes of tcp_info", in: func() []byte { k := v4; k.info = info(104); return k.message() }(),
			want: []Record{with(func(s *agentapi.Socket) { s.RTTMicros = ptr[uint32](150) })}},
		{name: "kernel 4.1: no segments yet", in: func() []byte { k := v4; k.info = info(136); return k.message() }(),
			want: []Record{with(func(s *agentapi.Socket) { full(s); s.SegsIn = nil })}},
		{name: "no tcp_info", in: v4.message(), want: []Record{with(func(*agentapi.Socket) {})}},
		{name: "listener has no counters", in: func() []byte { k := v4; k.state = 10; k.info = info(248); return k.message() }(),
			want: []Record{with(func(s *agentapi.Socket) { s.State = "LISTEN" })}},
		{name: "interrupted", in: func() []byte { k := v4; k.flags = flagIntr; return k.message() }(), want: []Record{with(func(*agentapi.Socket) {})}, intr: true},
		{name: "end without a code", in: message(typeDone, 0, nil), done: true},
		{name: "end with an error", in: done(-int32(syscall.ENOENT)), done: true, err: syscall.ENOENT},
		{name: "error", in: failure(int32(syscall.EINVAL)), done: true, err: syscall.EINVAL},
		{name: "short error", in: message(typeError, 0, []byte{1}), done: true, err: ErrMalformed},
		{name: "half a header", in: v4.message()[:10], err: ErrMalformed},
		{name: "message beyond the datagram", in: v4.message()[:60], err: ErrMalformed},
		{name: "short socket", in: message(typeDiag, 0, make([]byte, 40)), err: ErrMalformed},
		{name: "unknown family", in: message(typeDiag, 0, make([]byte, messageLen)), err: ErrMalformed},
		{name: "length 0", in: make([]byte, 32), err: ErrMalformed},
		{name: "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &answer{seq: 1}
			err := a.take(tt.in)
			if !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, a.records, compareAddr); diff != "" {
				t.Errorf("records: %s", diff)
			}
			if a.done != tt.done || a.intr != tt.intr {
				t.Errorf("done %v, interrupted %v", a.done, a.intr)
			}
		})
	}
}

func TestAnswerOfAnotherRequest(t *testing.T) {
	a := &answer{seq: 2}
	if err := a.take(done(0)); err != nil || a.done {
		t.Errorf("done %v, error %v", a.done, err)
	}
}

func TestCompare(t *testing.T) {
	start := time.Unix(1000, 0)
	record := func(cookie uint64, remote string, rx uint64) Record {
		return Record{Cookie: cookie, Socket: agentapi.Socket{Local: netip.MustParseAddrPort("10.0.0.1:80"),
			Remote: netip.MustParseAddrPort(remote), State: "ESTABLISHED", RxBytes: &rx, TxBytes: ptr[uint64](7)}}
	}
	tables := []Table{
		{At: start, Records: []Record{record(1, "10.0.0.9:1", 100), record(2, "10.0.0.8:1", 0), record(3, "10.0.0.7:1", 50), record(5, "10.0.0.5:1", 10)}},
		{At: start.Add(time.Second), Records: []Record{record(1, "10.0.0.9:1", 100), record(4, "10.0.0.6:1", 100)}},
		// 2 is gone; 3's addresses are in use by a new connection; 5's counter ran backwards.
		{At: start.Add(2 * time.Second), Records: []Record{record(1, "10.0.0.9:1", 500), record(6, "10.0.0.7:1", 900),
			record(4, "10.0.0.6:1", 400), record(5, "10.0.0.5:1", 1)}},
	}
	got, closed := Compare(tables)
	if closed != 2 {
		t.Errorf("closed = %d, want 2", closed)
	}
	want := []struct {
		remote string
		rx     *float64
	}{{"10.0.0.5:1", nil}, {"10.0.0.6:1", ptr(300.0)}, {"10.0.0.7:1", nil}, {"10.0.0.9:1", ptr(200.0)}}
	if len(got) != len(want) {
		t.Fatalf("%d sockets, want %d", len(got), len(want))
	}
	for i, w := range want {
		if got[i].Remote.String() != w.remote || !cmp.Equal(got[i].RxRate, w.rx) {
			t.Errorf("socket %d: %s %v, want %s %v", i, got[i].Remote, got[i].RxRate, w.remote, w.rx)
		}
	}
	if got[3].TxRate == nil || *got[3].TxRate != 0 {
		t.Errorf("idle direction: %v, want 0", got[3].TxRate)
	}
	if one, closed := Compare(tables[:1]); len(one) != 4 || one[0].RxRate != nil || closed != 0 {
		t.Errorf("one table: %d sockets, %d closed", len(one), closed)
	}
	if none, _ := Compare(nil); none != nil {
		t.Errorf("no table: %v", none)
	}
}

func TestFilterAndStates(t *testing.T) {
	table := Table{Records: []Record{
		{Socket: agentapi.Socket{Local: netip.MustParseAddrPort("10.0.0.1:80")}}, {Socket: agentapi.Socket{Local: netip.MustParseAddrPort("10.0.0.1:81")}},
	}}
	if got := table.Filter([]uint16{81, 99}); len(got.Records) != 1 || got.Records[0].Local.Port() != 81 || len(table.Records) != 2 {
		t.Errorf("got %v, left %v", got, table)
	}
	if got := table.Filter(nil); len(got.Records) != 2 {
		t.Errorf("no ports: %v", got)
	}
	if got := States("ESTABLISHED", "LISTEN", "nonsense"); got != 1<<1|1<<10 {
		t.Errorf("states = %#x", got)
	}
}

func FuzzAnswer(f *testing.F) {
	k := kernel{family: familyIPv4, state: 1, local: "10.0.0.1:80", remote: "10.0.0.2:4000", info: info(248)}
	f.Add(append(k.message(), done(0)...))
	k.family, k.info = familyIPv6, info(20)
	f.Add(k.message())
	f.Fuzz(func(t *testing.T, b []byte) {
		a := &answer{seq: 1}
		_ = a.take(b)
		if len(a.records) > len(b)/messageLen {
			t.Errorf("%d sockets out of %d bytes", len(a.records), len(b))
		}
	})
}
