package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time of a process and of its threads, those that ended included, to the nanosecond: /proc/PID/stat counts in hundredths
// of a second, a third of what some runs use.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of a thread group: clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// memoryOf is what a process has in memory now.
func memoryOf(pid int) (memory, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return memory{}, err
	}
	field := func(name string) int64 {
		_, rest, _ := strings.Cut(string(b), name)
		words := strings.Fields(rest)
		if len(words) == 0 {
			err = fmt.Errorf("process %d does not say what it has in memory", pid)
			return 0
		}
		kib, parseErr := strconv.ParseInt(words[0], 10, 64)
		err = errors.Join(err, parseErr)
		return kib << 10
	}
	m := memory{resident: field("VmRSS:"), anonymous: field("RssAnon:")}
	return m, err
}

// onlyHere says why the benchmark cannot run on this system; empty where it can.
func onlyHere() string { return "" }
