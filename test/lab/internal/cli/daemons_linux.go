package cli

import (
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cluster"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/forward"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
)

// listenerFile is the descriptor at which a daemon finds its listener.
const listenerFile = 3

// newNodeInit is a node's process 1. Only up starts it.
func newNodeInit(streams Streams) *cobra.Command {
	return &cobra.Command{Use: cluster.NodeCommand + " SPEC.json", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := node.LoadSpec(args[0])
			if err != nil {
				return err
			}
			return node.Init(cmd.Context(), spec, streams.Err)
		}}
}

// newForward carries the API server's loopback port. Only up starts it.
func newForward() *cobra.Command {
	return &cobra.Command{Use: cluster.ForwardCommand + " NETNS ADDRESS", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := os.NewFile(listenerFile, "listener")
			l, err := net.FileListener(f)
			if err != nil {
				return fmt.Errorf("take over the listener: %w", err)
			}
			f.Close()
			return forward.Serve(cmd.Context(), l, forward.InNetns(args[0], args[1]))
		}}
}
