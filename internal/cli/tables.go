package cli

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// tableFlags mirrors the command line of the commands that show one table.
type tableFlags struct {
	gatherFlags
	output string
}

func (a *app) spreadCmd() *cobra.Command {
	f := tableFlags{}
	cmd := &cobra.Command{
		Use:   "spread svc/NAME",
		Short: "show who is connected to whom: connections, bytes per second and CPU, client x pod",
		Long: `Reads the socket tables of the Service's pods and shows which client is connected to which pod, how many bytes go each
way, and how much CPU each pod uses.

It adds an ephemeral container to each server pod (at most --max-pods) that reads the pod's socket table once and ends; Kubernetes
keeps its entry in the pod's spec. With --depth static nothing is added, and only CPU is shown.`,
		Example:           "  " + Name + " spread svc/square-service",
		ValidArgsFunction: a.completeServices(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.sockets = !cmd.Flags().Changed("depth")
			return a.table(cmd.Context(), "spread", f, args, func(_ *diagnose.View, r diagnose.ServiceReport, o report.TextOptions) error {
				return report.SpreadTable(a.Out, r, o)
			}, func(_ *diagnose.View, r diagnose.ServiceReport) any { return r.Spread })
		},
	}
	a.tableFlags(cmd, &f)
	return cmd
}

func (a *app) dnsCmd() *cobra.Command {
	f := tableFlags{}
	cmd := &cobra.Command{
		Use:   "dns svc/NAME",
		Short: "show what each DNS pod says against the real endpoints: TTL, truncation, disagreements",
		Long: `Asks every DNS pod of the cluster (port-forward to TCP 53) for the Service's A, AAAA and SRV records, and holds the answers
against the endpoints that exist. What UDP clients would lose of an answer is predicted from the full one.`,
		Example:           "  " + Name + " dns svc/square-service-headless",
		ValidArgsFunction: a.completeServices(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.only = []diagnose.FactName{diagnose.FactSlices, diagnose.FactPods, diagnose.FactDNS}
			return a.table(cmd.Context(), "dns", f, args, func(v *diagnose.View, _ diagnose.ServiceReport, o report.TextOptions) error {
				return report.DNSTable(a.Out, v, o)
			}, func(v *diagnose.View, _ diagnose.ServiceReport) any {
				return map[string]any{"service": v.Service.Key, "endpoints": v.Endpoints(), "dns": v.DNS, "gaps": v.Gaps}
			})
		},
	}
	a.tableFlags(cmd, &f)
	return cmd
}

func (a *app) probeCmd() *cobra.Command {
	f := tableFlags{}
	cmd := &cobra.Command{
		Use:   "probe svc/NAME [--from deploy/CLIENT] [--via clusterip,headless,pods]",
		Short: "send harmless calls from inside the cluster and count where they land",
		Long: `Makes gRPC health checks (answered by every gRPC server, if only with UNIMPLEMENTED) from inside the cluster and counts on which
pods they land: over the cluster IP, over the headless twin, over the pods' own addresses.

By default a short-lived pod in the Service's namespace makes the calls and is deleted afterwards; with --from an ephemeral container
in one of that workload's pods does, which sees the network policies and mesh that the client sees. Behind a cluster IP the pod is
told by the server pods' socket tables, which takes an ephemeral container in each (it stays in the pod's spec).`,
		Example: `  ` + Name + ` probe svc/square-service
  ` + Name + ` probe svc/square-service --from deploy/aggregator-app --via clusterip --channels 20`,
		ValidArgsFunction: a.completeServices(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.probe = true
			return a.table(cmd.Context(), "probe", f, args, func(_ *diagnose.View, r diagnose.ServiceReport, o report.TextOptions) error {
				return report.ProbeTable(a.Out, r, o)
			}, func(_ *diagnose.View, r diagnose.ServiceReport) any { return r.Spread.Probes })
		},
	}
	a.tableFlags(cmd, &f)
	return cmd
}

func (a *app) tableFlags(cmd *cobra.Command, f *tableFlags) {
	a.gatherFlags(cmd, &f.gatherFlags)
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text, wide, json or yaml")
	completeWords(cmd, "output", "text", "wide", "json", "yaml")
}

type (
	textTable func(*diagnose.View, diagnose.ServiceReport, report.TextOptions) error
	dataTable func(*diagnose.View, diagnose.ServiceReport) any
)

// table gathers what one command shows and prints it.
func (a *app) table(ctx context.Context, command string, f tableFlags, args []string, text textTable, data dataTable) error {
	switch f.output {
	case "text", "wide", "json", "yaml":
	default:
		return badOutput(f.output, "text", "wide", "json", "yaml")
	}
	o, err := a.gatherOptions(command, f.gatherFlags, args)
	if err != nil {
		return err
	}
	snap, v, cause := a.gatherOne(ctx, command, o)
	if v == nil {
		return cause
	}
	if st := snap.Probes.Status; command == "probe" && !st.Known() && cause == nil {
		return couldNot(errors.New(cmp.Or(st.Reason, "no probe was run")), st.Hint)
	}
	judge := diagnose.Options{}
	if command != "dns" { // which looks at too little for a verdict; the others must not say "no cause" where diagnose names one
		judge.Checks = checks.All()
	}
	r := diagnose.Run(snap, judge).Services[0]
	if f.output == "json" || f.output == "yaml" {
		err = a.printData(f.output, data(v, r))
	} else {
		err = text(v, r, a.textOptions(f.output == "wide", snap))
	}
	a.printCost(snap.Cost)
	if err != nil {
		return err
	}
	if cause != nil {
		return cause
	}
	if command == "dns" && !v.DNS.Known() {
		return silent(ExitCouldNot) // the table has said why
	}
	return nil
}

func (a *app) printData(format string, v any) error {
	encode := quote.JSON
	if format == "yaml" {
		encode = quote.YAML
	}
	b, err := encode(v)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(b)
	return err
}

func (a *app) textOptions(wide bool, snap *diagnose.Snapshot) report.TextOptions {
	return report.TextOptions{
		Wide: wide, Color: a.term.color, ASCII: a.term.ascii, Width: a.term.width, Namespace: a.namespace(), Facts: snap,
	}
}
