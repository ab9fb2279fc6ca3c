package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// graceful is how long a command has to end by itself after an interrupt.
const graceful = 15 * time.Second

// command is a program to run in a folder with additions to the environment.
type command struct {
	dir  string
	env  []string // "NAME=value", on top of the process's own
	argv []string
}

// run starts the command, sends both its streams to out and waits. When ctx
// ends it stops the command and all that the command started.
func (c command) run(ctx context.Context, out io.Writer) error {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = graceful
	ownGroup(cmd)
	err := cmd.Run()
	if ctx.Err() != nil {
		killGroup(cmd)
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// lines runs the command and returns the lines of its standard output.
func (c command) lines(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", c, err, strings.TrimSpace(stderr.String()))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// String is the command as one would type it, cut where a list of packages
// makes it long.
func (c command) String() string {
	words := c.argv
	const most = 8
	if len(words) > most {
		words = append(append([]string(nil), words[:most]...), fmt.Sprintf("… (%d more)", len(words)-most))
	}
	return strings.Join(words, " ")
}
