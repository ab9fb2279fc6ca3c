// Command lab runs a real Kubernetes cluster on one Linux machine: the stock
// control plane, kubelet, containerd, runc, kube-proxy, CoreDNS and
// metrics-server, built from Go modules and started in network namespaces.
//
//	go -C test/lab run . up
//	go -C test/lab run . kubectl get nodes
//	go -C test/lab run . down
//
// See README.md beside this file.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
