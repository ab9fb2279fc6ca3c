package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// diagnoseFlags mirrors the command line of diagnose.
type diagnoseFlags struct {
	gatherFlags
	output       string
	failOn       string
	skip         []string
	allowPartial bool
	rbac         bool
}

// diagnoseOptions is a command line that has been understood.
type diagnoseOptions struct {
	gather       gatherOptions
	print        printFunc
	run          diagnose.Options
	allowPartial bool
}

func (a *app) diagnoseCmd() *cobra.Command {
	var f diagnoseFlags
	cmd := &cobra.Command{
		Use:   "diagnose svc/NAME... | svc [-l SELECTOR] | --from FILE",
		Short: "say why calls land where they land, with evidence and fixes",
		Long: `Looks at a Service, the pods behind it, the clients that name it and the DNS that they ask, and says why
calls land where they land.

How deep it looks:
  static     reads objects (get, list)
  observe    (default) also asks each DNS pod, and the server pods of ports judged gRPC, over port-forward; changes nothing
  --sockets  also adds an ephemeral container to server pods that reads their socket tables; it stays in the pod's spec
  --probe    also runs a short-lived pod that makes harmless calls (gRPC health checks) and counts where they land

What it may not see it names, and goes on. Secrets are never read.`,
		Example: `  ` + Name + ` diagnose svc/square-service
  ` + Name + ` diagnose svc/square-service --probe
  ` + Name + ` diagnose svc -n shop -o json --fail-on critical
  ` + Name + ` diagnose svc/square-service --save square.yaml; ` + Name + ` diagnose --from square.yaml`,
		ValidArgsFunction: a.completeServices(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.rbac {
				return writeRBAC(a.Out, a.namespace(), f.dnsNamespace)
			}
			f.fixedDepth = cmd.Flags().Changed("depth")
			o, err := a.diagnoseOptions(f, args)
			if err != nil {
				return err
			}
			return a.diagnose(cmd.Context(), o)
		},
	}
	a.gatherFlags(cmd, &f.gatherFlags)
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "text", "text, wide, json, yaml or name")
	fl.StringVar(&f.failOn, "fail-on", "high", "lowest severity that makes the exit code 1: info, low, medium, high or critical")
	fl.StringSliceVar(&f.skip, "skip", nil, "IDs of checks to leave out, as the command checks lists them")
	fl.BoolVar(&f.allowPartial, "allow-partial", false, "exit 0 instead of 3 when a check at or above --fail-on could not see what it needs")
	fl.BoolVar(&f.rbac, "rbac", false, "print the RBAC Roles that each depth needs, as YAML, and exit; -n names their namespace")
	completeWords(cmd, "output", "text", "wide", "json", "yaml", "name")
	completeWords(cmd, "fail-on", "info", "low", "medium", "high", "critical")
	completeList(cmd, "skip", checkWords()...)
	return cmd
}

func (a *app) diagnoseOptions(f diagnoseFlags, args []string) (diagnoseOptions, error) {
	o := diagnoseOptions{allowPartial: f.allowPartial, run: diagnose.Options{Checks: checks.All(), Skip: map[string]string{}}}
	var err error
	if o.run.FailOn, err = diagnose.ParseSeverity(f.failOn); err != nil {
		return o, usage("", "--fail-on: %w", err)
	}
	for _, id := range f.skip {
		if _, ok := checks.ByID(id); !ok {
			return o, usage(Name+" checks lists them"+nearCheck(id), "--skip: there is no check %s", shown(id))
		}
		o.run.Skip[id] = "skipped on request (--skip)"
	}
	if o.print, err = a.printer(f.output); err != nil {
		return o, err
	}
	o.gather, err = a.gatherOptions("diagnose", f.gatherFlags, args)
	return o, err
}

// printFunc writes a report and may look facts up in the snapshot that it was made from.
type printFunc func(*diagnose.Snapshot, diagnose.Report) error

// printer returns the reporter that -o names.
func (a *app) printer(output string) (printFunc, error) {
	switch output {
	case "text", "wide":
		return func(s *diagnose.Snapshot, r diagnose.Report) error {
			if output == "wide" { // which prints caveats
				fillFixes(s, &r)
			}
			return report.Text(a.Out, r, a.textOptions(output == "wide", s))
		}, nil
	case "json", "yaml":
		write := report.JSON
		if output == "yaml" {
			write = report.YAML
		}
		return func(s *diagnose.Snapshot, r diagnose.Report) error {
			fillFixes(s, &r)
			return write(a.Out, r)
		}, nil
	case "name":
		return func(_ *diagnose.Snapshot, r diagnose.Report) error { return report.Name(a.Out, r) }, nil
	}
	return nil, badOutput(output, "text", "wide", "json", "yaml", "name")
}

// diagnose gathers, judges and prints. A run that ended early still reports the facts it had.
func (a *app) diagnose(ctx context.Context, o diagnoseOptions) error {
	snap, cause := a.gather(ctx, o.gather)
	var none *collect.NoTargetError
	if errors.As(cause, &none) && none.Selector == "" {
		a.note("%s; %s", none.Error(), none.Hint())
		return nil // asked for "whatever looks like gRPC", and there is none: nothing is wrong
	}
	if snap == nil {
		return cause
	}
	r := diagnose.Run(snap, o.run)
	if err := o.print(snap, r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	a.printCost(r.Cost)
	return a.exitFor(ctx, r, cause, o.allowPartial)
}

// exitFor turns a report into an exit code. Findings win over a run that is not complete; an interrupt wins over all.
func (a *app) exitFor(ctx context.Context, r diagnose.Report, cause error, allowPartial bool) error {
	switch {
	case ctx.Err() != nil && cause != nil:
		return cause
	case r.Status == diagnose.StatusFindings:
		if cause != nil {
			finish(ctx, a.Err, cause)
		}
		return silent(ExitFindings)
	case cause != nil:
		return cause
	case r.Status == diagnose.StatusPartial && !allowPartial:
		return silent(ExitCouldNot)
	}
	return nil
}

func (a *app) printCost(c diagnose.Cost) {
	if a.level >= 1 {
		fmt.Fprintf(a.Err, "asked of the API server: %d list, %d get, %d write requests, %d streams\n", c.Lists, c.Gets, c.Writes, c.Streams)
	}
}

// note prints one line on standard error unless --quiet.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.say(fmt.Sprintf(format, args...))
	}
}

// say prints one line on standard error, whatever --quiet says: what is placed or left in a cluster has to be known.
func (a *app) say(text string) {
	line := quote.Visible(text)
	if a.live != nil {
		a.live.say(line)
		return
	}
	fmt.Fprintln(a.Err, line)
}

const defaultTimeout = time.Minute
