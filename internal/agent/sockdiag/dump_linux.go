package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	attempts    = 4
	receiveWait = 2 * time.Second // without an answer for that long, none will come
	bufferSize  = 64 << 10        // the kernel fills at most 32 KiB a datagram
)

// Dump reads the table of IPv4 and IPv6 sockets in the given states once. A dump that the kernel marks as interrupted, or whose
// datagrams did not fit a buffer, is tried again, four times in all.
//
// Errors are of a family (a kernel without tcp_diag or IPv6, ErrInterrupted, ErrMalformed …); the Table holds what the other gave.
func Dump(ctx context.Context, states StateSet) (Table, error) {
	var t Table
	var errs []error
	for _, f := range []struct {
		number uint8
		name   string
	}{{unix.AF_INET, "IPv4"}, {unix.AF_INET6, "IPv6"}} {
		records, err := dumpFamily(ctx, f.number, uint32(states))
		t.Records = append(t.Records, records...)
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s sockets: %w", f.name, explain(err)))
		}
	}
	t.At = time.Now()
	return t, errors.Join(errs...)
}

func explain(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("kernel lacks the tcp_diag module: %w", err)
	}
	return err
}

func dumpFamily(ctx context.Context, family uint8, states uint32) ([]Record, error) {
	size := bufferSize
	var last []Record
	var err error
	for range attempts {
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		last, err = dumpOnce(ctx, request(family, states, 1), size)
		switch {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EMSGSIZE):
			size *= 2
		case errors.Is(err, ErrInterrupted), errors.Is(err, unix.EINTR):
		default:
			return last, err
		}
	}
	return last, err
}

// dumpOnce uses a socket of its own, so that nothing of an abandoned attempt is left to be read.
func dumpOnce(ctx context.Context, req []byte, size int) ([]Record, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// A larger buffer is only a wish: the kernel caps it at net.core.rmem_max.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16*size)
	wait := unix.NsecToTimeval(int64(receiveWait))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, fmt.Errorf("netlink time-out: %w", err)
	}
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink request: %w", err)
	}
	a := &answer{seq: 1}
	buf := make([]byte, size)
	for !a.done {
		if ctx.Err() != nil {
			return a.records, ctx.Err()
		}
		n, flags, err := receive(fd, buf)
		if err != nil {
			return a.records, err
		}
		if flags&unix.MSG_TRUNC != 0 {
			return a.records, fmt.Errorf("datagram beyond %d bytes: %w", size, unix.EMSGSIZE)
		}
		if err := a.take(buf[:n]); err != nil {
			return a.records, err
		}
	}
	if a.intr {
		return a.records, ErrInterrupted
	}
	return a.records, nil
}

// receive reads one datagram of the kernel. Other processes may send to a netlink socket too: theirs are passed over.
func receive(fd int, buf []byte) (n, flags int, err error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(fd, buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue // a signal, for the runtime to handle
		case errors.Is(err, unix.EAGAIN):
			return 0, 0, fmt.Errorf("no answer of the kernel in %s: %w", receiveWait, err)
		case err != nil:
			return 0, 0, fmt.Errorf("netlink answer: %w", err)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue
		}
		if n == 0 {
			return 0, 0, fmt.Errorf("%w: empty datagram", ErrMalformed)
		}
		return n, flags, nil
	}
}
