package checks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func headlessPortMismatch() diagnose.Check {
	return diagnose.Check{
		ID:       "headless-port-mismatch",
		Title:    "clients dial the Service's port where only the pods' port answers, or the other way round",
		Severity: diagnose.Critical,
		Doc:      page("headless-port-mismatch"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactWorkloads},
		GRPCOnly: true,
		Run:      runHeadlessPortMismatch,
	}
}

func runHeadlessPortMismatch(v *diagnose.View) []diagnose.Finding {
	if v.Service.Type == "ExternalName" {
		return nil
	}
	var out []diagnose.Finding
	for _, p := range v.GRPCPorts() {
		nums := v.PodPorts(p)
		if len(nums) == 0 || slices.Contains(nums, p.Port) {
			continue
		}
		m := portMismatch{view: v, port: p, nums: nums}
		if v.Service.Headless() {
			out = append(out, m.headless()...)
		} else {
			out = append(out, m.clusterIP()...)
		}
	}
	return out
}

// portMismatch is a Service port whose number is not the one that the pods serve.
type portMismatch struct {
	view *diagnose.View
	port diagnose.ServicePort
	nums []int32
}

// headless: DNS gives the pods' addresses and nothing translates ports, so who dials the Service's port is refused.
func (m portMismatch) headless() []diagnose.Finding {
	v := m.view
	clients := v.Clients()
	wrong := dialling(clients, func(t diagnose.Target) bool { return t.Port == m.port.Port && t.Resolver() != diagnose.ResolverXDS })
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Critical, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("port %d of this headless Service leads nowhere: its pods listen on %s, and a headless Service translates no ports",
			m.port.Port, numbers(m.nums)),
	}
	switch {
	case len(wrong) == 0 && len(clients) > 0:
		return nil // they dial the pods' port, which is what works
	case len(wrong) == 0:
		f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
		f.Evidence = append(f.Evidence, fmt.Sprintf("No client in reach names this Service; whoever dials %s:%d is refused.", v.Service.Name, m.port.Port))
	case len(byItsName(wrong)) == 0:
		f.Summary = strings.Replace(f.Summary, "leads nowhere", "may lead nowhere", 1)
		f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
		f.Evidence = append(f.Evidence, "The clients read the endpoints by resolvers of their own: whether these take the number as the pods' or as the Service's depends on them.")
	case allIstio(wrong):
		f.Summary = strings.Replace(f.Summary, "leads nowhere", "may lead nowhere", 1)
		f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
		f.Evidence = append(f.Evidence, "The clients are in Istio, whose proxies listen on the Service's port: whether they reach the pods depends on its version and settings.")
	}
	for _, c := range wrong {
		f.Evidence = append(f.Evidence, workload(v, c.Workload)+" dials "+dialsAll(c.Targets)+".")
	}
	f.Evidence = append(f.Evidence, fmt.Sprintf("%s declares port %d with target port %s; its EndpointSlices say %s.",
		subject(v), m.port.Port, m.port.TargetPort, numbers(m.nums)))
	title := fmt.Sprintf("dial the pods' port, %d", m.nums[0])
	if fix, ok := retargetAll(wrong, title, toPort(m.nums[0])); ok {
		f.Fixes = append(f.Fixes, fix)
	}
	f.Fixes = append(f.Fixes, m.renumber())
	return []diagnose.Finding{f}
}

// clusterIP is the mirrored trap: the pods' number, right for a headless Service, is none that the cluster IP answers.
func (m portMismatch) clusterIP() []diagnose.Finding {
	v := m.view
	wrong := dialling(byItsName(v.Clients()), func(t diagnose.Target) bool {
		return slices.Contains(m.nums, t.Port) && !declares(v.Service, t.Port)
	})
	if len(wrong) == 0 {
		return nil
	}
	f := diagnose.Finding{
		Subject: wrong[0].Workload.Ref(), Severity: diagnose.Critical, Confidence: diagnose.Configured,
		Summary: fmt.Sprintf("the clients dial the pods' port, %s, on the cluster IP, which answers only on %d", numbers(m.nums), m.port.Port),
	}
	for _, c := range wrong {
		f.Evidence = append(f.Evidence, workload(v, c.Workload)+" dials "+dialsAll(c.Targets)+".")
	}
	f.Evidence = append(f.Evidence, fmt.Sprintf("%s is no headless Service: its port %d is translated to %s, and no other number leads to the pods.",
		subject(v), m.port.Port, numbers(m.nums)))
	title := fmt.Sprintf("dial the Service's port, %d", m.port.Port)
	if fix, ok := retargetAll(wrong, title, toPort(m.port.Port)); ok {
		f.Fixes = append(f.Fixes, fix)
	}
	f.Fixes = append(f.Fixes, fixHeadless(v))
	return []diagnose.Finding{f}
}

// renumber makes the headless Service declare the port that works.
func (m portMismatch) renumber() diagnose.Fix {
	i := slices.Index(m.view.Service.Ports, m.port)
	path := fmt.Sprintf("/spec/ports/%d/port", i)
	patch := []map[string]any{ // the test refuses it when the ports were put in another order meanwhile (RFC 6902)
		{"op": "test", "path": path, "value": m.port.Port}, {"op": "replace", "path": path, "value": m.nums[0]},
	}
	b, err := json.Marshal(patch) // strings and numbers: cannot fail
	if err != nil {
		b = []byte("[]")
	}
	return diagnose.Fix{
		Title:    fmt.Sprintf("declare the pods' port, %d, in the Service", m.nums[0]),
		Commands: []diagnose.Command{kubectl(m.view.Service.Namespace, "patch", subject(m.view), "--type", "json", "-p", string(b))},
		Caveats:  []string{"Clients still have to dial that port; SRV records name it already."},
	}
}

// dialling narrows clients down to their targets that match.
func dialling(cs []diagnose.Client, want func(diagnose.Target) bool) []diagnose.Client {
	var out []diagnose.Client
	for _, c := range cs {
		var ts []diagnose.Target
		for _, t := range c.Targets {
			if want(t) {
				ts = append(ts, t)
			}
		}
		if len(ts) > 0 {
			out = append(out, diagnose.Client{Workload: c.Workload, Targets: ts})
		}
	}
	return out
}

func declares(s diagnose.Service, port int32) bool {
	return slices.ContainsFunc(s.Ports, func(p diagnose.ServicePort) bool { return p.Port == port })
}

func allIstio(cs []diagnose.Client) bool {
	return !slices.ContainsFunc(cs, func(c diagnose.Client) bool { return c.Workload.Mesh.Kind != "istio" })
}
