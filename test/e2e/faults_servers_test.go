//go:build e2e

package e2e

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func serverFaults() []fault {
	return []fault{
		{
			// The port is named grpc, and what listens there is a web server.
			check: "server-not-grpc", args: observe,
			objects: []any{webServer("backend", port), service("backend")},
			want: finding{diagnose.Critical, diagnose.Observed, "svc/backend",
				[]string{"port 6565 of the Service does not answer as gRPC on 2 of 2 pods asked", "answers as HTTP/1"}, "target the port"},
		},
		{
			check: "readiness-missing", args: static,
			objects: []any{server("backend", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].ReadinessProbe = nil }), service("backend")},
			want: finding{diagnose.High, diagnose.Configured, "deploy/backend",
				[]string{"container backend has no readiness probe"}, "add a readiness probe on port 6565"},
		},
	}
}
