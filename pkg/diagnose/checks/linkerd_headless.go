package checks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func linkerdHeadless() diagnose.Check {
	return diagnose.Check{
		ID:       "linkerd-headless",
		Title:    "clients in Linkerd dial a headless Service, which Linkerd cannot balance",
		Severity: diagnose.High,
		Doc:      page("linkerd-headless"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactWorkloads},
		GRPCOnly: true,
		Run:      runLinkerdHeadless,
	}
}

func runLinkerdHeadless(v *diagnose.View) []diagnose.Finding {
	if !v.Service.Headless() {
		return nil
	}
	spread := v.Spread()
	var out []diagnose.Finding
	for _, c := range relying(v.Clients()) {
		if c.Workload.Mesh.Kind != "linkerd" || flowsOf(spread, c.Workload).several() {
			continue
		}
		bad := dialling([]diagnose.Client{c}, func(t diagnose.Target) bool {
			return !t.SpreadingPolicy() && !slices.ContainsFunc(dialled(v, t), func(n int32) bool { return portListed(c.Workload.Mesh.SkipOutbound, n) })
		})
		if len(bad) == 0 {
			continue
		}
		f := diagnose.Finding{
			Subject: c.Workload.Ref(), Severity: diagnose.High, Confidence: diagnose.Configured,
			Summary: "Linkerd does not balance calls to a headless Service: it sends them to the one pod whose address the client chose",
			Evidence: []string{
				fmt.Sprintf("%s is in Linkerd and dials %s.", workload(v, c.Workload), dialsAll(bad[0].Targets)),
				subject(v) + " is headless: the proxy sees a pod's address, and no Service whose pods it could choose from.",
			},
			Fixes: linkerdFixes(v, bad),
		}
		ready := len(v.Ready())
		switch seen := flowsOf(spread, c.Workload); {
		case seen.total > 0 && ready > 1:
			f.Confidence = diagnose.Observed
			f.Evidence = append(f.Evidence, fmt.Sprintf("On the servers, %s.", seen.where(ready)))
		case bad[0].Targets[0].Policy == "":
			f.Severity, f.Confidence = diagnose.Medium, diagnose.Inferred
			f.Evidence = append(f.Evidence, "No policy was seen beside the target; if the client itself uses round_robin over all addresses, its calls are spread all the same.")
		default:
			f.Evidence = append(f.Evidence, "Beside the target stands the policy "+bad[0].Targets[0].Policy+", which uses one address.")
		}
		out = append(out, doubt(f, bad[0], spread))
	}
	return out
}

// linkerdFixes sends the clients to a Service with a cluster IP: the one that exists, else a new one.
func linkerdFixes(v *diagnose.View, bad []diagnose.Client) []diagnose.Fix {
	plain, exists := plainSibling(v)
	if !exists {
		plain = v.Service
		plain.Name = strings.TrimSuffix(v.Service.Name, "-headless")
		if plain.Name == v.Service.Name {
			plain.Name += "-clusterip"
		}
	}
	title := "dial svc/" + plain.Name + ", which has a cluster IP"
	f, _ := retargetAll(bad, title, func(t diagnose.Target) aim { return toService(v, t, plain) })
	if !exists {
		f.Title = "make a Service with a cluster IP and dial it"
		f.Manifests = []string{manifest(plain)}
		f.Caveats = []string{"The headless Service can stay for clients outside of the mesh."}
	}
	if len(f.Commands)+len(f.Manifests) == 0 {
		f = lookAt(bad[0].Workload)
	}
	return []diagnose.Fix{f}
}

func plainSibling(v *diagnose.View) (diagnose.Service, bool) {
	for _, s := range v.Siblings() {
		if !s.Headless() && s.Type != "ExternalName" {
			return s, true
		}
	}
	return diagnose.Service{}, false
}

// toService aims at another Service of the same pods, at the port that leads to the same pods' port.
func toService(v *diagnose.View, t diagnose.Target, to diagnose.Service) aim {
	a := aim{host: fqdn(v, to.Key)}
	for _, p := range to.Ports {
		if t.Port != 0 && (t.Port == p.Port || p.TargetPort == strconv.Itoa(int(t.Port))) {
			a.port = p.Port
			break
		}
	}
	return a
}

// manifest writes a Service with a cluster IP over the same pods. It carries no labels of the original: what watches
// those labels must not see the pods twice.
func manifest(s diagnose.Service) string {
	var ports []any
	for _, p := range s.Ports {
		m := map[string]any{"name": p.Name, "port": p.Port, "protocol": protocol(p.Protocol)}
		if n, err := strconv.Atoi(p.TargetPort); err == nil {
			m["targetPort"] = n
		} else if p.TargetPort != "" {
			m["targetPort"] = p.TargetPort
		}
		if p.AppProtocol != "" {
			m["appProtocol"] = p.AppProtocol
		}
		ports = append(ports, m)
	}
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": s.Name, "namespace": s.Namespace},
		"spec": map[string]any{"selector": s.Selector, "ports": ports},
	})
	if err != nil {
		return "" // maps of strings and numbers always marshal
	}
	return string(b)
}
