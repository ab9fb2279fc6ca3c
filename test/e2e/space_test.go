//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// ownerLabel marks the namespaces of these tests.
const ownerLabel, ownerValue = "app.kubernetes.io/managed-by", "grpclb-e2e"

// leftover is the age at which a namespace cannot belong to a run that is still
// going on.
const leftover = time.Hour

// sweep removes the namespaces that killed runs left behind.
func sweep(ctx context.Context, client kubernetes.Interface) error {
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + ownerValue})
	if err != nil {
		return fmt.Errorf("look for namespaces of earlier runs: %w", err)
	}
	for _, ns := range list.Items {
		if time.Since(ns.CreationTimestamp.Time) > leftover && ns.DeletionTimestamp == nil {
			if err := client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("remove the namespace of an earlier run: %w", err)
			}
		}
	}
	return nil
}

// space is a namespace for one test.
type space struct {
	testing.TB
	*cluster
	ns  string
	ctx context.Context
}

// newSpace makes a namespace that goes away with the test, and lets the test
// run beside others.
func newSpace(t *testing.T) *space {
	t.Helper()
	t.Parallel()
	return newSoloSpace(t)
}

// newSoloSpace is newSpace for tests that must not run beside others, and for subtests.
func newSoloSpace(t *testing.T) *space {
	t.Helper()
	if stand == nil {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	ns, err := stand.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "grpclb-e2e-", Labels: map[string]string{ownerLabel: ownerValue},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	s := &space{TB: t, cluster: stand, ns: ns.Name, ctx: ctx}
	t.Cleanup(s.remove)
	return s
}

// remove deletes the namespace, and shows what was in it when the test failed.
// It does not wait: the next test does not mind.
func (s *space) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.Failed() {
		s.Logf("in namespace %s:\n%s", s.ns, s.inventory(ctx))
	}
	if err := s.client.CoreV1().Namespaces().Delete(ctx, s.ns, metav1.DeleteOptions{}); err != nil {
		s.Errorf("delete the namespace: %v", err)
	}
}

func (s *space) inventory(ctx context.Context) string {
	var out bytes.Buffer
	for _, args := range [][]string{
		{"get", "pods,endpointslices", "-o", "wide"},
		{"get", "events", "--field-selector", "type=Warning"},
	} {
		cmd := s.bed.Command(ctx, s.bed.Kubectl(append(args, "-n", s.ns)...)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(&out, err)
		}
	}
	return out.String()
}

// kubectl runs kubectl in the namespace and returns what it printed.
func (s *space) kubectl(args ...string) string {
	s.Helper()
	return s.kubectlIn(nil, args...)
}

// kubectlIn is kubectl with text on standard input.
func (s *space) kubectlIn(in []byte, args ...string) string {
	s.Helper()
	cmd := s.bed.Command(s.ctx, s.bed.Kubectl(append(args, "-n", s.ns)...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// apply hands objects to kubectl apply, as a user would.
func (s *space) apply(objects ...any) {
	s.Helper()
	var all bytes.Buffer
	for _, o := range objects {
		text, ok := o.(string)
		if !ok {
			b, err := yaml.Marshal(o)
			if err != nil {
				s.Fatal(err)
			}
			text = string(b)
		}
		all.WriteString("---\n" + text + "\n")
	}
	s.kubectlIn(all.Bytes(), "apply", "-f", "-")
}

// applyDir applies a folder of the repository.
func (s *space) applyDir(dir string) {
	s.Helper()
	s.kubectl("apply", "-f", dir)
}

// eventually polls until done says so, or fails the test with the last thing
// that it said.
func (s *space) eventually(what string, within time.Duration, done func() (ok bool, state string)) {
	s.Helper()
	if ok, state := s.mayCome(within, done); !ok {
		s.Fatalf("waited %s for %s; last: %s", within, what, state)
	}
}

// mayCome is eventually for what need not come: it reports whether it did.
func (s *space) mayCome(within time.Duration, done func() (ok bool, state string)) (ok bool, state string) {
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, state = done(); ok {
			return true, state
		}
		select {
		case <-ctx.Done():
			return false, state
		case <-tick.C:
		}
	}
}

// startTime is how long pods may take to become ready on a small, busy machine.
const startTime = 3 * time.Minute

// rollout waits until Deployments run what they should, and nothing else.
func (s *space) rollout(names ...string) {
	s.Helper()
	for _, name := range names {
		s.eventually("deployment "+name, startTime, func() (bool, string) {
			d, err := s.client.AppsV1().Deployments(s.ns).Get(s.ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			want, st := *d.Spec.Replicas, d.Status
			return st.ObservedGeneration >= d.Generation && st.UpdatedReplicas == want && st.AvailableReplicas == want && st.Replicas == want,
				fmt.Sprintf("%d wanted, %d updated, %d available, %d in all", want, st.UpdatedReplicas, st.AvailableReplicas, st.Replicas)
		})
	}
	// The slices follow a moment later. Where a test keeps them from it, nothing is waited for in vain for long.
	s.mayCome(5*time.Second, s.slicesFollow)
}

// pods lists the pods of an app that are not being deleted.
func (s *space) pods(app string) []corev1.Pod {
	s.Helper()
	list, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		s.Fatal(err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out
}

// settled waits until the slices of the namespace say of each pod what the pod says of itself: a rollout is over a moment before they do.
func (s *space) settled() {
	s.Helper()
	s.eventually("slices that follow the pods", startTime, s.slicesFollow)
}

// slicesFollow reports whether the slices of each Service with a selector have each ready pod that it selects as ready, or says which does not.
func (s *space) slicesFollow() (bool, string) {
	pods, err := s.client.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return false, err.Error()
	}
	services, err := s.client.CoreV1().Services(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return false, err.Error()
	}
	list, err := s.client.DiscoveryV1().EndpointSlices(s.ns).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return false, err.Error()
	}
	has := map[[2]string]bool{} // Service and pod
	for _, sl := range list.Items {
		for _, e := range sl.Endpoints {
			if e.TargetRef != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				has[[2]string{sl.Labels[discoveryv1.LabelServiceName], e.TargetRef.Name}] = true
			}
		}
	}
	for _, svc := range services.Items {
		if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		for _, p := range pods.Items {
			ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			if ready && p.DeletionTimestamp == nil && selector.Matches(labels.Set(p.Labels)) && !has[[2]string{svc.Name, p.Name}] {
				return false, p.Name + " is ready, and the slices of " + svc.Name + " do not say so"
			}
		}
	}
	return true, ""
}

// endpoints waits until the Service's slices name so many addresses, ready or not.
func (s *space) endpoints(service string, want int) {
	s.Helper()
	s.eventually(fmt.Sprintf("%d endpoints of %s", want, service), startTime, func() (bool, string) {
		list, err := s.client.DiscoveryV1().EndpointSlices(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
		if err != nil {
			return false, err.Error()
		}
		n := 0
		for _, sl := range list.Items {
			n += len(sl.Endpoints)
		}
		return n == want, fmt.Sprintf("%d", n)
	})
}

// later is a context for clean-up, when that of the test has ended.
func (s *space) later() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
	s.Cleanup(cancel)
	return ctx
}
