package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/addons"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/controlplane"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// start puts a cluster together on a machine without remains of one.
func (l *Lab) start(ctx context.Context, host *cgroup.Host, opts Options, key string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, opts.Timeout, fmt.Errorf("it took longer than %v (see --timeout)", opts.Timeout))
	defer cancel()
	nodes, err := topology.Nodes(opts.Nodes)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(l.Dir.Logs()); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Dir.Logs(), 0o755); err != nil {
		return err
	}
	c := &state.Cluster{
		Nodes: opts.Nodes, ProxyMode: opts.ProxyMode, Build: key, Started: time.Now(), Processes: map[string]proc.ID{},
	}
	if err := l.Dir.Save(c); err != nil {
		return err
	}
	step := l.Log.Begin("network namespaces")
	if err := step.End(network.Setup(nodes), fmt.Sprintf("%d, no uplink", len(nodes)+1)); err != nil {
		return err
	}
	step = l.Log.Begin("keys and configuration")
	if err := step.End(controlplane.Prepare(l.Dir, nodes), ""); err != nil {
		return err
	}
	step = l.Log.Begin("start control plane and nodes")
	if err := step.End(l.startDaemons(ctx, host, c, nodes), "API server at "+c.APIAddress); err != nil {
		return err
	}
	client, err := l.client(c)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := l.settle(ctx, c, client); err != nil {
		return err
	}
	c.Complete = true
	if err := l.Dir.Save(c); err != nil {
		return err
	}
	l.Log.Note("the lab is up; kubeconfig %s, context %s", l.Dir.Kubeconfig(), state.ContextName)
	return nil
}

// startDaemons starts all processes and records each.
func (l *Lab) startDaemons(ctx context.Context, host *cgroup.Host, c *state.Cluster, nodes []topology.Node) error {
	if err := host.CreateLeaf(topology.ControlCgroup); err != nil {
		return err
	}
	if err := l.startControlPlane(host, c); err != nil {
		return err
	}
	port, err := listen()
	if err != nil {
		return err
	}
	defer port.Close()
	file, err := port.File()
	if err != nil {
		return err
	}
	defer file.Close()
	c.APIAddress = port.Addr().String()
	err = l.startControl(host, c, forwardName, proc.Daemon{
		Path: l.Self, Args: []string{ForwardCommand, topology.ControlNetns, topology.ControlIP + ":6443"}, Files: []*os.File{file},
	})
	if err != nil {
		return err
	}
	config, err := controlplane.UserKubeconfig(l.Dir, c.APIAddress)
	if err != nil {
		return err
	}
	if err := state.WriteFile(l.Dir.Kubeconfig(), config, 0o600); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := l.startNode(ctx, host, c, n); err != nil {
			return err
		}
	}
	return nil
}

// startControlPlane starts etcd, the API server and the controllers, with what
// is on disk of an earlier run of theirs.
func (l *Lab) startControlPlane(host *cgroup.Host, c *state.Cluster) error {
	return network.Do(topology.ControlNetns, func() error {
		return l.startControl(host, c, controlPlaneName, proc.Daemon{
			Path: filepath.Join(l.Dir.Build(c.Build), "bin", "kube"),
			Args: []string{"controlplane", controlplane.ConfigFile(l.Dir)},
		})
	})
}

// startControl starts a daemon of the control plane.
func (l *Lab) startControl(host *cgroup.Host, c *state.Cluster, name string, d proc.Daemon) error {
	d.Log = filepath.Join(l.Dir.Logs(), name+".log")
	d.State = string(l.Dir)
	id, err := proc.Start(d)
	if err != nil {
		return err
	}
	c.Processes[name] = id
	if err := l.Dir.Save(c); err != nil {
		return err
	}
	return host.Join(topology.ControlCgroup, id.PID)
}

// startNode starts a node's init; what it left behind when it was killed is
// cleared first.
func (l *Lab) startNode(ctx context.Context, host *cgroup.Host, c *state.Cluster, n topology.Node) error {
	if err := host.Remove(ctx, n.Cgroup); err != nil {
		return err
	}
	spec := &node.Spec{
		Node: n, State: l.Dir, Build: c.Build, ProxyMode: c.ProxyMode,
		Images: build.Images(l.Dir, c.Build), Cgroup: node.SystemCgroup(n),
	}
	if err := host.CreateLeaf(spec.Cgroup); err != nil {
		return err
	}
	if err := spec.Prepare(); err != nil {
		return err
	}
	return network.Do(n.Netns, func() error {
		id, err := proc.Start(proc.Daemon{
			Path: l.Self, Args: []string{NodeCommand, spec.File()}, State: string(l.Dir),
			Log: filepath.Join(l.Dir.Logs(), n.Name+".log"), Namespaces: node.Namespaces,
		})
		if err != nil {
			return err
		}
		c.Processes[n.Name] = id
		return l.Dir.Save(c)
	})
}

// settle waits until the cluster is fit for use.
func (l *Lab) settle(ctx context.Context, c *state.Cluster, client *api.Client) error {
	step := l.Log.Begin("API server")
	if err := step.End(l.wait(ctx, c, controlPlaneName, func() bool { return client.Ready(ctx) == nil }), "ready"); err != nil {
		return err
	}
	// Nodes first: with one of them ready, all replicas would end up there.
	if err := l.waitNodes(ctx, c, client, nil); err != nil {
		return err
	}
	step = l.Log.Begin("apply CoreDNS and metrics-server")
	if err := step.End(l.applyAddons(ctx), ""); err != nil {
		return err
	}
	step = l.Log.Begin("CoreDNS")
	return step.End(l.wait(ctx, c, controlPlaneName, func() bool {
		d, err := client.Deployment(ctx, "kube-system", "coredns")
		step.Update("%d of %d ready", d.Ready, d.Wanted)
		return err == nil && d.Complete()
	}), "ready")
}

// applyAddons hands the manifests to kubectl. Right after the API server is
// ready a few of its own objects are still missing, hence the second attempt.
func (l *Lab) applyAddons(ctx context.Context) error {
	var err error
	for range 3 {
		cmd := exec.CommandContext(ctx, filepath.Join(l.Dir.Bin(), "kubectl"), "--kubeconfig", l.Dir.Kubeconfig(),
			"apply", "--server-side", "--force-conflicts", "-f", "-")
		cmd.Stdin = strings.NewReader(addons.Manifest())
		var out []byte
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("kubectl apply: %w:\n%s", err, out)
		if ctx.Err() != nil {
			break
		}
	}
	return err
}

// waitNodes waits until all nodes are ready and records their pod ranges. A
// node with an entry in since must have reported after that time.
func (l *Lab) waitNodes(ctx context.Context, c *state.Cluster, client *api.Client, since map[string]time.Time) error {
	nodes, err := topology.Nodes(c.Nodes)
	if err != nil {
		return err
	}
	step := l.Log.Begin("nodes")
	ranges := map[string]bool{}
	err = l.wait(ctx, c, nodes[0].Name, func() bool {
		have, err := client.Nodes(ctx)
		if err != nil {
			return false
		}
		ready := 0
		for _, h := range have {
			n, ours := topology.Find(nodes, h.Name)
			if ours && h.PodCIDR == "" && !ranges[n.Name] {
				ranges[n.Name] = client.SetPodCIDR(ctx, n.Name, n.PodCIDR) == nil
			}
			if ours && h.Ready && !h.Heartbeat.Before(since[n.Name]) {
				ready++
			}
		}
		step.Update("%d of %d ready", ready, len(nodes))
		return ready == len(nodes)
	})
	return step.End(err, fmt.Sprintf("%d ready", len(nodes)))
}

// wait polls ok. It gives up with ctx or when one of the cluster's processes
// has ended, and then shows the end of a log: that process's, or that of the
// one suspected to be late.
func (l *Lab) wait(ctx context.Context, c *state.Cluster, suspect string, ok func() bool) error {
	var ended error
	err := until(ctx, func() bool {
		for name, id := range c.Processes {
			if !id.Alive() {
				suspect, ended = name, fmt.Errorf("%s has ended", name)
				return true
			}
		}
		return ok()
	})
	switch {
	case ended != nil:
		err = ended
	case err == nil:
		return nil
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w; the end of %s:\n%s", err, filepath.Join(l.Dir.Logs(), suspect+".log"), l.logTail(suspect, 15))
}

// until polls ok until it holds or ctx ends.
func until(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
	return nil
}
