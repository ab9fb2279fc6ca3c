// Package result holds what was measured as rows of a table and prints it, for a terminal or as Markdown.
//
// A row that misses its target says so in the same place where another says that it is met; nothing here ends a program or hides a row.
package result

import (
	"fmt"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/stats"
)

// Row is one thing measured.
type Row struct {
	// What names it; a peer is something else measured in the same run, for scale.
	What string
	Peer bool
	// Value is the number that counts, with its unit; Spread says how far single runs were from it.
	Value, Spread string
	// Target is what was promised, "< 60 ms"; empty without a promise. Met means nothing then.
	Target string
	Met    bool
}

// Section is the rows of one measure.
type Section struct {
	ID, Title string
	// Where is the machine and how busy it was, for a document; on a terminal it stands above all sections.
	Where string
	// Notes say under which circumstances, one sentence each.
	Notes []string
	Rows  []Row
	// Tables are rows with columns of their own, for what does not fit a Row.
	Tables []Table
	// Block is text that is printed as it is, such as another program's table.
	Block string
	// LeftOut says why there are no rows, or not all of them.
	LeftOut string
}

// Table is text in columns; each row has as many cells as Head.
type Table struct {
	Head []string
	Rows [][]string
}

// Add appends rows.
func (s *Section) Add(rows ...Row) { s.Rows = append(s.Rows, rows...) }

// Note appends a note.
func (s *Section) Note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// Times makes a row of durations: the median, with quartiles and the 95th percentile.
func Times(what string, sample []time.Duration) Row {
	values := make([]float64, len(sample))
	for i, d := range sample {
		values[i] = d.Seconds() * 1e3
	}
	s := stats.Of(values...)
	return Row{
		What: what, Value: Milliseconds(s.P50),
		Spread: fmt.Sprintf("p25–p75 %s–%s, p95 %s, n=%d", number(s.P25), number(s.P75), Milliseconds(s.P95), s.N),
	}
}

// Under adds a limit for the sample's median.
func (r Row) Under(limit time.Duration, sample []time.Duration) Row {
	values := make([]float64, len(sample))
	for i, d := range sample {
		values[i] = float64(d)
	}
	r.Target, r.Met = "< "+Milliseconds(limit.Seconds()*1e3), stats.Below(stats.Of(values...).P50, float64(limit))
	return r
}

// Bytes makes a row of the largest of some sizes, which is what memory is judged by, with the median beside it.
func Bytes(what string, sample []int64, limit int64) Row {
	values := make([]float64, len(sample))
	for i, n := range sample {
		values[i] = float64(n)
	}
	s := stats.Of(values...)
	r := Row{What: what, Value: Megabytes(s.Max), Spread: fmt.Sprintf("largest of n=%d, p50 %s", s.N, Megabytes(s.P50))}
	if limit > 0 {
		r.Target, r.Met = "< "+Megabytes(float64(limit)), stats.Below(s.Max, float64(limit))
	}
	return r
}

// Milliseconds writes a time with three digits that mean something.
func Milliseconds(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.2f s", v/1000)
	}
	return number(v) + " ms"
}

// Megabytes writes bytes in units of 10^6.
func Megabytes(v float64) string { return number(v/1e6) + " MB" }

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
