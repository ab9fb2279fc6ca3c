package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// preflight looks at what a probe was asked to do as soon as the objects are known, and before anything is placed in the cluster: a
// caller that does not exist, or ways of dialling that the Service does not have.
type preflight struct {
	app     *app
	via     []string           // as given; empty when the default was left
	from    *collect.ClientRef // nil for a short-lived pod
	must    bool               // without a way to dial there is nothing to do
	untried []untried          // what stage found; read it when the run is over
}

// untried is a way of dialling that was asked for and that a Service does not have.
type untried struct {
	service diagnose.Key
	via     string
	reason  string
	hint    string
}

func (u untried) String() string { return fmt.Sprintf("via %s: not tried: %s", u.via, u.reason) }

// stage is the [collect.Stage] of a preflight.
func (p *preflight) stage(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
	if err := p.caller(ctx, s, snap); err != nil {
		return err
	}
	possible := len(p.via) == 0
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if ok && p.must && v.Service.Type == "ExternalName" {
			return couldNot(fmt.Errorf("nothing to dial: svc/%s only renames %s, and has no pods", k.Name, v.Service.ExternalName),
				"run it against the Service that has the pods")
		}
		if !ok || len(v.GRPCPorts()) == 0 || len(v.Ready()) == 0 {
			possible = true // the probe says of itself why it is not made
			continue
		}
		for _, via := range p.via {
			u, missing := lacks(v, via)
			if missing {
				p.untried = append(p.untried, u)
			}
			possible = possible || !missing
		}
	}
	if p.must && !possible {
		u := p.untried[0]
		return couldNot(fmt.Errorf("nothing to dial via %s: %s", strings.Join(p.via, ", "), u.reason), u.hint)
	}
	for _, u := range p.untried {
		p.app.say(u.String() + "; " + u.hint)
	}
	return nil
}

// lacks reports whether a Service cannot be dialled in a way, and why.
func lacks(v *diagnose.View, via string) (untried, bool) {
	u := untried{service: v.Service.Key, via: via}
	name := "svc/" + v.Service.Name
	switch via {
	case live.ViaClusterIP:
		u.reason, u.hint = name+" has no cluster IP", "--via pods dials the pods themselves"
		if v.Service.Headless() {
			u.reason, u.hint = name+" is headless: it has no cluster IP", "--via headless dials its name"
		}
		return u, v.Service.Headless() || len(v.Service.ClusterIPs) == 0
	case live.ViaHeadless:
		u.reason = name + " has no headless Service beside it that selects the same pods"
		u.hint = fmt.Sprintf("%s fix %s -n %s --strategy headless writes one", Name, name, v.Service.Namespace)
		_, twin := v.Twin()
		return u, !v.Service.Headless() && !twin
	}
	return u, false
}

// note puts the ways that were not tried beside those that were, so that a report and a saved snapshot tell of them too. Runs do not say
// which Service they are of: among several the line on standard error has to do.
func (p *preflight) note(snap *diagnose.Snapshot) {
	if len(snap.Targets) != 1 || !snap.Probes.Known() {
		return
	}
	for _, u := range p.untried {
		snap.Probes.Value = append(snap.Probes.Value, diagnose.ProbeRun{Via: u.via, Error: "not tried: " + u.reason})
	}
}

// caller demands that the workload exists that calls shall come from. What may not be looked up is left to the probe itself.
func (p *preflight) caller(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
	if p.from == nil || !snap.Pods.Known() {
		return nil
	}
	runs, names := false, []string{}
	for _, pod := range snap.Pods.Value {
		kind, name := pod.Owner.Kind, pod.Owner.Name
		if p.from.Kind == "Pod" {
			kind, name = "Pod", pod.Name
		}
		if pod.Namespace == p.from.Namespace && kind == p.from.Kind && name != "" {
			names = append(names, name)
			runs = runs || name == p.from.Name && pod.Phase == "Running" && !pod.Terminating
		}
	}
	if runs {
		return nil
	}
	for _, w := range snap.Workloads.Value {
		if w.Namespace == p.from.Namespace && w.Kind == p.from.Kind {
			names = append(names, w.Name)
		}
	}
	ref := diagnose.ShortKind(p.from.Kind) + "/" + p.from.Name
	err := exists(ctx, s, *p.from)
	var ce *collect.CallError
	switch {
	case err == nil:
		return couldNot(fmt.Errorf("%s in %s has no running pod to send calls from", ref, p.from.Namespace),
			"scale it up, or leave it out: a short-lived pod sends the calls then")
	case errors.As(err, &ce) && ce.Kind == collect.KindNotFound:
		hint := fmt.Sprintf("`kubectl get %s -n %s` lists what is there", diagnose.ShortKind(p.from.Kind), p.from.Namespace)
		slices.Sort(names)
		if near := target.Nearest(p.from.Name, slices.Compact(names)); len(near) > 0 {
			hint = "did you mean " + diagnose.ShortKind(p.from.Kind) + "/" + strings.Join(near, ", ") + "?"
		}
		return couldNot(fmt.Errorf("there is no %s in namespace %q to send calls from", ref, p.from.Namespace), hint)
	}
	return nil
}

// exists asks the API server for one workload.
func exists(ctx context.Context, s *collect.Session, ref collect.ClientRef) error {
	r := workloadKind(diagnose.ShortKind(ref.Kind))
	op := collect.Op{Verb: "get", Resource: r, Namespace: ref.Namespace, Object: ref.Name}
	path := []string{"apis", r.Group, r.Version, "namespaces", ref.Namespace, r.Name, ref.Name}
	if r.Group == "" {
		path = append([]string{"api"}, path[2:]...)
	}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	raw, err := s.REST().Get().AbsPath(path...).SetHeader("Accept", "application/json").Do(cctx).Raw()
	if err == nil {
		return nil
	}
	return s.Failure(ctx, op, statusOf(raw, err))
}
