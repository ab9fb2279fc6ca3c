// Command bench measures what the project promises about speed and prints it with the machine it ran on:
//
//	go -C bench run .                  everything
//	go -C bench run . start size       some of it; -list names the measures
//	go -C bench run . micro            Go benchmarks beside their peers, judged by benchstat
//
// A target that is missed is printed as missed and ends nothing: a timed test that fails on a busy machine teaches people to run it
// again. What needs a cluster uses the lab when it is up (make lab-up), or the cluster that -context names, in a namespace of its own
// that is removed afterwards; without either it is left out, and said so.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
)

func main() { os.Exit(cli.Main("bench", run)) }

// options mirror the command line.
type options struct {
	root    string
	context string
	image   string
	runs    int
	pods    int
	keep    bool
	list    bool
	write   string
	only    []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "..", "the repository")
	f.StringVar(&o.context, "context", "", "use the cluster of this kubeconfig context instead of the lab; it must have the image")
	f.StringVar(&o.image, "image", "grpclb.dev/examples:dev", "with -context: the image of the example applications")
	f.IntVar(&o.runs, "runs", 30, "how often each command is run and counted (10 at the least)")
	f.IntVar(&o.pods, "pods", 300, "pods of the large Service on the cluster")
	f.BoolVar(&o.keep, "keep", false, "leave the namespace in the cluster")
	f.BoolVar(&o.list, "list", false, "name the measures and end")
	f.StringVar(&o.write, "write", "", "also put what was measured into this document (docs/performance.md), each part between its marks")
	if err := cli.Parse(f, args); err != nil {
		return o, err
	}
	if o.runs < 10 {
		return o, fmt.Errorf("-runs %d: fewer than 10 say nothing; %w", o.runs, cli.ErrUsage)
	}
	if o.pods < 4 {
		return o, fmt.Errorf("-pods %d: there is nothing to compare with 3; %w", o.pods, cli.ErrUsage)
	}
	o.only = f.Args()
	return o, nil
}
