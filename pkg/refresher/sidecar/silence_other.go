//go:build !linux

package sidecar

// transport is of use on Linux alone.
func (c *conn) transport() (t transport, ok bool) { return t, false }
