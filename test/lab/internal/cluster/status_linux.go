package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// What State a Status may have.
const (
	StateDown     = "down"     // nothing is recorded
	StatePartial  = "partial"  // an up was cut short: up or down will clear it
	StateDegraded = "degraded" // up, but something of it is not well
	StateUp       = "up"
)

// Status describes the lab. Its JSON form is what `status -o json` prints.
type Status struct {
	State string `json:"state"`
	// Trouble says what is not well, one sentence each.
	Trouble []string `json:"trouble,omitempty"`

	Nodes     []NodeStatus `json:"nodes,omitempty"`
	ProxyMode string       `json:"proxyMode,omitempty"`
	// APIServer is its URL on this machine.
	APIServer     string            `json:"apiServer,omitempty"`
	Started       *time.Time        `json:"started,omitempty"`
	Processes     map[string]Daemon `json:"processes,omitempty"`
	CoreDNS       *api.Deployment   `json:"coreDNS,omitempty"`
	MetricsServer *api.Deployment   `json:"metricsServer,omitempty"`
	// Metrics says whether `kubectl top` has an answer yet.
	Metrics bool `json:"metrics"`

	Context    string `json:"context"`
	Kubeconfig string `json:"kubeconfig"`
	Bin        string `json:"bin"`
	Logs       string `json:"logs"`
	AuditLog   string `json:"auditLog"`
	StateDir   string `json:"stateDir"`

	Build      string            `json:"build,omitempty"`
	Components []build.Component `json:"components,omitempty"`
}

// Daemon is one of the lab's own processes.
type Daemon struct {
	PID   int  `json:"pid"`
	Alive bool `json:"alive"`
}

// NodeStatus is a node as planned and as the API server sees it.
type NodeStatus struct {
	Name    string `json:"name"`
	Zone    string `json:"zone"`
	IP      string `json:"ip"`
	PodCIDR string `json:"podCIDR"`
	// Alive says whether its processes run, Ready what Kubernetes thinks.
	Alive bool `json:"alive"`
	Ready bool `json:"ready"`
}

// Status looks at the lab and changes nothing; it needs neither root nor the
// lock.
func (l *Lab) Status(ctx context.Context) (*Status, error) {
	s := &Status{
		State: StateDown, Context: state.ContextName, Kubeconfig: l.Dir.Kubeconfig(), Bin: l.Dir.Bin(),
		Logs: l.Dir.Logs(), AuditLog: l.Dir.AuditLog(), StateDir: string(l.Dir),
	}
	if src, err := l.Sources(); err == nil {
		if s.Components, err = src.Components(); err != nil {
			return nil, err
		}
	}
	c, err := l.Dir.Load()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return s, nil
	}
	s.Build, s.ProxyMode, s.Started = c.Build, c.ProxyMode, &c.Started
	s.Processes = map[string]Daemon{}
	for name, id := range c.Processes {
		d := Daemon{PID: id.PID, Alive: id.Alive()}
		s.Processes[name] = d
		if !d.Alive {
			s.Trouble = append(s.Trouble, name+" has ended")
		}
	}
	if !c.Complete {
		s.State = StatePartial
		return s, nil
	}
	s.APIServer = "https://" + c.APIAddress
	if err := l.ask(ctx, c, s); err != nil {
		return nil, err
	}
	s.State = StateUp
	if len(s.Trouble) > 0 {
		s.State = StateDegraded
	}
	return s, nil
}

// ask fills in what the API server knows.
func (l *Lab) ask(ctx context.Context, c *state.Cluster, s *Status) error {
	plan, err := topology.Nodes(c.Nodes)
	if err != nil {
		return err
	}
	client, err := l.client(c)
	if err != nil {
		return err
	}
	defer client.Close()
	var seen []api.Node
	var dns, metrics api.Deployment
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { seen, err = client.Nodes(ctx); return err })
	group.Go(func() (err error) { dns, err = client.Deployment(ctx, "kube-system", "coredns"); return err })
	group.Go(func() (err error) { metrics, err = client.Deployment(ctx, "kube-system", "metrics-server"); return err })
	group.Go(func() (err error) { s.Metrics, err = client.MetricsAvailable(ctx); return err })
	if err := group.Wait(); err != nil {
		s.Trouble = append(s.Trouble, "the API server does not answer: "+err.Error())
		return nil
	}
	s.CoreDNS, s.MetricsServer = &dns, &metrics
	if !dns.Complete() {
		s.Trouble = append(s.Trouble, fmt.Sprintf("CoreDNS has %d of %d replicas ready", dns.Ready, dns.Wanted))
	}
	ready := map[string]bool{}
	for _, n := range seen {
		ready[n.Name] = n.Ready
	}
	for _, n := range plan {
		s.Nodes = append(s.Nodes, NodeStatus{
			Name: n.Name, Zone: n.Zone, IP: n.IP, PodCIDR: n.PodCIDR, Alive: c.Processes[n.Name].Alive(), Ready: ready[n.Name],
		})
		if !ready[n.Name] {
			s.Trouble = append(s.Trouble, "node "+n.Name+" is not ready")
		}
	}
	return nil
}

// running returns the record of a cluster that is up and its nodes.
func (l *Lab) running() (*state.Cluster, []topology.Node, error) {
	c, err := l.Dir.Load()
	if err != nil {
		return nil, nil, err
	}
	if c == nil || !c.Complete {
		return nil, nil, ErrDown
	}
	nodes, err := topology.Nodes(c.Nodes)
	return c, nodes, err
}

// nodeNamed is the node that somebody asked for.
func nodeNamed(nodes []topology.Node, name string) (topology.Node, error) {
	n, ok := topology.Find(nodes, name)
	if !ok {
		return n, fmt.Errorf("no node is called %q: they are n1 to n%d", name, len(nodes))
	}
	return n, nil
}

// LoadImages puts image archives (OCI or Docker format) into every node.
func (l *Lab) LoadImages(ctx context.Context, archives []string) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	c, nodes, err := l.running()
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := os.Stat(archive); err != nil {
			return err
		}
	}
	for _, archive := range archives {
		step := l.Log.Begin("load " + filepath.Base(archive))
		var all errgroup.Group
		for _, n := range nodes {
			all.Go(func() error {
				if err := l.loadInto(ctx, c, n, archive); err != nil {
					return fmt.Errorf("node %s: %w", n.Name, err)
				}
				return nil
			})
		}
		if err := step.End(all.Wait(), fmt.Sprintf("%d nodes", len(nodes))); err != nil {
			return fmt.Errorf("load %s: %w", archive, err)
		}
	}
	return nil
}

// loadInto imports an archive through the socket of a node's containerd,
// which is reached through the root directory of the node's init.
func (l *Lab) loadInto(ctx context.Context, c *state.Cluster, n topology.Node, archive string) error {
	id := c.Processes[n.Name]
	if !id.Alive() {
		return errors.New("it is not running: the up command starts it again")
	}
	socket := fmt.Sprintf("/proc/%d/root%s", id.PID, node.Socket)
	cmd := exec.CommandContext(ctx, filepath.Join(l.Dir.Build(c.Build), "bin", "ctr"), node.ImportArgs(socket, archive)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr images import: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// FaultKind is a fault that can be injected.
type FaultKind struct {
	Name, Does string
}

// Faults are all there are.
var Faults = []FaultKind{
	{"kill", "end every process of a node at once, as a power cut does (undone by the up command)"},
	{"cut", "cut a node's link: it runs on and hears nobody"},
	{"mend", "undo a cut"},
}

// Fault injects a fault into a node.
func (l *Lab) Fault(ctx context.Context, fault, nodeName string) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, "fault")
	if err != nil {
		return err
	}
	defer unlock()
	c, nodes, err := l.running()
	if err != nil {
		return err
	}
	n, err := nodeNamed(nodes, nodeName)
	if err != nil {
		return err
	}
	step := l.Log.Begin(fault + " " + n.Name)
	switch fault {
	case "kill":
		id := c.Processes[n.Name]
		return step.End(proc.EndAll(ctx, id.List), "")
	case "cut":
		return step.End(network.SetLink(n, false), "")
	case "mend":
		return step.End(network.SetLink(n, true), "")
	}
	return step.End(fmt.Errorf("no fault is called %q", fault), "")
}
