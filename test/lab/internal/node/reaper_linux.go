package node

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper is the part of an init that waits for processes: for its own
// children, and for the orphans that the kernel hands to process 1. Because
// it waits for any child, nothing else in the process may wait for one: start
// programs with [reaper.start] only.
type reaper struct {
	mu sync.Mutex
	// waiting has a channel for each child started here and not yet ended.
	waiting map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	return &reaper{waiting: map[int]chan syscall.WaitStatus{}}
}

// run reaps until stop is closed.
func (r *reaper) run(stop <-chan struct{}) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	for {
		r.reap()
		select {
		case <-stop:
			return
		case <-child:
		}
	}
}

// reap collects every process that has ended.
func (r *reaper) reap() {
	// start holds the same lock from before the fork until the child is
	// listed, so a child that ends at once is not taken for an orphan, and
	// one whose exec failed is left to start itself.
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c, ok := r.waiting[pid]; ok {
			delete(r.waiting, pid)
			c <- status
		}
	}
}

// start starts a program; its end arrives on the channel.
func (r *reaper) start(cmd *exec.Cmd) (<-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := make(chan syscall.WaitStatus, 1)
	r.waiting[cmd.Process.Pid] = c
	return c, nil
}
