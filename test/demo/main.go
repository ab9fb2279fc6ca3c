// Command demo shows the whole story on a real cluster: it starts the lab,
// deploys examples/square, shows that one pod answers everything, lets the
// plugin say why, applies the fix that the plugin writes, shows the even
// spread, and takes everything down.
//
//	go run ./test/demo                    # what "make demo" does
//	go run ./test/demo -keep              # leave the cluster and the example running
//	go run ./test/demo -context NAME      # on a cluster that exists
//	go run ./test/demo -update            # also write examples/square/pinned.snapshot.yaml anew
//
// Each step prints the commands that it runs, as one would type them, and how
// long it took. It is a test as well: the exit code is 1 when the first
// diagnosis is not "pinned", the last one is not "even", or the saved snapshot
// in the repository no longer tells the same story. 2 is a wrong call, 130 an
// interrupt; that, too, takes everything down first.
//
// It refuses to touch anything but the namespace that it makes for itself, and
// leaves a lab running that was running before.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Once is a request to clean up and end; twice means at once.
	context.AfterFunc(ctx, stop)
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

// options is a command line that has been understood.
type options struct {
	context  string // kubeconfig context; empty for the lab
	keep     bool
	update   bool
	examples string // image of the examples when it is not the one built here
	agent    string // image of the agent, likewise
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.context, "context", os.Getenv("CONTEXT"), "kubeconfig `context` of an existing cluster to use instead of the lab (also CONTEXT=)")
	flags.BoolVar(&o.keep, "keep", os.Getenv("KEEP") == "1", "leave everything running at the end (also KEEP=1)")
	flags.BoolVar(&o.update, "update", false, "write examples/square/pinned.snapshot.yaml from this run")
	flags.StringVar(&o.examples, "examples-image", os.Getenv("EXAMPLES_IMAGE"), "a copy of the examples' `image` that the cluster can pull (also EXAMPLES_IMAGE=)")
	flags.StringVar(&o.agent, "agent-image", os.Getenv("AGENT_IMAGE"), "a copy of the agent's `image` that the cluster can pull (also AGENT_IMAGE=)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: takes no argument, got %q\n", flags.Arg(0))
		return exitUsage
	}
	if o.update && o.context != "" {
		fmt.Fprintln(stderr, "demo: -update needs the lab: the snapshot in the repository is one of it")
		return exitUsage
	}
	return start(ctx, o, stdout, stderr)
}

// start runs the story and what undoes it, and words how it ended.
func start(ctx context.Context, o options, stdout, stderr io.Writer) int {
	root, err := testbed.FindRoot()
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return exitUsage
	}
	s := newStage(stdout, stderr)
	began := time.Now()
	err = (&demo{stage: s, options: o, root: root}).run(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "\ndemo: interrupted; cleaning up (once more leaves everything as it is)")
	}
	// The context may have ended; the clean-up must happen all the same.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), tearDownTimeout)
	defer cancel()
	undone := s.tearDown(clean, o.keep && ctx.Err() == nil && err == nil)
	var unfit *testbed.UnfitError
	switch {
	case ctx.Err() != nil:
		if undone != nil {
			fmt.Fprintln(stderr, "demo:", undone)
		}
		return exitInterrupted
	case errors.As(err, &unfit):
		fmt.Fprintf(stderr, "demo: %s\nor replay a diagnosis that was saved from the real run:\n  %s\n", unfit.Reason, replay)
		return exitFailed
	case err != nil || undone != nil:
		fmt.Fprintln(stderr, "\ndemo:", errors.Join(err, undone))
		return exitFailed
	}
	s.summary(time.Since(began))
	return exitOK
}

const (
	// replay is what anybody can run anywhere; the README has the same line.
	replay          = "go run ./cmd/kubectl-grpclb diagnose --from examples/square/pinned.snapshot.yaml"
	tearDownTimeout = 3 * time.Minute
)
