//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup makes cmd the head of a process group and ends the whole group with
// it: the go command does not pass signals on to the tests it runs.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// killGroup ends what SIGTERM left of the group; there may be nothing.
func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
