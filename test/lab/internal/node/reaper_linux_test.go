package node

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reaperHelper is set in the process that a reaper test runs itself in: a
// reaper waits for every child, so it cannot share a process with other tests.
const reaperHelper = "GRPCLB_LAB_TEST_REAPER"

func TestReaperTellsEachEndToWhoStartedIt(t *testing.T) {
	if os.Getenv(reaperHelper) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), reaperHelper+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	// Orphans come to this process, as they come to a node's init.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r, stop := newReaper(), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { r.run(stop) })
	defer running.Wait()
	defer close(stop)

	var all sync.WaitGroup
	for code := range 30 {
		all.Go(func() {
			// Each leaves an orphan behind as well.
			ended, err := r.start(exec.Command("sh", "-c", "(sh -c : &) ; exit $0", string(rune('0'+code%10))))
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case status := <-ended:
				if status.ExitStatus() != code%10 {
					t.Errorf("exit code %d, want %d", status.ExitStatus(), code%10)
				}
			case <-time.After(10 * time.Second):
				t.Error("an end was not told")
			}
		})
	}
	all.Wait()
	if _, err := r.start(exec.Command("/does/not/exist")); err == nil {
		t.Error("a program that is not there was started")
	}
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		// WNOWAIT looks without reaping.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		select {
		case <-deadline:
			t.Fatal("orphans were not reaped")
		case <-tick.C:
		}
	}
}
