package sidecar

import (
	"syscall"
	"unsafe"
)

// The sockets do not block, so the scheduler need not be told of their reads and
// writes: that costs a tenth of a call, and hands the processor to another thread
// when the kernel delivers a packet to a process of the same machine on the way.

func sysRead(fd uintptr, b []byte) (int, error) { return raw(syscall.SYS_READ, fd, b) }

func sysWrite(fd uintptr, b []byte) (int, error) { return raw(syscall.SYS_WRITE, fd, b) }

func raw(call, fd uintptr, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
