//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/test/e2e/clients"
)

// TestSidecarClients: clients of five languages, none of which knows of the sidecar, have their calls spread over all pods behind the name
// that they dial, over pods that come later, and lose none when pods go.
func TestSidecarClients(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend", replicas(3), leaving), service("backend"))
	told := map[string]func(string) clients.Line{"go": s.load, "go-dns": s.load}
	objects := []any{
		client("go", fmt.Sprintf("static://backend:%d", port)),
		client("go-dns", fmt.Sprintf("dns:///backend.%s:%d", s.ns, port)),
	}
	for i, c := range clients.All() {
		told[c.Name] = s.tally
		// By turns all names that a Service has.
		name := []string{"backend", "backend." + s.ns, "backend." + s.ns + ".svc", "backend." + s.ns + ".svc.cluster.local"}[i%4]
		objects = append(objects, s.foreign(c, fmt.Sprintf("%s:%d", name, port)))
	}
	s.rollout("backend")
	s.applyInjected("backend", objects...)
	for name := range told {
		s.rollout(name)
	}
	for _, n := range []int{3, 5, 2} {
		s.kubectl("scale", "deploy/backend", fmt.Sprintf("--replicas=%d", n))
		s.rollout("backend")
		for name, how := range told {
			s.answered(name, how, s.pods("backend"))
		}
	}
	for name, how := range told {
		if l := how(name); l.Failed > 0 || l.Calls < 5*callsAtRate {
			t.Errorf("%s: %d of %d calls failed: %v\n%s", name, l.Failed, l.Calls, l.Errors, s.kubectl("logs", "deploy/"+name, "--all-containers", "--tail=50"))
		}
	}
}

// leaving gives pods the time in which the sidecars learn that they go.
var leaving = inPod(func(spec *corev1.PodSpec) {
	grace := int64(30)
	spec.TerminationGracePeriodSeconds = &grace
	spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 7}}}
})

// TestSidecarTLS: what is encrypted passes as it is, to one pod, and is counted.
func TestSidecarTLS(t *testing.T) {
	s := newSpace(t)
	secret := s.goRun("./examples/echo/tls/gen", "-namespace", s.ns)
	s.kubectlIn(secret, "apply", "-f", "-")
	s.applyDir("examples/echo/tls")
	s.rollout("be-deployment")
	if o := s.grpclb("inject", "deploy/fe-deployment", "--service", "be-srv", "--apply", "--yes"); o.code != 0 {
		t.Fatalf("not injected: %s", o)
	}
	s.rollout("be-deployment", "fe-deployment")
	s.wantBackends("backend", 1)
	s.wantBackends("backendlb", 5)
	pod := s.pods("fe")[0].Name
	if n := s.metric(pod, `\w*passthrough_connections_total\{[^}]*"tls"[^}]*\}`); n < 1 {
		t.Errorf("%v connections with TLS were counted:\n%s", n, s.metrics(pod))
	}
	if n := s.metric(pod, `\w*calls_total`); n > 0 {
		t.Errorf("%v calls were counted on connections that cannot be read", n)
	}
}

// TestSidecarJob: a program that ends by itself, called a port that is not the pods', had all its calls answered, and ended: the
// sidecar goes after it, in order.
func TestSidecarJob(t *testing.T) {
	s := newSpace(t)
	s.kubectl("apply", "-f", "examples/load/plaintext/server.yaml")
	s.rollout("grpc-server")
	d := deployment("batch", "/load-client", 1)
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "batch"}, Spec: d.Spec.Template.Spec}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers[0].Args = []string{"--target", "grpc-server-service:80", "--count", "5000"}
	s.applyInjected("grpc-server-service", pod)
	var p *corev1.Pod
	s.eventually("the pod to be done", startTime, func() (bool, string) {
		var err error
		if p, err = s.client.CoreV1().Pods(s.ns).Get(s.ctx, "batch", metav1.GetOptions{}); err != nil {
			return false, err.Error()
		}
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed, string(p.Status.Phase)
	})
	if out := s.kubectl("logs", "batch", "-c", "batch"); p.Status.Phase != corev1.PodSucceeded || !strings.Contains(out, "0 failed, answered by 3 pods") {
		t.Errorf("the client's pod %s and said:\n%s", p.Status.Phase, out)
	}
	for _, c := range p.Status.InitContainerStatuses {
		if end := c.State.Terminated; end == nil || end.ExitCode != 0 || c.RestartCount > 0 {
			t.Errorf("the sidecar ended with %s:\n%s", jsonText(c.State), s.kubectl("logs", "batch", "-c", sidecarName))
		}
	}
}
