package live

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Pods are those of one workload: the ones that a label selector finds in a namespace.
type Pods struct{ Namespace, Selector string }

// Listening reads, in the same way as Sockets, on which of the ports running pods listen: of at most Options.MaxPods, ready ones first. A
// sidecar that was injected into a pod is no part of what is returned. A pod whose table could not be read has its reason in
// SocketTable.Error; the fact is unknown when that is so of all of them, and when no pod runs.
func Listening(ctx context.Context, s *collect.Session, of Pods, ports []int32, o Options) diagnose.Fact[[]diagnose.SocketTable] {
	o = o.withDefaults()
	list, err := podsOf(ctx, s, of)
	if err != nil {
		return diagnose.Fact[[]diagnose.SocketTable]{Status: statusOf(err)}
	}
	list = slices.DeleteFunc(list, func(p corev1.Pod) bool { return p.Spec.HostNetwork || hostable(&p) != nil })
	if len(list) == 0 {
		return diagnose.Unknown[[]diagnose.SocketTable](diagnose.NotAsked, "none of its pods runs", "")
	}
	slices.SortFunc(list, func(a, b corev1.Pod) int {
		return cmp.Or(unready(&a)-unready(&b), cmp.Compare(a.Name, b.Name))
	})
	var work []podWork
	for _, p := range list[:min(len(list), o.MaxPods)] {
		w := podWork{pod: diagnose.Key{Namespace: p.Namespace, Name: p.Name}}
		for _, n := range ports {
			w.add(n)
		}
		work = append(work, w)
	}
	reads := readTables(ctx, s, work, o)
	for i := range reads {
		reads[i].listening()
	}
	return tables(s, reads)
}

func podsOf(ctx context.Context, s *collect.Session, of Pods) ([]corev1.Pod, error) {
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	var list corev1.PodList
	err := s.REST().Get().AbsPath("api", "v1", "namespaces", of.Namespace, "pods").Param("labelSelector", of.Selector).Param("limit", "500").MaxRetries(0).Do(cctx).Into(&list)
	if err != nil {
		return nil, s.Failure(ctx, collect.Op{Verb: "list", Resource: collect.Pods, Namespace: of.Namespace}, err)
	}
	return list.Items, nil
}

// unready is 1 for a pod that is not ready: it may not listen yet.
func unready(p *corev1.Pod) int {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return 0
		}
	}
	return 1
}

// listening keeps what the pod's own containers listen on.
func (r *tableRead) listening() {
	var own []netip.AddrPort
	if r.pod != nil {
		own = collect.SidecarListens(&r.pod.Spec)
	}
	r.table.Sockets = slices.DeleteFunc(r.table.Sockets, func(so diagnose.Socket) bool {
		return so.State != agentapi.StateListen || slices.ContainsFunc(own, func(at netip.AddrPort) bool {
			both := so.Local.Addr().IsUnspecified() && at.Addr().IsUnspecified() // one socket for both families is [::]'s
			return at.Port() == so.Local.Port() && (both || at.Addr().Unmap() == so.Local.Addr().Unmap())
		})
	})
}
