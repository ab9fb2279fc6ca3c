// Package preflight finds out, before anything is touched, whether this
// machine can run a lab, and says in one sentence what is in the way.
//
// It changes nothing but to load the kernel modules that a node would load
// anyway.
package preflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
)

// kernelModules are loaded where they are not built in; failing to is found
// out by the checks that follow.
var kernelModules = []string{"overlay", "br_netfilter", "bridge", "veth", "nf_tables", "nf_conntrack"}

// nftProbe is a ruleset with one of each thing that kube-proxy's nftables mode
// and a node's masquerading need of the kernel.
const nftProbe = `table ip probe {
	map endpoints {
		type inet_proto . ipv4_addr . inet_service : verdict
	}
	chain pick {
		numgen random mod 2 vmap { 0 : goto one, 1 : goto two }
	}
	chain one {
		meta l4proto tcp dnat to 192.0.2.1:80
	}
	chain two {
		fib daddr type local counter reject
	}
	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		ct state new meta l4proto . ip daddr . th dport vmap @endpoints
	}
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x4000 masquerade
	}
}
`

// Root says whether this process may make namespaces, and how to go on when not.
func Root() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root (namespaces, mounts and cgroups are made); " + Alternative)
	}
	return nil
}

// Check runs every check for a lab whose state is kept in dir, which exists.
// It returns the machine's cgroup file systems.
func Check(ctx context.Context, dir, proxyMode string) (*cgroup.Host, error) {
	if err := Root(); err != nil {
		return nil, err
	}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer info.Close()
	host, err := cgroup.Detect(info)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, Alternative)
	}
	if modprobe, err := exec.LookPath("modprobe"); err == nil {
		_ = exec.CommandContext(ctx, modprobe, append([]string{"-a", "-q"}, kernelModules...)...).Run()
	}
	for _, check := range []func() error{
		host.Usable, overlay, kmsg, bridgeFilter,
		func() error { return stateDisk(dir) },
		func() error { return packetFilter(ctx, proxyMode) },
	} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("%w; %s", err, Alternative)
		}
	}
	return host, nil
}

func overlay() error {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), "\toverlay\n") {
		return errors.New("the kernel has no overlay file system, on which containers are stacked")
	}
	return nil
}

func kmsg() error {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		return fmt.Errorf("the kubelet reads the kernel's messages, and this machine does not allow it: %w", err)
	}
	return f.Close()
}

func bridgeFilter() error {
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		return errors.New("the kernel has no br_netfilter, without which Services do not work between pods of one node")
	}
	return nil
}

// stateDisk refuses a state directory that overlay cannot write to: another
// overlay, as a container's own root usually is.
func stateDisk(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s is itself on an overlay, which containers cannot be stacked on: point GRPCLB_LAB_STATE to a real disk or a tmpfs", dir)
	}
	return nil
}

// packetFilter loads rules of every needed kind into a network namespace that
// is thrown away.
func packetFilter(ctx context.Context, mode string) error {
	return network.DoScratch(func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(nftProbe)
		what := "nftables"
		if mode == node.ModeIPTables {
			what = "iptables"
			cmd = exec.CommandContext(ctx, "iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-p", "tcp",
				"-m", "statistic", "--mode", "random", "--probability", "0.5", "-m", "comment", "--comment", "probe",
				"-j", "DNAT", "--to-destination", "192.0.2.1:80")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("the kernel lacks part of %s that kube-proxy needs (%w: %s)", what, err, firstLine(out))
		}
		return nil
	})
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(line)
}
