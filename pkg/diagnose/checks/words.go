package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// shown is how many names a sentence lists before it counts the rest.
const shown = 5

// count words a number of things: "1 pod", "3 pods".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// number words a number of things whose plural is no plain s.
func number(n int, one, many string) string { return fmt.Sprintf("%d %s", n, either(n, one, many)) }

// list joins names as a sentence does; beyond a handful it counts the rest.
func list(xs []string) string {
	switch n := len(xs); {
	case n == 0:
		return ""
	case n == 1:
		return xs[0]
	case n > shown:
		return fmt.Sprintf("%s and %d more", strings.Join(xs[:shown], ", "), n-shown)
	default:
		return strings.Join(xs[:n-1], ", ") + " and " + xs[n-1]
	}
}

// either chooses the verb that fits a number of things.
func either(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// numbers writes port numbers as a sentence does.
func numbers(ns []int32) string {
	out := make([]string, len(ns))
	for i, n := range ns {
		out[i] = strconv.Itoa(int(n))
	}
	return list(out)
}

// age rounds a duration to what a reader wants to hear: "45 s", "12 min", "3 h", "5 days".
func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// inNamespace is the flag that a printed kubectl command needs to reach a namespace; none for the one called default.
func inNamespace(ns string) []string {
	if ns == "" || ns == "default" {
		return nil
	}
	return []string{"-n", ns}
}

// kubectl is a command line on one namespace.
func kubectl(ns string, args ...string) diagnose.Command {
	return diagnose.Command{Args: slices.Concat([]string{"kubectl"}, args, inNamespace(ns))}
}

// subject names the Service as kubectl does.
func subject(v *diagnose.View) string { return "svc/" + v.Service.Name }

// names lists the pods behind endpoints; an endpoint without a pod goes by its addresses.
func names(es []diagnose.Endpoint) []string {
	out := make([]string, len(es))
	for i, e := range es {
		out[i] = nameOf(e)
	}
	return out
}

func nameOf(e diagnose.Endpoint) string {
	return cmp.Or(e.Pod.Name, strings.Join(e.IPs, "/"))
}

// workload names a workload from where the Service stands: the namespace is said only when it differs.
func workload(v *diagnose.View, w diagnose.Workload) string {
	if w.Namespace == v.Service.Namespace {
		return w.Ref()
	}
	return w.Ref() + " in " + w.Namespace
}

// dials words where a workload got a target from: "static://square-service:6565 (env GRPC_CLIENT_SQUARE_ADDRESS)".
func dials(t diagnose.Target) string {
	switch {
	case t.PortName != "":
		return fmt.Sprintf("%s:%d (%s %s and %s)", t.Token, t.Port, t.Source, t.Name, t.PortName)
	case t.Source == "configmap":
		return fmt.Sprintf("%s (key %s of configmap %s)", t.Token, t.Name, t.ConfigMap)
	case t.Name == "":
		return fmt.Sprintf("%s (an argument)", t.Token)
	default:
		return fmt.Sprintf("%s (%s %s)", t.Token, t.Source, t.Name)
	}
}

// dialsAll words all targets of a client.
func dialsAll(ts []diagnose.Target) string {
	out := make([]string, 0, len(ts))
	for _, t := range ts {
		if s := dials(t); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return list(out)
}

// owners groups pods by the workload that they belong to, both sorted by name.
func owners(pods []*diagnose.Pod) (order []diagnose.Owner, byOwner map[diagnose.Owner][]*diagnose.Pod) {
	byOwner = map[diagnose.Owner][]*diagnose.Pod{}
	for _, p := range pods {
		o := p.Owner
		if o.Kind == "" || o.Name == "" {
			o = diagnose.Owner{Kind: "Pod", Name: p.Name}
		}
		if byOwner[o] == nil {
			order = append(order, o)
		}
		byOwner[o] = append(byOwner[o], p)
	}
	for _, ps := range byOwner {
		slices.SortFunc(ps, func(a, b *diagnose.Pod) int { return a.Key.Compare(b.Key) })
	}
	slices.SortFunc(order, func(a, b diagnose.Owner) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return order, byOwner
}

func ownerRef(o diagnose.Owner) string { return diagnose.ShortKind(o.Kind) + "/" + o.Name }

// hasTemplate reports whether the workload has a pod template that a patch can change.
func hasTemplate(o diagnose.Owner) bool {
	return slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}, o.Kind)
}
