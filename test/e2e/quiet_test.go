//go:build e2e

package e2e

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestNotGRPC: a web server and a database never get a gRPC alarm, and nobody
// knocks at their ports or touches their pods.
func TestNotGRPC(t *testing.T) {
	s := newSpace(t)
	s.needAudit()
	s.apply(
		webServer("web", 8080), service("web", plainPort("http", 8080)),
		webServer("db", 5432), service("db", plainPort("", 5432)),
	)
	s.rollout("web", "db")
	since := s.auditPosition()
	for _, tt := range []struct{ service, because string }{
		{"web", "port 8080 is named http"},
		{"db", "port 5432 is PostgreSQL by convention"},
	} {
		for _, args := range [][]string{nil, {"--probe"}} {
			r, o := s.diagnose(tt.service, args...)
			if o.code != 0 || r.Verdict.State != diagnose.VerdictNotGRPC || len(r.Findings) > 0 || !strings.Contains(jsonText(r.GRPC.Because), tt.because) {
				t.Errorf("%s %v: %s", tt.service, args, o)
			}
		}
	}
	if o := s.grpclb("diagnose", "svc"); o.code != 0 || !strings.Contains(o.stderr, "no service in namespace "+s.ns+" looks like gRPC (2 looked at)") {
		t.Errorf("every Service that looks like gRPC: %s", o)
	}
	touched := s.audited(since, func(r request) bool {
		return r.Object.Namespace == s.ns && (r.Object.Subresource != "" || r.Verb != "get" && r.Verb != "list")
	})
	for _, r := range touched {
		t.Errorf("the plugin did %s on %s", r.what(), r.Object.Name)
	}
}

// TestAssumeGRPC: what the user says outweighs names and numbers.
func TestAssumeGRPC(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].ReadinessProbe.ProbeHandler = corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}
	}), service("backend", plainPort("http", port)))
	s.rollout("backend")
	if r, o := s.diagnose("backend", "--depth", "static"); r.GRPC.Level != diagnose.GRPCNo {
		t.Errorf("a port named http: %s", o)
	}
	r, o := s.diagnose("backend", "--assume-grpc")
	if r.GRPC.Level != diagnose.GRPCYes || len(findings(r, "clusterip-pinned")) != 1 {
		t.Errorf("--assume-grpc: %s", o)
	}
}
