//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestSidecarFaults: what happens to pods all the time costs no call, and a pod that dies costs those that it had. More faults, with
// streams and beside other clients, are in bench/faults; these two are quick.
func TestSidecarFaults(t *testing.T) {
	const rate = 200
	s := newSpace(t)
	s.apply(server("backend", replicas(3), leaving, oneByOne), service("backend"))
	s.rollout("backend")
	s.applyInjected("backend", client("caller", fmt.Sprintf("static://backend:%d", port), func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Env[1].Value = strconv.Itoa(rate)
	}))
	s.rollout("caller")
	s.answered("caller", s.load, s.pods("backend"))

	lost := func(what string, most int, fault func()) {
		s.Helper()
		before := s.load("caller")
		fault()
		s.answered("caller", s.load, s.pods("backend"))
		after := s.load("caller")
		failed, calls := after.Failed-before.Failed, after.Calls-before.Calls
		t.Logf("%s: %d of %d calls failed", what, failed, calls)
		if failed > most || calls < rate {
			t.Errorf("%s: %d of %d calls failed, want at most %d\n%s", what, failed, calls, most, s.kubectl("logs", "deploy/caller", "-c", "caller", "--tail=20"))
		}
	}
	lost("rolling restart", 0, func() {
		s.kubectl("rollout", "restart", "deploy/backend")
		s.rollout("backend")
	})
	lost("pod deleted without grace", inFlight, func() {
		now := int64(0)
		if err := s.client.CoreV1().Pods(s.ns).Delete(s.ctx, s.pods("backend")[0].Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		s.rollout("backend")
	})
}

// inFlight is how many of 200 calls a second, of a millisecond each, a pod of three may have at a moment, on a machine that stalls.
const inFlight = 20

// oneByOne lets a rollout take a pod away only when its successor is there.
func oneByOne(d *appsv1.Deployment) {
	one, none := intstr.FromInt(1), intstr.FromInt(0)
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}
}
