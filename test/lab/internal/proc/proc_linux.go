package proc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endPoll is the pause between two looks at processes that are to end.
const endPoll = 10 * time.Millisecond

// firstExtraFile is the descriptor after stderr.
const firstExtraFile = 3

// Daemon describes a process that outlives the command that starts it.
type Daemon struct {
	// Path and Args are the program and its arguments, the name excluded.
	Path string
	Args []string
	// Env is added to a minimal environment.
	Env []string
	// Log receives its output; truncated.
	Log string
	// State is the state directory it is marked with.
	State string
	// Files are passed as descriptors 3, 4, ...
	Files []*os.File
	// Namespaces are further CLONE_NEW* flags.
	Namespaces uintptr
}

// Start starts a daemon in its own session, in the network namespace of the
// calling thread.
func Start(d Daemon) (ID, error) {
	if err := os.MkdirAll(filepath.Dir(d.Log), 0o755); err != nil {
		return ID{}, err
	}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return ID{}, err
	}
	defer log.Close()
	// A caller's open files, a lock say, must not live on in a daemon. Go's own
	// are closed on exec already; these came from whoever started this command.
	if err := unix.CloseRange(firstExtraFile, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return ID{}, fmt.Errorf("keep open files from %s: %w", filepath.Base(d.Path), err)
	}
	cmd := exec.Command(d.Path, d.Args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8", MarkEnv + "=" + d.State,
	}, d.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = d.Files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: d.Namespaces}
	if err := cmd.Start(); err != nil {
		return ID{}, fmt.Errorf("start %s: %w", filepath.Base(d.Path), err)
	}
	st, err := Read(cmd.Process.Pid)
	if err != nil {
		return ID{}, err
	}
	// Reap it should it end while this command still runs; its end is seen
	// through [ID.Alive] by whoever depends on it.
	go func() { _ = cmd.Wait() }()
	return st.ID, nil
}

// all returns the pid of every process.
func all() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Marked returns the processes marked with each state directory. Only root's
// count: anybody can put a mark into an environment of their own.
func Marked() (map[string][]int, error) {
	pids, err := all()
	if err != nil {
		return nil, err
	}
	found := map[string][]int{}
	for _, pid := range pids {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &st); err != nil || st.Uid != 0 {
			continue
		}
		// One that has just ended, or that is not ours to read, is not marked.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		if dir := MarkedWith(string(b)); dir != "" {
			found[dir] = append(found[dir], pid)
		}
	}
	return found, nil
}

// InNetns returns the processes of which a thread is in one of the given
// network namespaces, named by inode number.
func InNetns(inodes map[uint64]bool) ([]int, error) {
	pids, err := all()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, pid := range pids {
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) == nil && inodes[st.Ino] {
			found = append(found, pid)
		}
	}
	return found, nil
}

// Child returns the process that a parent started as the named program.
func Child(parent ID, program string) (ID, error) {
	pids, err := all()
	if err != nil {
		return ID{}, err
	}
	for _, pid := range pids {
		st, err := Read(pid)
		if err != nil || st.Parent != parent.PID || st.State == 'Z' || st.State == 'X' {
			continue // most are not, and any may end meanwhile
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && programOf(string(line)) == program {
			return st.ID, nil
		}
	}
	return ID{}, fmt.Errorf("process %d runs no %s", parent.PID, program)
}

// EndAll kills the processes that find returns until it returns none, for at
// most until ctx ends. It never signals this process or the first one.
func EndAll(ctx context.Context, find func() ([]int, error)) error {
	for {
		pids, err := find()
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range pids {
			st, err := Read(pid)
			if err != nil || st.Ended() || pid == os.Getpid() || pid == 1 {
				continue
			}
			left++
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes would not end: %w", left, ctx.Err())
		case <-time.After(endPoll):
		}
	}
}
