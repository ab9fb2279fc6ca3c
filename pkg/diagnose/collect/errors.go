package collect

import (
	"fmt"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Hinted is implemented by every error type of this package: Error is one plain sentence for a person, Hint says what that
// person can do now and may be empty.
type Hinted interface {
	error
	Hint() string
}

// Kind says in one word why a call to the API server gave nothing.
type Kind string

// The kinds of a failed call.
const (
	KindUnauthorized Kind = "unauthorized" // 401, or no credentials could be had
	KindDenied       Kind = "denied"       // 403
	KindNotFound     Kind = "not-found"    // 404 of one object
	KindNoGroup      Kind = "no-group"     // 404 of a collection: the server does not serve that group, version or resource
	KindExpired      Kind = "expired"      // 410, also after the list was started again
	KindBusy         Kind = "busy"         // 429
	KindServer       Kind = "server"       // 5xx
	KindTimeout      Kind = "timeout"      // no complete answer within the time of one call
	KindUnreachable  Kind = "unreachable"  // no connection: refused, no route, no such host, TLS
	KindBroken       Kind = "broken"       // the connection ended in the middle of the answer
	KindGarbage      Kind = "garbage"      // an answer that is not what was asked for
	KindStopped      Kind = "stopped"      // the run was cancelled or its time was up
)

// CallError is one call that gave nothing. Its Status can stand in a snapshot as it is: it holds no address, no user name and no
// text of the answer. Err has those.
type CallError struct {
	Op   Op
	Kind Kind
	diagnose.Status
	Err error
}

// Error returns the reason, a clause without the operation when the reason names it already.
func (e *CallError) Error() string { return e.Reason }

// Hint returns what can be done about it.
func (e *CallError) Hint() string { return e.Status.Hint }

// Unwrap returns the client's or the server's error.
func (e *CallError) Unwrap() error { return e.Err }

// NotFoundError says that a Service asked for by name does not exist.
type NotFoundError struct {
	Service diagnose.Key
	// Near are Services of the same namespace with a like name, nearest first, at most three.
	Near []string
	// Elsewhere are namespaces that have a Service of exactly this name; empty when they could not be listed.
	Elsewhere []string
}

// Error says which Service is missing where.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no service %q in namespace %q", e.Service.Name, e.Service.Namespace)
}

// Hint names the namespaces that have it, else the nearest names.
func (e *NotFoundError) Hint() string {
	if len(e.Elsewhere) > 0 {
		return fmt.Sprintf("namespace %s has one: add -n %s", strings.Join(e.Elsewhere, ", "), e.Elsewhere[0])
	}
	if len(e.Near) > 0 {
		return "did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return fmt.Sprintf("kubectl get services -n %s lists what is there", e.Service.Namespace)
}

// NoNamespaceError says that the namespace to look at does not exist.
type NoNamespaceError struct{ Namespace string }

// Error names the namespace.
func (e *NoNamespaceError) Error() string {
	return fmt.Sprintf("there is no namespace %q", e.Namespace)
}

// Hint says how to see those that exist.
func (e *NoNamespaceError) Hint() string { return "kubectl get namespaces lists them" }

// NoTargetError says that nothing was named and nothing was found to diagnose.
type NoTargetError struct {
	Namespace string // empty for all namespaces
	Selector  string // as given; empty when none was
	Services  int    // how many Services were looked at
}

// Error says what was searched.
func (e *NoTargetError) Error() string {
	where := inNamespace(e.Namespace)
	switch {
	case e.Selector != "":
		return fmt.Sprintf("no service %s matches the selector %q", where, e.Selector)
	case e.Services == 0:
		return "no service " + where
	}
	return fmt.Sprintf("no service %s looks like gRPC (%d looked at)", where, e.Services)
}

// Hint says how to name one all the same.
func (e *NoTargetError) Hint() string {
	if e.Services > 0 && e.Selector == "" {
		return "name one: kubectl grpclb diagnose svc/NAME --assume-grpc"
	}
	return "kubectl get services -A lists what is there"
}

// UnreachableError says that no call of the run reached the API server.
type UnreachableError struct {
	Context string // kubeconfig context, may be empty
	Host    string // as configured
	Reason  string // one clause: "connection refused"
	Advice  string
	Err     error
}

// Error names the server and the reason.
func (e *UnreachableError) Error() string {
	if e.Context != "" {
		return fmt.Sprintf("cannot reach the API server %s of context %q: %s", e.Host, e.Context, e.Reason)
	}
	return fmt.Sprintf("cannot reach the API server %s: %s", e.Host, e.Reason)
}

// Hint says where to look.
func (e *UnreachableError) Hint() string { return e.Advice }

// Unwrap returns the client's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// UnauthorizedError says that the API server, or the program that should provide credentials, did not accept who asks.
type UnauthorizedError struct {
	Context string
	Reason  string // one clause
	Err     error
}

// Error says that the credentials are the reason.
func (e *UnauthorizedError) Error() string {
	if e.Context != "" {
		return fmt.Sprintf("the credentials of context %q do not work: %s", e.Context, e.Reason)
	}
	return "the credentials do not work: " + e.Reason
}

// Hint says how to check them.
func (e *UnauthorizedError) Hint() string { return "log in again, then try: kubectl auth whoami" }

// Unwrap returns the server's error.
func (e *UnauthorizedError) Unwrap() error { return e.Err }

// DeletedError says that a Service went away, or was replaced by another of the same name, while it was looked at. The snapshot
// beside it describes the Service as it was.
type DeletedError struct {
	Service  diagnose.Key
	Replaced bool
}

// Error names the Service.
func (e *DeletedError) Error() string {
	what := "deleted"
	if e.Replaced {
		what = "deleted and created anew"
	}
	return fmt.Sprintf("service %s was %s while it was looked at", e.Service, what)
}

// Hint says what the facts are worth.
func (e *DeletedError) Hint() string {
	if e.Replaced {
		return "run again"
	}
	return "the facts shown are from before that"
}

// StoppedError says that the run ended early: errors.Is finds context.Canceled or context.DeadlineExceeded in it.
type StoppedError struct {
	After time.Duration
	Err   error
	// Timeout is true when the run's own time was up, false when it was interrupted.
	Timeout bool
}

// Error says which of the two it was.
func (e *StoppedError) Error() string {
	if e.Timeout {
		to := 100 * time.Millisecond // the limit counts from a moment before the run: 30s and not 29.98s
		if e.After < time.Second {
			to = time.Millisecond
		}
		return fmt.Sprintf("time was up after %s", e.After.Round(to))
	}
	return "interrupted"
}

// Hint says how to get more.
func (e *StoppedError) Hint() string {
	if e.Timeout {
		return "what was seen until then is reported; --timeout gives more time"
	}
	return ""
}

// Unwrap returns the context's error.
func (e *StoppedError) Unwrap() error { return e.Err }

func inNamespace(ns string) string {
	if ns == "" {
		return "in all namespaces"
	}
	return "in namespace " + ns
}
