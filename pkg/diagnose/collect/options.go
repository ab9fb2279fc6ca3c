package collect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// MaxConfigMaps is how many ConfigMaps one run reads at most; the rest is reported as a gap.
const MaxConfigMaps = 50

// DefaultDomain is the cluster's DNS domain unless Options says otherwise or the cluster's DNS does. The API does not tell it: it is
// a setting of each kubelet.
const DefaultDomain = "cluster.local"

// Depths of looking, as Snapshot.Depth has them. Run itself always looks at depth static; the stages do the rest.
const (
	DepthStatic  = "static"
	DepthObserve = "observe"
	DepthSockets = "sockets"
	DepthProbe   = "probe"
)

// Options says what to look at. Namespace must be set unless AllNamespaces is.
type Options struct {
	Namespace     string
	AllNamespaces bool
	// Names are the Services to diagnose. Without names, and without a Selector, every Service that looks like gRPC is taken.
	Names []string
	// Selector is a label selector for Services; it excludes Names.
	Selector string
	// AllClients looks for client workloads in all namespaces instead of the Service's own. Where that is forbidden, the
	// namespace's own workloads are still looked at and a gap says so.
	AllClients bool
	// Clients are workloads to look at besides those of the namespace.
	Clients []ClientRef
	// Depth is noted in the snapshot; empty means DepthStatic.
	Depth string
	// AssumeGRPC is noted in the snapshot and makes the selection take every Service.
	AssumeGRPC bool
	// Domain is the cluster's DNS domain; empty means what the cluster's DNS says, when a stage asks it, and DefaultDomain otherwise.
	Domain string
	// NoMetrics leaves pod metrics out.
	NoMetrics bool
	// Tool is the version of the program, noted in the snapshot.
	Tool string
	// Now is the clock for Snapshot.TakenAt; nil means time.Now.
	Now func() time.Time
}

// Stage adds facts to a snapshot after the API was read: DNS answers, what ports say, sockets, probes. A stage writes only the fields of
// its own group of facts, notes what it could not see there (or by Session.Gap), and returns an error only when the whole run must
// end: ctx is done, or the credentials stopped working.
type Stage func(ctx context.Context, s *Session, snap *diagnose.Snapshot) error

// ClientRef names one client workload.
type ClientRef struct {
	Kind string // Deployment, StatefulSet, DaemonSet, CronJob, Job or Pod
	diagnose.Key
}

var clientKinds = map[string]string{
	"deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment",
	"sts": "StatefulSet", "statefulset": "StatefulSet", "statefulsets": "StatefulSet",
	"ds": "DaemonSet", "daemonset": "DaemonSet", "daemonsets": "DaemonSet",
	"cj": "CronJob", "cronjob": "CronJob", "cronjobs": "CronJob",
	"job": "Job", "jobs": "Job",
	"po": "Pod", "pod": "Pod", "pods": "Pod",
}

// ParseClient reads KIND/NAME or NAMESPACE/KIND/NAME, with kubectl's short names of kinds; namespace is the default.
func ParseClient(s, namespace string) (ClientRef, error) {
	parts := strings.Split(s, "/")
	if len(parts) == 3 {
		namespace, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 || parts[1] == "" || namespace == "" {
		return ClientRef{}, fmt.Errorf("client %q is not of the form deploy/NAME or NAMESPACE/deploy/NAME", s)
	}
	kind, _, _ := strings.Cut(strings.ToLower(parts[0]), ".")
	full, ok := clientKinds[kind]
	if !ok {
		return ClientRef{}, fmt.Errorf("client %q: %q is not a kind of workload (want deploy, sts, ds, cj, job or pod)", s, parts[0])
	}
	return ClientRef{Kind: full, Key: diagnose.Key{Namespace: namespace, Name: parts[1]}}, nil
}

// OptionsError says that Options contradict themselves; a mistake in how the program was called.
type OptionsError struct{ Reason string }

// Error returns the contradiction.
func (e *OptionsError) Error() string { return e.Reason }

// Hint is empty: the sentence says it all.
func (e *OptionsError) Hint() string { return "" }

func (o Options) validate() error {
	switch {
	case o.Namespace == "" && !o.AllNamespaces:
		return &OptionsError{"no namespace was given"}
	case o.AllNamespaces && len(o.Names) > 0:
		return &OptionsError{"a service cannot be named together with all namespaces"}
	case o.Selector != "" && len(o.Names) > 0:
		return &OptionsError{"a service cannot be named together with a selector"}
	}
	if _, err := labels.Parse(o.Selector); err != nil {
		return &OptionsError{fmt.Sprintf("the selector %q cannot be read", o.Selector)}
	}
	return nil
}
