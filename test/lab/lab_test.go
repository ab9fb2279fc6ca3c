package main

import (
	"os"
	"testing"
)

// skip skips a test that this machine cannot run, or fails it where every
// test has to run: with CI=true in the environment.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("cannot run, and CI=true demands it: %s", reason)
	}
	t.Skip(reason)
}
