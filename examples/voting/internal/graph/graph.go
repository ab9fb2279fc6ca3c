// Package graph draws what the voting pods did in a few seconds: the CPU that each used, the votes that it had, the share of them that
// failed. It reads the pods' own metrics, twice, and finds the pods by the name of a headless Service; it keeps nothing.
package graph

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

const (
	defaultPods = "voting-metrics:8801"
	defaultOver = 10 * time.Second
	timeout     = 5 * time.Second
	// width is the length of the longest bar.
	width = 30
)

// sample is what a pod has done since it started.
type sample struct {
	pod                  string
	at                   time.Time
	cpu, counted, failed float64
}

// row is what a pod did between two samples.
type row struct {
	pod string
	// cores is the CPU that it used, 1 for a whole core; votes are those of a second, failed the share of them, 0 to 1.
	cores, votes, failed float64
}

// Run is the program.
func Run(ctx context.Context, env app.Env) error {
	f := flag.NewFlagSet("voting-graph", flag.ContinueOnError)
	f.SetOutput(env.Stderr)
	pods := f.String("pods", defaultPods, "`host:port` of the pods' metrics, every address behind the name")
	over := f.Duration("over", defaultOver, "how long to measure")
	if err := f.Parse(env.Args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return app.Usagef("see -help")
	}
	if *over < time.Millisecond {
		return app.Usagef("-over %s: it takes at least a millisecond", *over)
	}
	rows, err := measure(ctx, net.DefaultResolver, *pods, *over)
	if err != nil {
		return err
	}
	return draw(env.Stdout, rows)
}

// measure samples all pods at the beginning and at the end. One that came or went in between is not in the answer.
func measure(ctx context.Context, names *net.Resolver, hostport string, over time.Duration) ([]row, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, app.Usagef("-pods: %w", err)
	}
	addresses, err := names.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("find the pods: %w", err)
	}
	for i, a := range addresses {
		addresses[i] = net.JoinHostPort(a, port)
	}
	before, err := sampleAll(ctx, addresses)
	if err != nil {
		return nil, err
	}
	wait := time.NewTimer(over)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil, app.ErrInterrupted
	}
	after, err := sampleAll(ctx, addresses)
	if err != nil {
		return nil, err
	}
	return compare(before, after), nil
}

func sampleAll(ctx context.Context, addresses []string) ([]sample, error) {
	out := make([]sample, len(addresses))
	var group errgroup.Group
	for i, a := range addresses {
		group.Go(func() (err error) {
			out[i], err = ask(ctx, a)
			return err
		})
	}
	return out, group.Wait()
}

func ask(ctx context.Context, address string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", address, err)
	}
	out, err := http.DefaultClient.Do(r)
	if err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", address, err)
	}
	defer out.Body.Close()
	s, err := read(out.Body)
	if err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", address, err)
	}
	s.at = time.Now()
	return s, nil
}

// read takes the few metrics of the voting server from its page.
func read(page io.Reader) (sample, error) {
	var s sample
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), " ")
		if !found || name == "#" {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return s, fmt.Errorf("metric %s: %w", name, err)
		}
		switch {
		case name == "process_cpu_seconds_total":
			s.cpu = n
		case strings.HasPrefix(name, "voting_votes_total{"):
			if _, rest, ok := strings.Cut(name, `pod="`); ok {
				s.pod, _, _ = strings.Cut(rest, `"`)
			}
			if strings.Contains(name, `result="failed"`) {
				s.failed = n
			} else {
				s.counted = n
			}
		}
	}
	if s.pod == "" {
		return s, errors.New("these are no metrics of a voting server")
	}
	return s, lines.Err()
}

// compare returns a row for each pod that is in both, the busiest first.
func compare(before, after []sample) []row {
	var out []row
	for _, b := range before {
		i := slices.IndexFunc(after, func(a sample) bool { return a.pod == b.pod })
		if i < 0 {
			continue
		}
		a := after[i]
		took := a.at.Sub(b.at).Seconds()
		votes, failed := a.counted+a.failed-b.counted-b.failed, a.failed-b.failed
		if took <= 0 || votes < 0 {
			continue // it started anew
		}
		r := row{pod: b.pod, cores: (a.cpu - b.cpu) / took, votes: votes / took}
		if votes > 0 {
			r.failed = failed / votes
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b row) int { return cmp.Or(cmp.Compare(b.votes, a.votes), strings.Compare(a.pod, b.pod)) })
	return out
}

// draw writes a line with a bar for each pod, the longest for the busiest.
func draw(w io.Writer, rows []row) error {
	most := 0.0
	for _, r := range rows {
		most = max(most, r.cores)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POD\tCPU\tVOTES/S\tFAILED\t")
	for _, r := range rows {
		failed := "-"
		if r.votes > 0 {
			failed = fmt.Sprintf("%.1f %%", 100*r.failed)
		}
		fmt.Fprintf(table, "%s\t%3.0fm\t%.1f\t%s\t%s\n", r.pod, 1000*r.cores, r.votes, failed, bar(r.cores, most))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the graph: %w", err)
	}
	return nil
}

// bar is in eighths of a column.
func bar(value, most float64) string {
	if most <= 0 {
		return ""
	}
	eighths := int(value/most*width*8 + 0.5)
	out := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		out += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return out
}
