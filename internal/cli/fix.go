package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
)

// strategyNames are those that this build implements, recommended first.
func strategyNames() []string {
	var out []string
	for _, s := range fix.Strategies() {
		out = append(out, string(s))
	}
	return out
}

// fixFlags mirrors the command line of fix.
type fixFlags struct {
	gatherFlags
	strategy string
	options  fix.Options
	code     string
}

func (a *app) fixCmd() *cobra.Command {
	var f fixFlags
	strategies, languages := strategyNames(), fix.Languages()
	cmd := &cobra.Command{
		Use:   "fix svc/NAME [--strategy headless|sidecar|mesh|max-age]",
		Short: "write the manifests, patches and client code that spread the calls; changes nothing itself",
		Long: `Writes what to apply, as YAML for kubectl apply, with the rest (client code, caveats) as comments.
It changes nothing: read it, then pipe it.

  headless   a second Service without a cluster IP, and the clients' targets changed to it (round_robin over all pods)
  sidecar    put the refresher beside the clients, which then balances their calls: no code changes
  mesh       put the clients into Linkerd or Istio and let them dial the cluster IP
  max-age    let servers close connections after a while, so that clients look for new pods`,
		Example: `  ` + Name + ` fix svc/square-service --strategy headless | kubectl apply -f -
  ` + Name + ` fix svc/square-service --strategy headless --code java`,
		ValidArgsFunction: a.completeServices(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(strategies, f.strategy) {
				return usage("", "--strategy is one of %s, not %q", strings.Join(strategies, ", "), f.strategy)
			}
			if f.code != "" && !slices.Contains(languages, f.code) {
				return usage("", "--code is one of %s, not %q", strings.Join(languages, ", "), f.code)
			}
			if f.options.Name != "" {
				if err := checkName("Service", f.options.Name, true); err != nil {
					return err
				}
			}
			return a.fix(cmd.Context(), f, args)
		},
	}
	a.gatherFlags(cmd, &f.gatherFlags)
	fl := cmd.Flags()
	fl.StringVar(&f.strategy, "strategy", strategies[0], "what to write: "+strings.Join(strategies, ", "))
	fl.StringVar(&f.options.Name, "name", "", "name of the headless Service that --strategy headless writes (default NAME-headless)")
	fl.StringVar(&f.options.Mesh, "mesh", "", "linkerd or istio, for --strategy mesh (default: the one seen)")
	fl.DurationVar(&f.options.MaxAge, "max-age", 0, "age at which servers close a connection, for --strategy max-age (default 5m)")
	fl.DurationVar(&f.options.Grace, "grace", 0, "time that calls get to finish at that age, for --strategy max-age (default 30s)")
	fl.StringVar(&f.code, "code", "", "print only the code for one language: "+strings.Join(languages, ", "))
	completeWords(cmd, "strategy", strategies...)
	completeWords(cmd, "mesh", "linkerd", "istio")
	completeWords(cmd, "code", languages...)
	return cmd
}

func (a *app) fix(ctx context.Context, f fixFlags, args []string) error {
	f.gatherFlags.only = []diagnose.FactName{diagnose.FactPorts} // whether the servers use TLS decides what the clients need
	o, err := a.gatherOptions("fix", f.gatherFlags, args)
	if err != nil {
		return err
	}
	snap, v, err := a.gatherOne(ctx, "fix", o)
	if err != nil {
		return err
	}
	opt := f.options
	opt.Image = defaultImage()
	if o.from == "" {
		ses, err := a.session(nil)
		if err != nil {
			return err
		}
		defer ses.Close()
		opt.Workload = a.workloadReader(ctx, ses)
	}
	plan, err := fix.Build(v, diagnose.Strategy(f.strategy), opt)
	if err != nil {
		return refused(err)
	}
	a.printCost(snap.Cost)
	if f.code != "" {
		return a.printCode(plan, f.code)
	}
	if why := v.ClientsUnseen(); why != "" {
		a.say("clients may be missing from this: " + why)
	}
	if caveat := v.Service.DeletionCaveat(); caveat != "" {
		a.say(caveat) // a comment in what is piped to kubectl is read by nobody
	}
	if nothing := plan.Nothing(); nothing != "" {
		a.say(nothing) // or the reader learns only of kubectl's "no objects passed to apply"
	}
	return plan.WriteManifests(a.Out)
}

func refused(err error) error {
	var r *fix.Refusal
	if !errors.As(err, &r) {
		return err
	}
	code := ExitCouldNot
	if r.Code == fix.CodeBadOption || r.Code == fix.CodeNameInvalid {
		code = ExitUsage
	}
	return &failure{code, r, r.Hint}
}

func (a *app) printCode(p fix.Plan, language string) error {
	printed := false
	for _, s := range p.Snippets {
		if s.Language == language {
			fmt.Fprintln(a.Out, strings.TrimRight(s.Code, "\n"))
			printed = true
		}
	}
	if !printed {
		return couldNot(fmt.Errorf("strategy %s has no code for %s", p.Strategy, language), "")
	}
	return nil
}

// fillFixes writes out the manifests and snippets of fixes that name a strategy, so that the JSON report is complete. A
// strategy that does not fit keeps its title and says why not.
func fillFixes(snap *diagnose.Snapshot, r *diagnose.Report) {
	for i := range r.Services {
		v, ok := snap.View(r.Services[i].Key)
		if !ok {
			continue
		}
		for j := range r.Services[i].Findings {
			for k := range r.Services[i].Findings[j].Fixes {
				fill(v, &r.Services[i].Findings[j].Fixes[k])
			}
		}
	}
}

func fill(v *diagnose.View, f *diagnose.Fix) {
	if f.Strategy == "" {
		return
	}
	p, err := fix.Build(v, f.Strategy, fix.Options{Mesh: namedMesh(f.Commands), Image: defaultImage()})
	if err != nil {
		f.Caveats = append(f.Caveats, err.Error())
		return
	}
	for _, o := range p.Objects {
		if y, err := report.Manifest(o.Content); err == nil {
			f.Manifests = append(f.Manifests, y)
		}
	}
	f.Commands = append(f.Commands, p.Commands...)
	f.Patches = append(f.Patches, p.Patches...)
	f.Snippets = append(f.Snippets, p.Snippets...)
	for _, c := range p.Caveats {
		if !slices.Contains(f.Caveats, c) {
			f.Caveats = append(f.Caveats, c)
		}
	}
}

// namedMesh is the mesh that the command of a fix names; empty when it leaves the choice open.
func namedMesh(commands []diagnose.Command) string {
	for _, c := range commands {
		if i := slices.Index(c.Args, "--mesh"); i >= 0 && i+1 < len(c.Args) {
			return c.Args[i+1]
		}
	}
	return ""
}
