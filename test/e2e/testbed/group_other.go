//go:build !unix

package testbed

import "os/exec"

func ableUser() bool { return false }

// ownGroup does nothing: without process groups the command is killed alone.
func ownGroup(*exec.Cmd) {}
