// Package child runs programs and says what each run took: wall time, CPU time, peak memory.
//
// The runs are made by a process of their own, the program in bench/measured. On Linux the peak memory of a process counts from
// before its exec, when it still shared the memory of whoever started it: a program started by a large process looks large. The
// small one in between keeps the floor at a few megabytes, and leaves a quiet parent to measure from.
//
//	err := child.Measure(ctx, launcher, child.Plan{Commands: commands, Runs: 20, Warm: 2}, func(r child.Run) { … })
//
// It judges nothing, and it runs one command at a time.
package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"
)

// Plan says what to run. The commands take turns, so that a slow minute of the machine is everybody's.
type Plan struct {
	Commands []Command
	// Runs is how often each command is run and counted; Warm is how often before that, to fill caches.
	Runs, Warm int
}

// Command is one program with its arguments.
type Command struct {
	Argv []string
	// OK are the exit codes that mean the program did its work; none means 0 only.
	OK []int
}

// Run is one run of one command.
type Run struct {
	// Command is the index in the plan; Warm is true for a run that does not count.
	Command int
	Warm    bool
	Wall    time.Duration
	// CPU is user and system time together.
	CPU time.Duration
	// MaxRSS is the peak of resident memory in bytes; zero where the system does not tell.
	MaxRSS int64
	Exit   int
	Stderr string
	// Error says why there is nothing to measure; the plan ends with it.
	Error string `json:",omitempty"`
}

// Measure has the launcher carry out the plan and hands over each run as it ends. The first run that fails ends it with an error.
func Measure(ctx context.Context, launcher string, plan Plan, env []string, each func(Run)) error {
	in, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	cmd := exec.CommandContext(ctx, launcher)
	cmd.Env = env
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	var failed error
	for d := json.NewDecoder(out); ; {
		var r Run
		if err := d.Decode(&r); err != nil {
			if !errors.Is(err, io.EOF) {
				failed = fmt.Errorf("measure: %w", err)
			}
			break
		}
		if r.Error != "" {
			failed = errors.New(r.Error)
			continue
		}
		each(r)
	}
	if err := cmd.Wait(); err != nil && failed == nil {
		failed = fmt.Errorf("measure: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return errors.Join(ctx.Err(), failed)
}

// Serve is the launcher's side: it reads a plan and writes one Run per line.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	var plan Plan
	if err := json.NewDecoder(in).Decode(&plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	enc := json.NewEncoder(out)
	for n := range plan.Warm + plan.Runs {
		for i, c := range plan.Commands {
			r := once(ctx, c)
			r.Command, r.Warm = i, n < plan.Warm
			if err := enc.Encode(r); err != nil {
				return fmt.Errorf("write a run: %w", err)
			}
			if r.Error != "" {
				return nil // the reader of the run knows
			}
		}
	}
	return nil
}

// once runs a command with its output thrown away.
func once(ctx context.Context, c Command) Run {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	r := Run{Wall: time.Since(start), Stderr: stderr.String()}
	if cmd.ProcessState == nil {
		r.Error = fmt.Sprintf("%s: %v", c.Argv[0], err)
		return r
	}
	r.Exit = cmd.ProcessState.ExitCode()
	r.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.MaxRSS = maxRSS(cmd.ProcessState)
	ok := c.OK
	if ok == nil {
		ok = []int{0}
	}
	if !slices.Contains(ok, r.Exit) {
		r.Error = fmt.Sprintf("%q ended with %d: %s", c.Argv, r.Exit, bytes.TrimSpace(stderr.Bytes()))
	}
	return r
}
