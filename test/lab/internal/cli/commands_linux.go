package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cluster"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
)

// platformCommands are the commands that need Linux.
func platformCommands(streams Streams) []*cobra.Command {
	all := []*cobra.Command{
		newUp(streams), newDown(streams), newBuild(streams), newLoad(streams), newFault(streams), newFreeze(streams), newRestart(streams),
		newStatus(streams), newKubeconfig(streams), newKubectl(streams), newPath(streams), newVersion(streams), newCheck(streams),
		newNodeInit(streams), newForward(),
	}
	for _, cmd := range all {
		cmd.Short = clusterCommands[cmd.Name()]
	}
	return all
}

// open returns the lab of this user.
func open(streams Streams) (*cluster.Lab, error) {
	dir, err := state.Locate()
	if err != nil {
		return nil, err
	}
	// Where nft and iptables are, which is not in everybody's PATH.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &cluster.Lab{Dir: dir, Log: steps.New(streams.Err), Self: self, Sources: sources}, nil
}

func sources() (build.Sources, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return build.FindSources(cwd)
}

func newUp(streams Streams) *cobra.Command {
	var opts cluster.Options
	cmd := &cobra.Command{
		Use:  "up",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := open(streams)
			if err != nil {
				return err
			}
			if err := lab.Up(cmd.Context(), opts); err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "export KUBECONFIG=%s PATH=%s:$PATH\n", lab.Dir.Kubeconfig(), lab.Dir.Bin())
			return nil
		},
	}
	cmd.Flags().IntVar(&opts.Nodes, "nodes", 0, "how many nodes (default 2, or those that are up)")
	cmd.Flags().StringVar(&opts.ProxyMode, "proxy-mode", "", "kube-proxy's mode, nftables or iptables (default nftables, or that which is up)")
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", cluster.DefaultTimeout, "how long it may take after the build")
	return cmd
}

func newDown(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "down", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		return lab.Down(cmd.Context())
	}}
}

func newBuild(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "build", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		return lab.Build(cmd.Context())
	}}
}

func newLoad(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "load IMAGE.tar...", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		archives := make([]string, len(args))
		for i, arg := range args {
			archives[i] = resolve(arg)
		}
		return lab.LoadImages(cmd.Context(), archives)
	}}
}

func newFault(streams Streams) *cobra.Command {
	var lines []string
	for _, f := range cluster.Faults {
		lines = append(lines, fmt.Sprintf("  %-5s %s", f.Name, f.Does))
	}
	return &cobra.Command{
		Use:  "fault kill|cut|mend NODE",
		Long: "Inject a fault into a node (n1, n2, ...):\n\n" + strings.Join(lines, "\n"),
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := open(streams)
			if err != nil {
				return err
			}
			return lab.Fault(cmd.Context(), args[0], args[1])
		},
	}
}

// newFreeze lasts as long as its standard input, so that a test that dies in
// any way leaves nothing frozen.
func newFreeze(streams Streams) *cobra.Command {
	return &cobra.Command{
		Use: "freeze " + cluster.Parts,
		Long: `Stop a component of the cluster as SIGSTOP does, until standard input ends or this
command is interrupted: connections to it stay open and nothing answers on them.
The line "frozen" on standard output says that it stands still.

A node whose kubelet is frozen longer than 40 s becomes not ready.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := open(streams)
			if err != nil {
				return err
			}
			return lab.Freeze(cmd.Context(), args[0], streams.In, func() { fmt.Fprintln(streams.Out, "frozen") })
		},
	}
}

func newRestart(streams Streams) *cobra.Command {
	return &cobra.Command{
		Use: "restart " + cluster.Parts,
		Long: `Kill a component of the cluster and start it again with what it has on disk: etcd, the
API server and the controllers are one process. It returns when the API server is
ready again, and for a kubelet once it was killed: its node starts it within seconds.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := open(streams)
			if err != nil {
				return err
			}
			return lab.Restart(cmd.Context(), args[0])
		},
	}
}

func newKubeconfig(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "kubeconfig", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		if _, err := os.Stat(lab.Dir.Kubeconfig()); err != nil {
			return cluster.ErrDown
		}
		fmt.Fprintln(streams.Out, lab.Dir.Kubeconfig())
		return nil
	}}
}

// newKubectl passes everything after its name on, flags included.
func newKubectl(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "kubectl ARGS...", DisableFlagParsing: true, RunE: func(cmd *cobra.Command, args []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		if _, err := os.Stat(lab.Dir.Kubeconfig()); err != nil {
			return cluster.ErrDown
		}
		// Interrupts reach kubectl on its own: it is in the same process group.
		kubectl := exec.Command(filepath.Join(lab.Dir.Bin(), "kubectl"), args...)
		kubectl.Dir = userDir()
		kubectl.Env = append(os.Environ(), "KUBECONFIG="+lab.Dir.Kubeconfig(), "PATH="+lab.Dir.Bin()+":"+os.Getenv("PATH"))
		kubectl.Stdin, kubectl.Stdout, kubectl.Stderr = streams.In, streams.Out, streams.Err
		err = kubectl.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return exitCode(exit.ExitCode())
		}
		return err
	}}
}

func newPath(streams Streams) *cobra.Command {
	names := []string{"bin", "kubeconfig", "logs", "audit", "state"}
	return &cobra.Command{
		Use: "path " + strings.Join(names, "|"), Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			lab, err := open(streams)
			if err != nil {
				return err
			}
			paths := map[string]string{
				"bin": lab.Dir.Bin(), "kubeconfig": lab.Dir.Kubeconfig(), "logs": lab.Dir.Logs(),
				"audit": lab.Dir.AuditLog(), "state": string(lab.Dir),
			}
			fmt.Fprintln(streams.Out, paths[args[0]])
			return nil
		},
	}
}

func newVersion(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		src, err := sources()
		if err != nil {
			return err
		}
		components, err := src.Components()
		if err != nil {
			return err
		}
		for _, c := range components {
			fmt.Fprintf(streams.Out, "%-16s%s\n", c.Name, c.Version)
		}
		return nil
	}}
}

func newCheck(streams Streams) *cobra.Command {
	return &cobra.Command{Use: "check", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		lab, err := open(streams)
		if err != nil {
			return err
		}
		if err := preflight.Root(); err != nil {
			return err
		}
		if err := os.MkdirAll(string(lab.Dir), 0o755); err != nil {
			return err
		}
		return lab.Check(cmd.Context())
	}}
}
