package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

func (a *app) explainCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "explain CHECK",
		Short:   "print a check's page: what happens, why, how to see it, how to fix it, what may fool it",
		Example: "  " + Name + " explain clusterip-pinned",
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, noFiles
			}
			return slices.DeleteFunc(checkWords(), func(w string) bool { return !strings.HasPrefix(w, typed) }), noFiles
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(Name+" checks lists them", "explain takes one check")
			}
			c, ok := checks.ByID(args[0])
			if !ok {
				return usage(Name+" checks lists them"+nearCheck(args[0]), "there is no check %s", shown(args[0]))
			}
			_, err := fmt.Fprintf(a.Out, "%s\n", strings.TrimRight(c.Doc, "\n"))
			return err
		},
	}
}

func (a *app) checksCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "checks",
		Short: "list every check",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			switch output {
			case "text":
				return a.printChecks()
			case "json":
				return a.printChecksJSON()
			case "name":
				for _, id := range checkIDs() {
					fmt.Fprintln(a.Out, id)
				}
				return nil
			}
			return badOutput(output, "text", "json", "name")
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or name")
	completeWords(cmd, "output", "text", "json", "name")
	return cmd
}

func (a *app) printChecks() error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSEVERITY\tNEEDS\tWHAT")
	for _, c := range checks.All() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.ID, c.Severity, needs(c), c.Title)
	}
	return w.Flush()
}

func needs(c diagnose.Check) string {
	out := make([]string, 0, len(c.Needs))
	for _, n := range c.Needs {
		out = append(out, string(n))
	}
	return strings.Join(out, ",")
}

func (a *app) printChecksJSON() error {
	type row struct {
		ID       string              `json:"id"`
		Title    string              `json:"title"`
		Severity diagnose.Severity   `json:"severity"`
		Since    string              `json:"since"`
		Needs    []diagnose.FactName `json:"needs"`
		GRPCOnly bool                `json:"grpcOnly"`
	}
	var rows []row
	for _, c := range checks.All() {
		rows = append(rows, row{c.ID, c.Title, c.Severity, c.Since, c.Needs, c.GRPCOnly})
	}
	e := json.NewEncoder(a.Out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

func checkIDs() []string {
	var out []string
	for _, c := range checks.All() {
		out = append(out, c.ID)
	}
	return out
}

// checkWords are the IDs with their titles, as completions.
func checkWords() []string {
	var out []string
	for _, c := range checks.All() {
		out = append(out, cobra.CompletionWithDesc(c.ID, c.Title))
	}
	return out
}

// nearCheck names the checks whose ID is nearest to what was typed, or one that shares a word with it.
func nearCheck(typed string) string {
	if near := target.Nearest(typed, checkIDs()); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	for _, id := range checkIDs() {
		for w := range strings.SplitSeq(typed, "-") {
			if len(w) > 3 && strings.Contains(id, w) {
				return "; did you mean " + id + "?"
			}
		}
	}
	return ""
}
