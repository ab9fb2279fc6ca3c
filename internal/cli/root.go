package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Name is how users call the plugin; kubectl finds the binary kubectl-grpclb under this name.
const Name = "kubectl grpclb"

// Streams are the process's standard streams, replaceable in tests.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// app is what all commands share.
type app struct {
	Streams
	config *genericclioptions.ConfigFlags
	stdin  io.Reader // In, until the command is interrupted
	term   terminal
	color  string
	quiet  bool
	level  int
	live   *progress // draws on standard error while facts are collected; nil otherwise
}

// Main runs the plugin with args (without the program's name) and returns its exit code. It ends early, with what it
// has, when ctx is cancelled.
func Main(ctx context.Context, args []string, st Streams) int {
	out := &answer{w: st.Out}
	st.Out = out
	a := &app{Streams: st, config: configFlags(), stdin: input{ctx, st.In}}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(st.In)
	root.SetOut(st.Out)
	root.SetErr(st.Err)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = couldNot(fmt.Errorf("write the answer: %w", out.err), "")
	}
	return int(finish(ctx, st.Err, err))
}

// input is standard input until ctx ends. A read of a terminal or a pipe takes no context: the one that waits ends with the process.
type input struct {
	ctx context.Context
	r   io.Reader
}

func (i input) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	buf, done := make([]byte, len(p)), make(chan result, 1)
	go func() {
		n, err := i.r.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, buf[:r.n]), r.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}

// answer is standard output. It keeps the first error, so that no command ends well whose answer was lost on the way.
type answer struct {
	w   io.Writer
	err error
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if a.err == nil {
		a.err = err
	}
	return n, err
}

func configFlags() *genericclioptions.ConfigFlags { return genericclioptions.NewConfigFlags(true) }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "grpclb",
		Short: "find out why gRPC calls land on one pod, prove it, fix it, prove the fix",
		Long: `Finds out why the gRPC calls to a Kubernetes Service land where they land.

gRPC keeps one HTTP/2 connection and a ClusterIP balances connections, so one pod works and the rest idle.
This plugin looks (read-only unless asked), names the cause with its evidence, and hands out the fix.
(It has nothing to do with gRPC's retired "grpclb" balancer policy.)`,
		Example: `  kubectl grpclb diagnose svc/square-service
  kubectl grpclb fix svc/square-service --strategy headless | kubectl apply -f -`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(Name+" --help lists the commands"+suggest(cmd, args[0]), "unknown command %s", shown(args[0]))
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.detect() },
	}
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: Name}
	root.SetFlagErrorFunc(badFlag)
	root.SetHelpCommand(helpCmd())
	f := root.PersistentFlags()
	f.StringVar(&a.color, "color", "auto", "colour the output: auto, always or never")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no notes on standard error; what is placed in the cluster is still said")
	f.IntVarP(&a.level, "verbosity", "v", 0, "1: print what was asked of the API server; 2: also how each group of facts ended")
	a.config.AddFlags(f)
	hideFlags(root)
	root.AddCommand(a.diagnoseCmd(), a.spreadCmd(), a.dnsCmd(), a.probeCmd(), a.fixCmd(), a.injectCmd(), a.uninjectCmd(), a.explainCmd(), a.checksCmd(), a.completionCmd(), a.versionCmd())
	a.completeOthers(root)
	return root
}

// hideFlags keeps kubectl's long list of connection flags out of the first help page; they work all the same.
func hideFlags(root *cobra.Command) {
	keep := map[string]bool{"context": true, "namespace": true, "kubeconfig": true, "as": true, "request-timeout": true,
		"color": true, "quiet": true, "verbosity": true}
	for _, n := range []string{"as-group", "as-uid", "as-user-extra", "cache-dir", "certificate-authority", "client-certificate", "client-key",
		"cluster", "disable-compression", "insecure-skip-tls-verify", "proxy-url", "server", "tls-server-name", "token", "user"} {
		if fl := root.PersistentFlags().Lookup(n); fl != nil && !keep[n] {
			fl.Hidden = true
		}
	}
	for n, usage := range map[string]string{
		"as": "act as this user or service account", "context": "kubeconfig context to use", "kubeconfig": "kubeconfig file to use",
		"namespace":       "namespace to look in (default: the context's)",
		"request-timeout": "time that one request to the API server may take, such as 5s; 0 means " + collect.DefaultCallTimeout.String(),
	} {
		if fl := root.PersistentFlags().Lookup(n); fl != nil {
			fl.Usage = usage
		}
	}
}

// helpCmd is cobra's help command but for words that it does not know: those are a mistake here too.
func helpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "say what a command does",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			of, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, noFiles
			}
			var names []string
			for _, sub := range of.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name())
				}
			}
			return matching(typed, "", names), noFiles
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				word := strings.Join(args, " ")
				return usage(Name+" --help lists the commands"+suggest(cmd.Root(), word), "unknown command %s", shown(word))
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

func suggest(cmd *cobra.Command, arg string) string {
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(arg); len(s) > 0 {
		return "; did you mean " + strings.Join(s, " or ") + "?"
	}
	return ""
}
