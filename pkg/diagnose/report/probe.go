package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// ProbeTable writes where the probe's own calls landed, one table for each way of dialling.
func ProbeTable(w io.Writer, r diagnose.ServiceReport, o TextOptions) error {
	p := newPrinter(o)
	p.blank()
	p.head(r)
	if len(r.Spread.Probes) == 0 {
		p.blank()
		p.line(4, txt("no probe was run"))
	}
	for _, pr := range r.Spread.Probes {
		p.probe(pr)
	}
	return write(w, p.out.Bytes())
}

// probeLines are the probes in one line each.
func (p *printer) probeLines(probes []diagnose.ProbeSpread) {
	if len(probes) > 0 {
		p.blank()
	}
	for _, pr := range probes {
		p.prose(4, []span{{faint, "probe  "}}, fmt.Sprintf("via %s: %s", pr.Via, probeWords(pr)))
	}
}

func probeWords(pr diagnose.ProbeSpread) string {
	if pr.Error != "" && pr.Calls == 0 {
		return pr.Error
	}
	out := fmt.Sprintf("%s over %s", plural(pr.Calls, "call"), plural(pr.Channels, "channel"))
	if pr.Conns != pr.Channels {
		out += fmt.Sprintf(" (%s)", plural(pr.Conns, "connection"))
	}
	if pr.Failed > 0 {
		out += fmt.Sprintf(", %d failed", pr.Failed)
	}
	reached := 0
	for _, r := range pr.Rows {
		if r.Calls > 0 {
			reached++
		}
	}
	if reached > 0 {
		out += fmt.Sprintf(" reached %d of %s", reached, plural(len(pr.Rows), "pod"))
	}
	if pr.Unassigned > 0 {
		out += fmt.Sprintf("; the pods of %s cannot be told", plural(pr.Unassigned, "call"))
	}
	if pr.Error != "" {
		out += "; " + pr.Error
	}
	return out
}

func (p *printer) probe(pr diagnose.ProbeSpread) {
	p.blank()
	switch {
	case pr.Target == "":
		p.prose(4, []span{{strong, "via " + pr.Via}, txt("  ")}, probeWords(pr))
	case pr.From == "":
		p.prose(4, []span{{strong, "via " + pr.Via}, txt("  ")}, "to "+pr.Target)
		p.prose(4, nil, probeWords(pr))
	default:
		p.prose(4, []span{{strong, "via " + pr.Via}, txt("  ")}, fmt.Sprintf("from %s to %s", pr.From, pr.Target))
		p.prose(4, nil, probeWords(pr))
	}
	if st := pr.Statistic; st != nil {
		p.prose(4, nil, fmt.Sprintf("%s: %s", stateWords(pr.State), statisticWords(st, "")))
	}
	rows := slices.Clone(pr.Rows)
	slices.SortStableFunc(rows, func(a, b diagnose.ProbeRow) int { return cmp.Or(cmp.Compare(b.Calls, a.Calls), a.Pod.Compare(b.Pod)) })
	shown := rows
	if len(rows) > maxPods && !p.o.Wide {
		shown = rows[:maxPods-1]
	}
	total := pr.Calls - pr.Unassigned
	if total <= 0 {
		return // nothing is known of where the calls landed: zeros would say otherwise
	}
	var cells [][]span
	for _, r := range shown {
		percent := txt("%.0f %%", 100*float64(r.Calls)/float64(total))
		cells = append(cells, []span{txt("%s", r.Pod.Name), txt("%d", r.Conns), txt("%d", r.Calls), percent, p.share(float64(r.Calls), float64(total))})
	}
	if len(cells) > 0 {
		p.table(4, []column{{"POD", false}, {"CONNS", true}, {"CALLS", true}, {"SHARE", true}, {"", false}}, cells)
	}
	if rest := rows[len(shown):]; len(rest) > 0 {
		calls := 0
		for _, r := range rest {
			calls += r.Calls
		}
		p.prose(4, nil, fmt.Sprintf("%s %s: %s", p.more, plural(len(rest), "more pod"), plural(calls, "call")))
	}
}
