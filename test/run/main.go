// Command run is the project's whole test suite as one list of steps: unit
// tests, linter, freshness of generated files, fuzz seeds, conformance, supply chain, a
// release for all platforms, race detector, a browser and the end-to-end tests
// on a cluster.
//
//	go run ./test/run              # every step: what "make test" does
//	go run ./test/run lint unit    # some of them
//	go run ./test/run -list        # which there are
//	go run ./test/run -generate    # write generated files instead of checking them
//	go run ./test/run -snapshot    # write a snapshot of a release to dist and stop
//
// A step that this machine cannot do (no root, no C compiler) is skipped with
// the reason in one line and the rest runs; with CI=true in the environment a
// skip is a failure. Output is shown for steps that fail, and for all of them
// with -v or CI=true. The exit code is 0 when nothing failed, 1 when something
// did, 2 for a wrong call and 130 after an interrupt.
//
// The command knows how to run things and in which order. What is tested, and
// how a cluster is started, is decided where the tests and the cluster live.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ci := os.Getenv("CI") == "true"
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	verbose := flags.Bool("v", ci || os.Getenv("V") == "1", "show the output of every step (also V=1, CI=true)")
	keep := flags.Bool("keep", os.Getenv("KEEP") == "1", "leave the cluster running after the end-to-end tests (also KEEP=1)")
	kubeContext := flags.String("context", os.Getenv("CONTEXT"), "kubeconfig `context` of an existing cluster to use for the end-to-end tests (also CONTEXT=)")
	write := flags.Bool("generate", false, "run the generators in the work tree and stop")
	snapshot := flags.Bool("snapshot", false, "build a snapshot of a release in dist and stop")
	list := flags.Bool("list", false, "list the steps and stop")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	root, err := testbed.FindRoot()
	if err != nil {
		fmt.Fprintln(stderr, "run:", err)
		return exitUsage
	}
	s := suite{root: root, keep: *keep, kubeContext: *kubeContext, noLab: noLab}
	all := allSteps(s)
	if *list {
		for _, s := range all {
			fmt.Fprintf(stdout, "%-13s %s\n", s.name, s.about)
		}
		return exitOK
	}
	if *write {
		all = []step{{"generate", "", s.generate}}
	}
	if *snapshot {
		all = []step{{"snapshot", "", s.snapshot}}
	}
	steps, err := choose(all, flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, "run:", err)
		return exitUsage
	}
	r := runner{out: stdout, live: isTerminal(stdout) && !*verbose, verbose: *verbose, strict: ci, beat: heartbeat}
	sum := r.run(ctx, steps)
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case sum.failed > 0:
		return exitFailed
	}
	return exitOK
}

// choose returns the named steps in the order of the list; none named means all.
func choose(all []step, names []string) ([]step, error) {
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	var out []step
	for _, s := range all {
		known = append(known, s.name)
		if slices.Contains(names, s.name) {
			out = append(out, s)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no step %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return out, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
