package checks

import (
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// flows are the connections of one workload as the server pods saw them.
type flows struct {
	total int
	pods  map[diagnose.Key]int            // server pod -> connections
	reach map[string]map[diagnose.Key]int // client pod -> server pod -> connections
}

// flowsOf picks a workload's connections out of the client x pod matrix. The pods of a CronJob belong to its jobs,
// whose names begin with its own.
func flowsOf(s diagnose.Spread, w diagnose.Workload) flows {
	f := flows{pods: map[diagnose.Key]int{}, reach: map[string]map[diagnose.Key]int{}}
	for _, fl := range s.Flows {
		if !strings.HasPrefix(fl.Client, w.Namespace+"/") {
			continue
		}
		if fl.Workload != w.Ref() && (w.Kind != "CronJob" || !strings.HasPrefix(fl.Workload, "job/"+w.Name+"-")) {
			continue
		}
		f.total += fl.Conns
		f.pods[fl.Pod] += fl.Conns
		if f.reach[fl.Client] == nil {
			f.reach[fl.Client] = map[diagnose.Key]int{}
		}
		f.reach[fl.Client][fl.Pod] += fl.Conns
	}
	return f
}

// pooled reports whether every client pod keeps connections to every one of the endpoints: something on the client's
// side spreads by itself.
func (f flows) pooled(es []diagnose.Endpoint) bool {
	if len(f.reach) == 0 {
		return false
	}
	for _, reached := range f.reach {
		for _, e := range es {
			if reached[e.Pod] == 0 {
				return false
			}
		}
	}
	return true
}

// where words the ends of the connections: "its 1 connection ends on square-app-1".
func (f flows) where(ready int) string {
	if len(f.pods) == 1 {
		for k := range f.pods {
			return "its " + count(f.total, "connection") + either(f.total, " ends", " all end") + " on " + k.Name
		}
	}
	return "its " + count(f.total, "connection") + " end on " + count(len(f.pods), "pod") + " of the " + count(ready, "ready one")
}

// connections counts the established connections of users on the ready pods.
func connections(s diagnose.Spread) int {
	n := 0
	for _, r := range s.Rows {
		if r.Ready && r.Conns != nil {
			n += *r.Conns
		}
	}
	return n
}

// skewed reports whether users' traffic, measured in bytes, was seen to be unbalanced.
func skewed(s diagnose.Spread) bool {
	return s.Basis == "bytes" && (s.State == diagnose.SpreadOnePod || s.State == diagnose.SpreadUneven)
}

// probedOnePod returns the probe run through the cluster IP whose one channel ended on one pod.
func probedOnePod(s diagnose.Spread) (diagnose.ProbeSpread, bool) {
	i := slices.IndexFunc(s.Probes, func(p diagnose.ProbeSpread) bool {
		return p.Via == "clusterip" && p.Channels == 1 && p.State == diagnose.SpreadOnePod
	})
	if i < 0 {
		return diagnose.ProbeSpread{}, false
	}
	return s.Probes[i], true
}

// withPorts returns the ready endpoints that serve at least one gRPC port of the Service: a pod that lacks the named
// port stands in an EndpointSlice without ports and gets no traffic by a cluster IP.
func withPorts(v *diagnose.View) []diagnose.Endpoint {
	ports := v.GRPCPorts()
	var out []diagnose.Endpoint
	for _, e := range v.Ready() {
		if slices.ContainsFunc(ports, func(p diagnose.ServicePort) bool { _, ok := e.Ports[p.Name]; return ok }) {
			out = append(out, e)
		}
	}
	return out
}

// provedOther reports whether every answer heard on the gRPC ports was HTTP/1: the port is declared wrongly, and
// advice about gRPC connections would be noise.
func provedOther(v *diagnose.View) bool {
	heard := heardOn(v)
	return len(heard) > 0 && !slices.ContainsFunc(heard, func(h diagnose.PortProbe) bool { return h.Proto != "http1" })
}

// clientPod returns the pod at the client's end of a flow, or nil when its source is hidden or no pod of the snapshot.
func clientPod(v *diagnose.View, fl diagnose.Flow) *diagnose.Pod {
	ns, name, ok := strings.Cut(fl.Client, "/")
	if fl.Hidden || !ok {
		return nil
	}
	return v.Pod(diagnose.Key{Namespace: ns, Name: name})
}
