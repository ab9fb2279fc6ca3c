//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// The tests of this file break the cluster itself, so they run alone, and only
// on the lab. What they break comes back with their end, whatever that is.

// newBreakable is a space on a cluster that may be broken.
func newBreakable(t *testing.T) *space {
	t.Helper()
	s := newSoloSpace(t)
	if !s.bed.Lab() {
		t.Skip("this breaks the cluster, which only the lab is for")
	}
	return s
}

// freeze stops a part of the lab and returns how it goes on. The lab's command
// lasts as long as the pipe to it, so that nothing stays frozen after a test
// that was killed.
func (s *space) freeze(part string) (thaw func()) {
	s.Helper()
	cmd := s.bed.Command(s.ctx, testbed.LabCommand("freeze", part)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	thaw = sync.OnceFunc(func() {
		s.Helper()
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			s.Errorf("freeze %s: %v\n%s", part, err, stderr.String())
		}
		s.eventually("the cluster to be well again", startTime, func() (bool, string) {
			_, err := s.client.CoreV1().Namespaces().Get(s.ctx, s.ns, metav1.GetOptions{})
			return err == nil, fmt.Sprint(err)
		})
	})
	s.Cleanup(thaw)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "frozen\n" {
		s.Fatalf("freeze %s: %q, %v\n%s", part, line, err, stderr.String())
	}
	return thaw
}

// restart kills a part of the lab, which comes back by itself.
func (s *space) restart(part string) {
	s.Helper()
	if err := s.do(s.ctx, testbed.LabCommand("restart", part)); err != nil {
		s.Fatal(err)
	}
}

// running is the plugin at work.
type running struct {
	s      *space
	cmd    *exec.Cmd
	args   []string
	stdout bytes.Buffer
	stderr *journal.Buffer
	ended  chan struct{}
	began  time.Time
}

// begin starts the plugin beside the test.
func (s *space) begin(args ...string) *running {
	s.Helper()
	r := &running{s: s, cmd: s.command(args...), args: args, stderr: &journal.Buffer{}, ended: make(chan struct{}), began: time.Now()}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r.stderr
	if err := r.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.cmd.Wait() // the exit code is read in end
	}()
	s.Cleanup(func() {
		_ = r.cmd.Process.Kill() // of a test that failed before
		<-r.ended
	})
	return r
}

// until waits for a text on standard error.
func (r *running) until(text string) {
	r.s.Helper()
	r.s.eventually(fmt.Sprintf("%q on standard error", text), startTime, func() (bool, string) {
		return strings.Contains(r.stderr.String(), text), r.stderr.String()
	})
}

// end waits for the end and returns how long all of it took.
func (r *running) end() (outcome, time.Duration) {
	r.s.Helper()
	select {
	case <-r.ended:
	case <-r.s.ctx.Done():
		r.s.Fatalf("the plugin does not end: %s", r.stderr.String())
	}
	o := outcome{code: r.cmd.ProcessState.ExitCode(), stdout: r.stdout.String(), stderr: r.stderr.String(), args: r.args}
	if strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "goroutine ") || o.code < 0 {
		r.s.Fatalf("the plugin crashed: %s", o)
	}
	return o, time.Since(r.began)
}

// deaf is a pod that takes connections to port 53 and never says a word: as a
// DNS server it holds up a run for the 5 s that a question may take.
func deaf(app string) *appsv1.Deployment {
	d := deployment(app, "", 1)
	c := &d.Spec.Template.Spec.Containers[0]
	c.Image, c.Command = busybox, []string{"nc", "-ll", "-p", "53", "-e", "sleep", "60"}
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 5, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(53)}}}
	return d
}

// busybox is the image with a shell that the lab brings along.
const busybox = "lab.grpclb.dev/busybox:dev"

// held is a run at default depth that stays in the middle for 5 s: everything but DNS was seen by then.
func (s *space) held(args ...string) *running {
	s.Helper()
	r := s.begin(append([]string{"diagnose", "svc/backend", "-v=2", "--dns-namespace", s.ns, "--dns-selector", "app=deaf-dns"}, args...)...)
	r.until("ports: known")
	return r
}

// wantPartial fails unless a run that lost its cluster in the middle reports what it had seen and says what it had not. Nothing of it
// may go on for longer than it has to.
func (s *space) wantPartial(r *running, atMost time.Duration, says ...string) outcome {
	s.Helper()
	o, took := r.end()
	if o.code != 3 {
		s.Errorf("exit code %d, want 3: %s", o.code, o)
	}
	if !strings.Contains(o.stdout, "backend ("+s.ns+")") || !strings.Contains(o.stdout, "2 ready") {
		s.Errorf("what was seen until then is not reported: %s", o)
	}
	for _, text := range says {
		if !strings.Contains(o.stdout+o.stderr, text) {
			s.Errorf("it does not say %q: %s", text, o)
		}
	}
	if took > atMost {
		s.Errorf("it took %s, want at most %s: %s", took, atMost, o)
	}
	return o
}

// TestAPIServerGoesAway: it stops answering, or is started again, in the middle of a run.
func TestAPIServerGoesAway(t *testing.T) {
	s := newBreakable(t)
	s.apply(server("backend"), service("backend", headless), deaf("deaf-dns"))
	s.rollout("backend", "deaf-dns")
	s.settled()

	// Ten seconds for a last question that has no answer, and room for a busy machine.
	r := s.held("--timeout", "60s")
	thaw := s.freeze("controlplane")
	s.wantPartial(r, 45*time.Second, "the API server went away during the run: no answer within 10s", "not seen: dns: ")
	thaw()

	r = s.held("--timeout", "8s")
	thaw = s.freeze("controlplane")
	s.wantPartial(r, 25*time.Second, "error: time was up after 8s")
	thaw()

	r = s.held()
	s.restart("controlplane")
	s.wantPartial(r, 45*time.Second, "not seen: dns: the port-forward ended in the middle")
}

// TestAPIServerGoesAwayFromProbe: what was placed in the cluster by then is taken away again, or named with the command to do it.
func TestAPIServerGoesAwayFromProbe(t *testing.T) {
	s := newBreakable(t)
	s.apply(server("backend"), service("backend", headless))
	s.rollout("backend")
	s.settled()

	r := s.begin("diagnose", "svc/backend", "--probe", "--interval", "30s", "--timeout", "20s")
	r.until("adding an ephemeral container")
	thaw := s.freeze("controlplane")
	o := s.wantPartial(r, 60*time.Second, "error: time was up after 20s", "probe calls over the headless Service are spread evenly", "not seen: sockets: ")
	thaw()
	left := s.probePods()
	if len(left) != 1 {
		t.Fatalf("%d pods of the probe, want the one that could not be deleted: %s", len(left), o)
	}
	for _, text := range []string{"could not delete pod " + s.ns + "/" + left[0].Name + " (no answer within 10s)", "kubectl delete pod -n " + s.ns + " " + left[0].Name} {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("it does not say %q: %s", text, o)
		}
	}
	if d := left[0].Spec.ActiveDeadlineSeconds; d == nil || *d > 300 {
		t.Errorf("the pod that stays has no deadline that would end it soon: %v", d)
	}
	s.kubectl("delete", "pod", left[0].Name)

	r = s.begin("diagnose", "svc/backend", "--probe", "--interval", "30s")
	r.until("adding an ephemeral container")
	s.restart("controlplane")
	if o, took := r.end(); o.code != 3 && o.code != 0 || took > 90*time.Second || !strings.Contains(o.stdout, "backend ("+s.ns+")") {
		t.Errorf("with the API server started again it took %s: %s", took, o)
	}
	s.wantNoProbePod()
}

// TestKubeletFreezes: the pods of one node take no port-forward and start no container. The others are seen, and those named.
func TestKubeletFreezes(t *testing.T) {
	s := newBreakable(t)
	s.apply(server("backend"), service("backend"))
	s.rollout("backend")
	s.settled()
	node := s.nodes()[1].Name
	var far, near string
	for _, p := range s.pods("backend") {
		if p.Spec.NodeName == node {
			far = p.Name
		} else {
			near = p.Name
		}
	}
	if far == "" || near == "" {
		t.Fatal("the pods are not on both nodes")
	}
	thaw := s.freeze("kubelet/" + node)
	r := s.begin("diagnose", "svc/backend", "--timeout", "25s", "-o", "json")
	o, took := r.end()
	thaw() // a node that is not heard of for 40 s is given up

	rep := s.report(o)
	if took > 35*time.Second || len(rep.Services) != 1 {
		t.Fatalf("it took %s: %s", took, o)
	}
	unseen := map[string]string{}
	for _, g := range rep.Gaps {
		unseen[g.Subject] = g.Reason
	}
	if reason := unseen["pod "+s.ns+"/"+far]; reason == "" {
		t.Errorf("pod %s on the frozen node is not named: %s", far, o)
	}
	if reason, wrong := unseen["pod "+s.ns+"/"+near]; wrong {
		t.Errorf("pod %s on the other node was not seen: %s", near, reason)
	}
	s.eventually("all nodes to be ready", startTime, func() (bool, string) { return s.nodesReady() })
}

// nodesReady looks at the conditions of all nodes.
func (s *space) nodesReady() (bool, string) {
	s.Helper()
	for _, n := range s.nodes() {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return false, n.Name + ": " + c.Reason
			}
		}
	}
	return true, ""
}

// TestNoDNSPods: with all of the cluster's DNS pods gone, DNS is not seen and the rest is.
func TestNoDNSPods(t *testing.T) {
	s := newBreakable(t)
	s.apply(server("backend"), service("backend", headless))
	s.rollout("backend")
	s.settled()
	back := s.scaleDNS(0)
	s.wantNoDNS(s.grpclb("diagnose", "svc/backend"), "no pod in kube-system has the labels k8s-app=kube-dns")
	if o := s.grpclb("dns", "svc/backend"); o.code != 3 || !strings.Contains(o.stdout+o.stderr, "no pod in kube-system has the labels") {
		t.Errorf("%s", o)
	}
	back()
}

// scaleDNS scales the cluster's DNS and returns how it comes back.
func (s *space) scaleDNS(to int32) (back func()) {
	s.Helper()
	deployments := s.client.AppsV1().Deployments(metav1.NamespaceSystem)
	scale := func(ctx context.Context, to int32) int32 {
		s.Helper()
		now, err := deployments.GetScale(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		was := now.Spec.Replicas
		now.Spec.Replicas = to
		if _, err := deployments.UpdateScale(ctx, "coredns", now, metav1.UpdateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.eventually(fmt.Sprintf("%d DNS pods", to), startTime, func() (bool, string) {
			pods, err := s.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
			if err != nil {
				return false, err.Error()
			}
			d, err := deployments.Get(ctx, "coredns", metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			return len(pods.Items) == int(to) && d.Status.AvailableReplicas == to, fmt.Sprintf("%d pods, %d available", len(pods.Items), d.Status.AvailableReplicas)
		})
		return was
	}
	was := int32(0)
	back = sync.OnceFunc(func() {
		if was > 0 {
			scale(s.later(), was)
		}
	})
	s.Cleanup(back)
	was = scale(s.ctx, to)
	return back
}

// wantNoDNS fails unless just the checks that need DNS were skipped, with the reason.
func (s *space) wantNoDNS(o outcome, reason string) {
	s.Helper()
	if o.code != 3 || !strings.Contains(o.stdout, "2 ready") {
		s.Errorf("%s", o)
	}
	for _, text := range []string{"skipped: dns-disagrees, dns-truncated (" + reason, "not seen: dns: " + reason, "--dns-namespace and --dns-selector"} {
		if !strings.Contains(o.stdout, text) {
			s.Errorf("it does not say %q: %s", text, o)
		}
	}
}

// TestDNSPodsNotReady breaks no cluster: its DNS pods are its own.
func TestDNSPodsNotReady(t *testing.T) {
	s := newSpace(t)
	sick := deployment("sick-dns", "/square-server", 1)
	sick.Spec.Selector.MatchLabels["dns"], sick.Spec.Template.Labels["dns"] = "own", "own"
	sick.Spec.Template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(9)}},
	}
	s.apply(server("backend"), service("backend", headless), sick)
	s.rollout("backend")
	s.settled()
	s.eventually("the pod that is not ready", startTime, func() (bool, string) {
		p := s.pods("sick-dns")
		return len(p) == 1 && p[0].Status.Phase == corev1.PodRunning, "none runs"
	})
	own := []string{"diagnose", "svc/backend", "--dns-namespace", s.ns, "--dns-selector", "dns=own"}
	s.wantNoDNS(s.grpclb(own...), "none of the 1 DNS pods in "+s.ns+" is ready")

	// Beside one that works, it is only noted: it gets no questions from anybody.
	name := fmt.Sprintf("backend.%s.svc.cluster.local.", s.ns)
	var answers []string
	for _, p := range s.pods("backend") {
		answers = append(answers, fmt.Sprintf("answer \"%s 30 IN A %s\"", name, p.Status.PodIP))
	}
	s.runDNS("well-dns", ".:53 {\n    ready\n    template IN A "+name+" {\n        "+strings.Join(answers, "\n        ")+"\n    }\n    template ANY ANY . {\n        rcode NXDOMAIN\n    }\n}\n")
	s.kubectl("label", "pod", s.pods("well-dns")[0].Name, "dns=own")
	o := s.grpclb(own...)
	if o.code != 0 || !strings.Contains(o.stdout, s.pods("sick-dns")[0].Name) || !strings.Contains(o.stdout, "not ready, so it gets no questions") {
		t.Errorf("%s", o)
	}
}
