package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/addons"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/controlplane"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

const (
	// aliveTimeout bounds the question whether a recorded cluster answers.
	aliveTimeout = 5 * time.Second
)

// Up brings a cluster up, from whatever state the lab is in. When it fails,
// or ctx ends, it takes down what it had started.
func (l *Lab) Up(ctx context.Context, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	if err := preflight.Root(); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, "up")
	if err != nil {
		return err
	}
	defer unlock()
	done, err := l.alreadyUp(ctx, opts)
	if done || err != nil {
		return err
	}
	opts = opts.defaults()
	// Before the build, which may take minutes.
	host, err := l.preflight(ctx, opts.ProxyMode)
	if err != nil {
		return err
	}
	key, err := l.ensureBuild(ctx)
	if err != nil {
		return err
	}
	if err := l.clear(ctx, host, "remains of an earlier lab"); err != nil {
		return err
	}
	err = l.start(ctx, host, opts, key)
	if err != nil {
		// ctx may have ended; the clean-up must happen all the same.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
		defer cancel()
		return errors.Join(err, l.clear(clean, host, "take down what was started"))
	}
	return nil
}

// preflight makes sure that the machine can run a lab.
func (l *Lab) preflight(ctx context.Context, proxyMode string) (*cgroup.Host, error) {
	if err := build.Packages(ctx, build.ForRunning, l.Log); err != nil {
		return nil, err
	}
	step := l.Log.Begin("preflight")
	host, err := preflight.Check(ctx, string(l.Dir), proxyMode)
	if err == nil {
		err = l.onlyLab()
	}
	if err != nil {
		return nil, step.End(err, "")
	}
	step.Done(fmt.Sprintf("root, kernel, cgroup v%d", host.Version))
	return host, nil
}

// alreadyUp reports whether a fitting cluster is up, after restarting nodes of
// it that were killed.
func (l *Lab) alreadyUp(ctx context.Context, opts Options) (bool, error) {
	c, err := l.Dir.Load()
	if err != nil || c == nil || !c.Complete {
		return false, err
	}
	if !c.Processes[controlPlaneName].Alive() || !c.Processes[forwardName].Alive() {
		return false, nil
	}
	client, err := l.client(c)
	if err != nil {
		return false, err
	}
	defer client.Close()
	asking, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	if until(asking, func() bool { return client.Ready(asking) == nil }) != nil {
		return false, ctx.Err()
	}
	if err := opts.matches(c); err != nil {
		return false, err
	}
	if err := l.reviveNodes(ctx, opts.defaults(), c, client); err != nil {
		return false, err
	}
	l.Log.Note("the lab is up already, since %s", c.Started.Local().Format(time.DateTime))
	if s, err := l.Status(ctx); err == nil {
		for _, trouble := range s.Trouble {
			l.Log.Note("but %s", trouble)
		}
	}
	if src, err := l.Sources(); err == nil {
		if key, err := src.Key(); err == nil && key != c.Build {
			l.Log.Note("it runs binaries of other sources: run down and up to change to these")
		}
	}
	return true, nil
}

// reviveNodes starts the nodes again that have ended, as a power button would.
func (l *Lab) reviveNodes(ctx context.Context, opts Options, c *state.Cluster, client *api.Client) error {
	nodes, err := topology.Nodes(c.Nodes)
	if err != nil {
		return err
	}
	dead := slices.DeleteFunc(slices.Clone(nodes), func(n topology.Node) bool { return c.Processes[n.Name].Alive() })
	if len(dead) == 0 {
		return nil
	}
	host, err := l.preflight(ctx, c.ProxyMode)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	since := map[string]time.Time{}
	for _, n := range dead {
		// Heartbeats are told to the second.
		since[n.Name] = time.Now().Truncate(time.Second)
		step := l.Log.Begin("start node " + n.Name + " again")
		if err := step.End(l.startNode(ctx, host, c, n), ""); err != nil {
			return err
		}
	}
	return l.waitNodes(ctx, client, nodes, since)
}

// ensureBuild makes the build current unless it is.
func (l *Lab) ensureBuild(ctx context.Context) (string, error) {
	src, err := l.Sources()
	if err != nil {
		return "", err
	}
	running := ""
	if c, err := l.Dir.Load(); err == nil && c != nil {
		running = c.Build
	}
	key, err := build.Ensure(ctx, src, l.Dir, running, l.Log)
	if err != nil {
		return "", err
	}
	return key, build.Use(l.Dir, key)
}

// Build makes the binaries and images without starting anything.
func (l *Lab) Build(ctx context.Context) error {
	unlock, err := l.lock(ctx, "build")
	if err != nil {
		return err
	}
	defer unlock()
	key, err := l.ensureBuild(ctx)
	if err == nil {
		l.Log.Note("build %s is in %s", key, l.Dir.Build(key))
	}
	return err
}

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
	if err := l.settle(ctx, client, nodes); err != nil {
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
	err := network.Do(topology.ControlNetns, func() error {
		return l.startControl(host, c, controlPlaneName, proc.Daemon{
			Path: filepath.Join(l.Dir.Build(c.Build), "bin", "kube"),
			Args: []string{"controlplane", controlplane.ConfigFile(l.Dir)},
		})
	})
	if err != nil {
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
func (l *Lab) settle(ctx context.Context, client *api.Client, nodes []topology.Node) error {
	step := l.Log.Begin("API server")
	if err := step.End(l.wait(ctx, controlPlaneName, func() bool { return client.Ready(ctx) == nil }), "ready"); err != nil {
		return err
	}
	// Nodes first: with one of them ready, all replicas would end up there.
	if err := l.waitNodes(ctx, client, nodes, nil); err != nil {
		return err
	}
	step = l.Log.Begin("apply CoreDNS and metrics-server")
	if err := step.End(l.applyAddons(ctx), ""); err != nil {
		return err
	}
	step = l.Log.Begin("CoreDNS")
	return step.End(l.wait(ctx, controlPlaneName, func() bool {
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
func (l *Lab) waitNodes(ctx context.Context, client *api.Client, nodes []topology.Node, since map[string]time.Time) error {
	step := l.Log.Begin("nodes")
	ranges := map[string]bool{}
	err := l.wait(ctx, nodes[0].Name, func() bool {
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

// wait polls ok and, when it gives up, adds the end of a daemon's log.
func (l *Lab) wait(ctx context.Context, daemon string, ok func() bool) error {
	if err := until(ctx, ok); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("%w; the end of %s:\n%s", err, filepath.Join(l.Dir.Logs(), daemon+".log"), l.logTail(daemon, 15))
	}
	return nil
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
