package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Limits of the matrix without Wide: what does not fit a terminal is summed up.
const (
	maxMatrixPods    = 8
	maxMatrixClients = 20
)

// matrix prints connections (and bytes per second) of each client to each pod.
func (p *printer) matrix(s diagnose.Spread) {
	if len(s.Flows) == 0 {
		return
	}
	rows := slices.Clone(s.Rows)
	slices.SortStableFunc(rows, busier)
	var pods []diagnose.Key
	for _, r := range rows {
		pods = append(pods, r.Pod)
	}
	others := false
	if len(pods) > maxMatrixPods && !p.o.Wide {
		pods, others = pods[:maxMatrixPods-1], true
	}
	cols := []column{{"CLIENT", false}, {"WORKLOAD", false}}
	for _, name := range p.shorten(pods) {
		cols = append(cols, column{name, true})
	}
	if others {
		cols = append(cols, column{"others", true})
	}
	clients := groupFlows(s.Flows)
	shown := clients
	if len(clients) > maxMatrixClients && !p.o.Wide {
		shown = clients[:maxMatrixClients-1]
	}
	var cells [][]span
	for _, c := range shown {
		cells = append(cells, p.matrixRow(c, pods, others))
	}
	p.blank()
	p.table(4, cols, cells)
	if n := len(clients) - len(shown); n > 0 {
		p.prose(4, nil, fmt.Sprintf("%s %s", p.more, plural(n, "more client")))
	}
	p.prose(4, nil, "each cell: connections, and bytes per second where measured")
}

type clientFlows struct {
	flows []diagnose.Flow
	rate  float64
}

func groupFlows(flows []diagnose.Flow) []clientFlows {
	var out []clientFlows
	for _, f := range flows {
		i := slices.IndexFunc(out, func(c clientFlows) bool { return c.flows[0].Client == f.Client })
		if i < 0 {
			out, i = append(out, clientFlows{}), len(out)
		}
		out[i].flows = append(out[i].flows, f)
		out[i].rate += value(f.Rate)
	}
	slices.SortStableFunc(out, func(a, b clientFlows) int {
		return cmp.Or(cmp.Compare(b.rate, a.rate), strings.Compare(a.flows[0].Client, b.flows[0].Client))
	})
	return out
}

func (p *printer) matrixRow(c clientFlows, pods []diagnose.Key, others bool) []span {
	first := c.flows[0]
	name := first.Client
	if first.Hidden {
		name += " (source hidden)"
	}
	row := []span{txt("%s", name), txt("%s", first.Workload)}
	rest := make([]diagnose.Flow, 0, len(c.flows))
	cells := make([]span, len(pods))
	for i := range cells {
		cells[i] = span{faint, p.none}
	}
	for _, f := range c.flows {
		if i := slices.Index(pods, f.Pod); i >= 0 {
			cells[i] = p.flowCell(f.Conns, f.Rate)
		} else {
			rest = append(rest, f)
		}
	}
	row = append(row, cells...)
	if others {
		row = append(row, p.sumCell(rest))
	}
	return row
}

func (p *printer) sumCell(flows []diagnose.Flow) span {
	if len(flows) == 0 {
		return span{faint, p.none}
	}
	conns, rate := 0, 0.0
	for _, f := range flows {
		conns, rate = conns+f.Conns, rate+value(f.Rate)
	}
	return p.flowCell(conns, &rate)
}

func (p *printer) flowCell(conns int, rate *float64) span {
	if rate == nil {
		return txt("%d", conns)
	}
	return txt("%d%s%s", conns, p.dot, quantity(*rate))
}

// shorten leaves out what all names have in common at the start, so that columns stay narrow.
func (p *printer) shorten(pods []diagnose.Key) []string {
	out := make([]string, len(pods))
	for i, k := range pods {
		out[i] = p.visible(cmp.Or(k.Name, "(no pod)"))
	}
	if len(out) < 2 {
		return out
	}
	n := strings.LastIndexByte(out[0], '-') + 1
	for n > 0 && !allHave(out, out[0][:n]) {
		n = strings.LastIndexByte(out[0][:n-1], '-') + 1
	}
	if n > 0 {
		for i := range out {
			out[i] = p.more + out[i][n:]
		}
	}
	return out
}

func allHave(names []string, prefix string) bool {
	return !slices.ContainsFunc(names, func(s string) bool { return !strings.HasPrefix(s, prefix) })
}
