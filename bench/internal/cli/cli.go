// Package cli is the edge of the benchmarks' commands: an interrupt becomes the end of a context, an error an exit code.
//
//	func main() { os.Exit(cli.Main("faults", run)) }
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ErrUsage is, or is wrapped by, the error of a wrong call. Its text is the end of the sentence that says what is wrong.
var ErrUsage = errors.New("see -help")

// Main calls run with the arguments and a context that an interrupt or SIGTERM ends, says on stderr what went wrong, and returns the exit
// code: 0, also after -help; 2 after a wrong call; 1 after every other error.
func Main(name string, run func(ctx context.Context, args []string) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, ErrUsage):
		fmt.Fprintln(os.Stderr, err)
		return 2
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
}

// Parse reads flags. Its error is flag.ErrHelp or ErrUsage: the flag package has said what is wrong.
func Parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return ErrUsage
}
