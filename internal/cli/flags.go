package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("", "%s takes no argument, got %q", cmd.Name(), args[0])
	}
	return nil
}

func badOutput(got string, want ...string) error {
	return usage("", "-o is %s or %s, not %q", strings.Join(want[:len(want)-1], ", "), want[len(want)-1], got)
}
