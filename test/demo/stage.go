package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// stage is where the story is told: numbered headlines, the commands under
// them, their times, and a list of what undoes them.
type stage struct {
	out, err io.Writer
	bold     bool
	steps    []timed
	undo     []undo
}

// timed is a step that has ended.
type timed struct {
	title string
	took  time.Duration
}

// undo takes one thing back. kept says what the user has when it is left, and
// how to look at it.
type undo struct {
	title string
	kept  []string
	do    func(context.Context) error
}

func newStage(stdout, stderr io.Writer) *stage {
	f, ok := stdout.(*os.File)
	tty := ok && term.IsTerminal(int(f.Fd()))
	return &stage{out: stdout, err: stderr, bold: tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// step prints the headline, runs do, and notes the time it took.
func (s *stage) step(title string, do func() error) error {
	s.headline(title)
	began := time.Now()
	err := do()
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("%s: %w", lowerFirst(title), err)
	}
	s.steps = append(s.steps, timed{title, took})
	fmt.Fprintf(s.out, "  (%s)\n", seconds(took))
	return nil
}

func (s *stage) headline(title string) {
	line := fmt.Sprintf("%d. %s", len(s.steps)+1, title)
	if s.bold {
		line = "\x1b[1m" + line + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "\n%s\n", line)
}

// say prints a remark between commands.
func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "  "+format+"\n", args...) }

// typed prints a command line as one would type it.
func (s *stage) typed(argvs ...[]string) {
	words := make([]string, len(argvs))
	for i, argv := range argvs {
		words[i] = shell(argv)
	}
	fmt.Fprintf(s.out, "  $ %s\n", strings.Join(words, " | "))
}

// run types a command, shows its output and returns its exit code, which is an
// error unless it is among allowed (0 is).
func (s *stage) run(ctx context.Context, bed *testbed.Bed, argv []string, allowed ...int) (int, error) {
	s.typed(argv)
	cmd := bed.Command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = s.out, s.err
	return exitOf(ctx, argv, cmd.Run(), allowed...)
}

// quiet runs a command without typing it and returns what it printed.
func (s *stage) quiet(ctx context.Context, bed *testbed.Bed, argv []string, allowed ...int) ([]byte, error) {
	cmd := bed.Command(ctx, argv...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if _, err := exitOf(ctx, argv, err, allowed...); err != nil {
		return out, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// pipe types and runs "from | to".
func (s *stage) pipe(ctx context.Context, bed *testbed.Bed, from, to []string) error {
	s.typed(from, to)
	var text bytes.Buffer
	first := bed.Command(ctx, from...)
	first.Stdout, first.Stderr = &text, s.err
	if _, err := exitOf(ctx, from, first.Run()); err != nil {
		return err
	}
	return s.feed(ctx, bed, to, &text)
}

// feed runs a command with text on its standard input and shows its output.
func (s *stage) feed(ctx context.Context, bed *testbed.Bed, argv []string, text io.Reader) error {
	cmd := bed.Command(ctx, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = text, s.out, s.err
	_, err := exitOf(ctx, argv, cmd.Run())
	return err
}

func exitOf(ctx context.Context, argv []string, err error, allowed ...int) (int, error) {
	if ctx.Err() != nil {
		return -1, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(allowed, exit.ExitCode()) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", shell(argv), err)
	}
	return 0, nil
}

// tearDown undoes everything, the last thing first; with keep it only says what
// is there.
func (s *stage) tearDown(ctx context.Context, keep bool) error {
	if len(s.undo) == 0 {
		return nil
	}
	slices.Reverse(s.undo)
	if keep {
		s.headline("Kept, to look around")
		for _, u := range slices.Backward(s.undo) {
			for _, line := range u.kept {
				s.say("%s", line)
			}
		}
		return nil
	}
	return s.step("Clean up", func() error {
		var errs []error
		for _, u := range s.undo {
			if err := u.do(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", u.title, err))
			}
		}
		return errors.Join(errs...)
	})
}

// summary ends the story with the time that each step took.
func (s *stage) summary(total time.Duration) {
	fmt.Fprintf(s.out, "\nDone in %s:\n", seconds(total))
	for _, t := range s.steps {
		fmt.Fprintf(s.out, "  %8s  %s\n", seconds(t.took), t.title)
	}
}

func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02.0f s", int(d.Minutes()), (d - d.Truncate(time.Minute)).Seconds())
}

// shell quotes a command line for a POSIX shell.
func shell(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		plain := w != "" && !strings.ContainsFunc(w, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@+%", r)
		})
		if !plain {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words[i] = w
	}
	return strings.Join(words, " ")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
