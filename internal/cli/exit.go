package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// Code is an exit code of the plugin. docs/exit-codes.md is generated from [Codes].
type Code int

// The exit codes. Findings win over partial results; kubectl on Windows passes on only 0 and 1, where .status in the
// JSON report tells the rest.
const (
	ExitOK          Code = 0
	ExitFindings    Code = 1
	ExitUsage       Code = 2
	ExitCouldNot    Code = 3
	ExitInterrupted Code = 130
)

// Codes is the table of exit codes, in order, as the documentation shows it.
var Codes = []struct {
	Code Code
	Mean string
}{
	{ExitOK, "nothing found at or above --fail-on (default high)"},
	{ExitFindings, "findings at or above --fail-on"},
	{ExitUsage, "the command line is wrong"},
	{ExitCouldNot, "could not look: the cluster is unreachable or refuses, the Service does not exist, or a check at or above " +
		"--fail-on lacked its facts (--allow-partial makes that 0)"},
	{ExitInterrupted, "interrupted"},
}

// failure is an error with its exit code and, if something is known to help, what to do now.
type failure struct {
	code Code
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// silent ends with a code and says nothing: the answer on standard output already tells.
type silent Code

func (s silent) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

func usage(hint, format string, args ...any) error {
	return &failure{ExitUsage, fmt.Errorf(format, args...), hint}
}

func couldNot(err error, hint string) error { return &failure{ExitCouldNot, err, hint} }

// hinter is what the errors of pkg/diagnose/... offer beside their sentence.
type hinter interface{ Hint() string }

// finish prints an error the way every command does and returns the exit code.
func finish(ctx context.Context, w io.Writer, err error) Code {
	var s silent
	var f *failure
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &s):
		return Code(s)
	case context.Cause(ctx) != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "interrupted")
		return ExitInterrupted
	case errors.As(err, &f):
	default:
		f = &failure{code: ExitCouldNot, err: err}
	}
	fmt.Fprintf(w, "error: %s\n", quote.Visible(f.err.Error()))
	hint := f.hint
	var h hinter
	if hint == "" && errors.As(err, &h) {
		hint = h.Hint()
	}
	if hint != "" {
		fmt.Fprintf(w, "hint:  %s\n", quote.Visible(hint))
	}
	return f.code
}
