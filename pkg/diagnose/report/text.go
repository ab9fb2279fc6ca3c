package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Text writes the report for a person: for each Service one line that answers "is my load balanced?", the Service in
// a few facts, its pods, the findings with evidence and fixes, and what was not looked at.
func Text(w io.Writer, r diagnose.Report, o TextOptions) error {
	p := newPrinter(o)
	p.overview(r.Services)
	for _, s := range r.Services {
		p.blank()
		p.service(s, len(r.Services) > 1)
	}
	p.gaps(r.Gaps)
	if o.Wide {
		p.footer(r)
	}
	return write(w, p.out.Bytes())
}

// verdictWords are the verdicts in the order of the overview, with their marks.
var verdictWords = []struct {
	state diagnose.VerdictState
	word  string
}{
	{diagnose.VerdictBroken, "broken"},
	{diagnose.VerdictPinned, "pinned"},
	{diagnose.VerdictUneven, "uneven"},
	{diagnose.VerdictSuspect, "suspect"},
	{diagnose.VerdictUnknown, "unknown"},
	{diagnose.VerdictOK, "ok"},
	{diagnose.VerdictNotGRPC, "not gRPC"},
}

func (p *printer) overview(services []diagnose.ServiceReport) {
	if len(services) == 0 {
		p.line(2, txt("no Service to report on"))
	}
	if len(services) < 2 {
		return
	}
	var parts []string
	for _, v := range verdictWords {
		n := 0
		for _, s := range services {
			if s.Verdict.State == v.state {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v.word))
		}
	}
	p.prose(2, []span{{strong, plural(len(services), "Service")}, txt(": ")}, strings.Join(parts, ", "))
}

func (p *printer) mark(v diagnose.VerdictState) span {
	switch v {
	case diagnose.VerdictOK:
		return span{good, p.ok}
	case diagnose.VerdictPinned, diagnose.VerdictUneven, diagnose.VerdictBroken:
		return span{bad, p.bad}
	case diagnose.VerdictSuspect:
		return span{doubt, p.doubt}
	case diagnose.VerdictNotGRPC:
		return span{faint, p.none}
	}
	return span{doubt, p.unknown}
}

// service prints one Service. Among several, those without findings are kept short.
func (p *printer) service(s diagnose.ServiceReport, several bool) {
	p.head(s)
	if several && len(s.Findings) == 0 && !p.o.Wide {
		return
	}
	p.pods(s.Spread)
	p.probeLines(s.Spread.Probes)
	if p.o.Wide {
		p.wideFacts(s)
	}
	for _, f := range s.Findings {
		p.blank()
		p.finding(s, f)
	}
	p.blank()
	p.closing(s)
}

func (p *printer) head(s diagnose.ServiceReport) {
	mark := p.mark(s.Verdict.State)
	name := fmt.Sprintf("%s (%s)", s.Name, s.Namespace)
	name = p.cut(p.visible(name), 2*maxCell)
	lead := []span{mark, txt(" "), {strong, name}}
	if n := 4 + p.width(name) + 3 + p.width(p.visible(s.Verdict.Headline)); p.o.Width == 0 || n <= p.o.Width {
		p.line(2, append(lead, txt("   %s", p.cut(p.visible(s.Verdict.Headline), maxProse)))...)
	} else {
		p.line(2, lead...)
		p.prose(4, nil, s.Verdict.Headline)
	}
	if facts := p.facts(s.Summary); facts != "" {
		p.prose(4, nil, facts)
	}
}

// facts is the second line: the Service in a few facts.
func (p *printer) facts(s diagnose.Summary) string {
	if s.Type == "" {
		return ""
	}
	parts := []string{strings.TrimSpace(s.Type + " " + s.ClusterIP)}
	if s.ExternalName != "" {
		parts[0] += " " + p.arrow + " " + s.ExternalName
	}
	if len(s.Ports) > 0 {
		parts = append(parts, p.ports(s.Ports))
	}
	switch {
	case s.ExternalName != "":
	case s.Ready == nil:
		parts = append(parts, "endpoints not known")
	default:
		parts = append(parts, readiness(s))
		parts = append(parts, cmp.Or(s.Mesh, "no mesh"))
	}
	return strings.Join(parts, p.dot)
}

func readiness(s diagnose.Summary) string {
	out := fmt.Sprintf("%d ready", *s.Ready)
	if s.NotReady > 0 {
		out += fmt.Sprintf(", %d not ready", s.NotReady)
	}
	switch {
	case s.Published == 0:
	case s.Published == s.NotReady:
		out += " but published all the same"
	default:
		out += fmt.Sprintf(", %d of them published all the same", s.Published)
	}
	var where []string
	if s.Nodes > 0 {
		where = append(where, plural(s.Nodes, "node"))
	}
	if s.Zones > 0 {
		where = append(where, plural(s.Zones, "zone"))
	}
	if len(where) > 0 {
		out += " on " + strings.Join(where, ", ")
	}
	return out
}

// maxPorts bounds the ports of the second line.
const maxPorts = 4

func (p *printer) ports(ports []diagnose.SummaryPort) string {
	var out []string
	for _, sp := range ports {
		targets := make([]string, len(sp.Targets))
		for i, t := range sp.Targets {
			targets[i] = fmt.Sprint(t)
		}
		to := cmp.Or(strings.Join(targets, "/"), "?")
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d %s %s", sp.Name, sp.Port, p.arrow, to)))
	}
	word := "port "
	if len(out) > 1 {
		word = "ports "
	}
	if n := len(out) - maxPorts; n > 0 {
		out = append(out[:maxPorts], fmt.Sprintf("%d more", n))
	}
	return word + strings.Join(out, ", ")
}

func (p *printer) finding(s diagnose.ServiceReport, f diagnose.Finding) {
	mark := span{doubt, p.doubt}
	if f.Severity >= diagnose.High {
		mark = span{bad, p.bad}
	}
	head := []span{mark, txt(" "), {strong, f.Check}, txt("  %s%s%s", f.Severity, p.dot, f.Confidence)}
	if f.Subject != "svc/"+s.Name {
		head = append(head, txt("%s%s", p.dot, f.Subject))
	}
	p.line(2, head...)
	p.prose(4, nil, f.Summary)
	for _, e := range f.Evidence {
		p.prose(4, []span{{faint, "- "}}, e)
	}
	p.fixes(s, f.Fixes)
	p.line(4, span{faint, "why    "}, txt("kubectl grpclb explain %s", f.Check))
}

// closing says how much was looked at: checks that passed, and those that did not run with the reason.
func (p *printer) closing(s diagnose.ServiceReport) {
	head := []span{{good, p.ok}, txt(" ")}
	if len(s.Passed) == 0 {
		head[0] = span{doubt, p.doubt}
	}
	text := plural(len(s.Passed), "check") + " passed"
	if p.o.Wide && len(s.Passed) > 0 {
		text += ": " + strings.Join(s.Passed, ", ")
	}
	if len(s.Skipped) > 0 {
		text += fmt.Sprintf("%s%d skipped: %s", p.dot, len(s.Skipped), strings.Join(p.skips(s.Skipped), "; "))
	}
	p.prose(2, head, text)
}

// maxNames is how many checks with one common reason are named.
const maxNames = 3

// skips groups checks that did not run by their reason, those that could not look first.
func (p *printer) skips(skipped []diagnose.Skip) []string {
	type group struct {
		reason, hint string
		names        []string
		denied       bool
	}
	var groups []*group
	for _, s := range skipped {
		i := slices.IndexFunc(groups, func(g *group) bool { return g.reason == s.Reason && g.hint == s.Hint })
		if i < 0 {
			groups = append(groups, &group{reason: s.Reason, hint: s.Hint})
			i = len(groups) - 1
		}
		groups[i].names = append(groups[i].names, s.Check)
		groups[i].denied = groups[i].denied || s.Kind == diagnose.SkipNoFact
	}
	slices.SortStableFunc(groups, func(a, b *group) int {
		if a.denied == b.denied {
			return 0
		} else if a.denied {
			return -1
		}
		return 1
	})
	var out []string
	for _, g := range groups {
		names := strings.Join(g.names, ", ")
		if len(g.names) > maxNames && !p.o.Wide {
			names = fmt.Sprintf("%s and %d more", strings.Join(g.names[:maxNames-1], ", "), len(g.names)-maxNames+1)
		}
		why := g.reason
		if g.hint != "" && (g.denied || p.o.Wide) {
			why += ": " + g.hint
		}
		out = append(out, fmt.Sprintf("%s (%s)", names, why))
	}
	return out
}

func (p *printer) gaps(gaps []diagnose.Gap) {
	if len(gaps) > 0 {
		p.blank()
	}
	for _, g := range gaps {
		text := fmt.Sprintf("%s: %s", g.Subject, cmp.Or(g.Reason, "not seen"))
		if g.Hint != "" {
			text += " (" + g.Hint + ")"
		}
		p.prose(2, []span{{doubt, p.doubt}, txt(" not seen: ")}, text)
	}
}

func (p *printer) footer(r diagnose.Report) {
	p.blank()
	c := r.Cost
	p.prose(2, []span{{faint, "cost   "}}, fmt.Sprintf("%s, %s, %s, %s", plural(c.Lists, "list"), plural(c.Gets, "get"),
		plural(c.Writes, "write"), plural(c.Streams, "stream")))
	seen := r.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC")
	for _, part := range []struct{ word, value string }{
		{"context", r.Cluster.Context}, {"Kubernetes", r.Cluster.Version}, {"depth", r.Depth}, {"by", r.Tool},
	} {
		if part.value != "" {
			seen += p.dot + part.word + " " + part.value
		}
	}
	p.prose(2, []span{{faint, "seen   "}}, seen)
}
