package collect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// api makes the first wave of requests, all side by side. The number of requests depends on the options alone.
func (c *collector) api(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error { c.snap.Services = fetch(ctx, c, diagnose.FactServices, c.services); return nil })
	g.Go(func() error { c.snap.Slices = fetch(ctx, c, diagnose.FactSlices, c.slices); return nil })
	g.Go(func() error { c.snap.Nodes = fetch(ctx, c, diagnose.FactNodes, c.nodes); return nil })
	g.Go(func() error { c.listPods(ctx); return nil })
	g.Go(func() error { c.listWorkloads(ctx); return nil })
	g.Go(func() error { c.metrics(ctx); return nil })
	_ = g.Wait() // nothing returns an error: each group of facts holds its own
}

// fetch turns one request, or a few, into a fact.
func fetch[T any](ctx context.Context, c *collector, name diagnose.FactName, get func(context.Context) ([]T, error)) diagnose.Fact[[]T] {
	c.session.Emit(Event{Fact: name, Step: StepStart})
	v, err := get(ctx)
	f := diagnose.Know(v)
	if ce := c.note(err); ce != nil {
		f = diagnose.Unknown[[]T](ce.State, ce.Reason, ce.Status.Hint)
	}
	c.session.Emit(Event{Fact: name, Step: StepEnd, Done: len(v), Status: f.Status})
	return f
}

// note keeps count of what worked, for the question whether the server can be reached at all.
func (c *collector) note(err error) *CallError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.good++
		return nil
	}
	ce := c.session.Failure(context.Background(), Op{}, err)
	c.fails = append(c.fails, ce)
	return ce
}

func (c *collector) gap(fact diagnose.FactName, subject string, s diagnose.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaps = append(c.gaps, diagnose.Gap{Fact: fact, Subject: subject, Status: s})
}

// hello asks for the server's version before anything else. It says at once whether the server can be reached and takes the
// credentials, and it opens the connection on which all lists then run: asked for side by side on a cold client they would open one
// each, with a TLS handshake each.
func (c *collector) hello(ctx context.Context) error {
	v, err := c.session.serverVersion(ctx)
	c.snap.Cluster.Version = v
	ce, ok := errors.AsType[*CallError](err)
	if !ok || ce.Kind != KindUnreachable && ce.Kind != KindUnauthorized {
		return nil // a server may refuse its version and answer everything else
	}
	for _, st := range []*diagnose.Status{
		&c.snap.Services.Status, &c.snap.Slices.Status, &c.snap.Pods.Status, &c.snap.Nodes.Status, &c.snap.Workloads.Status, &c.snap.Metrics.Status,
	} {
		*st = ce.Status
	}
	c.fails = append(c.fails, ce)
	return c.fatal()
}

// services lists all Services of the namespace: besides the targets their neighbours matter, for nearest names, for twins and for what
// clients dial. Where listing is forbidden, those that were named are read one by one.
func (c *collector) services(ctx context.Context) ([]diagnose.Service, error) {
	op := Op{Verb: "list", Resource: Services, Namespace: c.namespace()}
	sel := c.matcher()
	out, err := list(ctx, c.session, query{Op: op}, func(l *corev1.ServiceList) []diagnose.Service {
		for i := range l.Items {
			if s := &l.Items[i]; sel != nil && sel.Matches(labels.Set(s.Labels)) {
				c.selected[keyOf(&s.ObjectMeta)] = true
			}
		}
		return projectAll(l.Items, projectService)
	})
	if kindOf(err) != KindDenied || len(c.opt.Names) == 0 || len(c.opt.Names) > maxNamed {
		return out, err
	}
	for _, name := range c.opt.Names {
		op := Op{Verb: "get", Resource: Services, Namespace: c.opt.Namespace, Object: name}
		svc, one := get[*corev1.Service](ctx, c.session, op)
		switch {
		case one == nil:
			out = append(out, projectService(svc))
		case kindOf(one) != KindNotFound:
			return nil, err // what listing said is the better advice
		}
	}
	ce := c.session.Failure(ctx, op, err)
	c.gap(diagnose.FactServices, "other services of "+c.opt.Namespace, ce.Status)
	c.mu.Lock()
	c.partServices = true
	c.mu.Unlock()
	return out, nil
}

// maxNamed is how many named Services are asked for singly; more are taken from a list.
const maxNamed = 20

func (c *collector) namespace() string {
	if c.opt.AllNamespaces {
		return ""
	}
	return c.opt.Namespace
}

func (c *collector) slices(ctx context.Context) ([]diagnose.Slice, error) {
	q := query{Op: Op{Verb: "list", Resource: Slices, Namespace: c.namespace()}}
	switch n := len(c.opt.Names); {
	case n == 1:
		q.labels = discoveryv1.LabelServiceName + "=" + c.opt.Names[0]
	case n > 1 && n <= maxNamed:
		names := slices.Sorted(slices.Values(c.opt.Names))
		q.labels = discoveryv1.LabelServiceName + " in (" + strings.Join(names, ",") + ")"
	}
	return list(ctx, c.session, q, func(l *discoveryv1.EndpointSliceList) []diagnose.Slice { return projectAll(l.Items, projectSlice) })
}

func (c *collector) nodes(ctx context.Context) ([]diagnose.Node, error) {
	op := Op{Verb: "list", Resource: Nodes}
	return list(ctx, c.session, query{Op: op}, func(l *corev1.NodeList) []diagnose.Node { return projectAll(l.Items, projectNode) })
}

// widest runs a list over everything that the options put in reach. Where AllClients is forbidden it falls back to the namespace.
func widest[T any](ctx context.Context, c *collector, fact diagnose.FactName, r Resource, get func(context.Context, Op) ([]T, error)) ([]T, error) {
	op := Op{Verb: "list", Resource: r, Namespace: c.namespace()}
	if c.opt.AllClients {
		op.Namespace = ""
	}
	out, err := get(ctx, op)
	if kindOf(err) == KindDenied && op.Namespace != c.namespace() {
		ce := c.session.Failure(ctx, op, err)
		c.gap(fact, r.Name+" of other namespaces", ce.Status)
		op.Namespace = c.namespace()
		return get(ctx, op)
	}
	return out, err
}

func (c *collector) listPods(ctx context.Context) {
	project := func(ctx context.Context, op Op) ([]rawPod, error) {
		return list(ctx, c.session, query{Op: op}, func(l *corev1.PodList) []rawPod { return projectAll(l.Items, projectPod) })
	}
	f := fetch(ctx, c, diagnose.FactPods, func(ctx context.Context) ([]rawPod, error) {
		return widest(ctx, c, diagnose.FactPods, Pods, project)
	})
	c.pods = f.Value
	c.snap.Pods = diagnose.Fact[[]diagnose.Pod]{Status: f.Status}
	if !f.Known() {
		return
	}
	for _, ns := range c.clientNamespaces() {
		more, err := project(ctx, Op{Verb: "list", Resource: Pods, Namespace: ns})
		if err != nil {
			c.gap(diagnose.FactPods, "pods of "+ns, c.session.Failure(ctx, Op{}, err).Status)
			continue
		}
		c.pods = append(c.pods, more...)
	}
}

// clientNamespaces are the namespaces of named clients that no list covers yet.
func (c *collector) clientNamespaces() []string {
	if c.opt.AllNamespaces || c.opt.AllClients {
		return nil
	}
	var out []string
	for _, cl := range c.opt.Clients {
		if cl.Namespace != c.opt.Namespace && !slices.Contains(out, cl.Namespace) {
			out = append(out, cl.Namespace)
		}
	}
	return out
}

// kinds are the kinds of workloads that are listed. Pods without an owner, and those of other owners, come from the list of pods.
func (c *collector) kinds() []workloadKind {
	return []workloadKind{
		{"Deployment", Deployments, func(ctx context.Context, op Op) ([]rawWorkload, error) {
			return list(ctx, c.session, query{Op: op}, func(l *appsv1.DeploymentList) []rawWorkload { return projectAll(l.Items, projectDeployment) })
		}},
		{"StatefulSet", StatefulSets, func(ctx context.Context, op Op) ([]rawWorkload, error) {
			return list(ctx, c.session, query{Op: op}, func(l *appsv1.StatefulSetList) []rawWorkload { return projectAll(l.Items, projectStatefulSet) })
		}},
		{"DaemonSet", DaemonSets, func(ctx context.Context, op Op) ([]rawWorkload, error) {
			return list(ctx, c.session, query{Op: op}, func(l *appsv1.DaemonSetList) []rawWorkload { return projectAll(l.Items, projectDaemonSet) })
		}},
		{"CronJob", CronJobs, func(ctx context.Context, op Op) ([]rawWorkload, error) {
			return list(ctx, c.session, query{Op: op}, func(l *batchv1.CronJobList) []rawWorkload { return projectAll(l.Items, projectCronJob) })
		}},
		{"Job", Jobs, func(ctx context.Context, op Op) ([]rawWorkload, error) {
			return list(ctx, c.session, query{Op: op}, func(l *batchv1.JobList) []rawWorkload { return projectAll(l.Items, projectJob) })
		}},
	}
}

type workloadKind struct {
	kind string
	res  Resource
	list func(context.Context, Op) ([]rawWorkload, error)
}

// listWorkloads reads each kind. One kind that cannot be read is a gap; all of them are a fact that could not be had.
func (c *collector) listWorkloads(ctx context.Context) {
	c.session.Emit(Event{Fact: diagnose.FactWorkloads, Step: StepStart})
	kinds := c.kinds()
	lists, errs := make([][]rawWorkload, len(kinds)), make([]*CallError, len(kinds))
	var g errgroup.Group
	for i, k := range kinds {
		g.Go(func() error {
			var err error
			lists[i], err = widest(ctx, c, diagnose.FactWorkloads, k.res, k.list)
			errs[i] = c.note(err)
			for _, ns := range c.clientNamespaces() {
				if !slices.ContainsFunc(c.opt.Clients, func(cl ClientRef) bool { return cl.Namespace == ns && cl.Kind == k.kind }) {
					continue
				}
				more, err := k.list(ctx, Op{Verb: "list", Resource: k.res, Namespace: ns})
				if err != nil {
					c.gap(diagnose.FactWorkloads, k.res.Name+" of "+ns, c.session.Failure(ctx, Op{}, err).Status)
				}
				lists[i] = append(lists[i], more...)
			}
			return nil
		})
	}
	_ = g.Wait() // errors are in errs
	known := 0
	for i, k := range kinds {
		if errs[i] == nil {
			known++
			c.served[k.kind] = true
			c.workloads = append(c.workloads, lists[i]...)
		}
	}
	st := diagnose.Status{State: diagnose.Known}
	for i, k := range kinds {
		switch {
		case errs[i] == nil:
		case known == 0:
			st = errs[0].Status
		default:
			c.gap(diagnose.FactWorkloads, k.res.Name, errs[i].Status)
		}
	}
	c.snap.Workloads.Status = st
	c.session.Emit(Event{Fact: diagnose.FactWorkloads, Step: StepEnd, Done: len(c.workloads), Status: st})
}

// metrics is asked once: a broken metrics-server is common, and waiting for it would cost every run more than it is worth.
func (c *collector) metrics(ctx context.Context) {
	if c.opt.NoMetrics {
		c.snap.Metrics.Status = diagnose.Status{Reason: "pod metrics were not asked for"}
		return
	}
	c.session.Emit(Event{Fact: diagnose.FactMetrics, Step: StepStart})
	q := query{Op: Op{Verb: "list", Resource: PodMetrics, Namespace: c.namespace()}, tries: 1}
	v, err := list(ctx, c.session, q, func(l *metricsv1beta1.PodMetricsList) []diagnose.PodMetrics {
		return projectAll(l.Items, projectMetrics)
	})
	f := diagnose.Know(v)
	if err != nil { // not noted: it is another server that failed, and its 401 is not about our credentials
		ce := c.session.Failure(ctx, q.Op, err)
		f = diagnose.Unknown[[]diagnose.PodMetrics](ce.State, ce.Reason, ce.Status.Hint)
	}
	c.snap.Metrics = f
	c.session.Emit(Event{Fact: diagnose.FactMetrics, Step: StepEnd, Done: len(v), Status: f.Status})
}

// fatal decides after the first wave whether there is anything to go on with.
func (c *collector) fatal() error {
	s := c.session
	for _, f := range c.fails {
		if f.Kind == KindUnauthorized {
			reason := "the API server does not accept them"
			if !isStatus(f.Err) {
				reason = "the program that provides them failed"
			}
			return &UnauthorizedError{Context: s.context, Reason: reason, Err: f.Err}
		}
	}
	if c.good > 0 || len(c.fails) == 0 {
		return nil
	}
	f := c.fails[0]
	for _, o := range c.fails { // a refused connection says more than a time-out behind it
		if o.Kind == KindUnreachable {
			f = o
		}
	}
	return s.noAnswer(f)
}

// noAnswer says which API server it was that gave no answer; nil when f is about something else.
func (s *Session) noAnswer(f *CallError) error {
	switch f.Kind {
	case KindUnreachable, KindBroken, KindGarbage:
		return &UnreachableError{Context: s.context, Host: s.host(), Reason: f.Reason, Advice: f.Status.Hint, Err: f.Err}
	case KindTimeout:
		reason := fmt.Sprintf("no answer within %s", s.callTimeout)
		return &UnreachableError{Context: s.context, Host: s.host(), Reason: reason, Advice: hintNetwork, Err: f.Err}
	}
	return nil
}

// Named returns an *UnreachableError, which names the API server and the context, for a *CallError that got no answer, and any other error
// as it is. It is for commands that make one call and no Run.
func (s *Session) Named(err error) error {
	if ce, ok := errors.AsType[*CallError](err); ok {
		if named := s.noAnswer(ce); named != nil {
			return named
		}
	}
	return err
}

// recheck asks once more for the targets, after the stages: facts about a Service that went away meanwhile contradict each other.
func (c *collector) recheck(ctx context.Context) error {
	if len(c.snap.Targets) > maxNamed {
		return nil
	}
	for _, k := range c.snap.Targets {
		i := slices.IndexFunc(c.snap.Services.Value, func(s diagnose.Service) bool { return s.Key == k })
		if i < 0 {
			continue
		}
		svc, err := get[*corev1.Service](ctx, c.session, Op{Verb: "get", Resource: Services, Namespace: k.Namespace, Object: k.Name})
		if c.lost(ctx, k, err) {
			return nil // neither will the others be answered
		}
		gone := kindOf(err) == KindNotFound
		replaced := err == nil && string(svc.UID) != c.snap.Services.Value[i].UID
		if !gone && !replaced {
			continue // still there, or it cannot be told
		}
		e := &DeletedError{Service: k, Replaced: replaced}
		c.gap(diagnose.FactServices, "service "+k.String(), diagnose.Status{State: diagnose.Failed, Reason: e.Error(), Hint: e.Hint()})
		return e
	}
	return nil
}

// lost notes that the API server went away during the run: what was learned last may be of the time when it was already failing, and
// whether the Service is still the same cannot be told.
func (c *collector) lost(ctx context.Context, k diagnose.Key, err error) bool {
	kind := kindOf(err)
	if ctx.Err() != nil || !slices.Contains([]Kind{KindTimeout, KindUnreachable, KindBroken}, kind) {
		return false
	}
	ce := c.session.Failure(ctx, Op{}, err)
	c.gap(diagnose.FactServices, "service "+k.String(), diagnose.Status{
		State: diagnose.Failed, Reason: "the API server went away during the run: " + ce.Reason, Hint: ce.Status.Hint,
	})
	return true
}

// stageError makes the error of a stage one of this package's.
func (c *collector) stageError(err error) error {
	if kindOf(err) == KindUnauthorized {
		return &UnauthorizedError{Context: c.session.context, Reason: "the API server no longer accepts them", Err: err}
	}
	return err
}

func projectAll[A, B any](items []A, f func(*A) B) []B {
	out := make([]B, 0, len(items))
	for i := range items {
		out = append(out, f(&items[i]))
	}
	return out
}
