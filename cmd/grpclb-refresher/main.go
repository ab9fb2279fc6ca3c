// Command grpclb-refresher looks at connections and calls from inside a pod, for the kubectl plugin: `sockets` prints the pod's TCP
// sockets with their byte rates, `probe` makes gRPC calls and counts them by connection.
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
	code := agent.Main(ctx, os.Args[1:], agent.Streams{Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
