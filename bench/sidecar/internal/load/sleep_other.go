//go:build !linux

package load

import "time"

// sleeper returns the runtime's sleep.
func sleeper() (sleep func(time.Duration), leave func()) { return time.Sleep, func() {} }
