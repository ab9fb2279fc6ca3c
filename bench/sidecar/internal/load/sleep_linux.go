package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper returns a sleep that is exact to some microseconds, and what is to be called when no more sleep is needed: the Go runtime's
// own wakes a millisecond late, which is half of the time between two calls at 2,000 a second.
func sleeper() (sleep func(time.Duration), leave func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0) // an inexact sleep makes bursts, no errors
	return func(d time.Duration) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // woken early: the call leaves early by that
	}, runtime.UnlockOSThread
}
