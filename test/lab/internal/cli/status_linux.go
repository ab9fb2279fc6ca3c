package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cluster"
)

func newStatus(streams Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("status is printed as text or with -o json, not %q", output)
			}
			lab, err := open(streams)
			if err != nil {
				return err
			}
			s, err := lab.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(streams.Out)
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return printStatus(streams.Out, s)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for the full status")
	return cmd
}

// printStatus prints a status for people.
func printStatus(w io.Writer, s *cluster.Status) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("lab", "%s", s.State)
	for _, t := range s.Trouble {
		row("", "! %s", t)
	}
	if s.Started != nil {
		row("started", "%s", s.Started.Local().Format(time.DateTime))
		row("kube-proxy", "%s", s.ProxyMode)
	}
	for _, n := range s.Nodes {
		row("node "+n.Name, "%s, zone %s, %s, pods %s", readiness(n), n.Zone, n.IP, n.PodCIDR)
	}
	if s.CoreDNS != nil {
		row("coredns", "%d of %d ready", s.CoreDNS.Ready, s.CoreDNS.Wanted)
		answer := "not answering yet"
		if s.Metrics {
			answer = "answering"
		}
		row("metrics", "%s", answer)
	}
	if s.APIServer != "" {
		row("api server", "%s", s.APIServer)
		row("kubeconfig", "%s (context %s)", s.Kubeconfig, s.Context)
	}
	row("bin", "%s", s.Bin)
	row("logs", "%s", s.Logs)
	for _, c := range s.Components {
		row(c.Name, "%s", c.Version)
	}
	return tw.Flush()
}

func readiness(n cluster.NodeStatus) string {
	switch {
	case !n.Alive:
		return "ended"
	case !n.Ready:
		return "not ready"
	}
	return "ready"
}
