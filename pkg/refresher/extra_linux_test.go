package refresher_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
)

// TestUserTimeout: the kernel has what was asked for, and keepalive probes are
// on at the system's pace, as grpc-go's own dialer has them.
func TestUserTimeout(t *testing.T) {
	pods := startPods(t, 1)
	conn, err := refresher.Dialer(1500*time.Millisecond)(within(t), pods[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var timeout, keepalive int
	var errs [2]error
	if err := raw.Control(func(fd uintptr) {
		timeout, errs[0] = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		keepalive, errs[1] = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	}); err != nil || errs[0] != nil || errs[1] != nil {
		t.Fatal(err, errs)
	}
	if timeout != 1500 || keepalive != 1 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, want 1500; SO_KEEPALIVE is %d, want 1", timeout, keepalive)
	}
}
