// Package agent is the command line of grpclb-refresher: the read-only agents that run in a pod's network namespace, and the door to the
// daemon (`sidecar`, `check`), which package daemon is. The agents look (`sockets`), call (`probe`), print one report in the form of package
// agentapi to standard output, and end.
//
// It writes no file and keeps no state, and the agents listen on no port; it links neither Kubernetes clients nor grpc-go, so that the image
// stays small.
//
// # Output
//
// An agent's standard output has the report and nothing else. Standard error has a sentence when no report could be printed, and nothing
// otherwise, because a container's log mixes the two. What went wrong while measuring is in the report.
package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/grpclb/kubectl-grpclb/internal/daemon"
	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
)

// Exit codes of the agents. Those of the daemon are daemon.Codes.
const (
	// ExitOK: the report is complete as far as the asked could be measured; parts that could not are in its errors.
	ExitOK = 0
	// ExitNothing: nothing could be measured (no table, no connection), or the report could not be printed. A report that could be
	// printed was.
	ExitNothing = 1
	// ExitUsage: the command line is wrong; nothing was done.
	ExitUsage = 2
	// ExitInterrupted: SIGTERM or SIGINT came first; the report holds what was measured up to then.
	ExitInterrupted = 130
)

// Streams are what Main reads and where it writes.
type Streams struct {
	// In is read by `check -` alone; it may be nil otherwise.
	In       io.Reader
	Out, Err io.Writer
}

const overview = `grpclb-refresher balances gRPC calls over the pods of a Service, beside a client that cannot do it by itself, and looks at
connections and calls from inside a pod for kubectl grpclb.

Usage:
  grpclb-refresher sidecar [flags]   take calls on local addresses and send each one to a pod
  grpclb-refresher check FILE        read the sidecar's file and say what it means, or what is wrong with it
  grpclb-refresher sockets [flags]   TCP sockets of this network namespace, with bytes per second
  grpclb-refresher probe [flags]     make gRPC calls and count them by connection
  grpclb-refresher version           the version of this binary and of its output

Flags in place of a command are those of sidecar. Run grpclb-refresher COMMAND --help for the flags of a command.

Exit codes: 0 done, 1 could not be done, 2 wrong usage, 3 wrong file, 4 refused here, 130 interrupted (a report holds what was
measured up to then) or, as 143, a second signal. sidecar --help says more.
`

// commands are what may stand first.
var commands = []string{"sidecar", "check", "sockets", "probe", "version", "help"}

// Main runs one command and returns the exit code. The end of ctx means that the process was told to stop; sidecar waits for the
// process's signals itself, because what the second one means is its own affair.
func Main(ctx context.Context, args []string, streams Streams) int {
	if len(args) == 0 {
		return usage(streams, errors.New("no command"), "grpclb-refresher --help")
	}
	long := daemon.Streams{In: streams.In, Out: streams.Out, Err: streams.Err}
	switch args[0] {
	case "sidecar":
		return daemon.Sidecar(context.WithoutCancel(ctx), args[1:], long)
	case "check":
		return daemon.Check(args[1:], long)
	case "sockets":
		return runSockets(ctx, args[1:], streams)
	case "probe":
		return runProbe(ctx, args[1:], streams)
	case "version", "--version":
		return runVersion(args[1:], streams)
	case "help", "--help", "-h", "-help":
		return runHelp(ctx, args[1:], streams)
	}
	if strings.HasPrefix(args[0], "-") {
		return daemon.Sidecar(context.WithoutCancel(ctx), args, long)
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if near, ok := settings.Nearest(args[0], commands); ok {
		err = fmt.Errorf("unknown command %q; did you mean %s?", args[0], near)
	}
	return usage(streams, err, "grpclb-refresher --help")
}

// runHelp is `help` and `help COMMAND`.
func runHelp(ctx context.Context, args []string, streams Streams) int {
	if len(args) == 0 || args[0] == "help" || strings.HasPrefix(args[0], "-") {
		return emit(streams, overview)
	}
	return Main(ctx, []string{args[0], "--help"}, streams)
}

func usage(streams Streams, err error, hint string) int {
	_, _ = fmt.Fprintf(streams.Err, "grpclb-refresher: %v; see %s\n", err, hint)
	return ExitUsage
}

func emit(streams Streams, text string) int {
	if _, err := io.WriteString(streams.Out, text); err != nil {
		return ExitNothing
	}
	return ExitOK
}

// parse reads the flags of a command. It returns the exit code to end with when stop is true.
func parse(fs *flag.FlagSet, args []string, about string, streams Streams) (code int, stop bool) {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return emit(streams, help(fs, about)), true
	case err != nil:
		return usage(streams, err, "grpclb-refresher "+fs.Name()+" --help"), true
	default:
		return ExitOK, false
	}
}

// help lists the flags in the manner of kubectl, which the flag package's own list is not.
func help(fs *flag.FlagSet, about string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nFlags:\n", about)
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if value != "" {
			value = " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "  --%-22s %s\n", f.Name+value, text)
	})
	return b.String()
}

// list is a flag that may be given more than once.
type list[T any] struct {
	values []T
	parse  func(string) (T, error)
}

// String is what the flag package asks for; the list has no default to show.
func (l *list[T]) String() string { return "" }

// Set adds one value.
func (l *list[T]) Set(text string) error {
	v, err := l.parse(text)
	if err == nil {
		l.values = append(l.values, v)
	}
	return err
}
