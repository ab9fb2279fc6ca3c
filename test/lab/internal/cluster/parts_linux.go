package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// Parts says how the single components are named that can be frozen and
// started again: the control plane, which is one process, and a kubelet.
const Parts = controlPlaneName + "|" + kubeletPrefix + "NODE"

const kubeletPrefix = "kubelet/"

// part finds the process of a component.
func part(c *state.Cluster, nodes []topology.Node, name string) (proc.ID, error) {
	nodeName, isKubelet := strings.CutPrefix(name, kubeletPrefix)
	switch {
	case name == controlPlaneName:
		id := c.Processes[controlPlaneName]
		if !id.Alive() {
			return id, fmt.Errorf("%s has ended: take the lab down and up", name)
		}
		return id, nil
	case !isKubelet:
		return proc.ID{}, fmt.Errorf("no part is called %q: they are %s", name, Parts)
	}
	n, err := nodeNamed(nodes, nodeName)
	if err != nil {
		return proc.ID{}, err
	}
	init := c.Processes[n.Name]
	if !init.Alive() {
		return proc.ID{}, fmt.Errorf("node %s is not running: the up command starts it again", n.Name)
	}
	return proc.Child(init, "kubelet")
}

// Freeze stops a component (SIGSTOP) until the reader ends or ctx does: its
// connections stay open and nothing answers on them. Once it stands still,
// frozen is called. Whoever holds the other end of the reader's pipe may die in
// any way and the component goes on.
//
// A reader that does not end is still being read when Freeze returns because of
// ctx: there is no way to interrupt a read of standard input.
func (l *Lab) Freeze(ctx context.Context, name string, until io.Reader, frozen func()) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	c, nodes, err := l.running()
	if err != nil {
		return err
	}
	id, err := part(c, nodes, name)
	if err != nil {
		return err
	}
	step := l.Log.Begin("freeze " + name)
	if err := step.End(signal(id, unix.SIGSTOP), "until standard input ends"); err != nil {
		return err
	}
	frozen()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, until) // that it broke is an end like any other
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	step = l.Log.Begin("thaw " + name)
	return step.End(signal(id, unix.SIGCONT), "")
}

// signal sends a signal to this very process; one that has ended needs none.
func signal(id proc.ID, s unix.Signal) error {
	if !id.Alive() {
		return nil
	}
	if err := unix.Kill(id.PID, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", id.PID, err)
	}
	return nil
}

// Restart kills a component and starts it again with what it had on disk. It
// returns when the API server is ready again; a kubelet comes back within a
// second or two of Restart's return.
func (l *Lab) Restart(ctx context.Context, name string) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, "restart")
	if err != nil {
		return err
	}
	defer unlock()
	c, nodes, err := l.running()
	if err != nil {
		return err
	}
	id, err := part(c, nodes, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	step := l.Log.Begin("kill " + name)
	if err := step.End(proc.EndAll(ctx, id.List), ""); err != nil || name != controlPlaneName {
		return err // a node's init starts its kubelet again by itself
	}
	host, err := detectCgroups()
	if err != nil {
		return err
	}
	return l.restartControl(ctx, host, c)
}

func (l *Lab) restartControl(ctx context.Context, host *cgroup.Host, c *state.Cluster) error {
	step := l.Log.Begin("start " + controlPlaneName + " again")
	if err := step.End(l.startControlPlane(host, c), ""); err != nil {
		return err
	}
	client, err := l.client(c)
	if err != nil {
		return err
	}
	defer client.Close()
	step = l.Log.Begin("API server")
	return step.End(l.wait(ctx, c, controlPlaneName, func() bool { return client.Ready(ctx) == nil }), "ready")
}
