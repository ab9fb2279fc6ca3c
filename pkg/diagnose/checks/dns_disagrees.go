package checks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func dnsDisagrees() diagnose.Check {
	return diagnose.Check{
		ID:       "dns-disagrees",
		Title:    "DNS does not give the addresses that the API has",
		Severity: diagnose.High,
		Doc:      page("dns-disagrees"),
		Since:    "0.1.0",
		Needs:    []diagnose.FactName{diagnose.FactServices, diagnose.FactSlices, diagnose.FactDNS},
		Run:      runDNSDisagrees,
	}
}

func runDNSDisagrees(v *diagnose.View) []diagnose.Finding {
	if v.Service.Type == "ExternalName" {
		return nil
	}
	byServer := addressAnswers(v)
	if len(byServer) == 0 {
		return noAnswer(v)
	}
	f := diagnose.Finding{Subject: subject(v), Severity: diagnose.High, Confidence: diagnose.Observed}
	agree, missing, extra := 0, map[string]bool{}, map[string]bool{}
	var bad []diagnose.Key
	for _, server := range byServer {
		d := compareRounds(v, server)
		if len(d.missing)+len(d.extra) == 0 && d.rcode == "" {
			agree++
			continue
		}
		if !slices.Contains(bad, server.key) {
			bad = append(bad, server.key)
		}
		if d.rounds < 2 {
			f.Confidence = diagnose.Inferred
		}
		for _, ip := range d.missing {
			missing[ip] = true
		}
		for _, ip := range d.extra {
			extra[ip] = true
		}
		f.Evidence = append(f.Evidence, d.sentence(v, server)...)
	}
	if len(bad) == 0 {
		return nil
	}
	f.Summary = disagreement(v, len(missing), len(extra))
	if agree > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("The other answers agree with the API (%d of %d).", agree, len(byServer)))
	}
	if f.Confidence == diagnose.Inferred {
		f.Severity = diagnose.Medium
		f.Evidence = append(f.Evidence, "It was asked only once: a change that is still on its way to DNS looks the same.")
	}
	f.Fixes = dnsFixes(bad)
	return []diagnose.Finding{f}
}

// serverAnswers are one DNS pod's answers to one type of question, one for each round.
type serverAnswers struct {
	key     diagnose.Key
	typ     string
	answers []diagnose.DNSAnswer
}

// addressAnswers groups the usable answers to A and AAAA questions for the Service's name.
func addressAnswers(v *diagnose.View) []serverAnswers {
	var out []serverAnswers
	for _, a := range v.DNS.Value {
		if a.Error != "" || a.Truncated || a.Type != "A" && a.Type != "AAAA" || !nameIs(v, a.Name) {
			continue
		}
		i := slices.IndexFunc(out, func(s serverAnswers) bool { return s.key == a.Server && s.typ == a.Type })
		if i < 0 {
			i = len(out)
			out = append(out, serverAnswers{key: a.Server, typ: a.Type})
		}
		out[i].answers = append(out[i].answers, a)
	}
	slices.SortFunc(out, func(a, b serverAnswers) int { return cmp.Or(a.key.Compare(b.key), cmp.Compare(a.typ, b.typ)) })
	return out
}

func nameIs(v *diagnose.View, name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if v.Cluster.Domain != "" {
		return name == fqdn(v, v.Service.Key)
	}
	return strings.HasPrefix(name, v.Service.Name+"."+v.Service.Namespace+".svc.")
}

// fqdn is the DNS name of a Service (Kubernetes DNS-based service discovery 1.1.0), without the final dot.
func fqdn(v *diagnose.View, k diagnose.Key) string {
	return k.Name + "." + k.Namespace + ".svc." + cmp.Or(v.Cluster.Domain, "cluster.local")
}

// expected lists the addresses that DNS ought to give: the cluster IPs, or the ready endpoints of a headless Service.
// Endpoints published before they are ready count as ready in EndpointSlices, as they do for DNS.
func expected(v *diagnose.View, typ string) []string {
	all := v.Service.ClusterIPs
	if v.Service.Headless() {
		all = nil
		for _, e := range v.Ready() {
			all = append(all, e.IPs...)
		}
	}
	var out []string
	for _, ip := range all {
		if a, err := netip.ParseAddr(ip); err == nil && a.Is4() == (typ == "A") {
			out = append(out, ip)
		}
	}
	return out
}

// dnsDiff is what stayed wrong with one DNS pod's answers through all rounds.
type dnsDiff struct {
	missing, extra []string
	rcode          string // an error code that it gave each time
	rounds         int
}

// compareRounds keeps only what every round shows: what one round has and the next has not is a change on its way.
func compareRounds(v *diagnose.View, s serverAnswers) dnsDiff {
	want := expected(v, s.typ)
	d := dnsDiff{rounds: len(s.answers)}
	for i, a := range s.answers {
		missing, extra := minus(want, a.Addresses), minus(a.Addresses, want)
		code := ""
		if a.Rcode != "NOERROR" && a.Rcode != "NXDOMAIN" && a.Rcode != "" {
			code, missing, extra = a.Rcode, nil, nil
		}
		if i == 0 {
			d.missing, d.extra, d.rcode = missing, extra, code
			continue
		}
		d.missing, d.extra = both(d.missing, missing), both(d.extra, extra)
		if code != d.rcode {
			d.rcode = ""
		}
	}
	return d
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
}

func both(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return !slices.Contains(b, x) })
}

func (d dnsDiff) sentence(v *diagnose.View, s serverAnswers) []string {
	times := "once"
	if d.rounds > 1 {
		times = fmt.Sprintf("%d times", d.rounds)
	}
	who := fmt.Sprintf("DNS pod %s, asked %s for the %s records of %s,", s.key, times, s.typ, fqdn(v, v.Service.Key))
	if !slices.ContainsFunc(s.answers, func(a diagnose.DNSAnswer) bool { return a.Rcode != "NXDOMAIN" }) {
		who += " answers NXDOMAIN, which"
	}
	var out []string
	if d.rcode != "" {
		out = append(out, who+" answers "+d.rcode+".")
	}
	if len(d.missing) > 0 {
		out = append(out, who+" does not name "+list(each(d.missing, func(ip string) string { return missingIP(v, ip) }))+".")
	}
	if len(d.extra) > 0 {
		out = append(out, who+" names "+list(each(d.extra, func(ip string) string { return extraIP(v, ip) }))+".")
	}
	return out
}

func each(xs []string, f func(string) string) []string {
	out := make([]string, len(xs))
	for i, x := range xs {
		out[i] = f(x)
	}
	return out
}

func missingIP(v *diagnose.View, ip string) string {
	p := v.PodByIP(ip)
	switch {
	case p == nil:
		return ip
	case p.ReadySince.IsZero() || !v.TakenAt.After(p.ReadySince):
		return ip + " (" + p.Name + ")"
	default:
		return ip + " (" + p.Name + ", ready for " + age(v.TakenAt.Sub(p.ReadySince)) + ")"
	}
}

func extraIP(v *diagnose.View, ip string) string {
	if !v.Service.Headless() {
		return ip + " (not its cluster IP)"
	}
	p := v.PodByIP(ip)
	switch {
	case p == nil:
		return ip + " (no pod's)"
	case !p.Ready:
		return ip + " (" + p.Name + ", not ready)"
	default:
		return ip + " (" + p.Name + ", no ready endpoint)"
	}
}

func disagreement(v *diagnose.View, missing, extra int) string {
	what := "the addresses of the ready pods"
	if !v.Service.Headless() {
		what = "the cluster IP"
	}
	switch {
	case missing > 0 && extra > 0:
		return fmt.Sprintf("DNS does not give %s: %d missing, %d wrong", what, missing, extra)
	case missing > 0:
		return fmt.Sprintf("DNS does not give %s: %d missing", what, missing)
	case extra > 0:
		return fmt.Sprintf("DNS gives more than %s: %d wrong", what, extra)
	default:
		return "DNS does not answer for this Service"
	}
}

// noAnswer says that the comparison could not be made, which must not pass for agreement.
func noAnswer(v *diagnose.View) []diagnose.Finding {
	f := diagnose.Finding{
		Subject: subject(v), Severity: diagnose.Info, Confidence: diagnose.Observed,
		Summary: "no DNS pod gave an answer that could be compared with the API",
	}
	for _, a := range v.DNS.Value {
		if s := fmt.Sprintf("DNS pod %s: %s.", a.Server, a.Error); a.Error != "" && nameIs(v, a.Name) && !slices.Contains(f.Evidence, s) {
			f.Evidence = append(f.Evidence, s)
		}
	}
	slices.Sort(f.Evidence)
	if len(f.Evidence) == 0 {
		f.Evidence = []string{"None was asked for " + fqdn(v, v.Service.Key) + ", or all answers were cut short."}
	}
	return []diagnose.Finding{f}
}

func dnsFixes(servers []diagnose.Key) []diagnose.Fix {
	logs := diagnose.Fix{Title: "read the DNS pods' logs: a lost watch on the API server, or missing permissions, are told there"}
	renew := diagnose.Fix{
		Title:   "replace the DNS pods that are behind: they read everything anew",
		Caveats: []string{"One at a time: the others have to answer meanwhile."},
	}
	for _, k := range servers {
		logs.Commands = append(logs.Commands, kubectl(k.Namespace, "logs", k.Name))
		renew.Commands = append(renew.Commands, kubectl(k.Namespace, "delete", "pod", k.Name))
	}
	return []diagnose.Fix{logs, renew}
}
