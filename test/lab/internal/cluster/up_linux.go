package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
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
	return l.waitNodes(ctx, c, client, since)
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

// Build makes the binaries and images without starting anything. As root it also installs what a cluster needs of the machine, so that
// all that takes long is done.
func (l *Lab) Build(ctx context.Context) error {
	unlock, err := l.lock(ctx, "build")
	if err != nil {
		return err
	}
	defer unlock()
	if os.Geteuid() == 0 {
		if err := build.Packages(ctx, build.ForRunning, l.Log); err != nil {
			return err
		}
	}
	key, err := l.ensureBuild(ctx)
	if err == nil {
		l.Log.Note("build %s is in %s", key, l.Dir.Build(key))
	}
	return err
}
