package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// SpreadTable writes who is connected to whom: the pods of a Service with connections, bytes per second and CPU, then
// the client x pod matrix.
func SpreadTable(w io.Writer, r diagnose.ServiceReport, o TextOptions) error {
	p := newPrinter(o)
	p.blank()
	p.head(r)
	p.pods(r.Spread)
	p.matrix(r.Spread)
	p.statistic(r.Spread)
	return write(w, p.out.Bytes())
}

// maxPods is how many lines of pods a table shows without Wide. Of more pods the busiest and the quietest are shown, since
// either tells what is wrong; those between them are one line.
const (
	maxPods  = 12
	quietest = 3
)

// pods prints the pod table, busiest first.
func (p *printer) pods(s diagnose.Spread) {
	if len(s.Rows) == 0 {
		return
	}
	rows := slices.Clone(s.Rows)
	slices.SortStableFunc(rows, busier)
	bars := newBars(s)
	head, between, tail := rows, []diagnose.SpreadRow(nil), []diagnose.SpreadRow(nil)
	if len(rows) > maxPods && !p.o.Wide {
		head, between, tail = ends(rows)
	}
	cells := p.podRows(head, bars)
	if len(between) > 0 {
		cells = append(cells, []span{txt("%s %s", p.more, summarise(between))})
	}
	cells = append(cells, p.podRows(tail, bars)...)
	p.blank()
	cols := []column{{"POD", false}, {"NODE", false}, {"ZONE", false}, {"STATE", false}, {"CONNS", true}, {"BYTES/S", true}, {"CPU", true}, {"", false}}
	p.table(4, cols, cells)
	if s.Note != "" {
		p.prose(4, nil, s.Note)
	}
	if s.Unseen > 0 {
		p.prose(4, nil, fmt.Sprintf("the sockets of %s were not read", plural(s.Unseen, "ready pod")))
	}
}

// ends splits rows, busiest first, into the busiest, those between, and the quietest that are ready: one that is not has
// a reason to be quiet.
func ends(rows []diagnose.SpreadRow) (head, between, tail []diagnose.SpreadRow) {
	n := maxPods - 1 - quietest
	head = rows[:n]
	for _, r := range slices.Backward(rows[n:]) {
		if r.Ready && len(tail) < quietest {
			tail = append(tail, r)
		} else {
			between = append(between, r)
		}
	}
	slices.Reverse(tail)
	slices.Reverse(between)
	return head, between, tail
}

func (p *printer) podRows(rows []diagnose.SpreadRow, b bars) [][]span {
	var cells [][]span
	for _, r := range rows {
		x, ok := b.of(r)
		bar := span{faint, "not measured"}
		if ok || b.known == 0 {
			bar = p.share(x, b.total)
		}
		cells = append(cells, append(podCells(r), bar))
	}
	return cells
}

// bars are what stands at the end of the rows: each pod's share of the total.
type bars struct {
	of    measured
	known int     // pods whose part is known
	total float64 // 0 when there are not two to compare
}

func newBars(s diagnose.Spread) bars {
	b := bars{of: measure(s)}
	for _, r := range s.Rows {
		if x, ok := b.of(r); ok {
			b.known++
			b.total += x
		}
	}
	if b.known < 2 {
		b.total = 0
	}
	return b
}

// measured returns a pod's part of what the bars show; false when it is not known, which is no zero.
type measured func(diagnose.SpreadRow) (float64, bool)

func busier(a, b diagnose.SpreadRow) int {
	return cmp.Or(
		cmp.Compare(value(b.Rate), value(a.Rate)),
		cmp.Compare(value(b.Conns), value(a.Conns)),
		cmp.Compare(value(b.CPU), value(a.CPU)),
		a.Pod.Compare(b.Pod),
	)
}

func value[T int | int64 | float64](v *T) float64 {
	if v == nil {
		return 0
	}
	return float64(*v)
}

// measure is what the bars show: what the spread was judged by, else the best that is known.
func measure(s diagnose.Spread) measured {
	known := func(has func(diagnose.SpreadRow) bool) bool { return slices.ContainsFunc(s.Rows, has) }
	switch {
	case known(func(r diagnose.SpreadRow) bool { return value(r.Rate) > 0 }):
		return func(r diagnose.SpreadRow) (float64, bool) { return value(r.Rate), r.Rate != nil }
	case s.Basis == "cpu" || !known(func(r diagnose.SpreadRow) bool { return r.Conns != nil }):
		return func(r diagnose.SpreadRow) (float64, bool) { return value(r.CPU), r.CPU != nil }
	}
	return func(r diagnose.SpreadRow) (float64, bool) { return value(r.Conns), r.Conns != nil }
}

func podCells(r diagnose.SpreadRow) []span {
	c := []span{txt("%s", cmp.Or(r.Pod.Name, strings.Join(r.IPs, ", "), "(no pod)")), txt("%s", r.Node), txt("%s", r.Zone), {}, {}, {}, {}}
	if !r.Ready {
		c[3] = span{doubt, "not ready"}
	}
	if r.Conns != nil {
		c[4] = txt("%d", *r.Conns)
	}
	if r.Rate != nil {
		c[5] = txt("%s", quantity(*r.Rate))
	}
	if r.CPU != nil {
		c[6] = txt("%dm", *r.CPU)
	}
	return c
}

// summarise says how many rows there are, and between what their values lie.
func summarise(rows []diagnose.SpreadRow) string {
	parts := []string{plural(len(rows), "more pod")}
	if n := countNotReady(rows); n > 0 {
		parts[0] += fmt.Sprintf(" (%d not ready)", n)
	}
	add := func(of func(diagnose.SpreadRow) (float64, bool), low func(float64) string, high func(float64) string) {
		var xs []float64
		for _, r := range rows {
			if x, ok := of(r); ok {
				xs = append(xs, x)
			}
		}
		if len(xs) == 0 {
			return
		}
		lo, hi := low(slices.Min(xs)), high(slices.Max(xs))
		if slices.Min(xs) == slices.Max(xs) {
			parts = append(parts, hi+" each")
			return
		}
		parts = append(parts, lo+" to "+hi)
	}
	number := func(x float64) string { return fmt.Sprintf("%.0f", x) }
	add(func(r diagnose.SpreadRow) (float64, bool) { return value(r.Conns), r.Conns != nil },
		number, func(x float64) string { return plural(int(x), "connection") })
	add(func(r diagnose.SpreadRow) (float64, bool) { return value(r.Rate), r.Rate != nil },
		func(x float64) string { return quantity(x) + "/s" }, func(x float64) string { return quantity(x) + "/s" })
	add(func(r diagnose.SpreadRow) (float64, bool) { return value(r.CPU), r.CPU != nil },
		func(x float64) string { return number(x) + "m" }, func(x float64) string { return number(x) + "m CPU" })
	return strings.Join(parts, ", ")
}

func countNotReady(rows []diagnose.SpreadRow) int {
	n := 0
	for _, r := range rows {
		if !r.Ready {
			n++
		}
	}
	return n
}

// statistic prints the number that the judgement rests on, with its sample.
func (p *printer) statistic(s diagnose.Spread) {
	if s.Statistic == nil {
		return
	}
	p.blank()
	during := ""
	if s.Basis == "bytes" && s.IntervalSeconds > 0 {
		during = fmt.Sprintf(" in %.3g s", s.IntervalSeconds)
	}
	if s.Statistic.N == 0 {
		p.prose(4, []span{{faint, "spread  "}}, fmt.Sprintf("%s by %s: nothing%s over %s", stateWords(s.State), s.Basis, during, plural(s.Statistic.Pods, "pod")))
		return
	}
	p.prose(4, []span{{faint, "spread  "}}, fmt.Sprintf("%s by %s: %s", stateWords(s.State), s.Basis, statisticWords(s.Statistic, during)))
}

func stateWords(s diagnose.SpreadState) string {
	switch s {
	case diagnose.SpreadOnePod:
		return "one pod"
	case diagnose.SpreadSingle:
		return "only one pod"
	case diagnose.SpreadRough:
		return "roughly even"
	case diagnose.SpreadIdle:
		return "too little to judge"
	case diagnose.SpreadUnknown:
		return "not measured"
	}
	return string(s)
}

// statisticWords writes a statistic with its sample; during is how long it was taken, if that matters.
func statisticWords(st *diagnose.Statistic, during string) string {
	sample := fmt.Sprintf("n = %.0f %s%s over %s, largest share %.0f %%", st.N, st.Unit, during, plural(st.Pods, "pod"), 100*st.MaxShare)
	switch {
	case st.Name == "jain" && st.Pods > 0:
		return fmt.Sprintf("Jain's index %.2f (1 is even, %.2f is one pod), %s", st.Value, 1/float64(st.Pods), sample)
	case st.P != nil && *st.P < 0.001:
		return fmt.Sprintf("%s %.1f, p < 0.001, %s", st.Name, st.Value, sample)
	case st.P != nil:
		return fmt.Sprintf("%s %.1f, p = %.3f, %s", st.Name, st.Value, *st.P, sample)
	}
	return fmt.Sprintf("%s %.2f, %s", st.Name, st.Value, sample)
}
