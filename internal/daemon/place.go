package daemon

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// The variables in which a manifest tells the pod's and the node's address, by the
// downward API (status.podIP, status.hostIP).
const (
	PodIPEnv  = "GRPCLB_POD_IP"
	HostIPEnv = "GRPCLB_HOST_IP"
)

// hostNetwork reports whether the pod is certainly in its node's network: then
// both have one address. Without the two variables nothing is certain: interfaces
// and routes look different with every network plugin, and a guess that is wrong
// would keep a good pod from starting.
func hostNetwork(getenv func(string) string) (address string, yes bool) {
	pod, host := getenv(PodIPEnv), getenv(HostIPEnv)
	return pod, pod != "" && pod == host
}

// memory is what the garbage collector was told.
type memory struct {
	// gcPercent is GOGC's value, limit GOMEMLIMIT's in bytes, 0 for none.
	gcPercent int
	limit     int64
	// container is the memory limit of the control group, 0 for none.
	container int64
}

// gcPercent keeps the heap close to what is in use, since the memory is multiplied by
// the number of pods. 25 cost 10 to 15 % more CPU at messages of 64 KB than 50, and
// saved nothing at small ones.
const gcPercent = 50

// leastMemory is what a container should be given at least.
const leastMemory = 24 << 20

// tuneMemory sets the garbage collector for a process that many pods have. What the
// environment says counts more; the Go runtime has read it already.
func tuneMemory(getenv func(string) string, cgroup []string) memory {
	m := memory{container: containerLimit(cgroup)}
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		m.gcPercent = gcPercent
	}
	if getenv("GOMEMLIMIT") == "" && m.container > 0 {
		// A tenth is left for what is not the heap's: stacks, the kernel's buffers.
		debug.SetMemoryLimit(m.container / 10 * 9)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		m.limit = limit
	}
	return m
}

// settle gives back what reading flags and files took: a few megabytes that the
// collector would keep for later, in a process that may never need them again.
func settle() { debug.FreeOSMemory() }

// cgroupFiles hold the container's memory limit: of version 2 of control groups, and
// of version 1. Where neither is there, there is none that we could read.
func cgroupFiles() []string {
	return []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
}

// noLimit is more than any container has: version 1 writes a number near 2^63 where
// version 2 writes "max".
const noLimit = 1 << 50

func containerLimit(files []string) int64 {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil || n >= noLimit {
			return 0
		}
		return n
	}
	return 0
}

// mebibytes is for a log line.
func mebibytes(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
