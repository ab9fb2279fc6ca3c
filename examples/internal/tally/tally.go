// Package tally counts answers by the host that gave them. In a cluster a host is a pod, so a tally is the spread of
// calls over pods as the caller saw it. It cannot show pods that never answered: the caller does not know of them.
package tally

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
)

// Row is one host's share of the answers.
type Row struct {
	Host  string `json:"hostname"`
	Calls int64  `json:"calls"`
}

// Counts is a tally that many goroutines may add to. The zero value is empty and ready.
type Counts struct {
	mu    sync.Mutex
	hosts map[string]int64
}

// Add counts n answers from host.
func (c *Counts) Add(host string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts == nil {
		c.hosts = make(map[string]int64)
	}
	c.hosts[host] += n
}

// Rows gives the tally as it stands, most calls first, equals by name. It is never nil.
func (c *Counts) Rows() []Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := make([]Row, 0, len(c.hosts))
	for host, calls := range c.hosts {
		rows = append(rows, Row{Host: host, Calls: calls})
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Host, b.Host))
	})
	return rows
}

// WriteTable prints rows with each host's share of all of them; no rows print nothing.
func WriteTable(w io.Writer, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	var total int64
	for _, r := range rows {
		total += r.Calls
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "POD\tCALLS\tSHARE")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%.1f %%\n", r.Host, Thousands(r.Calls), 100*float64(r.Calls)/float64(max(total, 1)))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the tally: %w", err)
	}
	return nil
}

// Thousands writes n with a comma between groups of three digits.
func Thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(digits) - 3; i > start; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
