//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestKilledProbe: the pod of a probe that was killed outright ends by itself, and the next probe takes it away.
func TestKilledProbe(t *testing.T) {
	s := withCaller(t)
	cmd, wait := s.started("probe", "svc/backend", "--interval", "1m", "--timeout", "3m")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait()
	left := s.probePods()
	if len(left) != 1 || left[0].Spec.ActiveDeadlineSeconds == nil {
		t.Fatalf("%d pods are left, want the one of the killed run, with a deadline", len(left))
	}
	name := left[0].Name
	if o := s.grpclb("probe", "svc/backend", "--interval", "1s"); o.code != 0 || strings.Contains(o.stderr, name) {
		t.Errorf("a pod that still runs is somebody's: %s", o)
	}
	// Its own deadline is minutes away. A deadline may be brought forward.
	sooner := []byte(`{"spec":{"activeDeadlineSeconds":1}}`)
	if _, err := s.client.CoreV1().Pods(s.ns).Patch(s.ctx, name, types.StrategicMergePatchType, sooner, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.eventually("the end of the pod, and some time after it", startTime, func() (bool, string) {
		p, err := s.client.CoreV1().Pods(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return p.Status.Phase == corev1.PodFailed && time.Since(p.Status.StartTime.Time) > 65*time.Second, string(p.Status.Phase) + " " + p.Status.Reason
	})
	if o := s.grpclb("probe", "svc/backend", "--interval", "1s"); o.code != 0 ||
		!strings.Contains(o.stderr, "deleted pod "+s.ns+"/"+name+", which an earlier run had left behind") {
		t.Errorf("%s", o)
	}
	s.wantNoProbePod()
}

// TestOldAgents: what stays in pods for good is said from the second time on.
func TestOldAgents(t *testing.T) {
	s := withCaller(t)
	look := func() outcome {
		t.Helper()
		o := s.grpclb("diagnose", "svc/backend", "--sockets", "--interval", "1s")
		if o.code != 1 {
			t.Errorf("%s", o)
		}
		return o
	}
	if o := look(); strings.Contains(o.stderr, "from earlier runs") {
		t.Errorf("the first time: %s", o)
	}
	s.eventually("the end of the agents", startTime, func() (bool, string) {
		for _, p := range s.pods("backend") {
			for _, c := range p.Status.EphemeralContainerStatuses {
				if c.State.Terminated == nil {
					return false, p.Name + " " + c.Name + " runs"
				}
			}
		}
		return true, ""
	})
	if o := look(); !strings.Contains(o.stderr, "2 pods in namespace "+s.ns+" have 2 ended agent containers from earlier runs; they go when the pod is replaced") {
		t.Errorf("the second time: %s", o)
	}
}
