// Command grpclb-refresher runs in pods. `sidecar` takes a client's calls on local addresses and sends each to a pod of a Service, chosen
// per call; `check` reads its file. For the kubectl plugin, `sockets` prints the pod's TCP sockets with their byte rates, and `probe` makes
// gRPC calls and counts them by connection.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/grpclb/kubectl-grpclb/internal/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := agent.Main(ctx, os.Args[1:], agent.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
