package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is the pause between two attempts to take the lock.
const lockPoll = 100 * time.Millisecond

// Lock takes the state directory's lock, which only one command holds at a
// time. The kernel releases it when the holder ends, however it ends. While
// another holds it, waiting is called once with the holder's description and
// Lock waits until ctx ends. Call the returned function to release it.
func (d Dir) Lock(ctx context.Context, what string, waiting func(holder string)) (func(), error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.LockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", d.LockFile(), err)
		}
		if !told {
			holder, _ := os.ReadFile(d.LockFile())
			waiting(strings.TrimSpace(string(holder)))
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for %s: %w", d.LockFile(), ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	// Who holds it, for the next one who has to wait; wrong text harms nobody.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "%s (pid %d)\n", what, os.Getpid()), 0)
	return func() { f.Close() }, nil
}
