//go:build !unix

package server

import "time"

// cpuTime is 0: the example's pods run on Linux.
func cpuTime() time.Duration { return 0 }
