package checks

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func dnsTruncated() diagnose.Check {
	return diagnose.Check{
		ID:       "dns-truncated",
		Title:    "the DNS answer is too large for UDP: clients may miss pods",
		Severity: diagnose.High,
		Doc:      page("dns-truncated"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactDNS},
		GRPCOnly: true,
		Run:      runDNSTruncated,
	}
}

// ednsUsual is the UDP size that most resolvers offer since DNS flag day 2020, the Go resolver among them.
const ednsUsual = 1232

func runDNSTruncated(v *diagnose.View) []diagnose.Finding {
	if !v.Service.Headless() {
		return nil // a cluster IP is one address for each family
	}
	a, ok := largest(v)
	if !ok {
		return nil
	}
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Low, Confidence: diagnose.Inferred,
	}
	f.Summary = fmt.Sprintf("the DNS answer (%s, %d bytes) does not fit into UDP: clients that do not ask again over TCP miss pods",
		number(len(a.Addresses), "address", "addresses"), a.Size)
	cut := false
	for _, p := range sorted(a.Predicted) {
		if !p.Truncated {
			f.Evidence = append(f.Evidence, fmt.Sprintf("Predicted for UDP with EDNS0 %d: it fits.", p.UDPSize))
			continue
		}
		cut = true
		if p.UDPSize >= ednsUsual {
			f.Severity = diagnose.Medium
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("Predicted for UDP %s: %d of %d addresses fit, and the answer says that it is cut (TC).",
			edns(p.UDPSize), p.Fits, len(a.Addresses)))
	}
	if udp, ok := seenCut(v, "udp"); ok {
		cut, f.Confidence, f.Severity = true, diagnose.Observed, diagnose.Medium
		f.Evidence = append(f.Evidence, fmt.Sprintf("DNS pod %s answered over UDP with %s and the TC bit.", udp.Server, count(len(udp.Addresses), "record")))
	}
	if tcp, ok := seenCut(v, "tcp"); ok {
		cut, f.Confidence, f.Severity = true, diagnose.Observed, diagnose.High
		f.Summary = "the DNS answer does not even fit into TCP: pods are missing for every client"
		f.Evidence = append(f.Evidence, fmt.Sprintf("DNS pod %s answered over TCP with %s and the TC bit: a DNS message holds 65535 bytes at most.",
			tcp.Server, count(len(tcp.Addresses), "record")))
	}
	if !cut {
		return nil
	}
	f.Evidence = append(f.Evidence, "Which resolver the clients use, and whether they reach port 53 over TCP, is not known.")
	f.Fixes = []diagnose.Fix{
		{
			Title: "make sure that the clients' pods may reach DNS over TCP, too",
			Commands: []diagnose.Command{
				kubectl(v.Service.Namespace, "get", "networkpolicies", "-o", "yaml"),
				kubectl(v.Service.Namespace, "grpclb", "dns", subject(v)),
			},
			Caveats: []string{"Egress rules often allow port 53 over UDP alone."},
		},
		fixMesh(v, "let a mesh find the pods: one cluster IP instead of many addresses"),
	}
	return []diagnose.Finding{f}
}

// largest returns the biggest address answer for the Service's name.
func largest(v *diagnose.View) (diagnose.DNSAnswer, bool) {
	var best diagnose.DNSAnswer
	found := false
	for _, a := range v.DNS.Value {
		if a.Error != "" || a.Type != "A" && a.Type != "AAAA" || !nameIs(v, a.Name) {
			continue
		}
		if !found || cmp.Or(cmp.Compare(a.Size, best.Size), cmp.Compare(len(a.Addresses), len(best.Addresses)), best.Server.Compare(a.Server)) > 0 {
			best, found = a, true
		}
	}
	return best, found
}

func seenCut(v *diagnose.View, transport string) (diagnose.DNSAnswer, bool) {
	var out diagnose.DNSAnswer
	found := false
	for _, a := range v.DNS.Value {
		if a.Error == "" && a.Truncated && a.Transport == transport && nameIs(v, a.Name) && (!found || a.Server.Compare(out.Server) < 0) {
			out, found = a, true
		}
	}
	return out, found
}

func sorted(ps []diagnose.Truncation) []diagnose.Truncation {
	return slices.SortedFunc(slices.Values(ps), func(a, b diagnose.Truncation) int { return a.UDPSize - b.UDPSize })
}

func edns(size int) string {
	if size <= 512 {
		return "without EDNS0 (512 bytes)"
	}
	return fmt.Sprintf("with EDNS0 %d", size)
}
