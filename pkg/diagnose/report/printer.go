package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// style is a class of text; only the printer knows which colour it has.
type style int

const (
	plain style = iota
	good
	bad
	doubt
	strong
	faint
)

var sgr = map[style]string{good: "32", bad: "31", doubt: "33", strong: "1", faint: "2"}

// span is a piece of a line.
type span struct {
	style style
	text  string
}

func txt(format string, args ...any) span { return span{plain, fmt.Sprintf(format, args...)} }

// glyphs are the printer's own marks.
type glyphs struct{ ok, bad, doubt, unknown, none, dot, arrow, bar, more string }

var (
	unicodeGlyphs = glyphs{ok: "✓", bad: "✗", doubt: "!", unknown: "?", none: "–", dot: " · ", arrow: "→", bar: "█", more: "…"}
	asciiGlyphs   = glyphs{ok: "+", bad: "x", doubt: "!", unknown: "?", none: "-", dot: " | ", arrow: "->", bar: "=", more: "..."}
)

// printer is the only way from a string to the output: whatever goes through it is made visible first.
type printer struct {
	glyphs
	o   TextOptions
	out bytes.Buffer
	rw  *runewidth.Condition
}

func newPrinter(o TextOptions) *printer {
	p := &printer{o: o, glyphs: unicodeGlyphs, rw: &runewidth.Condition{StrictEmojiNeutral: true}}
	if o.ASCII {
		p.glyphs = asciiGlyphs
	}
	return p
}

// ascii are the characters of our own prose that have a plain stand-in.
var ascii = strings.NewReplacer("→", "->", "·", "-", "…", "...", "–", "-", "—", "-", "×", "x", "≥", ">=", "≤", "<=", "’", "'")

// visible makes a string fit to be printed.
func (p *printer) visible(s string) string {
	s = quote.Visible(s)
	if !p.o.ASCII {
		return s
	}
	var b strings.Builder
	for _, r := range ascii.Replace(s) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func (p *printer) width(s string) int { return p.rw.StringWidth(s) }

// line prints one line. The spans together are looked at once more, since two harmless ones may make a workflow
// command; such a line loses its colours.
func (p *printer) line(indent int, spans ...span) {
	whole := strings.Repeat(" ", indent)
	colored := whole
	for _, s := range spans {
		t := p.visible(s.text)
		whole += t
		if code := sgr[s.style]; p.o.Color && code != "" && t != "" {
			t = "\x1b[" + code + "m" + t + "\x1b[0m"
		}
		colored += t
	}
	if safe := quote.Visible(whole); safe != whole {
		colored = safe
	}
	p.out.WriteString(strings.TrimRight(colored, " ") + "\n")
}

func (p *printer) blank() { p.out.WriteByte('\n') }

// minProse is the narrowest column that prose is wrapped to: in a terminal that is narrower still, lines are cut by the
// terminal rather than by us at every word.
const minProse = 24

// prose prints words wrapped to the width. The first line starts with lead; the others are indented below it.
func (p *printer) prose(indent int, lead []span, text string) {
	used := 0
	for _, s := range lead {
		used += p.width(p.visible(s.text))
	}
	room := max(p.o.Width-indent-used, minProse)
	for _, l := range p.wrap(text, room) {
		p.line(indent, append(lead, span{plain, l})...)
		lead = []span{{plain, strings.Repeat(" ", used)}}
	}
}

// maxProse bounds one text of the output: what is longer is nobody's sentence.
const maxProse = 2000

func (p *printer) wrap(text string, room int) []string {
	text = p.cut(p.visible(text), maxProse)
	if p.o.Width <= 0 {
		return []string{text}
	}
	var out []string
	line, used := "", 0
	for _, w := range strings.Fields(text) {
		n := p.width(w)
		if used > 0 && used+1+n > room {
			out = append(out, line)
			line, used = "", 0
		}
		if used > 0 {
			line += " "
			used++
		}
		line += w
		used += n
	}
	return append(out, line)
}

// cut shortens s to at most n columns, with a mark in the middle: names differ at their ends.
func (p *printer) cut(s string, n int) string {
	if p.width(s) <= n {
		return s
	}
	half := (n - p.width(p.more)) / 2
	tail := []rune(s)
	i := len(tail)
	for used := 0; i > 0; i-- {
		if used += p.rw.RuneWidth(tail[i-1]); used > half {
			break
		}
	}
	return p.rw.Truncate(s, half, "") + p.more + string(tail[i:])
}

// column is one column of a table.
type column struct {
	title string
	right bool
}

// maxCell bounds a cell's width; a pod's name is at most 63 characters where it is a host name too (RFC 1123).
const maxCell = 64

// table prints rows under titles. Columns without any content are left out. A row of one cell is a line of its own.
func (p *printer) table(indent int, cols []column, rows [][]span) {
	widths := make([]int, len(cols))
	for _, r := range rows {
		if len(r) < len(cols) {
			continue
		}
		for i := range r {
			r[i].text = p.cut(p.visible(r[i].text), maxCell)
			widths[i] = max(widths[i], p.width(r[i].text))
		}
	}
	head := make([]span, len(cols))
	for i, c := range cols {
		head[i] = span{faint, c.title}
	}
	for _, r := range append([][]span{head}, rows...) {
		if len(r) < len(cols) {
			p.prose(indent, nil, r[0].text)
			continue
		}
		var line []span
		for i, c := range cols {
			if widths[i] == 0 {
				continue
			}
			if len(line) > 0 {
				line = append(line, txt("  "))
			}
			pad := txt("%*s", max(widths[i], p.width(c.title))-p.width(r[i].text), "")
			if c.right {
				line = append(line, pad, r[i])
			} else {
				line = append(line, r[i], pad)
			}
		}
		p.line(indent, line...)
	}
}

// plural writes "1 pod", "3 pods", "2 addresses".
func plural(n int, word string) string {
	switch {
	case n == 1:
		return "1 " + word
	case strings.HasSuffix(word, "s"):
		return fmt.Sprintf("%d %ses", n, word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// quantity writes a number with a metric prefix and two significant digits: 0, 512 B, 1.2 kB, 34 kB.
func quantity(v float64) string {
	for _, u := range []struct {
		unit string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if v >= u.size*0.9995 {
			if v/u.size < 9.95 {
				return fmt.Sprintf("%.1f %s", v/u.size, u.unit)
			}
			return fmt.Sprintf("%.0f %s", v/u.size, u.unit)
		}
	}
	if v < 0.5 {
		return "0"
	}
	return fmt.Sprintf("%.0f B", v)
}

// micros writes a duration given in microseconds.
func micros(us int64) string {
	switch {
	case us == 0:
		return ""
	case us < 10_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	default:
		return fmt.Sprintf("%d ms", us/1000)
	}
}

// barWidth is the length of a full bar.
const barWidth = 18

func (p *printer) share(part, whole float64) span {
	if whole <= 0 {
		return span{}
	}
	return span{doubt, strings.Repeat(p.bar, int(part/whole*barWidth+0.5))}
}
