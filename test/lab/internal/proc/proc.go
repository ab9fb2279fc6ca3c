// Package proc starts the lab's daemons and ends them, and tells a live one
// from another process that was given the same number since.
//
// A daemon is known by pid and start time, and carries a mark in its
// environment ([Mark]) that its own children inherit, so that all of them are
// found even when the record of them is lost. Nothing without that mark, the
// lab's cgroup or its network namespaces is ever signalled.
package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// MarkEnv is the environment variable that every daemon of the lab carries;
// its value is the state directory.
const MarkEnv = "GRPCLB_LAB_DAEMON"

// ID names one process for as long as the machine runs.
type ID struct {
	PID int `json:"pid"`
	// Start is the time it was started, in clock ticks since boot
	// (field 22 of /proc/PID/stat, see proc(5)).
	Start uint64 `json:"start"`
}

// Stat is what [ParseStat] reads of a process.
type Stat struct {
	ID
	// State is R, S, D, Z, ... as in ps.
	State byte
	// Parent is the parent's pid.
	Parent int
	// Threads are those that have not ended, the first one included even when it has.
	Threads int
}

// Ended says whether nothing of the process runs any more. A killed process whose first thread has ended is a zombie already while other
// threads are on their way out, and until they are, its files and ports are open.
func (s Stat) Ended() bool { return s.State == 'X' || s.State == 'Z' && s.Threads <= 1 }

// ParseStat reads the content of a /proc/PID/stat file. The command's name in
// it may hold spaces and parentheses, hence the search from its end.
func ParseStat(s string) (Stat, error) {
	head, rest, ok := cutLast(s, ") ")
	if !ok {
		return Stat{}, fmt.Errorf("not a process's stat: %q", s)
	}
	pid, _, _ := strings.Cut(head, " ")
	fields := strings.Fields(rest)
	// fields[0] is field 3 of proc(5).
	const state, parent, threads, start = 0, 1, 17, 19
	if len(fields) <= start {
		return Stat{}, fmt.Errorf("a process's stat was cut short: %q", s)
	}
	var st Stat
	var err error
	if st.PID, err = strconv.Atoi(pid); err != nil {
		return Stat{}, err
	}
	if st.Parent, err = strconv.Atoi(fields[parent]); err != nil {
		return Stat{}, err
	}
	if st.Threads, err = strconv.Atoi(fields[threads]); err != nil {
		return Stat{}, err
	}
	if st.Start, err = strconv.ParseUint(fields[start], 10, 64); err != nil {
		return Stat{}, err
	}
	st.State = fields[state][0]
	return st, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Read returns the stat of a process that is there, dead or alive.
func Read(pid int) (Stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(string(b))
}

// Alive says whether this very process still runs. One that has ended but
// was not waited for by its parent does not.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	st, err := Read(id.PID)
	return err == nil && st.Start == id.Start && !st.Ended()
}

// List returns the pid of this very process while it runs, for [EndAll].
func (id ID) List() ([]int, error) {
	if !id.Alive() {
		return nil, nil
	}
	return []int{id.PID}, nil
}

// MarkedWith returns the state directory in a process's environment, given as
// the content of /proc/PID/environ, or "".
func MarkedWith(environ string) string {
	for kv := range strings.SplitSeq(environ, "\x00") {
		if v, ok := strings.CutPrefix(kv, MarkEnv+"="); ok {
			return v
		}
	}
	return ""
}

// programOf returns the program's name in the content of a /proc/PID/cmdline.
func programOf(cmdline string) string {
	argv0, _, _ := strings.Cut(cmdline, "\x00")
	return argv0[strings.LastIndexByte(argv0, '/')+1:]
}
