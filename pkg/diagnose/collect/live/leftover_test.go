package live_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// visited gives a pod the entries of n earlier runs, and one of somebody else's container.
func visited(p kubetest.PodBuilder, n int) {
	add := func(name, program string) {
		c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Command: []string{program}}}
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, c)
		p.Status.EphemeralContainerStatuses = append(p.Status.EphemeralContainerStatuses,
			corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}})
	}
	for i := range n {
		add(fmt.Sprintf("grpclb-%08d", i), "/grpclb-refresher")
	}
	add("debugger-x2b4c", "sh")
	add("grpclb-mine", "sh")
}

// TestOldAgentsAreCounted: what earlier runs left in the pods' specs is said once.
func TestOldAgentsAreCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		earlier [3]int
		said    string
	}{
		"one pod, once": {[3]int{0, 1, 0}, "has 1 ended agent container from earlier runs; they go when the pod is replaced"},
		"one pod":       {[3]int{0, 0, 7}, "has 7 ended agent containers from earlier runs; they go when the pod is replaced"},
		"several":       {[3]int{2, 0, 3}, "2 pods in namespace default have 5 ended agent containers from earlier runs; they go when the pod is replaced"},
		"none":          {[3]int{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.working(t, nil)
			for i, n := range c.earlier {
				visited(w.pods[i], n)
				w.srv.Set(w.pods[i])
			}
			if snap := w.run(t, context.Background(), live.Sockets(w.options())); !snap.Sockets.Known() || len(snap.Sockets.Value) != 3 || len(snap.Gaps) > 0 {
				t.Errorf("%+v, %+v", snap.Sockets, snap.Gaps)
			}
			if n := strings.Count(w.said(), "from earlier runs"); n > 1 || (n == 1) != (c.said != "") || !strings.Contains(w.said(), c.said) {
				t.Errorf("announced %q, want %q", w.said(), c.said)
			}
		})
	}
}

// TestTooManyAgents: a pod that has been looked into very often is left alone; the others are not.
func TestTooManyAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.working(t, nil)
	visited(w.pods[0], 50)
	w.srv.Set(w.pods[0])
	snap := w.run(t, context.Background(), live.Sockets(w.options()))
	g := gaps(snap, diagnose.FactSockets)["pod "+w.podName(0)]
	contains(t, "reason", g.Reason, "pod "+w.podName(0)+" has 50 agent containers from earlier runs, and no more are added", "its image has no cat")
	contains(t, "hint", g.Hint, "kubectl rollout restart")
	if len(w.nodes.Agents()) != 2 || !snap.Sockets.Known() {
		t.Errorf("%d agents were placed, %+v", len(w.nodes.Agents()), snap.Sockets.Status)
	}
	visited(w.pods[1], 49)
	w.srv.Set(w.pods[1])
	o := w.options()
	o.From = new(ref("Pod", w.pods[0].Name))
	snap = w.run(t, context.Background(), live.Probe(o))
	contains(t, "probe", snap.Probes.Reason, "has 50 agent containers from earlier runs")
	o.From = new(ref("Pod", w.pods[1].Name))
	if snap = w.run(t, context.Background(), live.Probe(o)); !snap.Probes.Known() {
		t.Errorf("with room for one more: %+v", snap.Probes.Status)
	}
}

// leftBehind is a probe's pod as a killed run leaves it, once its deadline has ended it.
func leftBehind(name string, change func(*corev1.Pod)) kubetest.PodBuilder {
	p := kubetest.Pod(ns, name).Label(diagnose.ManagedByLabel, diagnose.ManagedBy)
	p.Spec.ActiveDeadlineSeconds = new(int64(120))
	p.Status.Phase = corev1.PodFailed
	p.Status.Reason = "DeadlineExceeded"
	p.Status.StartTime = new(metav1.NewTime(time.Now().Add(-10 * time.Minute)))
	if change != nil {
		change(p.Pod)
	}
	return p
}

// TestSweep: a probe takes away what earlier ones left behind, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.working(t, nil)
	w.srv.Set(
		leftBehind("grpclb-probe-dead", nil),
		leftBehind("grpclb-probe-done", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		leftBehind("grpclb-probe-runs", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }),
		leftBehind("grpclb-probe-young", func(p *corev1.Pod) { p.Status.StartTime = new(metav1.Now()) }),
		leftBehind("grpclb-probe-timeless", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = nil }),
		leftBehind("grpclb-probe-foreign", func(p *corev1.Pod) { p.Labels[diagnose.ManagedByLabel] = "somebody" }),
		leftBehind("other-name", nil),
		kubetest.Pod("elsewhere", "grpclb-probe-other-namespace").Label(diagnose.ManagedByLabel, diagnose.ManagedBy),
	)
	snap := w.run(t, context.Background(), live.Sockets(w.options()))
	if deleted := asked(w.srv, "delete", ""); deleted != 0 || !snap.Sockets.Known() {
		t.Errorf("a run that creates no pods deleted %d", deleted)
	}
	snap = w.run(t, context.Background(), live.Probe(w.options()))
	if !snap.Probes.Known() {
		t.Errorf("%+v", snap.Probes.Status)
	}
	want := []string{"grpclb-probe-foreign", "grpclb-probe-runs", "grpclb-probe-timeless", "grpclb-probe-young"}
	if left := probePods(t, w); strings.Join(left, " ") != strings.Join(want, " ") {
		t.Errorf("left %v, want %v", left, want)
	}
	if asked(w.srv, "delete", "") != 3 { // its own besides
		t.Errorf("%d deletions", asked(w.srv, "delete", ""))
	}
	contains(t, "announced", w.said(), "deleted pod default/grpclb-probe-dead, which an earlier run had left behind", "deleted pod default/grpclb-probe-done,")
}

// TestSweepRefused: that nothing may be listed or deleted keeps no probe from running.
func TestSweepRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault kubetest.Fault
		said  string
	}{
		"list":   {kubetest.Fault{Verb: "list", Resource: "pods", Namespace: ns, Skip: 1, Status: 403}, ""},
		"delete": {kubetest.Fault{Verb: "delete", Resource: "pods", Name: "grpclb-probe-a", Status: 403}, "pod default/grpclb-probe-a of an earlier run has ended and could not be deleted (may not delete pod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.working(t, nil)
			w.srv.Set(leftBehind("grpclb-probe-a", nil), leftBehind("grpclb-probe-b", nil))
			w.srv.Fail(c.fault)
			if snap := w.run(t, context.Background(), live.Probe(w.options())); !snap.Probes.Known() {
				t.Errorf("%+v", snap.Probes.Status)
			}
			if said := w.said(); strings.Contains(said, "of an earlier run") != (c.said != "") || !strings.Contains(said, c.said) {
				t.Errorf("announced %q, want %q", said, c.said)
			}
			w.srv.Heal()
			if left := probePods(t, w); len(left) != 2 {
				t.Errorf("left %v", left)
			}
		})
	}
}
