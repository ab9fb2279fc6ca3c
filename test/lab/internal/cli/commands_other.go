//go:build !linux

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
)

// platformCommands are the commands that need Linux: present, so that help
// reads the same everywhere, and each with one sentence to say.
func platformCommands(Streams) []*cobra.Command {
	var all []*cobra.Command
	for name, short := range clusterCommands {
		all = append(all, &cobra.Command{
			Use: name, Short: short, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("the lab needs Linux and this is %s; %s", runtime.GOOS, preflight.Alternative)
			},
		})
	}
	return all
}
