package kube

import (
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// DeniedError says that the API server knows this pod and does not let it look
// (403). It may pass when an operator grants the right.
type DeniedError struct {
	// Namespace is where the EndpointSlices are.
	Namespace string
	// Err is the server's answer.
	Err error
}

// Error implements error.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("no right to watch EndpointSlices in namespace %s (a Role with get, list and watch of endpointslices.discovery.k8s.io gives it): %v",
		e.Namespace, e.Err)
}

// Unwrap returns the server's answer.
func (e *DeniedError) Unwrap() error { return e.Err }

// ExternalNameError says that the Service stands for a name outside the cluster
// and has no endpoints.
type ExternalNameError struct {
	// Service is NAMESPACE/NAME, ExternalName what it stands for.
	Service, ExternalName string
}

// Error implements error.
func (e *ExternalNameError) Error() string {
	return fmt.Sprintf("Service %s is an ExternalName and has no endpoints: use %s itself as the target, with DNS", e.Service, e.ExternalName)
}

// PortError says that no pod of the Service has the wanted port.
type PortError struct {
	// Service is NAMESPACE/NAME, Port what was wanted: a number or a name.
	Service, Port string
	// Offered are the ports that there are: "grpc (6565)".
	Offered []string
	// Hint is a sentence about what could settle it, "" mostly.
	Hint string
}

// Error implements error.
func (e *PortError) Error() string {
	s := fmt.Sprintf("Service %s has no TCP port %s; there is %s", e.Service, e.Port, strings.Join(e.Offered, ", "))
	if len(e.Offered) == 0 {
		s = fmt.Sprintf("Service %s has no TCP port %s, nor any other", e.Service, e.Port)
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

func offered(name string, number uint16) string {
	n := strconv.Itoa(int(number))
	if number == 0 {
		n = "any"
	}
	if name == "" {
		return n
	}
	return name + " (" + n + ")"
}

// hopeless reports whether asking again soon is of no use: the answer is a
// decision, or the server knows no EndpointSlices.
func hopeless(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) }
