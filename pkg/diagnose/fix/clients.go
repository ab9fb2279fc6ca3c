package fix

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// edit is one target of one workload and what it becomes.
type edit struct {
	w  diagnose.Workload
	t  diagnose.Target
	to string
	// port is what the port becomes that is written apart from the host; 0 when none is, or when it stays.
	port int32
}

func (e edit) where() string {
	return fmt.Sprintf("%s, container %s, %s", e.w.Ref(), e.t.Container, source(e.t))
}

// words say what to write instead of what.
func (e edit) words() string {
	out := fmt.Sprintf("write %s instead of %s", e.to, e.t.Token)
	if e.port != 0 {
		out += fmt.Sprintf(", and %d as its port", e.port)
		if e.t.PortName != "" {
			out += " (" + e.t.PortName + ")"
		}
	}
	return out
}

// moved is what a target becomes: its token, and the port where that is written apart; 0 when the token has it, or none
// is written.
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
	if why := b.v.ClientsUnseen(); why != "" {
		b.note("Not every client could be looked at (%s): let those that are missing here dial %s.", why, wanted)
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

// move changes a target, and what holds its port if that is written apart.
func (b *builder) move(w diagnose.Workload, t diagnose.Target, to moved) {
	e := edit{w: w, t: t, to: to.token}
	if apart(t) && to.port != t.Port {
		e.port = to.port
	}
	b.change(e)
}

// apart reports whether the port of a target stands beside it: in another variable, or elsewhere in a file.
func apart(t diagnose.Target) bool { return t.Port != 0 && bareHost(t) }

// bareHost reports whether a target is written as a host alone.
func bareHost(t diagnose.Target) bool {
	return t.Scheme == "" && (t.PortName != "" || !strings.Contains(t.Token, ":") || strings.Trim(t.Token, "[]") == t.Host)
}

// change makes one edit in the way that the client allows.
func (b *builder) change(e edit) {
	if e.t.Token == e.to && e.port == 0 {
		if b.plan.Strategy == diagnose.StrategyHeadless {
			b.note("%s holds %s already.", e.where(), e.to)
		}
		return
	}
	if e.t.Policy != "" && e.t.Policy != "round_robin" && b.plan.Strategy == diagnose.StrategyHeadless {
		b.note("%s names the policy %s beside its target: it has to become round_robin.", e.w.Ref(), e.t.Policy)
	}
	switch {
	case e.t.ConfigMap != "":
		b.changeConfigMap(e)
	case !changeable(e.w.Kind):
		b.note("%s: a %s cannot be changed in place. Make it anew, and %s.", e.where(), e.w.Kind, e.words())
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
		b.note("%s belongs to %s, which would undo a change: %s there (%s).", e.w.Ref(), owner, e.words(), source(e.t))
		return
	}
	switch err := o.setTarget(e); {
	case errors.Is(err, errDone):
		b.note("%s holds %s already.", e.where(), e.to)
	case err != nil:
		b.byHand(e, err)
	}
}

// byHand notes an edit that is left to the owner, with the reason and what to do.
func (b *builder) byHand(e edit, err error) {
	var s *stays
	if errors.As(err, &s) && s.how != "" {
		b.note("%s: %s. %s.", e.where(), s.why, strings.ReplaceAll(s.how, toHere, e.to))
		return
	}
	b.note("%s: %v. By hand: %s.", e.where(), err, e.words())
}

// changeOffline says what to run when the object cannot be seen. Only environment variables can be set without knowing
// the rest.
func (b *builder) changeOffline(e edit) {
	if e.t.Source != "env" || e.t.Part || e.port != 0 && e.t.PortName == "" {
		b.note("%s: %s (kubectl edit %s).", e.where(), e.words(), e.w.Ref())
		return
	}
	set := []string{e.t.Name + "=" + e.to}
	b.offline(e.w).patchEnv(b.listOf(e.w, e.t.Container), e.t.Container, e.t.Name, e.to)
	if e.port != 0 {
		port := strconv.Itoa(int(e.port))
		set = append(set, e.t.PortName+"="+port)
		b.offline(e.w).patchEnv(b.listOf(e.w, e.t.Container), e.t.Container, e.t.PortName, port)
	}
	b.plan.Commands = append(b.plan.Commands, diagnose.Command{
		Args: append([]string{"kubectl", "set", "env", e.w.Ref(), "-n", e.w.Namespace, "-c", e.t.Container}, set...),
		Note: "only if the variable holds " + e.t.Token + " and nothing else",
	})
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

// changeConfigMap changes a target where it is written: a key of a ConfigMap, whether the container has it as a file or
// as a variable. A variable set on the workload instead would cut the reference.
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
		b.note("%s: %s (kubectl edit configmap/%s -n %s).", e.where(), e.words(), e.t.ConfigMap, e.w.Namespace)
	} else {
		left, err := o.setConfigMap(e)
		if err != nil && !errors.Is(err, errDone) {
			b.byHand(e, err)
			return
		}
		if left {
			b.note("configmap/%s: %s also stands inside of longer values under %s, which are left as they are.", e.t.ConfigMap, e.t.Token, configMapKey(e.t))
		}
		b.caveat("Whatever else reads %s of configmap/%s gets the new target too.", configMapKey(e.t), e.t.ConfigMap)
	}
	switch {
	case slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, e.w.Kind):
		if !b.hasCommand(restart) {
			b.plan.Commands = append(b.plan.Commands, restart)
		}
	case !changeable(e.w.Kind):
		b.note("%s reads configmap/%s only when it is made anew.", e.w.Ref(), e.t.ConfigMap)
	}
}

func (b *builder) hasCommand(c diagnose.Command) bool {
	return slices.ContainsFunc(b.plan.Commands, func(o diagnose.Command) bool { return slices.Equal(o.Args, c.Args) })
}
