//go:build unix

package policy

import (
	"syscall"
	"time"
)

// cpuTime is what the process has computed so far, on all its threads: other programs stretch it less than they do wall time.
func cpuTime() (time.Duration, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
