package fix

import (
	"fmt"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Options says how a plan is made. The zero value is useful: names by convention, no live workloads.
type Options struct {
	// Name is the headless twin's name; empty means NAME-headless.
	Name string
	// Image is the sidecar's for StrategySidecar; empty means DefaultImage.
	Image string
	// Mesh is linkerd or istio for StrategyMesh; empty takes the mesh that was seen in the snapshot.
	Mesh string
	// MaxAge and Grace are the server's connection age and the time that calls get to finish; zero means 5 minutes and
	// 30 seconds.
	MaxAge, Grace time.Duration
	// Workload reads one object as it is now, as kubectl get -o json shows it: kind is Deployment, StatefulSet, DaemonSet,
	// CronJob or ConfigMap. Nil means offline: the plan then holds commands and patches for the clients, no manifests.
	// An error keeps one client out of the manifests and is noted; the plan goes on without it.
	Workload func(kind, namespace, name string) (map[string]any, error)
}

// Plan is everything that a strategy asks for.
type Plan struct {
	Strategy diagnose.Strategy
	Service  diagnose.Key
	// Title is a verb phrase: "use a headless Service with round_robin".
	Title string
	// Objects are to be applied in this order.
	Objects []Object
	// Patches are strategic-merge patches of client workloads: the same change as in Objects, for other tools.
	Patches []diagnose.Patch
	// Commands do to the clients what Objects do not do: all of it offline, else what applying cannot do.
	Commands []diagnose.Command
	// Snippets are code for the clients or the servers.
	Snippets []diagnose.Snippet
	// Caveats are what the strategy changes besides what it mends, each a sentence.
	Caveats []string
	// Notes say what was left out and why, and what is left to do by hand, each a sentence.
	Notes []string
}

// HasObjects reports whether there is anything for `kubectl apply`, which ends with an error when it gets only comments.
func (p Plan) HasObjects() bool { return len(p.Objects) > 0 }

// Nothing says in one clause why a plan has no objects and what it is instead; empty when it has some.
func (p Plan) Nothing() string {
	what := "what is left to do stands in its comments"
	switch {
	case p.HasObjects():
		return ""
	case p.Strategy == diagnose.StrategyMaxAge:
		what = "it is code for the servers"
	case len(p.Commands) > 0:
		what = "its comments hold the commands to run"
	}
	return fmt.Sprintf("strategy %s has no manifest to apply: %s", p.Strategy, what)
}

// Object is one document of a plan.
type Object struct {
	// Ref is the object as kubectl names it: "svc/square-service-headless".
	Ref       string
	Namespace string
	// Why is what applying it does, a verb phrase.
	Why string
	// Content is the object's JSON form.
	Content map[string]any
}

// Refusal is the error of a strategy that would do harm or cannot work here.
type Refusal struct {
	// Code is a slug that stays the same when the words change.
	Code     string
	Strategy diagnose.Strategy
	Reason   string // one lower-case clause
	Hint     string // what to do instead; may be empty
}

// Error returns the strategy and the reason.
func (r *Refusal) Error() string { return fmt.Sprintf("strategy %s: %s", r.Strategy, r.Reason) }

// The codes of a Refusal.
const (
	CodeUnknownStrategy = "unknown-strategy"
	CodeNotGRPC         = "not-grpc"      // the Service is judged to speak something else
	CodeExternalName    = "external-name" // no pods behind it in this cluster
	CodeNoSelector      = "no-selector"   // endpoints are made by hand
	CodeNoTCPPort       = "no-tcp-port"
	CodeNotTCP          = "not-tcp"      // a port that no sidecar can listen on
	CodePortsDiffer     = "ports-differ" // one port, several numbers over the pods
	CodePortUnknown     = "port-unknown" // a named target port that no pod resolves
	CodeNameTaken       = "name-taken"   // another object has the twin's name
	CodeNameInvalid     = "name-invalid" // too long, or no DNS label (RFC 1123)
	CodeMeshed          = "meshed"       // the clients' mesh balances already
	CodeNoMesh          = "no-mesh"      // no mesh was seen
	CodeBadOption       = "bad-option"
)
