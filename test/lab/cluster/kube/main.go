// Command kube is every Kubernetes program of the lab in one binary.
//
// The name it is called by chooses the program, as busybox does: a link named
// kubectl, kubelet or kube-proxy behaves as the stock program of that name
// ("kube kubelet --help" is the same without the link). One binary instead of
// seven is a third of the disk and of the link time. "kube controlplane FILE"
// runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler in a
// single process; see [Config].
//
// It starts nothing on its own and knows nothing of network namespaces,
// certificates or nodes: the lab's driver prepares those and calls it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// usageExit is the exit code for a command line that names no known program.
const usageExit = 2

func main() {
	os.Exit(run(os.Args))
}

// run picks the program from argv and returns its exit code. It rewrites
// os.Args because the stock commands parse that and not an argument of theirs.
func run(argv []string) int {
	name := filepath.Base(argv[0])
	if name == "kube" {
		if len(argv) < 2 {
			fmt.Fprintln(os.Stderr, "usage: kube kubectl|kubelet|kube-proxy|controlplane ARGS...")
			return usageExit
		}
		argv = argv[1:]
		name = argv[0]
	}
	os.Args = argv
	var cmd *cobra.Command
	switch name {
	case "kubectl":
		cmd = kubectl.NewDefaultKubectlCommand()
	case "kubelet":
		cmd = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		cmd = proxy.NewProxyCommand()
	case "controlplane":
		return controlPlane(argv[1:])
	default:
		fmt.Fprintf(os.Stderr, "kube: no program is called %q\n", name)
		return usageExit
	}
	return cli.Run(cmd)
}

// controlPlane runs the control plane of the given config file until SIGTERM,
// SIGINT or the end of one component.
func controlPlane(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: kube controlplane CONFIG.json")
		return usageExit
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg, err := LoadConfig(args[0])
	if err == nil {
		err = Run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	return 0
}
