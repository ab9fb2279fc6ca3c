//go:build !linux

package refresher

import (
	"syscall"
	"time"
)

// userTimeoutControl does nothing: the socket option is Linux's.
func userTimeoutControl(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}
