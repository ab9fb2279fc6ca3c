//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// seen is what endpointwatch prints: see its Line.
type seen struct {
	At, Changed                                                    time.Time
	Target, Source, Reason, Error, Switch, Why, VIP, Twin, Warning string
	Set                                                            []string
	Verified, Authoritative                                        bool
	Bytes, RSS                                                     int
}

// watchRole is the Role that package kube's documentation asks for, bound to a
// ServiceAccount.
func watchRole(account string) string {
	return `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: grpclb-refresher}
rules:
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [services], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: grpclb-refresher-` + account + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: grpclb-refresher}
subjects:
- {kind: ServiceAccount, name: ` + account + `}`
}

// TestKubeSource runs the refresher's sources that watch EndpointSlices in pods,
// with and without the right to do so.
func TestKubeSource(t *testing.T) {
	s := newSpace(t)
	s.loadProgram("endpointwatch")
	s.apply(account("watcher"), account("outsider"), watchRole("watcher"), server("backend", replicas(3)), service("backend"),
		service("mapped", noSelector, ports("grpc", 80)), slice("mapped", 0, endpoint("198.18.9.1"), endpoint("198.18.9.2")),
		service("alias", func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}
		}),
		service("zero"), service("plain", headless, noSelector), slice("plain", 0, endpoint("198.18.0.1"), endpoint("198.18.0.2")),
	)
	s.apply(append(manyEndpoints("big", 300), service("big", noSelector))...)
	s.rollout("backend")
	s.settled()
	full := "." + s.ns + ".svc.cluster.local"
	s.startEndpointWatch("watching", "watcher", "kube", "backend:grpc", "mapped:80", "mapped"+full+":grpc", "mapped:6565", "mapped:81", "big:6565",
		"alias:grpc", "zero:grpc", "nowhere:grpc", "nowhere.kube-system:grpc", "api.example.com:grpc")
	s.startEndpointWatch("outside", "outsider", "auto", "plain:6565", "mapped:80")

	mapped := []string{"198.18.9.1:6565", "198.18.9.2:6565"}
	s.awaitSeen("watching", "mapped:80", mapped...)
	s.awaitSeen("watching", "mapped"+full+":grpc", mapped...)
	s.awaitSeen("watching", "mapped:6565", mapped...)
	s.await("watching", "mapped:81", "no TCP port 81; there is grpc (6565)")
	s.await("watching", "alias:grpc", "is an ExternalName and has no endpoints: use db.example.com")
	s.await("watching", "zero:grpc", "no endpoint in any EndpointSlice")
	s.await("watching", "nowhere:grpc", "no Service "+s.ns+"/nowhere")
	s.await("watching", "nowhere.kube-system:grpc", "no right to watch EndpointSlices in namespace kube-system")
	s.await("watching", "api.example.com:grpc", "not the name of a Service")
	s.awaitCount("watching", "big:6565", 300)
	s.awaitCount("watching", "backend:grpc", 3)
	s.await("outside", "plain:6565", ">dns")
	s.awaitSeen("outside", "plain:6565", "198.18.0.1:6565", "198.18.0.2:6565")

	// The right is given, and counts for what runs already.
	s.apply(watchRole("outsider"))
	s.await("outside", "plain:6565", "dns>kube")
	s.await("outside", "mapped:80", "dns>kube")
	s.awaitSeen("outside", "mapped:80", mapped...)

	s.scaleAndSee("watching", "backend:grpc")

	// One slice of three goes and comes.
	s.kubectl("delete", "endpointslice", "big-1")
	s.awaitCount("watching", "big:6565", 200)
	s.apply(manyEndpoints("big", 300)...)
	s.awaitCount("watching", "big:6565", 300)
	s.kubectl("delete", "service", "mapped")
	s.kubectl("delete", "endpointslice", "mapped-0", "--ignore-not-found")
	s.await("watching", "mapped:80", "no Service "+s.ns+"/mapped")
	s.apply(service("mapped", noSelector, ports("grpc", 81)), slice("mapped", 0, endpoint("198.18.9.3")))
	s.awaitSeen("watching", "mapped:81", "198.18.9.3:6565")

	for _, l := range s.seen("watching") {
		if l.Target == "big:6565" && l.Set != nil && len(l.Set) != 300 && len(l.Set) != 200 {
			t.Errorf("a Set of %d endpoints of a Service with 300 or 200", len(l.Set))
		}
		if l.RSS > 40<<10 {
			t.Errorf("%d kB of memory for 11 targets", l.RSS)
		}
	}
	t.Logf("memory of a program that watches 11 Services: %d kB", s.lastSeen("watching", "backend:grpc").RSS)
}

// scaleAndSee scales backend from 3 to 6 and back, and holds when the watch saw a
// pod against when the pod said that it was ready.
func (s *space) scaleAndSee(pod, target string) {
	s.Helper()
	ready := s.readyTimes("backend")
	s.kubectl("scale", "deploy/backend", "--replicas=6")
	s.rollout("backend")
	s.awaitCount(pod, target, 6)
	first := map[string]time.Time{}
	for _, l := range s.seen(pod) {
		for _, a := range l.Set {
			if _, known := first[a]; !known && l.Target == target {
				first[a] = l.At
			}
		}
	}
	news := 0
	for _, p := range s.pods("backend") {
		at, when := first[fmt.Sprintf("%s:%d", p.Status.PodIP, port)], ready()[p.Name]
		if when.IsZero() {
			continue // one of the first three
		}
		news++
		took := at.Sub(when)
		s.Logf("pod %s: ready in the source %s after the API server said so of the pod", p.Name, took)
		// How fast it is stands in docs/performance.md; here only that it is a watch that tells, and no poll.
		if at.IsZero() || took > 5*time.Second {
			s.Errorf("pod %s was seen %s after it was ready", p.Name, took)
		}
	}
	if news != 3 {
		s.Errorf("%d new pods, want 3", news)
	}
	s.kubectl("scale", "deploy/backend", "--replicas=3")
	s.awaitCount(pod, target, 3)
	for _, l := range s.seen(pod) {
		if l.Target == target && l.Set != nil && len(l.Set) < 3 {
			s.Errorf("a Set of %v", l.Set)
		}
	}
}

// readyTimes watches the pods of an app and returns when each became ready that
// was not ready at first.
func (s *space) readyTimes(app string) func() map[string]time.Time {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	w, err := s.client.CoreV1().Pods(s.ns).Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		cancel()
		s.Fatal(err)
	}
	var mu sync.Mutex
	out, unready, ended := map[string]time.Time{}, map[string]bool{}, make(chan struct{})
	go func() {
		defer close(ended)
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			mu.Lock()
			if ready && unready[p.Name] && out[p.Name].IsZero() {
				out[p.Name] = time.Now()
			}
			unready[p.Name] = !ready
			mu.Unlock()
		}
	}()
	s.Cleanup(func() {
		cancel()
		w.Stop()
		<-ended
	})
	return func() map[string]time.Time {
		mu.Lock()
		defer mu.Unlock()
		return out
	}
}

// TestAutoSource: the API server stands still for a while, and is started again.
// Nobody loses a pod by that.
func TestAutoSource(t *testing.T) {
	s := newBreakable(t)
	s.loadProgram("endpointwatch")
	s.apply(account("watcher"), account("outsider"), watchRole("watcher"), server("backend", replicas(3)), service("backend", headless))
	s.rollout("backend")
	s.settled()
	const target = "backend:grpc"
	s.startEndpointWatch("allowed", "watcher", "auto", target)
	s.startEndpointWatch("denied", "outsider", "auto", target)
	s.await("allowed", target, ">kube")
	s.await("denied", target, ">dns")
	s.awaitCount("allowed", target, 3)
	s.awaitCount("denied", target, 3)

	began := time.Now()
	thaw := s.freeze("controlplane")
	// A dead connection is found by HTTP/2 pings after 45 s, that there is no
	// other one 10 s later, and 3 s are grace.
	select {
	case <-time.After(75 * time.Second):
	case <-s.ctx.Done():
	}
	thaw()
	s.await("allowed", target, "kube>dns")
	s.await("allowed", target, "dns>kube")
	s.logSeen("allowed", began, "frozen for 75 s")

	began = time.Now()
	s.restart("controlplane")
	s.rollout("backend")
	s.settled()
	s.logSeen("allowed", began, "started again")
	s.kubectl("scale", "deploy/backend", "--replicas=5")
	s.rollout("backend")
	s.awaitCount("allowed", target, 5)
	s.awaitCount("denied", target, 5)
	// An API server that has just begun may refuse everybody, until it has read its roles: then DNS serves for some seconds.
	s.eventually("EndpointSlices to be watched again", time.Minute, func() (bool, string) {
		l := s.lastSeen("allowed", target)
		return l.Source == "kube" && len(l.Set) == 5, fmt.Sprintf("%+v", l)
	})
	// Nodes whose kubelets could not report are taken for dead for a moment. The
	// slices then list their pods as unready, which DNS cannot.
	full := false
	for _, l := range s.seen("allowed") {
		if l.Source == "" {
			continue
		}
		full = full || len(l.Set) == 3
		if full && len(l.Set) < 3 {
			t.Errorf("at %s a Set of %v (%s) from %s", l.At.Format(time.TimeOnly), l.Set, l.Reason, l.Source)
		}
	}
}

// logSeen logs what a source told since a moment.
func (s *space) logSeen(pod string, since time.Time, what string) {
	s.Helper()
	for _, l := range s.seen(pod) {
		if l.At.After(since) {
			s.Logf("API server %s: after %s %s%s%s %d endpoints of %s %s", what, l.At.Sub(since).Round(time.Millisecond), l.Switch, l.Error, l.Warning, len(l.Set), l.Source, l.Why)
		}
	}
}

func account(name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// startEndpointWatch runs endpointwatch as a ServiceAccount, "" for the one that
// every namespace has.
func (s *space) startEndpointWatch(name, account string, args ...string) {
	s.Helper()
	pod := programPod(name, "endpointwatch", args)
	pod.Spec.ServiceAccountName = account
	s.until(pod, corev1.PodRunning)
}

// seen is what endpointwatch has printed so far.
func (s *space) seen(pod string) []seen {
	s.Helper()
	out, err := printed[seen](s.kubectl("logs", pod))
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// lastSeen is the last Set of a target.
func (s *space) lastSeen(pod, target string) seen {
	s.Helper()
	var last seen
	for _, l := range s.seen(pod) {
		if l.Target == target && l.Source != "" {
			last = l
		}
	}
	return last
}

func (s *space) awaitSeen(pod, target string, addrs ...string) {
	s.Helper()
	s.eventually(target+" to be "+strings.Join(addrs, " "), time.Minute, func() (bool, string) {
		got := s.lastSeen(pod, target)
		return slices.Equal(got.Set, addrs), fmt.Sprintf("%+v", got)
	})
}

func (s *space) awaitCount(pod, target string, n int) {
	s.Helper()
	s.eventually(fmt.Sprintf("%s to have %d endpoints", target, n), time.Minute, func() (bool, string) {
		got := s.lastSeen(pod, target)
		return len(got.Set) == n && !strings.Contains(strings.Join(got.Set, " "), "unready"), fmt.Sprintf("%+v", got)
	})
}

// await waits until something was told of a target that has the text in it.
func (s *space) await(pod, target, text string) {
	s.Helper()
	s.eventually(fmt.Sprintf("%s to say %q", target, text), time.Minute, func() (bool, string) {
		var all []string
		for _, l := range s.seen(pod) {
			if l.Target != target {
				continue
			}
			if strings.Contains(l.Switch+l.Reason+l.Error+l.Warning, text) {
				return true, ""
			}
			all = append(all, fmt.Sprintf("%+v", l))
		}
		return false, strings.Join(all, "\n")
	})
}
