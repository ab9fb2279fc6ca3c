//go:build !linux

package main

import (
	"errors"
	"time"
)

func cpuTime(int) (time.Duration, error) { return 0, errors.New(onlyHere()) }

func memoryOf(int) (memory, error) { return memory{}, errors.New(onlyHere()) }

// onlyHere says why the benchmark cannot run on this system.
func onlyHere() string {
	return "it needs Linux, where a process's CPU time and all of 127.0.0.0/8 can be had"
}
