package sidecar

import (
	"time"

	"golang.org/x/sys/unix"
)

// transport asks the kernel.
func (c *conn) transport() (t transport, ok bool) {
	if c.raw == nil {
		return t, false
	}
	err := c.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		ok = true
		t = transport{
			unacked: info.Unacked > 0, acked: info.Bytes_acked,
			lastAck: time.Duration(info.Last_ack_recv) * time.Millisecond, lastSent: time.Duration(info.Last_data_sent) * time.Millisecond,
		}
	})
	return t, ok && err == nil
}
