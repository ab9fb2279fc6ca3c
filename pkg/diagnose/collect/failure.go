package collect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

const (
	hintRBAC     = "kubectl grpclb diagnose --rbac prints the Role that is needed"
	hintTimeout  = "--request-timeout gives each call more time"
	hintMetrics  = "install metrics-server to see CPU per pod"
	hintServer   = "kubectl get --raw /readyz?verbose shows the API server's health"
	hintGarbage  = "something other than an API server may answer at this address"
	hintCerts    = "the context's certificate-authority must be the one that signed the server's certificate"
	hintNetwork  = "kubectl cluster-info shows whether the server can be reached at all"
	hintAnotherR = "run again"
)

// Failure turns an error of a request made through the session into a CallError: the same words wherever a call fails. It returns nil
// for a nil error.
func (s *Session) Failure(ctx context.Context, op Op, err error) *CallError {
	if err == nil {
		return nil
	}
	if ce, ok := errors.AsType[*CallError](err); ok {
		return ce
	}
	return s.failure(ctx, op, err, &attempt{})
}

func (s *Session) failure(ctx context.Context, op Op, err error, a *attempt) *CallError {
	e := &CallError{Op: op, Err: err}
	e.Kind = s.kind(ctx, err)
	e.State = diagnose.Failed
	switch e.Kind {
	case KindUnauthorized:
		e.State, e.Reason, e.Status.Hint = diagnose.Denied, "the API server does not accept the credentials", "log in again"
	case KindDenied:
		e.State, e.Reason, e.Status.Hint = diagnose.Denied, "may not "+op.String(), hintRBAC
	case KindNotFound:
		e.Reason = fmt.Sprintf("there is no %s %s in %s", singular(op.Name), op.Object, op.Namespace)
		if op.Cluster {
			e.Reason = fmt.Sprintf("there is no %s %s", singular(op.Name), op.Object)
		}
	case KindNoGroup:
		e.Reason, e.Status.Hint = noGroup(op)
	case KindExpired:
		e.Reason, e.Status.Hint = "the list changed faster than it could be read: "+op.String(), hintAnotherR
	case KindBusy:
		e.Reason, e.Status.Hint = "the API server is too busy to "+op.String(), waitHint(a.retryAfter)
	case KindServer:
		e.Reason, e.Status.Hint = serverReason(op, err)
	case KindTimeout:
		e.Reason, e.Status.Hint = fmt.Sprintf("no answer within %s to: %s", s.callTimeout, op), hintTimeout
	case KindUnreachable:
		e.Reason, e.Status.Hint = s.unreachable(err)
	case KindBroken:
		e.Reason, e.Status.Hint = "the connection broke in the middle of the answer to: "+op.String(), hintAnotherR
	case KindStopped:
		e.Reason = "interrupted before the answer to: " + op.String()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			e.Reason, e.Status.Hint = "time was up before the answer to: "+op.String(), "--timeout gives more time"
		}
	default:
		e.Reason, e.Status.Hint = "the answer is not what an API server says to: "+op.String(), hintGarbage
	}
	return e
}

// kind sorts an error. The order matters: the run's own end comes first because it makes every other error appear.
func (s *Session) kind(ctx context.Context, err error) Kind {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return KindStopped
	case errors.Is(err, errNoConnection):
		return KindUnreachable
	case errors.Is(err, errCallTimeout), errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case isStatus(err):
		return statusKind(err)
	case strings.Contains(err.Error(), "getting credentials"): // client-go gives no type for a failed exec plugin
		return KindUnauthorized
	case isTLS(err), errors.As(err, new(*net.DNSError)):
		return KindUnreachable
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		return KindUnreachable
	case isBroken(err):
		return KindBroken
	case s.config.AuthProvider != nil && !errors.As(err, &op): // the provider spoke before anything was sent
		return KindUnauthorized
	case errors.As(err, new(net.Error)):
		return KindUnreachable
	}
	return KindGarbage
}

// apiStatus finds the server's answer in err.
func apiStatus(err error) (st apierrors.APIStatus, ok bool) {
	ok = errors.As(err, &st)
	return st, ok
}

func isStatus(err error) bool {
	_, ok := apiStatus(err)
	return ok
}

func statusKind(err error) Kind {
	st, ok := apiStatus(err)
	if !ok {
		return KindGarbage
	}
	code := int(st.Status().Code)
	switch {
	case code == http.StatusUnauthorized:
		return KindUnauthorized
	case code == http.StatusForbidden:
		return KindDenied
	case code == http.StatusGone:
		return KindExpired
	case code == http.StatusTooManyRequests:
		return KindBusy
	case code == http.StatusNotFound:
		if d := st.Status().Details; d != nil && d.Name != "" && !apierrors.IsUnexpectedServerError(err) {
			return KindNotFound
		}
		return KindNoGroup
	case code >= 500:
		return KindServer
	}
	return KindGarbage
}

func isTLS(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) ||
		errors.As(err, new(tls.RecordHeaderError)) || isAlert(err) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// isAlert: the other side ended the TLS handshake. crypto/tls gives such errors no exported type but their operation.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// isBroken recognises connections that ended early. HTTP/2 errors come in two types, one of them not exported (net/http has its own
// copy of the package), hence the texts.
func isBroken(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "stream error: ") ||
		strings.Contains(err.Error(), "http2: ")
}

func (s *Session) unreachable(err error) (reason, hint string) {
	switch {
	case errors.Is(err, errNoConnection):
		return fmt.Sprintf("no connection within %s", s.callTimeout), hintNetwork
	case errors.As(err, new(x509.HostnameError)):
		return "its certificate is for another host name", hintCerts
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "its certificate is signed by an authority that is not trusted", hintCerts
	case errors.As(err, new(x509.CertificateInvalidError)):
		return "its certificate is not valid, or no longer", hintCerts
	case isAlert(err):
		return "it refused the TLS handshake", "the context's client certificate may be missing or expired"
	case isTLS(err):
		return "it does not speak TLS", "check the scheme and port of the context's server"
	case errors.As(err, new(*net.DNSError)):
		return "its host name cannot be resolved", "check the context's server, and VPN or DNS"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", hintNetwork
	}
	return "no connection", hintNetwork
}

// serverReason names the parts of the cluster that fail apart from the API server itself.
func serverReason(op Op, err error) (reason, hint string) {
	code := 500
	if st, ok := apiStatus(err); ok {
		code = int(st.Status().Code)
	}
	if op.Group == PodMetrics.Group && code == http.StatusServiceUnavailable {
		return "metrics-server does not answer", "kubectl get apiservice v1beta1.metrics.k8s.io shows why"
	}
	return fmt.Sprintf("the API server failed (%d) to %s", code, op), hintServer
}

func noGroup(op Op) (reason, hint string) {
	switch op.Group {
	case PodMetrics.Group:
		return "the cluster has no metrics-server", hintMetrics
	case Slices.Group:
		return "the API server does not serve EndpointSlices (discovery.k8s.io/v1)", "Kubernetes 1.21 or later is needed"
	case "":
		return fmt.Sprintf("the API server does not serve %s", op.what()), hintGarbage
	}
	return fmt.Sprintf("the API server does not serve %s of %s/%s", op.Name, op.Group, op.Version), ""
}

func waitHint(d time.Duration) string {
	if d > maxWait {
		return fmt.Sprintf("it asks to come back in %s", d.Round(time.Second))
	}
	return hintAnotherR
}

func garbage(op Op) *CallError {
	return &CallError{Op: op, Kind: KindGarbage, Err: errors.New("an empty or foreign document"), Status: diagnose.Status{
		State: diagnose.Failed, Reason: "the answer is not what an API server says to: " + op.String(), Hint: hintGarbage,
	}}
}
