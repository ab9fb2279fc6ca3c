package admin

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// exposition writes Prometheus' text format 0.0.4. All values exist already, as a
// snapshot: what a metrics library adds is registries that hold them a second
// time, and memory in every pod (docs/design/dependencies.md has the figures).
type exposition struct {
	bytes.Buffer
	metric Metric
	// series are the label sets of this metric, so that no line comes twice: a
	// scraper throws the whole scrape away for one.
	series map[string]bool
}

// begin writes the head of a metric.
func (e *exposition) begin(m Metric) {
	e.metric = m
	e.series = map[string]bool{}
	e.WriteString("# HELP ")
	e.WriteString(m.Name)
	e.WriteByte(' ')
	e.WriteString(helpEscapes.Replace(m.Help))
	e.WriteString("\n# TYPE ")
	e.WriteString(m.Name)
	e.WriteByte(' ')
	e.WriteString(m.Type)
	e.WriteByte('\n')
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// maxLabel bounds a label's value, which is text of others. A name of DNS has at
// most 253 characters.
const maxLabel = 256

func label(value string) string {
	return labelEscapes.Replace(clip(strings.ToValidUTF8(value, "?"), maxLabel))
}

// value writes a line of the metric; labels are the values for its Labels, in
// their order.
func (e *exposition) value(v float64, labels ...string) {
	text := e.labels(labels)
	if e.series[text] {
		return
	}
	e.series[text] = true
	e.line("", text, v)
}

// histogram writes the lines of a histogram.
func (e *exposition) histogram(h sidecar.Histogram, labels ...string) {
	text := e.labels(labels)
	if e.series[text] {
		return
	}
	e.series[text] = true
	before := ""
	if text != "" {
		before = text + ","
	}
	var sum uint64
	for i, bound := range h.Bounds {
		if i < len(h.Counts) {
			sum += h.Counts[i]
		}
		e.line("_bucket", before+`le="`+number(bound)+`"`, float64(sum))
	}
	e.line("_bucket", before+`le="+Inf"`, float64(h.Count))
	e.line("_sum", text, h.Sum)
	e.line("_count", text, float64(h.Count))
}

func (e *exposition) labels(values []string) string {
	var b strings.Builder
	for i, name := range e.metric.Labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
		b.WriteString(`="`)
		b.WriteString(label(values[i]))
		b.WriteByte('"')
	}
	return b.String()
}

func (e *exposition) line(suffix, labels string, v float64) {
	e.WriteString(e.metric.Name)
	e.WriteString(suffix)
	if labels != "" {
		e.WriteByte('{')
		e.WriteString(labels)
		e.WriteByte('}')
	}
	e.WriteByte(' ')
	e.WriteString(number(v))
	e.WriteByte('\n')
}

func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// unique are the targets' names, told apart where two are the same.
func unique(pools []sidecar.Stats) []string {
	out := make([]string, 0, len(pools))
	for _, s := range pools {
		name := s.Name
		if slices.Contains(out, name) {
			name += " on " + strings.Join(s.Listen, " ")
		}
		out = append(out, name)
	}
	return out
}
