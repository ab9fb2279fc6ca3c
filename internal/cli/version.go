package cli

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// defaultImage is the agent's image unless the caller names one: a release brings its own, by digest.
func defaultImage() string {
	return cmp.Or(version.Get().Image, live.DefaultImage)
}

func (a *app) versionCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "say which build this is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version.Get()
			v.Image = defaultImage() // what --sockets and --probe place unless --image says otherwise
			switch output {
			case "text":
				fmt.Fprintf(a.Out, "kubectl-grpclb %s\n", v.Version)
			case "json":
				e := json.NewEncoder(a.Out)
				e.SetIndent("", "  ")
				return e.Encode(v)
			case "yaml":
				b, err := yaml.Marshal(v)
				if err != nil {
					return err
				}
				_, err = a.Out.Write(b)
				return err
			default:
				return badOutput(output, "text", "json", "yaml")
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	completeWords(cmd, "output", "text", "json", "yaml")
	return cmd
}
