package live

import (
	"fmt"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// podWork is one server pod and the ports of it that matter, sorted.
type podWork struct {
	pod   diagnose.Key
	ports []int32
}

func (w *podWork) add(port int32) {
	if i, found := slices.BinarySearch(w.ports, port); !found {
		w.ports = slices.Insert(w.ports, i, port)
	}
}

// choosePods takes at most limit ready pods of all targets together, in turn from each target, and each once with all its ports. ports
// says which ports of an endpoint matter; an endpoint without any is passed over. left is how many pods had no place.
func choosePods(snap *diagnose.Snapshot, limit int, ports func(*diagnose.View, diagnose.Endpoint) []int32) (out []podWork, left int) {
	var queues [][]podWork
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok {
			continue
		}
		var queue []podWork
		for _, e := range inTurn(v) {
			w := podWork{pod: e.Pod}
			for _, n := range ports(v, e) {
				if n != 0 {
					w.add(n)
				}
			}
			if len(w.ports) > 0 {
				queue = append(queue, w)
			}
		}
		queues = append(queues, queue)
	}
	index := map[diagnose.Key]int{} // into out; -1: no place
	take := func(w podWork) {
		i, seen := index[w.pod]
		switch {
		case seen && i >= 0:
			for _, p := range w.ports {
				out[i].add(p)
			}
		case seen:
		case len(out) < limit:
			index[w.pod] = len(out)
			out = append(out, w)
		default:
			index[w.pod] = -1
			left++
		}
	}
	for i, more := 0, true; more; i++ {
		more = false
		for _, q := range queues {
			if i < len(q) {
				take(q[i])
				more = true
			}
		}
	}
	slices.SortFunc(out, func(a, b podWork) int { return a.pod.Compare(b.pod) })
	return out, left
}

// noteLeft says which pods a limit kept from being looked into.
func noteLeft(s *collect.Session, fact diagnose.FactName, left, limit int) {
	if left > 0 {
		s.Gap(diagnose.Gap{Fact: fact, Subject: fmt.Sprintf("%d more pods", left), Status: diagnose.Status{
			Reason: fmt.Sprintf("at most %d are looked into", limit), Hint: "--max-pods sets the limit",
		}})
	}
}

// inTurn orders the ready pods so that any beginning of the list has every node in it, and of each node the oldest and the youngest pod
// first: what differs by node or by age shows.
func inTurn(v *diagnose.View) []diagnose.Endpoint {
	byNode := map[string][]diagnose.Endpoint{}
	var nodes []string
	for _, e := range v.Ready() {
		if e.Pod == (diagnose.Key{}) || v.Pods.Known() && v.Pod(e.Pod) == nil {
			continue
		}
		if byNode[e.Node] == nil {
			nodes = append(nodes, e.Node)
		}
		byNode[e.Node] = append(byNode[e.Node], e)
	}
	for n, es := range byNode {
		slices.SortStableFunc(es, func(a, b diagnose.Endpoint) int { return created(v, a).Compare(created(v, b)) })
		byNode[n] = ends(es)
	}
	slices.Sort(nodes)
	var out []diagnose.Endpoint
	for i, more := 0, true; more; i++ {
		more = false
		for _, n := range nodes {
			if i < len(byNode[n]) {
				out = append(out, byNode[n][i])
				more = true
			}
		}
	}
	return out
}

// ends reorders a list to first, last, second, last but one, ...
func ends(es []diagnose.Endpoint) []diagnose.Endpoint {
	out := make([]diagnose.Endpoint, 0, len(es))
	for i, j := 0, len(es)-1; i <= j; i, j = i+1, j-1 {
		out = append(out, es[i])
		if i != j {
			out = append(out, es[j])
		}
	}
	return out
}

func created(v *diagnose.View, e diagnose.Endpoint) time.Time {
	if p := v.Pod(e.Pod); p != nil {
		return p.Created
	}
	return time.Time{}
}
