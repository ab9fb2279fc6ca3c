package sockdiag

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestLayout(t *testing.T) {
	var ti unix.TCPInfo
	for _, c := range []struct {
		name string
		have int
		want uintptr
	}{
		{"rtt", offRTT, unsafe.Offsetof(ti.Rtt)}, {"bytes_acked", offBytesAcked, unsafe.Offsetof(ti.Bytes_acked)},
		{"bytes_received", offBytesReceived, unsafe.Offsetof(ti.Bytes_received)}, {"segs_in", offSegsIn, unsafe.Offsetof(ti.Segs_in)},
		{"nlmsghdr", headerLen, unix.SizeofNlMsghdr}, {"NLMSG_DONE", typeDone, unix.NLMSG_DONE}, {"NLMSG_ERROR", typeError, unix.NLMSG_ERROR},
		{"SOCK_DIAG_BY_FAMILY", typeDiag, unix.SOCK_DIAG_BY_FAMILY}, {"NLM_F_DUMP_INTR", flagIntr, unix.NLM_F_DUMP_INTR},
		{"AF_INET", familyIPv4, unix.AF_INET}, {"AF_INET6", familyIPv6, unix.AF_INET6}, {"LISTEN", stateListen, unix.BPF_TCP_LISTEN},
	} {
		if uintptr(c.have) != c.want {
			t.Errorf("%s = %d, the system has %d", c.name, c.have, c.want)
		}
	}
}

// TestDump finds both ends of a connection of ours, and sees its bytes and their rate.
func TestDump(t *testing.T) {
	for _, network := range []struct{ name, addr string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"tcp", ":0"}} {
		t.Run(network.name, func(t *testing.T) {
			client, server, port := connection(t, network.name, network.addr)
			before := dump(t, port)
			if _, err := client.Write(make([]byte, 5000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(server, make([]byte, 5000)); err != nil {
				t.Fatal(err)
			}
			sockets, _ := Compare([]Table{before, dump(t, port)})
			var listening, established bool
			for _, s := range sockets {
				switch {
				case s.State == "LISTEN":
					listening = s.RxBytes == nil && s.Remote.Port() == 0
				case s.State == "ESTABLISHED" && s.Remote == addrPort(client.LocalAddr()):
					established = s.Local == addrPort(client.RemoteAddr()) && s.RxBytes != nil && *s.RxBytes == 5000 &&
						s.RxRate != nil && *s.RxRate > 0 && s.TxRate != nil && *s.TxRate == 0 && s.Inode != 0
				}
			}
			if !listening || !established {
				t.Errorf("listening %v, established %v in %+v", listening, established, sockets)
			}
		})
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func connection(t *testing.T, network, addr string) (client, server net.Conn, port uint16) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	port = addrPort(l.Addr()).Port()
	dialTo := l.Addr().String()
	if network == "tcp" { // a dual-stack listener reached over IPv4
		dialTo, network = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String(), "tcp4"
	}
	if client, err = net.Dial(network, dialTo); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server, port
}

func dump(t *testing.T, port uint16) Table {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	table, err := Dump(ctx, States("ESTABLISHED", "LISTEN"))
	if err != nil && !errors.Is(err, ErrInterrupted) { // other tests open and close sockets all the time
		t.Fatal(err)
	}
	return table.Filter([]uint16{port})
}

// TestDumpSmallBuffer: datagrams that do not fit are an error to try again with more room, not a shorter table.
func TestDumpSmallBuffer(t *testing.T) {
	connection(t, "tcp4", "127.0.0.1:0")
	_, err := dumpOnce(context.Background(), request(unix.AF_INET, uint32(AllStates), 1), 64)
	if !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("error %v", err)
	}
}

func TestDumpCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dump(ctx, AllStates); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestDumpRefused(t *testing.T) {
	if _, err := dumpOnce(context.Background(), request(99, uint32(AllStates), 1), bufferSize); err == nil {
		t.Error("family 99 was dumped")
	}
}
