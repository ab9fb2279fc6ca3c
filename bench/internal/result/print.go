package result

import (
	"fmt"
	"io"
	"os"
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
	for _, t := range s.Tables {
		b.WriteString(t.markdown()) // columns are wide: a terminal gets what a document does
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

// Markdown prints a section as a table for a document.
func Markdown(w io.Writer, s Section) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n", upperFirst(s.Title))
	if s.Where != "" {
		fmt.Fprintf(&b, "\nMeasured on: %s.\n", s.Where)
	}
	if len(s.Rows) > 0 {
		b.WriteString("\n| what | measured | spread | target | |\n|-|-|-|-|-|\n")
	}
	for _, r := range s.Rows {
		b.WriteString("| " + strings.Join(r.cells(), " | ") + " |\n")
	}
	for _, t := range s.Tables {
		b.WriteString("\n" + t.markdown())
	}
	if s.Block != "" {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", strings.TrimRight(s.Block, "\n"))
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\n%s\n", upperFirst(n))
	}
	if s.LeftOut != "" {
		fmt.Fprintf(&b, "\nLeft out: %s.\n", s.LeftOut)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown writes the table with its pipes in line, which is read as it is and as a document.
func (t Table) markdown() string {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, c := range row {
			b.WriteString("| " + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)) + " ")
		}
		b.WriteString("|\n")
	}
	line(t.Head)
	b.WriteString(strings.Repeat("|-", len(t.Head)) + "|\n")
	for _, row := range t.Rows {
		line(row)
	}
	return b.String()
}

func upperFirst(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + s[n:]
}

// Replace puts a section into a document, between the two comments that carry its ID.
func Replace(doc string, s Section) (string, error) {
	begin, end := "<!-- measured: "+s.ID+" -->\n", "<!-- end: "+s.ID+" -->"
	head, rest, ok := strings.Cut(doc, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("the document lacks %q or %q", strings.TrimSpace(begin), end)
	}
	var text strings.Builder
	if err := Markdown(&text, s); err != nil {
		return "", err
	}
	return head + begin + text.String() + end + tail, nil
}

// Write puts sections into the document that is this file, each between its marks. The rest of it stays; on an error all of it does.
func Write(file string, sections ...Section) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc := string(old)
	for _, s := range sections {
		if doc, err = Replace(doc, s); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}
