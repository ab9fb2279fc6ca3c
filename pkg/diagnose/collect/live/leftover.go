package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	// maxAgents is how many containers of ours a pod may have had: their entries stay in its spec and status, about 2 KB each, and etcd
	// takes objects up to 1.5 MB.
	maxAgents = 50
	// sweepMost bounds the pods of earlier runs that one run deletes.
	sweepMost = 20
	// sweepAfter is for clocks that differ: so long after its deadline nobody waits for a probe's pod any more.
	sweepAfter = time.Minute

	agentPrefix = "grpclb-"
	probePrefix = "grpclb-probe-"
)

// agentsIn counts the ephemeral containers that earlier runs added to a pod, and those of them that have ended.
func agentsIn(p *corev1.Pod) (all, ended int) {
	ours := map[string]bool{}
	for _, c := range p.Spec.EphemeralContainers {
		if strings.HasPrefix(c.Name, agentPrefix) && len(c.Command) > 0 && c.Command[0] == agentPath {
			ours[c.Name] = true
		}
	}
	for _, st := range p.Status.EphemeralContainerStatuses {
		if ours[st.Name] && st.State.Terminated != nil {
			ended++
		}
	}
	return len(ours), ended
}

// roomFor says why a pod takes no further container of ours; nil when it does.
func roomFor(p *corev1.Pod) error {
	if n, _ := agentsIn(p); n >= maxAgents {
		return agentFailed("they go when the pod is replaced: kubectl rollout restart does that",
			"pod %s/%s has %d agent containers from earlier runs, and no more are added", p.Namespace, p.Name, n)
	}
	return nil
}

// oldAgents words how many ended containers of earlier runs there are in the pods; empty when there are none.
func oldAgents(reads []tableRead) string {
	var with []podWork
	total := 0
	for _, r := range reads {
		if r.pod == nil {
			continue
		}
		if _, ended := agentsIn(r.pod); ended > 0 {
			with, total = append(with, r.work), total+ended
		}
	}
	const goes = "from earlier runs; they go when the pod is replaced"
	switch {
	case total == 0:
		return ""
	case len(with) == 1:
		return fmt.Sprintf("%s has %d ended agent %s %s", countPods(with), total, plural(total, "container"), goes)
	}
	return fmt.Sprintf("%s have %d ended agent containers %s", countPods(with), total, goes)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// sweepProbes deletes the pods of probes that were killed before they could do it themselves: pods of ours in the namespace that have
// ended and are past the time within which their maker may still want them. It is called by a run that may create and delete such pods
// anyway; that it may not list them, or fails to, is no reason to stop.
func sweepProbes(ctx context.Context, s *collect.Session, namespace string, announce func(string)) {
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	var list corev1.PodList
	err := s.REST().Get().AbsPath("api", "v1", "namespaces", namespace, "pods").
		Param("labelSelector", diagnose.ManagedByLabel+"="+diagnose.ManagedBy).MaxRetries(0).Do(cctx).Into(&list)
	if err != nil {
		return
	}
	left := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !abandoned(&p, time.Now()) })
	for i := range left[:min(len(left), sweepMost)] {
		pod := diagnose.Key{Namespace: namespace, Name: left[i].Name}
		if ctx.Err() != nil {
			return
		}
		if err := deletePod(ctx, s, pod, false); err != nil {
			announce(fmt.Sprintf("pod %s of an earlier run has ended and could not be deleted (%s)", pod, statusOf(err).Reason))
			return // neither will the others be
		}
		announce(fmt.Sprintf("deleted pod %s, which an earlier run had left behind", pod))
	}
}

// abandoned tells a pod that a probe left behind from one that is still in use.
func abandoned(p *corev1.Pod, now time.Time) bool {
	if !strings.HasPrefix(p.Name, probePrefix) || p.Labels[diagnose.ManagedByLabel] != diagnose.ManagedBy || p.DeletionTimestamp != nil ||
		p.Spec.ActiveDeadlineSeconds == nil || p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
		return false
	}
	from := p.CreationTimestamp.Time
	if p.Status.StartTime != nil {
		from = p.Status.StartTime.Time
	}
	return now.After(from.Add(time.Duration(*p.Spec.ActiveDeadlineSeconds)*time.Second + sweepAfter))
}
