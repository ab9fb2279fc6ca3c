package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func passes(_ context.Context, out io.Writer) error {
	fmt.Fprintln(out, "noise of a step that passes")
	return nil
}

func fails(_ context.Context, out io.Writer) error {
	fmt.Fprintln(out, "reason of the failure")
	return errors.New("broken")
}

func skips(context.Context, io.Writer) error { return skip("needs root") }

func TestRunner(t *testing.T) {
	steps := []step{{"one", "", passes}, {"two", "", fails}, {"three", "", skips}}
	tests := map[string]struct {
		runner  runner
		want    summary
		wantOut string
	}{
		"quiet": {
			want: summary{passed: 1, failed: 1, skipped: 1},
			wantOut: `[1/3] one ...
[1/3] one ... ok 0s
[2/3] two ...
[2/3] two ... FAILED 0s
reason of the failure
[3/3] three ...
[3/3] three ... skipped 0s

[2/3] two failed: broken
[3/3] three was skipped: needs root
total time 0s
steps: 1 passed, 1 failed, 1 skipped
`,
		},
		"verbose and strict, as in CI": {
			runner: runner{verbose: true, strict: true},
			want:   summary{passed: 1, failed: 2},
			wantOut: `[1/3] one ...
noise of a step that passes
[1/3] one ... ok 0s
[2/3] two ...
reason of the failure
[2/3] two ... FAILED 0s
[3/3] three ...
[3/3] three ... skipped 0s

[2/3] two failed: broken
[3/3] three failed: CI=true lets no step be skipped, and this one was: needs root
total time 0s
steps: 1 passed, 2 failed, 0 skipped
`,
		},
		"on a terminal": {
			runner:  runner{live: true},
			want:    summary{passed: 1, failed: 1, skipped: 1},
			wantOut: "[1/3] one ...\r[1/3] one ... ok 0s\n[2/3] two ...\r[2/3] two ... FAILED 0s\nreason of the failure\n[3/3] three ...\r[3/3] three ... skipped 0s\n\n[2/3] two failed: broken\n[3/3] three was skipped: needs root\ntotal time 0s\nsteps: 1 passed, 1 failed, 1 skipped\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tt.runner.out, tt.runner.beat = &out, heartbeat
				if got := tt.runner.run(t.Context(), steps); got != tt.want {
					t.Errorf("summary %+v, want %+v", got, tt.want)
				}
				if diff := cmp.Diff(tt.wantOut, out.String()); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLongStepsShowThatTheyAreAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		slow := func(context.Context, io.Writer) error { time.Sleep(70 * time.Second); return nil }
		runner{out: &out, beat: heartbeat}.run(t.Context(), []step{{"slow", "", slow}})
		want := "[1/1] slow ...\n[1/1] slow ... 30s\n[1/1] slow ... 1m0s\n[1/1] slow ... ok 1m10s\n"
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("output:\n%s\nwant it to begin with:\n%s", out.String(), want)
		}
	})
}

func TestAnInterruptStopsTheListAndWhatRuns(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pid int
	endless := func(ctx context.Context, _ io.Writer) error {
		// A child of the command: the one that a plain kill would orphan.
		script := command{argv: []string{"sh", "-c", "sleep 600 & echo $!; wait"}}
		return script.run(ctx, firstLine(func(line string) {
			var err error
			if pid, err = strconv.Atoi(line); err != nil {
				t.Errorf("pid: %v", err)
			}
			cancel()
		}))
	}
	var out bytes.Buffer
	sum := runner{out: &out, beat: heartbeat}.run(ctx, []step{{"endless", "", endless}, {"never", "", passes}})
	if want := (summary{failed: 1}); sum != want {
		t.Errorf("summary %+v, want %+v", sum, want)
	}
	if !strings.Contains(out.String(), "[1/2] endless: interrupted") || strings.Contains(out.String(), "never") {
		t.Errorf("output:\n%s", out.String())
	}
	gone := func() bool {
		state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
		return err != nil || strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
	}
	deadline, tick := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !gone() {
		select {
		case <-deadline:
			t.Fatalf("process %d outlived the interrupt", pid)
		case <-tick.C:
		}
	}
}

// firstLine calls f with the first line written.
func firstLine(f func(string)) io.Writer {
	var seen strings.Builder
	done := false
	return writerFunc(func(p []byte) (int, error) {
		seen.Write(p)
		if line, _, ok := strings.Cut(seen.String(), "\n"); ok && !done {
			done = true
			f(line)
		}
		return len(p), nil
	})
}

func TestLastLines(t *testing.T) {
	if got := lastLines("a\nb\n", 3); got != "a\nb\n" {
		t.Errorf("short text changed: %q", got)
	}
	got := lastLines("a\nb\nc\nd", 2)
	if want := "(2 earlier lines left out; -v shows all)\nc\nd"; got != want {
		t.Errorf("lastLines = %q, want %q", got, want)
	}
}

func TestCalls(t *testing.T) {
	t.Setenv("CI", "")
	tests := map[string]struct {
		args []string
		code int
		out  string
	}{
		"list":         {[]string{"-list"}, exitOK, "fuzz-seeds +fuzz targets"},
		"unknown step": {[]string{"lint", "nonsense"}, exitUsage, `no step "nonsense"; there are unit, lint`},
		"unknown flag": {[]string{"-nonsense"}, exitUsage, "not defined: -nonsense"},
		"help":         {[]string{"-h"}, exitOK, "-context context"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &out); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !regexp.MustCompile(tt.out).Match(out.Bytes()) {
				t.Errorf("output does not match %q:\n%s", tt.out, out.String())
			}
		})
	}
}

// write makes a tree of files below dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
