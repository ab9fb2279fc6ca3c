package checks

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func scaleOutBlind() diagnose.Check {
	return diagnose.Check{
		ID:        "scale-out-blind",
		Title:     "clients do not find pods that came after their connections",
		Severity:  diagnose.Critical,
		Doc:       page("scale-out-blind"),
		Since:     "0.1.0",
		Needs:     []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactPods, diagnose.FactSockets},
		DependsOn: []string{"clusterip-pinned"},
		GRPCOnly:  true,
		Run:       runScaleOutBlind,
	}
}

// settle is how long a new pod may be without connections before that means anything: grpc-go asks DNS at most every
// 30 s, grpc-js too, and records are cached for as long.
const settle = 30 * time.Second

func runScaleOutBlind(v *diagnose.View) []diagnose.Finding {
	s := v.Spread()
	pods := map[diagnose.Key]*diagnose.Pod{} // ready pods whose sockets were read
	conns := map[diagnose.Key]int{}
	for _, r := range s.Rows {
		if p := v.Pod(r.Pod); r.Ready && r.Conns != nil && p != nil && !p.ReadySince.IsZero() {
			pods[r.Pod], conns[r.Pod] = p, *r.Conns
		}
	}
	unserved := map[diagnose.Key]bool{}
	f := diagnose.Finding{Subject: subject(v), Severity: diagnose.High, Confidence: diagnose.Observed}
	blind := 0
	for _, c := range clientPods(v, s) {
		missed := c.misses(v.TakenAt, pods)
		if len(missed) == 0 {
			continue
		}
		blind++
		for _, k := range missed {
			unserved[k] = true
		}
		if blind <= shown {
			f.Evidence = append(f.Evidence, c.sentence(v, len(missed)))
		}
	}
	if blind == 0 {
		return nil
	}
	if blind > shown {
		f.Evidence = append(f.Evidence, fmt.Sprintf("The same goes for %s more.", count(blind-shown, "client pod")))
	}
	idlePods := 0
	for _, k := range slices.SortedFunc(maps.Keys(unserved), diagnose.Key.Compare) {
		line := fmt.Sprintf("%s is ready for %s and has ", k.Name, age(v.TakenAt.Sub(pods[k].ReadySince)))
		if conns[k] == 0 {
			idlePods++
			line += "no connection."
		} else {
			line += count(conns[k], "connection") + ", none from these clients."
		}
		f.Evidence = append(f.Evidence, line)
	}
	f.Summary = fmt.Sprintf("%s %s no calls from clients that were there before: they keep their connections to the older pods",
		part(len(unserved), len(pods)), either(len(unserved), "gets", "get"))
	if idlePods > 0 {
		f.Severity = diagnose.Critical
	}
	f.Fixes = []diagnose.Fix{
		fixSidecar(v),
		fixMaxAge(v, "New pods get their share only after the age has passed."),
		fixMesh(v, "bring the clients into a mesh, whose proxies follow the pods"),
	}
	return []diagnose.Finding{f}
}

func part(n, of int) string { return fmt.Sprintf("%d of %d ready pods, the newest,", n, of) }

// clientReach is one client pod and the server pods that it is connected to.
type clientReach struct {
	pod   *diagnose.Pod
	total int
	held  map[diagnose.Key]bool
}

// clientPods gathers the connections by client pod. Those behind a mesh are left out: the connections are the
// proxy's, and it follows the pods by itself; so are those whose source is hidden.
func clientPods(v *diagnose.View, s diagnose.Spread) []clientReach {
	byPod := map[diagnose.Key]*clientReach{}
	for _, fl := range s.Flows {
		p := clientPod(v, fl)
		if p == nil || p.Mesh.In() || p.Started.IsZero() {
			continue
		}
		c := byPod[p.Key]
		if c == nil {
			c = &clientReach{pod: p, held: map[diagnose.Key]bool{}}
			byPod[p.Key] = c
		}
		c.total += fl.Conns
		c.held[fl.Pod] = true
	}
	var out []clientReach
	for _, k := range slices.SortedFunc(maps.Keys(byPod), diagnose.Key.Compare) {
		out = append(out, *byPod[k])
	}
	return out
}

// misses returns the pods that this client should have found and did not. It is blind only if what it holds and what
// it lacks divide by age: connected to pods up to one moment, to none after. Any other pattern has another cause.
func (c clientReach) misses(now time.Time, pods map[diagnose.Key]*diagnose.Pod) []diagnose.Key {
	var newest time.Time
	for k := range c.held {
		if p := pods[k]; p != nil && p.ReadySince.After(newest) {
			newest = p.ReadySince
		}
	}
	if newest.IsZero() {
		return nil
	}
	var out []diagnose.Key
	for k, p := range pods {
		switch {
		case c.held[k] || now.Sub(p.ReadySince) <= settle:
		case p.ReadySince.After(newest) && p.ReadySince.After(c.pod.Started):
			out = append(out, k)
		default:
			return nil
		}
	}
	return out
}

func (c clientReach) sentence(v *diagnose.View, missed int) string {
	who := c.pod.Name
	if c.pod.Owner.Name != "" {
		who += " of " + ownerRef(c.pod.Owner)
	}
	s := fmt.Sprintf("%s runs for %s and holds %s to %s, which %s ready before the %s that it misses",
		who, age(v.TakenAt.Sub(c.pod.Started)), count(c.total, "connection"), count(len(c.held), "pod"), either(len(c.held), "was", "were"), count(missed, "pod"))
	if len(c.held) == 1 {
		s += "; with pick_first as its policy it would look the same"
	}
	return s + "."
}
