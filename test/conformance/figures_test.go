//go:build conformance

package conformance

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// writeVariable names the document into which the floods' figures go.
const writeVariable = "GRPCLB_WRITE"

// figures are what was seen of one flood, as cells of a table.
type figures struct{ what, note, before, most, calls, took string }

var figuresHead = figures{"flood", "of it", "memory before", "at most", "another client's calls", "their p50, p99"}

// noted are the figures of this run. The floods run one after the other.
var noted []figures

func (f figures) cells() []string { return []string{f.what, f.note, f.before, f.most, f.calls, f.took} }

// String is the form in which a test logs them.
func (f figures) String() string {
	return fmt.Sprintf("figures: %s: %s; memory %s before, %s at most; calls of another client: %s; their p50, p99: %s",
		f.what, f.note, f.before, f.most, f.calls, f.took)
}

// writeFigures puts them into a document, between its marks; where nothing was noted it stays as it is.
func writeFigures(file string) error {
	if file == "" || len(noted) == 0 {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	const begin, end = "<!-- measured: floods -->\n", "<!-- end: floods -->"
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s lacks %q or %q", file, strings.TrimSpace(begin), end)
	}
	slices.SortStableFunc(noted, func(a, b figures) int { return strings.Compare(kind(a), kind(b)) })
	var table strings.Builder
	for i, row := range append([]figures{figuresHead}, noted...) {
		fmt.Fprintf(&table, "| %s |\n", strings.Join(row.cells(), " | "))
		if i == 0 {
			table.WriteString(strings.Repeat("|-", len(row.cells())) + "|\n")
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(load), " ")
		fmt.Fprintf(&table, "\nOn %d cores, load average %s at the end, of which the floods are about 2.\n", runtime.NumCPU(), first)
	}
	return os.WriteFile(file, []byte(head+begin+table.String()+end+tail), 0o644)
}

// kind keeps the rows of one test together: maps run in any order.
func kind(f figures) string {
	for _, prefix := range []string{"slow read", "connections"} {
		if strings.HasPrefix(f.what, prefix) {
			return f.what
		}
	}
	return ""
}
