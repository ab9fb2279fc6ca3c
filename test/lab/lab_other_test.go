//go:build !linux

package main

import (
	"runtime"
	"testing"
)

func TestCluster(t *testing.T) {
	skip(t, "the lab needs Linux and this is "+runtime.GOOS)
}
