package collect

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// choose fills Targets.
func (c *collector) choose(ctx context.Context) error {
	if ce := c.servicesError(); ce != nil {
		return ce
	}
	if c.noNamespace(ctx) {
		return &NoNamespaceError{c.opt.Namespace}
	}
	if len(c.opt.Names) > 0 {
		return c.checkNames(ctx)
	}
	for _, s := range c.snap.Services.Value {
		if c.wants(s) {
			c.snap.Targets = append(c.snap.Targets, s.Key)
		}
	}
	slices.SortFunc(c.snap.Targets, diagnose.Key.Compare)
	if len(c.snap.Targets) == 0 {
		return &NoTargetError{Namespace: c.namespace(), Selector: c.opt.Selector, Services: len(c.snap.Services.Value)}
	}
	return nil
}

// noNamespace asks for the namespace when nothing was found in it: the API server lists a namespace that does not exist as an
// empty one. Not being allowed to ask leaves it at that.
func (c *collector) noNamespace(ctx context.Context) bool {
	here := func(p diagnose.Pod) bool { return p.Namespace == c.opt.Namespace }
	if c.opt.AllNamespaces || len(c.snap.Services.Value) > 0 || slices.ContainsFunc(c.snap.Pods.Value, here) {
		return false
	}
	_, err := get[*corev1.Namespace](ctx, c.session, Op{Verb: "get", Resource: Namespaces, Object: c.opt.Namespace})
	return kindOf(err) == KindNotFound
}

// servicesError is the call that kept the Services from being known.
func (c *collector) servicesError() *CallError {
	if c.snap.Services.Known() {
		return nil
	}
	for _, f := range c.fails {
		if f.Op.Resource == Services {
			return f
		}
	}
	return &CallError{Op: Op{Verb: "list", Resource: Services, Namespace: c.namespace()}, Kind: KindGarbage, Status: c.snap.Services.Status}
}

func (c *collector) wants(s diagnose.Service) bool {
	if c.selected != nil {
		return c.selected[s.Key]
	}
	if c.opt.AssumeGRPC {
		return s.Type != "ExternalName"
	}
	v, ok := c.snap.View(s.Key)
	return ok && v.GRPC().Yes()
}

// checkNames tells a name that does not exist from one that does: with the nearest names, and the namespaces that have it.
func (c *collector) checkNames(ctx context.Context) error {
	var names []string
	for _, s := range c.snap.Services.Value {
		names = append(names, s.Name)
	}
	for _, n := range c.opt.Names {
		if slices.Contains(names, n) {
			continue
		}
		k := diagnose.Key{Namespace: c.opt.Namespace, Name: n}
		return &NotFoundError{Service: k, Near: target.Nearest(n, names), Elsewhere: c.elsewhere(ctx, k)}
	}
	return nil
}

// elsewhere asks all namespaces for the name: one list that a field selector makes short. Not being allowed to is no news.
func (c *collector) elsewhere(ctx context.Context, k diagnose.Key) []string {
	if strings.ContainsAny(k.Name, ",=!\\") {
		return nil // no name of anything, and more than one term to a field selector
	}
	q := query{Op: Op{Verb: "list", Resource: Services}, fields: "metadata.name=" + k.Name, tries: 1}
	out, err := list(ctx, c.session, q, func(l *corev1.ServiceList) []string {
		return projectAll(l.Items, func(s *corev1.Service) string { return s.Namespace })
	})
	if err != nil {
		return nil
	}
	out = slices.DeleteFunc(out, func(ns string) bool { return ns == k.Namespace })
	slices.Sort(out)
	return out
}

// matcher returns which Services the label selector takes; nil without one. Labels of Services are looked at while a page is at hand
// and not kept.
func (c *collector) matcher() labels.Selector {
	if c.opt.Selector == "" {
		return nil
	}
	sel, err := labels.Parse(c.opt.Selector)
	if err != nil {
		return labels.Nothing() // validate refused it before
	}
	return sel
}
