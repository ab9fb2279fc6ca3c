package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// surroundings are what is known of the Services, and of the cluster that they are in.
type surroundings struct {
	services  []inject.Service
	plans     []fix.SidecarPlan // of the Services that were seen, in order
	selectors map[diagnose.Key]map[string]string
	domain    string
	cluster   *diagnose.View // says what runs the cluster; nil when none was asked
	session   *collect.Session
	seen      map[string]inject.Facts // by namespace
}

// offlineFacts are the Services, pods and namespaces of manifests.
type offlineFacts struct {
	snap       *diagnose.Snapshot
	namespaces map[string]inject.Facts
	homeless   map[diagnose.Key]bool // Services whose manifests name no namespace
}

// manifestFacts reads Services, what the pods behind them declare, and namespaces out of a stream.
func manifestFacts(s *inject.Stream, namespace string) offlineFacts {
	out := offlineFacts{namespaces: map[string]inject.Facts{}, homeless: map[diagnose.Key]bool{}, snap: &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind,
		Services: diagnose.Know([]diagnose.Service{}), Pods: diagnose.Know([]diagnose.Pod{}), Workloads: diagnose.Know([]diagnose.Workload{}),
	}}
	for _, o := range s.Objects() {
		switch o.Content()["kind"] {
		case "Service":
			var svc corev1.Service
			if decodeInto(o.Content(), &svc) && svc.Name != "" {
				bare := svc.Namespace == ""
				svc.Namespace = cmp.Or(svc.Namespace, namespace)
				out.homeless[diagnose.Key{Namespace: svc.Namespace, Name: svc.Name}] = bare
				out.snap.Services.Value = append(out.snap.Services.Value, collect.Service(&svc))
			}
		case "Namespace":
			var ns corev1.Namespace
			if decodeInto(o.Content(), &ns) {
				out.namespaces[ns.Name] = inject.Facts{Labels: nonNil(ns.Labels), Annotations: nonNil(ns.Annotations)}
			}
		}
		w, ok, err := s.Workload(o, namespace)
		if err != nil || !ok {
			continue
		}
		pod := diagnose.Pod{Key: w.Key, Labels: w.Template.Labels, Phase: "Running"}
		for _, c := range w.Template.Spec.Containers {
			dc := diagnose.Container{Name: c.Name}
			for _, p := range c.Ports {
				dc.Ports = append(dc.Ports, diagnose.ContainerPort{Name: p.Name, Port: p.ContainerPort, Protocol: string(p.Protocol)})
			}
			pod.Containers = append(pod.Containers, dc)
		}
		out.snap.Pods.Value = append(out.snap.Pods.Value, pod)
	}
	return out
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// decodeInto reads an object in its JSON form as a typed one; false when it does not fit.
func decodeInto(obj map[string]any, to any) bool {
	raw, err := json.Marshal(obj)
	return err == nil && json.Unmarshal(raw, to) == nil
}

// look finds out about the Services: from the manifests where they are, else from flags, else from the cluster.
func (a *app) look(ctx context.Context, o injectOptions, files *offlineFacts) (*surroundings, error) {
	out := &surroundings{selectors: map[diagnose.Key]map[string]string{}, seen: map[string]inject.Facts{}}
	byNamespace := map[string][]string{}
	for _, k := range o.keys {
		if o.ports == nil && !files.has(k) {
			byNamespace[k.Namespace] = append(byNamespace[k.Namespace], k.Name)
		}
	}
	if o.offline && len(byNamespace) > 0 {
		k := o.keys[slices.IndexFunc(o.keys, func(k diagnose.Key) bool { return !files.has(k) })]
		return nil, couldNot(fmt.Errorf("the ports of svc/%s are not known: its manifest is not among those given, and no cluster is asked", k.Name),
			"add its manifest with -f, say --port, or leave --offline out")
	}
	if !o.offline {
		if err := a.openFor(ctx, out, len(byNamespace) == 0); err != nil {
			return nil, withoutCluster(err, files)
		}
	}
	snaps := map[string]*diagnose.Snapshot{}
	for ns, names := range byNamespace {
		snap, err := a.gatherServices(ctx, out.session, ns, names, o)
		if _, silent := errors.AsType[*collect.UnreachableError](err); silent {
			err = withoutCluster(err, files)
		}
		if snap == nil || err != nil {
			return out, err
		}
		snaps[ns] = snap
		if out.domain == "" && snap.Cluster.DomainFrom != diagnose.DomainAssumed {
			out.domain = snap.Cluster.Domain
		}
	}
	out.settleDomain(a, o, snaps)
	for _, k := range o.keys {
		if err := out.add(k, o, files, snaps[k.Namespace]); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (f *offlineFacts) has(k diagnose.Key) bool {
	return f != nil && slices.ContainsFunc(f.snap.Services.Value, func(s diagnose.Service) bool { return s.Key == k })
}

// openFor opens the cluster and asks what runs it. Where everything else is known from manifests, a cluster that is not there is only noted.
func (a *app) openFor(ctx context.Context, out *surroundings, optional bool) error {
	s, err := a.session(nil)
	if err == nil && optional {
		out.cluster, err = clusterVersions(ctx, s)
	}
	switch {
	case err != nil && optional && !errors.Is(err, context.Canceled):
		if s != nil {
			s.Close()
		}
		a.note("note: no cluster was asked (%v); it is taken to be Kubernetes 1.29 or later. --offline says so without trying", err)
		return nil
	case err != nil:
		return err
	}
	out.session = s
	return nil
}

// withoutCluster adds to the hint of an error, that no cluster can be asked, how manifests do without one.
func withoutCluster(err error, files *offlineFacts) error {
	if files == nil || errors.Is(err, context.Canceled) {
		return err
	}
	hint := "--offline asks none: with the Service's manifest among those of -f, or its ports as --port"
	var f *failure
	var h hinter
	switch {
	case errors.As(err, &f) && f.hint != "":
		hint = f.hint + "; " + hint
	case errors.As(err, &h) && h.Hint() != "":
		hint = h.Hint() + "; " + hint
	}
	return couldNot(err, hint)
}

// close ends the session, if there is one.
func (out *surroundings) close() {
	if out != nil && out.session != nil {
		out.session.Close()
	}
}

// clusterVersions reads what the API server and the kubelets run. Nodes that may not be listed are not known.
func clusterVersions(ctx context.Context, s *collect.Session) (*diagnose.View, error) {
	snap := &diagnose.Snapshot{}
	raw, err := getRaw(ctx, s, collect.Op{Verb: "get", Resource: collect.Resource{Name: "/version", Cluster: true}}, "/version")
	if err != nil {
		return nil, err
	}
	var v struct{ GitVersion string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("the API server's version: %w", err)
	}
	snap.Cluster.Version = v.GitVersion
	raw, err = getRaw(ctx, s, collect.Op{Verb: "list", Resource: collect.Nodes}, "/api/v1/nodes?limit=500")
	var nodes corev1.NodeList
	if err == nil && json.Unmarshal(raw, &nodes) == nil {
		for _, n := range nodes.Items {
			snap.Nodes.Value = append(snap.Nodes.Value, diagnose.Node{Name: n.Name, Kubelet: n.Status.NodeInfo.KubeletVersion, Unschedulable: n.Spec.Unschedulable})
		}
	}
	return &diagnose.View{Snapshot: snap}, nil
}

func getRaw(ctx context.Context, s *collect.Session, op collect.Op, uri string) ([]byte, error) {
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	raw, err := s.REST().Get().RequestURI(uri).SetHeader("Accept", "application/json").Do(cctx).Raw()
	if err != nil {
		return nil, s.Failure(ctx, op, statusOf(raw, err))
	}
	return raw, nil
}

// gatherServices looks at Services of one namespace, and learns the cluster's domain from its DNS unless it was given.
func (a *app) gatherServices(ctx context.Context, s *collect.Session, namespace string, names []string, o injectOptions) (*diagnose.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	opt := collect.Options{Namespace: namespace, Names: names, AssumeGRPC: o.assume, Domain: o.domain, Tool: version.Get().Version, NoMetrics: true}
	var stages []collect.Stage
	if o.domain == "" {
		opt.Depth = collect.DepthObserve
		stages = append(stages, live.DNS(live.Options{Announce: a.say}))
	}
	return collect.Run(ctx, s, opt, stages...)
}

func (out *surroundings) settleDomain(a *app, o injectOptions, snaps map[string]*diagnose.Snapshot) {
	out.domain = cmp.Or(o.domain, out.domain)
	if out.domain == "" {
		out.domain = collect.DefaultDomain
		a.note("note: the cluster's DNS domain is taken to be %s; --cluster-domain says otherwise", out.domain)
	}
	for _, s := range snaps {
		s.Cluster.Domain = out.domain
	}
}

// add plans one Service.
func (out *surroundings) add(k diagnose.Key, o injectOptions, files *offlineFacts, snap *diagnose.Snapshot) error {
	if o.ports != nil {
		out.services = append(out.services, inject.Service{Key: k, Dial: k.Name + fix.TwinSuffix, Ports: o.ports})
		return nil
	}
	if files.has(k) {
		snap = files.snap
		snap.AssumeGRPC, snap.Cluster.Domain = o.assume, out.domain
	}
	v, ok := snap.View(k)
	if !ok {
		return couldNot(fmt.Errorf("svc/%s could not be read: %s", k.Name, snap.Services.Reason), snap.Services.Hint)
	}
	if out.cluster == nil && snap.Cluster.Version != "" {
		out.cluster = v
	}
	p, err := fix.Sidecar(v, fix.Options{})
	if err != nil {
		return refused(err)
	}
	out.selectors[k] = v.Service.Selector
	out.services, out.plans = append(out.services, p.Service), append(out.plans, p)
	return nil
}

// native reports whether the cluster runs native sidecars.
func (out *surroundings) native(context.Context) (bool, string) {
	if out.cluster == nil {
		return true, ""
	}
	return fix.NativeSidecars(out.cluster)
}

// around gathers what is known of one workload beyond its manifest.
func (out *surroundings) around(ctx context.Context, w inject.Workload, files *offlineFacts) inject.Facts {
	f, ok := out.seen[w.Namespace]
	if !ok && files != nil {
		f, ok = files.namespaces[w.Namespace]
	}
	if !ok && out.session != nil {
		raw, err := getRaw(ctx, out.session, collect.Op{Verb: "get", Resource: collect.Namespaces, Object: w.Namespace}, "/api/v1/namespaces/"+w.Namespace)
		var ns corev1.Namespace
		if err == nil && json.Unmarshal(raw, &ns) == nil {
			f = inject.Facts{Labels: nonNil(ns.Labels), Annotations: nonNil(ns.Annotations)}
		}
	}
	out.seen[w.Namespace] = f
	for k, sel := range out.selectors {
		if k.Namespace == w.Namespace && len(sel) > 0 && labels.SelectorFromSet(sel).Matches(labels.Set(w.Template.Labels)) {
			f.Selected = append(f.Selected, k)
		}
	}
	slices.SortFunc(f.Selected, diagnose.Key.Compare)
	return f
}

// decide says what a workload gets, and prints what was found on the way.
func (a *app) decide(ctx context.Context, o injectOptions, s *surroundings, w inject.Workload, f inject.Facts) (*inject.Injection, error) {
	opt := o.inject
	opt.Services, opt.Domain = s.services, s.domain
	var why string
	if opt.Native, why = o.isNative(ctx, s.native); why != "" {
		a.note("note: %s", why)
	}
	in, remarks := inject.Decide(w, opt, f)
	if in != nil && o.sockets { // nothing is placed for what is refused anyway
		var err error
		if f.Listening, err = a.listening(ctx, o, s, w, in.Ports()); err != nil {
			return nil, err
		}
		in, remarks = inject.Decide(w, opt, f)
	}
	return in, a.remarks(w.Ref(), remarks)
}
