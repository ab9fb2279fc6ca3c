package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// DNSTable writes what each DNS pod says of the Service against its endpoints: rcode, TTL, transport, size, the
// predicted loss over UDP, and every disagreement.
func DNSTable(w io.Writer, v *diagnose.View, o TextOptions) error {
	p := newPrinter(o)
	p.blank()
	d := newDNSFacts(v)
	p.prose(2, []span{{strong, fmt.Sprintf("%s (%s)", v.Service.Name, v.Service.Namespace)}, txt("   ")}, d.expectation(p))
	if !v.DNS.Known() {
		text := cmp.Or(v.DNS.Reason, "DNS was not asked")
		if v.DNS.Hint != "" {
			text += " (" + v.DNS.Hint + ")"
		}
		p.prose(2, []span{{doubt, p.doubt}, txt(" ")}, text)
		return write(w, p.out.Bytes())
	}
	p.dnsAnswers(v.DNS.Value)
	p.dnsJudgement(d, v.DNS.Value)
	for _, g := range v.Gaps {
		if g.Fact == diagnose.FactDNS || g.Fact == diagnose.FactSlices {
			p.gaps([]diagnose.Gap{g})
		}
	}
	return write(w, p.out.Bytes())
}

// dnsFacts is what DNS should say.
type dnsFacts struct {
	view  *diagnose.View
	known bool
	want  []netip.Addr // sorted
}

// newDNSFacts works out the expected addresses: the cluster IPs, or for a headless Service its ready endpoints (all
// of them when it publishes those that are not ready), as the Kubernetes DNS specification has it (version 1.1.0,
// sections 2.3 and 2.4).
func newDNSFacts(v *diagnose.View) dnsFacts {
	d := dnsFacts{view: v, known: true}
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil {
			d.want = append(d.want, a)
		}
	}
	switch {
	case v.Service.Headless():
		d.known = v.Slices.Known()
		for _, e := range v.Endpoints() {
			if !e.Ready && !v.Service.PublishNotReady {
				continue
			}
			for _, ip := range e.IPs {
				add(ip)
			}
		}
	default:
		for _, ip := range v.Service.ClusterIPs {
			add(ip)
		}
	}
	slices.SortFunc(d.want, netip.Addr.Compare)
	return d
}

// maxAddresses is how many addresses a line of prose lists.
const maxAddresses = 6

func (d dnsFacts) expectation(p *printer) string {
	switch {
	case !d.known:
		return "endpoints not known: " + cmp.Or(d.view.Slices.Reason, "not asked for")
	case d.view.Service.Type == "ExternalName":
		return "is an alias of " + d.view.Service.ExternalName
	case d.view.Service.Headless():
		return fmt.Sprintf("headless: DNS should have %s%s", plural(len(d.want), "endpoint address"), p.listed(d.want))
	}
	return "ClusterIP: DNS should have" + strings.TrimPrefix(p.listed(d.want), ":")
}

func (p *printer) listed(as []netip.Addr) string {
	if len(as) == 0 {
		return ""
	}
	var out []string
	for _, a := range as[:min(len(as), maxAddresses)] {
		out = append(out, a.String())
	}
	if n := len(as) - maxAddresses; n > 0 {
		out = append(out, fmt.Sprintf("%d more", n))
	}
	return ": " + strings.Join(out, ", ")
}

// dnsAnswers prints a table for each name that was asked.
func (p *printer) dnsAnswers(answers []diagnose.DNSAnswer) {
	var names []string
	for _, a := range answers {
		if !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	rounds := slices.ContainsFunc(answers, func(a diagnose.DNSAnswer) bool { return a.Round > 0 })
	for _, n := range names {
		p.blank()
		p.line(4, span{strong, n})
		var cells [][]span
		for _, a := range answers {
			if a.Name == n {
				cells = append(cells, dnsCells(a, rounds))
			}
		}
		p.table(4, []column{
			{"DNS POD", false}, {"ASKED", true}, {"TYPE", false}, {"RCODE", false}, {"RECORDS", true}, {"TTL", true}, {"VIA", false},
			{"SIZE", true}, {"TIME", true}, {"UDP 512", true}, {"UDP 1232", true}, {"UDP 4096", true},
		}, cells)
	}
	if len(answers) > 0 {
		p.prose(4, nil, "UDP columns: predicted from the full answer, records that a client would get with that buffer (512: no EDNS0)")
	}
}

func dnsCells(a diagnose.DNSAnswer, rounds bool) []span {
	round := ""
	if rounds {
		round = fmt.Sprintf("#%d", a.Round+1)
	}
	c := []span{txt("%s", a.Server), txt("%s", round), txt("%s", a.Type)}
	if a.Error != "" {
		return append(c, span{bad, "no answer"}, span{}, span{}, txt("%s", a.Transport), span{}, span{}, span{}, span{}, span{})
	}
	rcode := span{good, a.Rcode}
	if a.Rcode != "NOERROR" {
		rcode.style = doubt
	}
	size := ""
	if a.Size > 0 {
		size = fmt.Sprintf("%d B", a.Size)
	}
	ttl := ""
	if records(a) > 0 {
		ttl = fmt.Sprintf("%d s", a.TTL)
	}
	c = append(c, rcode, txt("%d", records(a)), txt("%s", ttl), txt("%s", a.Transport), txt("%s", size), txt("%s", micros(a.RTTMicros)))
	for _, udp := range []int{512, 1232, 4096} {
		c = append(c, truncation(a, udp))
	}
	return c
}

func records(a diagnose.DNSAnswer) int { return max(len(a.Addresses), len(a.SRV)) }

func truncation(a diagnose.DNSAnswer, size int) span {
	for _, t := range a.Predicted {
		if t.UDPSize != size {
			continue
		}
		if t.Truncated {
			return span{doubt, fmt.Sprintf("%d of %d", t.Fits, records(a))}
		}
		return span{good, "all"}
	}
	return span{}
}

// dnsJudgement compares the last answer of each DNS pod with what it should be.
func (p *printer) dnsJudgement(d dnsFacts, answers []diagnose.DNSAnswer) {
	p.blank()
	if len(answers) == 0 {
		p.prose(2, []span{{doubt, p.doubt}, txt(" ")}, "no DNS pod was found")
		return
	}
	agree := map[diagnose.Key]bool{}
	for _, a := range lastRound(answers) {
		if _, ok := agree[a.Server]; !ok {
			agree[a.Server] = true
		}
		if a.Error != "" {
			agree[a.Server] = false
			p.prose(2, []span{{bad, p.bad}, txt(" ")}, fmt.Sprintf("%s gave no answer for %s %s: %s", a.Server, a.Type, a.Name, a.Error))
			continue
		}
		if text := d.disagreement(a); d.known && text != "" {
			agree[a.Server] = false
			p.prose(2, []span{{bad, p.bad}, txt(" ")}, fmt.Sprintf("%s, %s: %s", a.Server, a.Type, text))
		}
	}
	n := 0
	for _, ok := range agree {
		if ok {
			n++
		}
	}
	mark := span{good, p.ok}
	if n < len(agree) {
		mark = span{doubt, p.doubt}
	}
	if d.known {
		p.prose(2, []span{mark, txt(" ")}, fmt.Sprintf("%d of %s agree with the endpoints", n, plural(len(agree), "DNS pod")))
	}
}

// lastRound keeps the latest answer of each pod to each question: an earlier one may have been on its way.
func lastRound(answers []diagnose.DNSAnswer) []diagnose.DNSAnswer {
	var out []diagnose.DNSAnswer
	for _, a := range answers {
		i := slices.IndexFunc(out, func(o diagnose.DNSAnswer) bool { return o.Server == a.Server && o.Name == a.Name && o.Type == a.Type })
		switch {
		case i < 0:
			out = append(out, a)
		case a.Round >= out[i].Round:
			out[i] = a
		}
	}
	return out
}

// disagreement says how an answer differs; empty when it does not, or when nothing can be said of such an answer.
func (d dnsFacts) disagreement(a diagnose.DNSAnswer) string {
	if !d.own(a.Name) || a.Type != "A" && a.Type != "AAAA" {
		return ""
	}
	if a.Rcode != "NOERROR" && a.Rcode != "NXDOMAIN" {
		return a.Rcode
	}
	var got []netip.Addr
	for _, s := range a.Addresses {
		if ip, err := netip.ParseAddr(s); err == nil {
			got = append(got, ip)
		}
	}
	var want []netip.Addr
	for _, w := range d.want {
		if w.Is4() == (a.Type == "A") {
			want = append(want, w)
		}
	}
	var parts []string
	if missing := d.named(without(want, got)); missing != "" {
		parts = append(parts, "lacks "+missing)
	}
	if extra := d.named(without(got, want)); extra != "" {
		parts = append(parts, "has "+extra+", which should not be there")
	}
	return strings.Join(parts, "; ")
}

// own reports whether a name is the Service's own, not a search-path variant or a port's.
func (d dnsFacts) own(name string) bool {
	s := d.view.Service
	return strings.HasPrefix(name, s.Name+"."+s.Namespace+".svc.")
}

func without(as, bs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range as {
		if !slices.Contains(bs, a) {
			out = append(out, a)
		}
	}
	return out
}

func (d dnsFacts) named(as []netip.Addr) string {
	var out []string
	for _, a := range as[:min(len(as), maxAddresses)] {
		s := a.String()
		if pod := d.view.PodByIP(s); pod != nil {
			s += " (" + pod.Name + ")"
		}
		out = append(out, s)
	}
	if n := len(as) - maxAddresses; n > 0 {
		out = append(out, fmt.Sprintf("%d more", n))
	}
	return strings.Join(out, ", ")
}
