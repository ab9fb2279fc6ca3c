package main

import "testing"

func TestDetectorDied(t *testing.T) {
	const died = "ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346 (tid=25895)\nFAIL\texample.org/a\t8.792s\n"
	for text, want := range map[string]bool{
		died:                                   true,
		died + "--- FAIL: TestA (0.00s)\n":     false,
		died + "WARNING: DATA RACE\n":          false,
		died + "panic: test timed out\n":       false,
		"FAIL\texample.org/a [build failed]\n": false,
	} {
		if got := detectorDied(text); got != want {
			t.Errorf("%v of %q", got, text)
		}
	}
}
