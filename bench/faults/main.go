// Command faults breaks a real cluster in many ways while several clients call the same pods at the same rate, and prints one table of what
// each of them lost: stock grpc-go, kuberesolver, and the refresher with its sources.
//
//	go -C bench run ./faults                      everything, about a quarter of an hour
//	go -C bench run ./faults -run 'scale|node'    some of it; -list names the scenarios
//	go -C bench run ./faults -sidecar             the sidecar, beside the same client without it
//	go -C bench run ./faults -write ../docs/performance.md
//
// The cluster is the lab, started for the run when it is down: it takes root on the machine of the nodes to cut a link or to stop a process. Names are resolved by
// CoreDNS pods of its own, with the lab's Corefile, so that a broken DNS breaks nobody else's. What it broke it mends at the end, also after
// an interrupt.
//
// A budget that is missed is printed as missed and ends nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
)

func main() { os.Exit(cli.Main("faults", run)) }

// options mirror the command line.
type options struct {
	root string
	only *regexp.Regexp
	rate int
	// sidecar compares the daemon instead of the library.
	sidecar bool
	list    bool
	keep    bool
	raw     string
	write   string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "..", "the repository")
	only := f.String("run", "", "only scenarios whose names match this regular expression")
	f.IntVar(&o.rate, "rate", 200, "calls a second of each client")
	f.BoolVar(&o.sidecar, "sidecar", false, "compare a client through the sidecar with the same one without it, and with stock round_robin")
	f.BoolVar(&o.list, "list", false, "name the scenarios and end")
	f.BoolVar(&o.keep, "keep", false, "leave the namespace in the cluster")
	f.StringVar(&o.raw, "raw", "", "also write what the clients reported into this folder, as JSON")
	f.StringVar(&o.write, "write", "", "also put the table into this document, between its marks")
	if err := cli.Parse(f, args); err != nil {
		return o, err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w; %w", err, cli.ErrUsage)
	}
	if o.rate < 1 || f.NArg() > 0 {
		return o, fmt.Errorf("-rate %d %q: %w", o.rate, f.Args(), cli.ErrUsage)
	}
	return o, nil
}
