package fix

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// edit is one target of one workload and what it becomes.
type edit struct {
	w  diagnose.Workload
	t  diagnose.Target
	to string
}

func (e edit) where() string {
	return fmt.Sprintf("%s, container %s, %s", e.w.Ref(), e.t.Container, source(e.t))
}

// moved is what a target becomes: its token, and the port where that is written apart (Target.PortName).
type moved struct {
	token string
	port  int32
}

// moveClients changes the targets of every client found. rewrite returns the new target, or an error whose text says
// why this one stays; wanted is the target as it would be for a client that was not found.
func (b *builder) moveClients(rewrite func(diagnose.Target) (moved, error), wanted string) {
	if !b.v.Workloads.Known() {
		why := ""
		if b.v.Workloads.Reason != "" {
			why = " (" + b.v.Workloads.Reason + ")"
		}
		b.note("Clients were not looked for%s: let them dial %s.", why, wanted)
		return
	}
	clients := b.v.Clients()
	for _, c := range clients {
		if b.plan.Strategy == diagnose.StrategyHeadless && b.balancedByMesh(c) {
			b.note("%s is in %s and stays on the ClusterIP: its proxy balances there.", c.Workload.Ref(), c.Workload.Mesh.Kind)
			continue
		}
		for _, t := range c.Targets {
			to, err := rewrite(t)
			if err != nil {
				b.note("%s is left as it is: %v.", c.Workload.Ref(), err)
				continue
			}
			b.move(c.Workload, t, to)
		}
	}
	b.alreadyMoved(clients)
	if len(clients) == 0 {
		b.note("No client in reach names svc/%s: let those that exist dial %s.", b.v.Service.Name, wanted)
	}
}

// alreadyMoved names the clients that dial a headless sibling: there is nothing to do for them.
func (b *builder) alreadyMoved(clients []diagnose.Client) {
	if b.plan.Strategy != diagnose.StrategyHeadless {
		return
	}
	for _, c := range b.v.SiblingClients() {
		for _, t := range c.Targets {
			s, ok := b.service(t.Service.Name)
			if ok && s.Headless() && !slices.ContainsFunc(clients, func(o diagnose.Client) bool { return o.Workload.Key == c.Workload.Key }) {
				b.note("%s dials svc/%s already (%s).", c.Workload.Ref(), s.Name, source(t))
			}
		}
	}
}

// move changes a target, and the variable that holds its port if there is one.
func (b *builder) move(w diagnose.Workload, t diagnose.Target, to moved) {
	b.change(edit{w: w, t: t, to: to.token})
	if t.PortName == "" || to.port == t.Port {
		return
	}
	port := diagnose.Target{Container: t.Container, Source: t.Source, Name: t.PortName, Token: strconv.Itoa(int(t.Port))}
	if t.Source != "env" || t.Port == 0 {
		b.note("%s, container %s: %s has to become %d.", w.Ref(), t.Container, t.PortName, to.port)
		return
	}
	b.change(edit{w: w, t: port, to: strconv.Itoa(int(to.port))})
}

// change makes one edit in the way that the client allows.
func (b *builder) change(e edit) {
	if e.t.Token == e.to {
		if b.plan.Strategy == diagnose.StrategyHeadless {
			b.note("%s holds %s already.", e.where(), e.to)
		}
		return
	}
	if e.t.Policy != "" && e.t.Policy != "round_robin" && b.plan.Strategy == diagnose.StrategyHeadless {
		b.note("%s names the policy %s beside its target: it has to become round_robin.", e.w.Ref(), e.t.Policy)
	}
	switch {
	case e.t.Source == "configmap":
		b.changeConfigMap(e)
	case !changeable(e.w.Kind):
		b.note("%s: a %s cannot be changed in place. Make it anew with %s instead of %s.", e.where(), e.w.Kind, e.to, e.t.Token)
	default:
		b.changeWorkload(e)
	}
}

// changeable reports whether a kind's pod template can be changed and takes effect by itself.
func changeable(kind string) bool {
	return slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "CronJob"}, kind)
}

func (b *builder) changeWorkload(e edit) {
	o, err := b.read(e.w.Kind, e.w.Namespace, e.w.Name)
	if err != nil {
		b.note("%s could not be read (%v): its part is a command.", e.w.Ref(), err)
	}
	if o == nil {
		b.changeOffline(e)
		return
	}
	if owner := o.controller(); owner != "" {
		b.note("%s belongs to %s, which would undo a change: write %s instead of %s there (%s).", e.w.Ref(), owner, e.to, e.t.Token, source(e.t))
		return
	}
	switch err := o.setTarget(e); {
	case errors.Is(err, errDone):
		b.note("%s holds %s already.", e.where(), e.to)
	case err != nil:
		b.note("%s: %v. Write %s instead of %s by hand.", e.where(), err, e.to, e.t.Token)
	}
}

// changeOffline says what to run when the object cannot be seen. Only an environment variable can be set without
// knowing the rest.
func (b *builder) changeOffline(e edit) {
	if e.t.Source != "env" {
		b.note("%s: write %s instead of %s (kubectl edit %s).", e.where(), e.to, e.t.Token, e.w.Ref())
		return
	}
	b.plan.Commands = append(b.plan.Commands, diagnose.Command{
		Args: []string{"kubectl", "set", "env", e.w.Ref(), "-n", e.w.Namespace, "-c", e.t.Container, e.t.Name + "=" + e.to},
		Note: "if the variable holds more than " + e.t.Token + ", keep the rest",
	})
	b.offline(e.w).patchEnv(b.listOf(e.w, e.t.Container), e)
}

// listOf says which list of the pod template holds a container, as far as the workload's pods were seen.
func (b *builder) listOf(w diagnose.Workload, container string) string {
	for _, p := range b.v.Pods.Value {
		if p.Namespace != w.Namespace || p.Owner != (diagnose.Owner{Kind: w.Kind, Name: w.Name}) {
			continue
		}
		for _, c := range p.Containers {
			if c.Name == container && (c.Init || c.Sidecar) {
				return "initContainers"
			}
		}
	}
	return "containers"
}

func (b *builder) changeConfigMap(e edit) {
	restart := diagnose.Command{
		Args: []string{"kubectl", "rollout", "restart", e.w.Ref(), "-n", e.w.Namespace},
		Note: "a running pod does not read its ConfigMap again by itself",
	}
	o, err := b.read("ConfigMap", e.w.Namespace, e.t.ConfigMap)
	if err != nil {
		b.note("configmap/%s could not be read (%v).", e.t.ConfigMap, err)
	}
	if o == nil {
		b.note("%s: write %s instead of %s (kubectl edit configmap/%s).", e.where(), e.to, e.t.Token, e.t.ConfigMap)
	} else if err := o.setConfigMap(e); err != nil && !errors.Is(err, errDone) {
		b.note("%s: %v. Write %s instead of %s by hand.", e.where(), err, e.to, e.t.Token)
		return
	}
	if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, e.w.Kind) && !b.hasCommand(restart) {
		b.plan.Commands = append(b.plan.Commands, restart)
	}
}

func (b *builder) hasCommand(c diagnose.Command) bool {
	return slices.ContainsFunc(b.plan.Commands, func(o diagnose.Command) bool { return slices.Equal(o.Args, c.Args) })
}
