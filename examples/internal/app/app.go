// Package app is the part of an example program that is the same in all of them: signals become a cancelled context,
// an error becomes a message and an exit code, and settings are read from the environment with a clear complaint when
// they make no sense. It holds nothing about gRPC.
//
//	func main() { os.Exit(app.Run("square-server", server.Run)) }
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// Exit codes of every example program.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitInterrupted = 130
)

// ErrInterrupted is returned by a program that a signal stopped before its work was complete; Run turns it into
// ExitInterrupted. A server that was asked to stop and did so has completed its work and returns nil.
var ErrInterrupted = errors.New("interrupted before the end")

// UsageError is a wrong flag or environment value: the user's to mend, and no retry helps.
type UsageError struct{ Err error }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError from a format, as fmt.Errorf does.
func Usagef(format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...)}
}

// Env is what a program may touch of the process it runs in.
type Env struct {
	// Args are the command-line arguments without the program's name.
	Args []string
	// Getenv looks up an environment variable; "" stands for unset.
	Getenv func(string) string
	// Stdout takes answers, Stderr progress, logs and errors.
	Stdout, Stderr io.Writer
}

// Run calls run with a context that ends at SIGINT or SIGTERM and returns the process's exit code. An error is printed
// to standard error after name. A second signal ends the process at once.
func Run(name string, run func(context.Context, Env) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Back to the default disposition after the first signal, so that an impatient second Ctrl-C works.
	defer context.AfterFunc(ctx, stop)()
	env := Env{Args: os.Args[1:], Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr}
	return exitCode(name, run(ctx, env), env.Stderr)
}

func exitCode(name string, err error, stderr io.Writer) int {
	if err == nil {
		return ExitOK
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	var usage *UsageError
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, ErrInterrupted):
		return ExitInterrupted
	default:
		return ExitFailed
	}
}

// Logger writes key=value lines to standard error, where `kubectl logs` finds them.
func (e Env) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.Stderr, nil))
}

// String returns the variable's value, or def when it is unset or empty.
func (e Env) String(name, def string) string {
	if v := e.Getenv(name); v != "" {
		return v
	}
	return def
}

// Port returns the variable's value as a TCP port, or def when it is unset. 0 is accepted and means any free port.
func (e Env) Port(name string, def int) (int, error) {
	v := e.Getenv(name)
	if v == "" {
		return def, nil
	}
	port, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, Usagef("%s=%q is not a TCP port (0 to 65535)", name, v)
	}
	return int(port), nil
}

// Int returns the variable's value as a whole number from low to high, or def when it is unset.
func (e Env) Int(name string, def, low, high int) (int, error) {
	v := e.Getenv(name)
	if v == "" {
		return def, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, Usagef("%s=%q is not a whole number from %d to %d", name, v, low, high)
	}
	return n, nil
}
