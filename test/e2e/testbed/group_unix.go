//go:build unix

package testbed

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// ableUser reports whether this is root on Linux, who alone can make the lab's
// namespaces.
func ableUser() bool { return runtime.GOOS == "linux" && os.Geteuid() == 0 }

// ownGroup gives the command a process group of its own: an interrupt typed at
// the terminal then reaches it once, from here, and so does one that was sent
// to this process alone. ("go run" does not pass signals on.)
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
}
