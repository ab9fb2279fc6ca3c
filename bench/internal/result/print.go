package result

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// verdict is the last column of a row.
func (r Row) verdict() string {
	switch {
	case r.Target == "":
		return ""
	case r.Met:
		return "met"
	}
	return "MISSED"
}

func (r Row) name() string {
	if r.Peer {
		return r.What + " (peer)"
	}
	return r.What
}

func (r Row) cells() []string { return []string{r.name(), r.Value, r.Spread, r.Target, r.verdict()} }

// Text prints a section for a terminal.
func Text(w io.Writer, s Section) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n", s.ID, s.Title)
	widths := make([]int, len(Row{}.cells()))
	for _, r := range s.Rows {
		for i, c := range r.cells() {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range s.Rows {
		var line strings.Builder
		for i, c := range r.cells() {
			line.WriteString("  " + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if s.Block != "" {
		b.WriteString(strings.TrimRight(s.Block, "\n") + "\n")
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "  # %s\n", n)
	}
	if s.LeftOut != "" {
		fmt.Fprintf(&b, "  left out: %s\n", s.LeftOut)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown prints sections as tables for a document.
func Markdown(w io.Writer, sections []Section) error {
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "\n### %s\n", upperFirst(s.Title))
		if len(s.Rows) > 0 {
			b.WriteString("\n| what | measured | spread | target | |\n|-|-|-|-|-|\n")
		}
		for _, r := range s.Rows {
			b.WriteString("| " + strings.Join(r.cells(), " | ") + " |\n")
		}
		if s.Block != "" {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", strings.TrimRight(s.Block, "\n"))
		}
		for _, n := range s.Notes {
			fmt.Fprintf(&b, "\n%s\n", upperFirst(n))
		}
		if s.LeftOut != "" {
			fmt.Fprintf(&b, "\nLeft out in this run: %s.\n", s.LeftOut)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func upperFirst(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + s[n:]
}

// The lines of a document between which its measured part stands.
const (
	Begin = "<!-- measured: begin -->"
	End   = "<!-- measured: end -->"
)

// Replace puts text between the two marks of a document.
func Replace(doc, text string) (string, error) {
	head, rest, ok := strings.Cut(doc, Begin)
	_, tail, closed := strings.Cut(rest, End)
	if !ok || !closed {
		return "", fmt.Errorf("the document lacks %q or %q", Begin, End)
	}
	return head + Begin + "\n" + strings.TrimLeft(text, "\n") + End + tail, nil
}
