package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/bench/internal/stats"
)

// What is promised of the refresher's policies.
const (
	pickTarget   = 60 * time.Nanosecond // peak_ewma, beyond two clock reads
	updateTarget = 5 * time.Millisecond // one change in 10,000 endpoints
	memoryPerPod = 2048                 // bytes per endpoint beyond grpc-go's own
)

// cpuUnit is the CPU time of an operation, which a busy machine stretches less than wall time.
const cpuUnit = "cpu-ns/op"

// policies runs the benchmarks of what the refresher adds to calls and updates.
func policies(ctx context.Context, b *bench, s *result.Section) error {
	program := filepath.Join(b.dir, exe("policy.test"))
	if err := command(ctx, b.path("bench"), nil, "go", "test", "-c", "-o", program, "./policy"); err != nil {
		return err
	}
	// A round is all of them once, so that what is compared takes turns and a slow minute of the machine is everybody's.
	const rounds = 10
	var raw bytes.Buffer
	for i := range rounds {
		b.say("round %d of %d", i+1, rounds)
		for _, args := range [][]string{
			{"-test.bench", "^BenchmarkPick$", "-test.benchtime", "10ms", "-test.cpu", "1,2"},
			{"-test.bench", "^Benchmark(Update|Call)$", "-test.benchtime", "200ms"},
			{"-test.bench", "^BenchmarkMemory$", "-test.benchtime", "1x"},
		} {
			cmd := exec.CommandContext(ctx, program, append(args, "-test.run", "^$", "-test.benchmem")...)
			cmd.Dir = b.dir
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("run the benchmarks: %w: %s", err, tail(out))
			}
			raw.Write(out)
		}
	}
	all := parseBenchmarks(raw.String())
	s.Add(policyRows(all)...)
	s.Note("A pick and the end of its call; medians of %d rounds in which all took turns, differences taken within a round. round_robin of grpc-go and "+
		"httplb measure no latency and read no clock. weighted_round_robin and p2c_ewma are left out at 10,000 endpoints: they build their pickers anew "+
		"for each endpoint that gets ready, which takes minutes.", rounds)
	file := filepath.Join(b.dir, "policy.txt")
	if err := os.WriteFile(file, raw.Bytes(), 0o600); err != nil {
		return err
	}
	stat := exec.CommandContext(ctx, "go", "tool", "benchstat", "-filter", ".name:(Call OR Update OR Memory) -.unit:(B/op OR allocs/op)", "-col", "/impl@(grpc-go_round_robin refresher policy)", file)
	stat.Dir = b.path("tools")
	var stderr bytes.Buffer
	stat.Stderr = &stderr
	table, err := stat.Output()
	if err != nil {
		return fmt.Errorf("benchstat: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	s.Block = pickTable(all) + "\n" + strings.ReplaceAll(string(table), b.dir+string(filepath.Separator), "")
	return nil
}

// measured are the values of each benchmark by unit, one per round.
type measuredValues map[string]map[string][]float64

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\S+)\s+\d+\s+(.*)$`)

// parseBenchmarks reads the output of go test (https://go.dev/design/14313-benchmark-format).
func parseBenchmarks(out string) measuredValues {
	all := measuredValues{}
	for _, m := range benchmarkLine.FindAllStringSubmatch(out, -1) {
		units := all[m[1]]
		if units == nil {
			units = map[string][]float64{}
			all[m[1]] = units
		}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = append(units[fields[i+1]], v)
			}
		}
	}
	return all
}

// beyond is how much more the one took than the other, round by round.
func (m measuredValues) beyond(name, floor, unit string) []float64 {
	a, b := m[name][unit], m[floor][unit]
	var out []float64
	for i := range min(len(a), len(b)) {
		out = append(out, a[i]-b[i])
	}
	return out
}

// contestants are those that BenchmarkPick compares, in the words of the table.
var contestants = []struct{ impl, what string }{
	{"two_clock_reads", "two clock reads"},
	{"peak_ewma", "ours, peak_ewma"},
	{"least_request", "ours, least_request"},
	{"round_robin", "ours, round_robin"},
	{"grpc_peak_ewma", "ours, peak_ewma as gRPC balancer"},
	{"grpc-go_round_robin", "grpc-go round_robin"},
	{"grpc-go_weighted_round_robin", "grpc-go weighted_round_robin"},
	{"grpc-go_least_request", "grpc-go least_request"},
	{"go-zero_p2c_ewma", "go-zero p2c_ewma"},
	{"httplb_power_of_two", "httplb power of two"},
}

var pickSizes = []int{3, 10, 100, 1000, 10000}

func pickName(impl string, endpoints int, threads string) string {
	return fmt.Sprintf("Pick/endpoints=%d/impl=%s%s", endpoints, impl, threads)
}

// policyRows hold what is promised against what was measured.
func policyRows(m measuredValues) []result.Row {
	var rows []result.Row
	for _, n := range pickSizes {
		ours, floor := pickName("peak_ewma", n, ""), pickName("two_clock_reads", n, "")
		d := stats.Of(m.beyond(ours, floor, cpuUnit)...)
		rows = append(rows, result.Row{
			What: fmt.Sprintf("%d endpoints, peak_ewma beyond two clock reads, CPU time", n), Value: fmt.Sprintf("%.0f ns", d.P50),
			Spread: fmt.Sprintf("p25–p75 %.0f–%.0f, least %.0f, n=%d; two clock reads %.0f", d.P25, d.P75, d.Min, d.N, stats.Of(m[floor][cpuUnit]...).P50),
			Target: fmt.Sprintf("<= %d ns, 0 allocs", pickTarget.Nanoseconds()),
			Met:    d.N > 0 && d.P50 <= float64(pickTarget.Nanoseconds()) && stats.Of(m[ours]["allocs/op"]...).Max == 0,
		})
	}
	return append(rows, updateRows(m)...)
}

// pickTable is all that BenchmarkPick compares: CPU time by one thread, and wall time with two, by number of endpoints.
func pickTable(m measuredValues) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, part := range []struct{ title, threads, unit string }{
		{"CPU ns, one thread", "", cpuUnit}, {"wall ns, two threads", "-2", "ns/op"},
	} {
		fmt.Fprintf(w, "%s, endpoints\t", part.title)
		for _, n := range pickSizes {
			fmt.Fprintf(w, "%d\t", n)
		}
		fmt.Fprintln(w, "allocs\t")
		for _, c := range contestants {
			fmt.Fprintf(w, "%s\t", c.what)
			var allocs float64
			for _, n := range pickSizes {
				units := m[pickName(c.impl, n, part.threads)]
				if len(units[part.unit]) == 0 {
					fmt.Fprint(w, "-\t")
					continue
				}
				fmt.Fprintf(w, "%.0f\t", stats.Of(units[part.unit]...).P50)
				allocs = max(allocs, stats.Of(units["allocs/op"]...).P50)
			}
			fmt.Fprintf(w, "%.0f\t\n", allocs)
		}
	}
	_ = w.Flush() // into memory
	return text.String()
}

// updateRows are the other promises.
func updateRows(m measuredValues) []result.Row {
	var rows []result.Row
	find := func(prefix, unit string) []float64 { // whatever GOMAXPROCS was
		for name, units := range m {
			if name == prefix || strings.HasPrefix(name, prefix+"-") {
				return units[unit]
			}
		}
		return nil
	}
	for _, u := range []struct{ impl, what string }{
		{"refresher", "one of 10,000 endpoints replaced, from the source to gRPC's new picker"}, {"policy", "the picker of 10,000 endpoints alone"},
	} {
		var sample []time.Duration
		for _, ns := range find("Update/endpoints=10000/impl="+u.impl, "ns/op") {
			sample = append(sample, time.Duration(ns))
		}
		rows = append(rows, result.Times(u.what, sample).Under(updateTarget, sample))
		sample = nil
		for _, ns := range find("Update/endpoints=10000/impl="+u.impl, cpuUnit) {
			sample = append(sample, time.Duration(ns))
		}
		rows = append(rows, result.Times(u.what+", CPU time", sample))
	}
	ours, stock := find("Memory/endpoints=1000/impl=refresher", "held-B/endpoint"), find("Memory/endpoints=1000/impl=grpc-go_round_robin", "held-B/endpoint")
	var more []float64
	for i := range min(len(ours), len(stock)) {
		more = append(more, ours[i]-stock[i])
	}
	d := stats.Of(more...)
	rows = append(rows, result.Row{
		What: "memory per endpoint beyond grpc-go's round_robin, without the connection", Value: fmt.Sprintf("%.0f bytes", d.P50),
		Spread: fmt.Sprintf("ours %.0f, grpc-go %.0f, n=%d", stats.Of(ours...).P50, stats.Of(stock...).P50, d.N),
		Target: fmt.Sprintf("< %d bytes", memoryPerPod), Met: d.N > 0 && d.P50 < memoryPerPod,
	})
	call, base := find("Call/impl=refresher", cpuUnit), find("Call/impl=grpc-go_round_robin", cpuUnit)
	var ratios []float64
	for i := range min(len(call), len(base)) {
		ratios = append(ratios, (call[i]/base[i]-1)*100)
	}
	r := stats.Of(ratios...)
	rows = append(rows, result.Row{
		What: "a whole unary call over loopback beyond grpc-go's round_robin, CPU time", Value: fmt.Sprintf("%+.1f%%", r.P50),
		Spread: fmt.Sprintf("p25–p75 %+.1f–%+.1f, ours %.1f µs, grpc-go %.1f µs, n=%d", r.P25, r.P75, stats.Of(call...).P50/1e3, stats.Of(base...).P50/1e3, r.N),
		Target: "< 2% or within the noise",
		// Within the noise: the quartiles of the differences lie on both sides of nothing.
		Met: r.N > 0 && (r.P50 < 2 || r.P25 <= 0 && r.P75 >= 0),
	})
	return rows
}
