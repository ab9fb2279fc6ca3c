package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// mostSocketPods is how many pods of a workload inject looks into: they are made from one template, and differ at most in who of them leads.
const mostSocketPods = 3

// socketInterval lies between the two readings of the agent, which are for rates: who listens shows in each.
const socketInterval = 100 * time.Millisecond

// listening reads on which of the ports the workload's running pods listen. What cannot be read is told, and no reason to stop; the error
// is that of ctx alone.
func (a *app) listening(ctx context.Context, o injectOptions, s *surroundings, w inject.Workload, ports []int32) ([]netip.AddrPort, error) {
	unread := func(what, reason, hint string) {
		a.say(fmt.Sprintf("warning: no sockets of %s were read: %s. A port that none of its containers declares was not looked at", what, reason))
		if hint != "" {
			a.say("         " + hint)
		}
	}
	if s.session == nil {
		unread(w.Ref(), "no cluster was asked", "")
		return nil, nil
	}
	rctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	selector, err := a.podSelector(rctx, s.session, w)
	if err != nil {
		hint := ""
		var h hinter
		if errors.As(err, &h) {
			hint = h.Hint()
		}
		unread(w.Ref(), err.Error(), hint)
		return nil, ctx.Err()
	}
	tables := live.Listening(rctx, s.session, live.Pods{Namespace: w.Namespace, Selector: selector}, ports,
		live.Options{Image: o.inject.Image, MaxPods: mostSocketPods, Interval: socketInterval, Announce: a.say})
	if !tables.Known() {
		unread(w.Ref(), tables.Reason, tables.Hint)
		return nil, ctx.Err()
	}
	var out []netip.AddrPort
	for _, t := range tables.Value {
		if t.Error != "" {
			unread("pod "+t.Pod.Name, t.Error, "")
		}
		for _, so := range t.Sockets {
			out = append(out, so.Local)
		}
	}
	return out, ctx.Err()
}

// podSelector is the label selector by which the workload has its pods, as it is in the cluster.
func (a *app) podSelector(ctx context.Context, s *collect.Session, w inject.Workload) (string, error) {
	switch w.Kind {
	case "Deployment", "StatefulSet", "DaemonSet":
	default:
		return "", fmt.Errorf("a %s keeps no pods running", diagnose.ShortKind(w.Kind))
	}
	obj, err := a.workloadReader(ctx, s)(w.Kind, w.Namespace, w.Name)
	if ce, ok := errors.AsType[*collect.CallError](err); ok && ce.Kind == collect.KindNotFound {
		return "", errors.New("it is not in the cluster")
	}
	if err != nil {
		return "", err
	}
	var read struct {
		Spec struct {
			Selector *metav1.LabelSelector `json:"selector"`
		} `json:"spec"`
	}
	if !decodeInto(obj, &read) {
		return "", errors.New("its selector cannot be read")
	}
	sel, err := metav1.LabelSelectorAsSelector(read.Spec.Selector)
	if err != nil || sel.String() == "" { // which would select every pod of the namespace
		return "", errors.New("its selector cannot be read")
	}
	return sel.String(), nil
}
