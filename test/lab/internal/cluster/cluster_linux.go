// Package cluster puts a lab's cluster together and takes it apart.
//
// Two rules make its commands repeatable. First, [Lab.Up] writes down every
// process as it starts it, and everything it makes on the machine has the
// lab's name on it, so that [Lab.Down] finds all of it after any kind of end.
// Second, a cluster that is not whole is never repaired in part, with one
// exception: a node that was killed is started again.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// DefaultTimeout is how long a cluster may take to come up after its build. It
// takes about 10 s on two idle cores.
const DefaultTimeout = 3 * time.Minute

const (
	// poll is the pause between two looks at something that is to appear.
	poll = 50 * time.Millisecond
	// preferredPort is where the API server is on loopback unless it is taken.
	preferredPort = "127.0.0.1:16443"
)

// Names of the daemons that are not nodes.
const (
	controlPlaneName = "controlplane"
	forwardName      = "forward"
)

// Commands of the driver that are daemons.
const (
	NodeCommand    = "node-init"
	ForwardCommand = "forward"
)

// ErrDown is what a command returns that needs a running cluster.
var ErrDown = errors.New("the lab is not up: run the up command first")

// Lab is the lab of one state directory.
type Lab struct {
	Dir state.Dir
	Log *steps.Log
	// Self is the driver's executable, which the daemons are run from.
	Self string
	// Sources finds the modules to build from; asked only when needed.
	Sources func() (build.Sources, error)
}

// Options is what a cluster is to be like. The zero value of a field means
// the default for a new cluster, and anything for one that is up.
type Options struct {
	Nodes     int
	ProxyMode string
	// Timeout bounds what follows the build.
	Timeout time.Duration
}

// defaults fills what is not set.
func (o Options) defaults() Options {
	if o.Nodes == 0 {
		o.Nodes = topology.DefaultNodes
	}
	if o.ProxyMode == "" {
		o.ProxyMode = node.ModeNFTables
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return o
}

// Validate reports options that no cluster can have.
func (o Options) Validate() error {
	o = o.defaults()
	if _, err := topology.Nodes(o.Nodes); err != nil {
		return err
	}
	if modes := []string{node.ModeNFTables, node.ModeIPTables}; !slices.Contains(modes, o.ProxyMode) {
		return fmt.Errorf("kube-proxy has the modes %s here, not %q", strings.Join(modes, " and "), o.ProxyMode)
	}
	return nil
}

// matches reports in what a running cluster differs from the options.
func (o Options) matches(c *state.Cluster) error {
	var differs []string
	if o.Nodes != 0 && o.Nodes != c.Nodes {
		differs = append(differs, fmt.Sprintf("%d nodes instead of %d", c.Nodes, o.Nodes))
	}
	if o.ProxyMode != "" && o.ProxyMode != c.ProxyMode {
		differs = append(differs, fmt.Sprintf("kube-proxy in mode %s instead of %s", c.ProxyMode, o.ProxyMode))
	}
	if differs == nil {
		return nil
	}
	return fmt.Errorf("the lab is up already, with %s: run the down command first", strings.Join(differs, " and "))
}

// lock takes the state directory's lock for a command and says so when it waits.
func (l *Lab) lock(ctx context.Context, command string) (func(), error) {
	return l.Dir.Lock(ctx, command, func(holder string) {
		if holder == "" {
			holder = "another command"
		}
		l.Log.Note("waiting for %s, which holds the lab", holder)
	})
}

// onlyLab refuses to go on beside a lab of another state directory: there is
// one set of network namespaces on a machine.
func (l *Lab) onlyLab() error {
	marked, err := proc.Marked()
	if err != nil {
		return err
	}
	for dir := range marked {
		if dir != string(l.Dir) {
			return fmt.Errorf("another lab runs on this machine: take it down with %s=%s and the down command", state.EnvDir, dir)
		}
	}
	return nil
}

// Check says whether this machine can run a lab, as an error when not. The
// state directory must exist.
func (l *Lab) Check(ctx context.Context) error {
	_, err := preflight.Check(ctx, string(l.Dir), Options{}.defaults().ProxyMode)
	if err != nil {
		return err
	}
	return l.onlyLab()
}

// finder returns a function that lists every process of the lab.
func (l *Lab) finder(host *cgroup.Host) func() ([]int, error) {
	return func() ([]int, error) {
		marked, err := proc.Marked()
		if err != nil {
			return nil, err
		}
		inodes, err := network.Inodes()
		if err != nil {
			return nil, err
		}
		pids, err := proc.InNetns(inodes)
		if err != nil {
			return nil, err
		}
		pids = append(pids, marked[string(l.Dir)]...)
		if host != nil {
			grouped, err := host.PIDs(topology.CgroupBase)
			if err != nil {
				return nil, err
			}
			pids = append(pids, grouped...)
		}
		slices.Sort(pids)
		return slices.Compact(pids), nil
	}
}

// client returns an API client for the running cluster.
func (l *Lab) client(c *state.Cluster) (*api.Client, error) {
	return api.New(c.APIAddress, l.Dir.PKI())
}

// listen opens the loopback port of the API server: the usual one or, when
// that is taken, any.
func listen() (*net.TCPListener, error) {
	l, err := net.Listen("tcp", preferredPort)
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("open a loopback port for the API server: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// logTail returns the end of a daemon's log for an error message.
func (l *Lab) logTail(name string, lines int) string {
	b, err := os.ReadFile(filepath.Join(l.Dir.Logs(), name+".log"))
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
