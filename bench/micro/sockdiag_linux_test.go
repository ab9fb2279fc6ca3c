package micro

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/internal/agent/sockdiag"
)

const connections = 500

// connect opens connections over loopback, so that the table holds twice as many sockets besides the machine's own.
func connect(b *testing.B) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	for range connections {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	}
}

// BenchmarkDump reads the kernel's table of TCP sockets of both families with their counters.
func BenchmarkDump(b *testing.B) {
	connect(b)
	b.Run("sockets=1000/impl=ours", func(b *testing.B) {
		for b.Loop() {
			t, err := sockdiag.Dump(b.Context(), sockdiag.AllStates)
			if err != nil || len(t.Records) < 2*connections {
				b.Fatalf("%d sockets, %v", len(t.Records), err)
			}
		}
	})
	b.Run("sockets=1000/impl=peer", func(b *testing.B) {
		for b.Loop() {
			v4, err := netlink.SocketDiagTCPInfo(unix.AF_INET)
			if err != nil || len(v4) < 2*connections {
				b.Fatalf("%d sockets, %v", len(v4), err)
			}
			if _, err := netlink.SocketDiagTCPInfo(unix.AF_INET6); err != nil {
				b.Fatal(err)
			}
		}
	})
}
