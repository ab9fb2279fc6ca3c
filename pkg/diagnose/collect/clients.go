package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// configMapsAndTargets is the second wave: owners are resolved, the ConfigMaps that workloads refer to are read, and all of it is
// searched for targets.
func (c *collector) configMapsAndTargets(ctx context.Context) {
	c.settleOwners()
	if c.snap.Workloads.Known() {
		c.settleWorkloads()
	} else {
		c.workloads = nil
	}
	c.settlePods()
	if !c.snap.Workloads.Known() {
		c.snap.ConfigMaps.Status = diagnose.Status{Reason: "no workload could be read that would refer to one"}
		return
	}
	c.configs = c.configMaps(ctx)
	c.readTargets()
}

// readTargets looks for targets in the workloads.
func (c *collector) readTargets() {
	c.domain = c.snap.Cluster.Domain
	x := c.index()
	c.snap.Workloads.Value = nil
	for i := range c.workloads {
		w := &c.workloads[i]
		w.Sidecar = w.tmpl.sidecar.resolve(x, w.Namespace)
		w.Targets = c.targets(x, w, c.configs[w.Namespace])
		c.snap.Workloads.Value = append(c.snap.Workloads.Value, w.Workload)
	}
}

// reread looks for targets anew when a stage has learned that the cluster's domain is another: a name below it that belongs to no
// Service is a mistake then, and one below the domain that was assumed is none.
func (c *collector) reread() {
	if c.snap.Workloads.Known() && c.domain != c.snap.Cluster.Domain {
		c.readTargets()
	}
}

// settlePods keeps of each pod's labels those that some Service selects by, and hands the pods to the snapshot.
func (c *collector) settlePods() {
	selects := map[string]map[string]bool{} // namespace -> label keys
	for _, s := range c.snap.Services.Value {
		for k := range s.Selector {
			if selects[s.Namespace] == nil {
				selects[s.Namespace] = map[string]bool{}
			}
			selects[s.Namespace][k] = true
		}
	}
	for _, p := range c.pods {
		for k, v := range p.labels {
			if !selects[p.Namespace][k] {
				continue
			}
			if p.Labels == nil {
				p.Labels = map[string]string{}
			}
			p.Labels[k] = v
		}
		c.snap.Pods.Value = append(c.snap.Pods.Value, p.Pod)
	}
	c.pods = nil
}

// configMaps reads what the workloads refer to, by name, each once. More than MaxConfigMaps are a gap: the first by name are read.
func (c *collector) configMaps(ctx context.Context) map[string]map[string]map[string]string {
	var want []diagnose.Key
	for i := range c.workloads {
		for _, name := range c.workloads[i].tmpl.configMaps() {
			if name != "" && name != "kube-root-ca.crt" { // a certificate, in every namespace and every projected token
				want = append(want, diagnose.Key{Namespace: c.workloads[i].Namespace, Name: name})
			}
		}
	}
	slices.SortFunc(want, diagnose.Key.Compare)
	want = slices.Compact(want)
	c.snap.ConfigMaps = diagnose.Know([]diagnose.Key(nil))
	if n := len(want) - MaxConfigMaps; n > 0 {
		c.gap(diagnose.FactConfigMaps, fmt.Sprintf("%d of %d configmaps", n, len(want)), diagnose.Status{
			State: diagnose.Failed, Reason: fmt.Sprintf("a run reads at most %d", MaxConfigMaps), Hint: "targets in the others are not seen",
		})
		want = want[:MaxConfigMaps]
	}
	c.session.Emit(Event{Fact: diagnose.FactConfigMaps, Step: StepStart, Total: len(want)})
	data := map[string]map[string]map[string]string{}
	var mu sync.Mutex
	var g errgroup.Group
	for _, k := range want {
		g.Go(func() error {
			cm, err := get[*corev1.ConfigMap](ctx, c.session, Op{Verb: "get", Resource: ConfigMaps, Namespace: k.Namespace, Object: k.Name})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.configMapGap(k, err)
				return nil
			}
			if data[k.Namespace] == nil {
				data[k.Namespace] = map[string]map[string]string{}
			}
			data[k.Namespace][k.Name] = cm.Data
			c.snap.ConfigMaps.Value = append(c.snap.ConfigMaps.Value, k)
			return nil
		})
	}
	_ = g.Wait() // what failed is a gap
	c.session.Emit(Event{Fact: diagnose.FactConfigMaps, Step: StepEnd, Done: len(c.snap.ConfigMaps.Value), Total: len(want), Status: c.snap.ConfigMaps.Status})
	return data
}

// configMapGap: a reference to a ConfigMap that does not exist is normal (optional: true) and says nothing about what could be seen.
func (c *collector) configMapGap(k diagnose.Key, err error) {
	if kindOf(err) == KindNotFound {
		return
	}
	c.gap(diagnose.FactConfigMaps, "configmap "+k.String(), c.session.Failure(context.Background(), Op{}, err).Status)
}

// index knows every Service and pod of the snapshot.
func (c *collector) index() *target.Index {
	var services []target.Service
	for _, s := range c.snap.Services.Value {
		ts := target.Service{Ref: target.Ref(s.Key)}
		if !s.Headless() {
			ts.IPs = s.ClusterIPs
		}
		for _, p := range s.Ports {
			ts.Ports = append(ts.Ports, target.Port{Name: p.Name, Number: p.Port})
		}
		services = append(services, ts)
	}
	var pods []target.Pod
	for _, p := range c.snap.Pods.Value {
		tp := target.Pod{Ref: target.Ref(p.Key)}
		if !p.HostNetwork && p.Phase != "Succeeded" && p.Phase != "Failed" {
			tp.IPs = p.IPs
		}
		pods = append(pods, tp)
	}
	listed := func(ns string) bool {
		return c.snap.Services.Known() && !c.partServices && (c.opt.AllNamespaces || ns == c.opt.Namespace)
	}
	return target.NewIndex(services, pods, listed, c.snap.Cluster.Domain)
}

func (c *collector) targets(x *target.Index, w *rawWorkload, data map[string]map[string]string) []diagnose.Target {
	var out []diagnose.Target
	for _, spec := range w.tmpl.containers {
		for _, f := range x.Find(w.Namespace, w.tmpl.resolve(spec, data)) {
			_, led := w.Sidecar.Leads(diagnose.Key(f.Service))
			out = append(out, diagnose.Target{
				Sidecar:   led && f.Kind == target.KindService && !f.Rooted,
				Container: spec.name, Source: f.Source, Name: f.Name, ConfigMap: f.ConfigMap, ConfigMapKey: f.Key,
				PortName: f.PortName, Part: f.Part, Token: f.Token, Scheme: f.Scheme, Host: f.Host, Port: f.Port, Kind: f.Kind, Service: diagnose.Key(f.Service), Pod: diagnose.Key(f.Pod),
				Policy: f.Policy, GRPC: f.GRPC,
			})
		}
	}
	return out
}

// finish puts everything into one order, so that the same cluster gives the same bytes.
func (c *collector) finish(before diagnose.Cost) {
	s := c.snap
	if len(c.pods) > 0 { // the run ended before the second wave
		c.settlePods()
	}
	slices.SortFunc(s.Services.Value, func(a, b diagnose.Service) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(s.Slices.Value, func(a, b diagnose.Slice) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(s.Pods.Value, func(a, b diagnose.Pod) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(s.Nodes.Value, func(a, b diagnose.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Metrics.Value, func(a, b diagnose.PodMetrics) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(s.ConfigMaps.Value, diagnose.Key.Compare)
	slices.SortFunc(s.Workloads.Value, func(a, b diagnose.Workload) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.Kind, b.Kind))
	})
	s.Gaps = append(append(s.Gaps, c.gaps...), c.session.takeGaps()...)
	slices.SortStableFunc(s.Gaps, func(a, b diagnose.Gap) int {
		return cmp.Or(cmp.Compare(a.Fact, b.Fact), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Reason, b.Reason))
	})
	after := c.session.Cost()
	s.Cost = diagnose.Cost{
		Lists: after.Lists - before.Lists, Gets: after.Gets - before.Gets, Writes: after.Writes - before.Writes,
		Streams: after.Streams - before.Streams,
	}
}
