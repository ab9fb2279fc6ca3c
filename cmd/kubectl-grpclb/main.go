// Command kubectl-grpclb is a kubectl plugin that finds out why gRPC calls to a Kubernetes Service land where they land.
//
// Run it as `kubectl grpclb`; see `kubectl grpclb help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/grpclb/kubectl-grpclb/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
