package checks

import (
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// strategy is a fix that `kubectl grpclb fix` writes out in full.
func strategy(v *diagnose.View, s diagnose.Strategy, title string, caveats ...string) diagnose.Fix {
	args := slices.Concat([]string{"kubectl", "grpclb", "fix", subject(v)}, inNamespace(v.Service.Namespace), []string{"--strategy", string(s)})
	return diagnose.Fix{Title: title, Strategy: s, Commands: []diagnose.Command{{Args: args}}, Caveats: caveats}
}

func fixHeadless(v *diagnose.View) diagnose.Fix {
	title := "use a headless Service with round_robin"
	if twin, ok := v.Twin(); ok {
		title = "point the clients at svc/" + twin.Name + " with round_robin"
	}
	caveats := []string{"Clients have to choose round_robin: with the usual default, pick_first, they stay on one pod of a headless Service too."}
	if meshed(v.Clients()) {
		caveats = append(caveats, "Clients inside a mesh must stay on the ClusterIP: on a headless Service their proxy cannot balance requests.")
	}
	if _, _, tls := ownTLS(v); tls {
		caveats = append(caveats, "The servers use TLS: their certificate needs the new name too, or the clients an authority override.")
	} else if !v.Ports.Known() {
		caveats = append(caveats, "Whether the servers use TLS was not looked at: if they do, their certificate needs the new name too, or the clients an authority override.")
	}
	return strategy(v, diagnose.StrategyHeadless, title, caveats...)
}

func fixMesh(v *diagnose.View, title string) diagnose.Fix {
	return strategy(v, diagnose.StrategyMesh, title,
		"The clients have to dial the ClusterIP Service, in plaintext: the proxy balances only requests that it can read.")
}

func fixMaxAge(v *diagnose.View, caveats ...string) diagnose.Fix {
	return strategy(v, diagnose.StrategyMaxAge, "let the servers end connections after a while, so that clients look again",
		append(caveats, "Streams that outlive the age and its grace period are cut, and clients reconnect in waves.")...)
}

func meshed(cs []diagnose.Client) bool {
	return slices.ContainsFunc(cs, func(c diagnose.Client) bool { return c.Workload.Mesh.In() })
}

// retarget is the command that makes a workload dial another target; false when the workload cannot be changed in
// place (a bare pod, a finished job).
func retarget(w diagnose.Workload, t diagnose.Target, token string) (diagnose.Command, bool) {
	if w.Kind == "Pod" || w.Kind == "Job" {
		return diagnose.Command{}, false
	}
	switch t.Source {
	case "env":
		c := kubectl(w.Namespace, "set", "env", w.Ref(), "-c", t.Container, t.Name+"="+token)
		c.Note = "keep what else the variable holds besides " + t.Token
		return c, true
	case "configmap":
		c := kubectl(w.Namespace, "edit", "configmap/"+t.ConfigMap)
		c.Note = "key " + t.Name + ": write " + token + " instead of " + t.Token + ", then restart " + w.Ref()
		return c, true
	default:
		c := kubectl(w.Namespace, "edit", w.Ref())
		c.Note = strings.TrimSpace("container "+t.Container+", argument "+t.Name) + ": write " + token + " instead of " + t.Token
		return c, true
	}
}

// withPort writes another port into a target as written.
func withPort(t diagnose.Target, port int32) string {
	old, now := ":"+strconv.Itoa(int(t.Port)), ":"+strconv.Itoa(int(port))
	if i := strings.LastIndex(t.Token, old); t.Port != 0 && i >= 0 {
		return t.Token[:i] + now + t.Token[i+len(old):]
	}
	return t.Token + now
}

// withHost writes another host into a target as written.
func withHost(t diagnose.Target, host string) string {
	if i := strings.LastIndex(t.Token, t.Host); i >= 0 && t.Host != "" {
		return t.Token[:i] + host + t.Token[i+len(t.Host):]
	}
	return t.Token
}

// retargetAll builds one fix out of the commands for several clients; false when none of them can be changed.
func retargetAll(cs []diagnose.Client, title string, want func(diagnose.Target) bool, token func(diagnose.Target) string) (diagnose.Fix, bool) {
	f := diagnose.Fix{Title: title}
	for _, c := range cs {
		for _, t := range c.Targets {
			if !want(t) {
				continue
			}
			if cmd, ok := retarget(c.Workload, t, token(t)); ok {
				f.Commands = append(f.Commands, cmd)
			}
		}
	}
	return f, len(f.Commands) > 0
}
