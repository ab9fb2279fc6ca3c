package checks

import (
	"fmt"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func serverNotGRPC() diagnose.Check {
	return diagnose.Check{
		ID:       "server-not-grpc",
		Title:    "the pods' port does not answer as gRPC",
		Severity: diagnose.Critical,
		Doc:      page("server-not-grpc"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactPorts},
		GRPCOnly: true,
		Run:      runServerNotGRPC,
	}
}

// answers says what a heard protocol means for gRPC; those that are not listed prove nothing (TLS that was not looked into).
var answers = map[string]struct {
	severity   diagnose.Severity
	confidence diagnose.Confidence
	words      string
}{
	"http1":  {diagnose.Critical, diagnose.Observed, "answers as HTTP/1"},
	"other":  {diagnose.Critical, diagnose.Observed, "answers with something that is not HTTP"},
	"closed": {diagnose.High, diagnose.Inferred, "refuses connections"},
	"silent": {diagnose.Medium, diagnose.Observed, "accepts connections and sends nothing"},
	"h2c":    {diagnose.Medium, diagnose.Observed, "speaks HTTP/2, but did not answer a gRPC call as gRPC"},
}

func runServerNotGRPC(v *diagnose.View) []diagnose.Finding {
	var out []diagnose.Finding
	for _, p := range v.GRPCPorts() {
		if f, ok := notGRPC(v, p); ok {
			out = append(out, f)
		}
	}
	return out
}

func notGRPC(v *diagnose.View, p diagnose.ServicePort) (diagnose.Finding, bool) {
	nums := v.PodPorts(p)
	f := diagnose.Finding{Subject: subject(v)}
	heard, good, bad, closed, silent := 0, 0, 0, false, false
	for _, h := range heardOn(v) {
		if !slices.Contains(nums, h.Port) || h.Proto == "" {
			continue
		}
		heard++
		a, wrong := answers[h.Proto]
		if !wrong {
			if h.Proto == "grpc" {
				good++
			}
			continue
		}
		bad++
		closed, silent = closed || h.Proto == "closed", silent || h.Proto == "silent"
		if a.severity > f.Severity {
			f.Severity, f.Confidence = a.severity, a.confidence
		}
		if bad <= shown {
			f.Evidence = append(f.Evidence, fmt.Sprintf("Port %d of %s %s%s.", h.Port, h.Pod.Name, a.words, quoted(h)))
		}
	}
	if bad == 0 {
		return f, false
	}
	f.Summary = fmt.Sprintf("port %d of the Service does not answer as gRPC on %s", p.Port, ofAsked(bad, heard))
	if good > 0 {
		f.Severity = min(f.Severity, diagnose.High)
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s did answer as gRPC: the others may be pods that the selector should not match.", count(good, "pod")))
	}
	if good == 0 {
		f.Evidence = append(f.Evidence, "It is taken for gRPC because "+list(reasons(v, p))+".")
	}
	if closed {
		f.Evidence = append(f.Evidence, "A port is asked on the pod's loopback address: a server that listens on the pod's own address only looks closed from there.")
	}
	if silent {
		f.Evidence = append(f.Evidence, "A gRPC server sends its SETTINGS at once: what keeps silent hangs, or waits for another protocol.")
	}
	f.Fixes = []diagnose.Fix{{
		Title: "target the port on which the servers speak gRPC, or drop the gRPC name from the port",
		Commands: []diagnose.Command{
			kubectl(v.Service.Namespace, "get", subject(v), "-o", "jsonpath={.spec.ports}"),
			kubectl(v.Service.Namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name="+v.Service.Name, "-o", "wide"),
		},
	}}
	return f, true
}

func ofAsked(n, of int) string { return fmt.Sprintf("%d of %s asked", n, count(of, "pod")) }

// quoted adds the first thing that the probe noted.
func quoted(h diagnose.PortProbe) string {
	if len(h.Evidence) == 0 {
		return ""
	}
	return " (" + h.Evidence[0] + ")"
}

func reasons(v *diagnose.View, p diagnose.ServicePort) []string {
	for _, j := range v.GRPC().Ports {
		if j.Port == p {
			return j.Because
		}
	}
	return nil
}
