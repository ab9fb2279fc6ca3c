package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/bench/internal/stats"
)

// residentTarget is what ours may have in memory at 2,000 calls a second.
const residentTarget = 10_000_000

// of is what get says of the samples of one scenario and contestant, by round; rounds without one are left out.
func (out *outcome) of(scenario, contestant string, get func(sample) float64) map[int]float64 {
	values := map[int]float64{}
	for _, s := range out.samples {
		if s.scenario == scenario && s.contestant == contestant {
			values[s.round] = get(s)
		}
	}
	return values
}

func quantile(p float64) func(sample) float64 {
	return func(s sample) float64 { return float64(s.result.Quantile(p)) / float64(time.Microsecond) }
}

// added is the time that a contestant adds to the same quantile of the same round without a proxy, in microseconds.
func (out *outcome) added(scenario, contestant string, p float64) map[int]float64 {
	without := out.of(scenario, direct, quantile(p))
	values := out.of(scenario, contestant, quantile(p))
	for round, v := range values {
		if base, ok := without[round]; ok {
			values[round] = v - base
		} else {
			delete(values, round)
		}
	}
	return values
}

// ratios are a/b of the rounds in which b is more than nothing.
func ratios(a, b map[int]float64) []float64 {
	var out []float64
	for round, v := range a {
		if base := b[round]; base > 0 {
			out = append(out, v/base)
		}
	}
	return out
}

func summary(values map[int]float64) stats.Summary {
	return stats.Of(slices.Collect(maps.Values(values))...)
}

// ratioRow judges a ratio of medians, with the least and the largest ratio of a round beside it. Medians first, because what a proxy adds is
// a difference of two times: in a round of a busy machine it may be nothing, or less.
func ratioRow(what string, a, b map[int]float64, target float64) result.Row {
	mine, theirs := summary(a), summary(b)
	row := result.Row{What: what, Value: "not measured", Target: fmt.Sprintf("<= %.1fx", target)}
	if mine.N == 0 || theirs.N == 0 {
		return row
	}
	each := stats.Of(ratios(a, b)...)
	row.Spread = fmt.Sprintf("%.1f to %.1f µs, n=%d", mine.P50, theirs.P50, mine.N)
	if each.N > 0 {
		row.Spread = fmt.Sprintf("rounds %.2f–%.2f, n=%d; ", each.Min, each.Max, each.N) + fmt.Sprintf("%.1f to %.1f µs", mine.P50, theirs.P50)
	}
	if theirs.P50 <= 0 || mine.P50 <= 0 {
		row.Value, row.Met = "within the noise", mine.P50 <= 0
		return row
	}
	ratio := mine.P50 / theirs.P50
	row.Value, row.Met = fmt.Sprintf("%.2fx", ratio), ratio <= target
	return row
}

// rows are the promises.
func (out *outcome) rows() []result.Row {
	var rows []result.Row
	for _, t := range []struct {
		id     string
		target float64
	}{{slow100, 1.1}, {fast100, 0.9}, {large, 0.7}} {
		if title := out.title(t.id); title != "" {
			rows = append(rows, ratioRow("CPU per call beside HAProxy, "+title,
				out.of(t.id, ours, sample.perCall), out.of(t.id, reference, sample.perCall), t.target))
		}
	}
	for _, id := range []string{slow100, fast100} {
		for _, p := range []float64{0.5, 0.99} {
			if title := out.title(id); title != "" {
				rows = append(rows, ratioRow(fmt.Sprintf("added p%.0f beside HAProxy's, %s", p*100, title),
					out.added(id, ours, p), out.added(id, reference, p), 1.0))
			}
		}
	}
	if out.title(slow100) != "" {
		rows = append(rows, result.Bytes("memory at 2,000 calls/s", residents(out.memory(ours, "2k-")), residentTarget))
	}
	return rows
}

// title is a scenario's, "" when it was not chosen.
func (out *outcome) title(id string) string {
	for _, s := range out.scenarios {
		if s.id == id {
			return s.title
		}
	}
	return ""
}

// memory is what a contestant had in memory after the scenarios whose names begin so, in each round the most.
func (out *outcome) memory(contestant, prefix string) []memory {
	most := map[int]memory{}
	for _, s := range out.samples {
		if s.contestant == contestant && strings.HasPrefix(s.scenario, prefix) && s.memory.resident > most[s.round].resident {
			most[s.round] = s.memory
		}
	}
	return slices.Collect(maps.Values(most))
}

func residents(all []memory) []int64 {
	var out []int64
	for _, m := range all {
		out = append(out, m.resident)
	}
	return out
}

// section is everything as it is printed.
func (out *outcome) section() result.Section {
	s := result.Section{ID: "sidecar", Title: "the sidecar beside other proxies", Rows: out.rows()}
	s.Tables = []result.Table{out.cpuTable(), out.latencyTable(), out.throughputTable(), out.memoryTable()}
	var versions []string
	for _, name := range out.names[1:] {
		versions = append(versions, strings.TrimSpace(name+" "+out.versions[name]))
	}
	s.Note("%s; %d rounds, in each of which all took turns in every scenario; medians, with the least and the largest round in brackets.",
		strings.Join(versions, ", "), out.rounds)
	s.Note("Load average %.1f before and %.1f after, of which the measurement itself is about 1.5.", out.load[0], out.load[1])
	s.Note("CPU is user and system time of the proxy's process. What is added is beyond the same quantile of the same round without a proxy. " +
		"Idle is after the start and a few calls; each round starts all proxies anew.")
	s.Note("HAProxy, nginx and Envoy run one thread, ours what Go gives it.")
	s.Note("Memory is what is resident, file pages of the program included; the number in brackets is what of it is the process's own (anonymous).")
	for _, failure := range out.failures {
		s.Note("A run did not count: %s.", failure)
	}
	for _, name := range slices.Sorted(maps.Keys(out.missing)) {
		s.Note("%s is not complete or not there: %s.", name, out.missing[name])
	}
	return s
}

// spread writes a median with its extremes.
func spread(format string, values map[int]float64) string {
	d := summary(values)
	if d.N == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", d.P50, d.Min, d.Max)
}

// proxies are the contestants but direct.
func (out *outcome) proxies() []string { return out.names[1:] }

func (out *outcome) cpuTable() result.Table {
	t := result.Table{Head: append([]string{"CPU per call, µs; beside HAProxy"}, out.proxies()...)}
	for _, s := range out.scenarios {
		row := []string{s.title}
		base := out.of(s.id, reference, sample.perCall)
		for _, name := range out.proxies() {
			mine := out.of(s.id, name, sample.perCall)
			cell := spread("%.1f", mine)
			if each := stats.Of(ratios(mine, base)...); name != reference && each.N > 0 {
				cell += fmt.Sprintf("; %.2fx (%.2f–%.2f)", each.P50, each.Min, each.Max)
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (out *outcome) latencyTable() result.Table {
	t := result.Table{Head: append([]string{"added to a call, µs", "direct: p50, p99"}, out.proxies()...)}
	for _, s := range out.scenarios {
		row := []string{s.title, fmt.Sprintf("%s, %s", spread("%.0f", out.of(s.id, direct, quantile(0.5))), spread("%.0f", out.of(s.id, direct, quantile(0.99))))}
		for _, name := range out.proxies() {
			row = append(row, fmt.Sprintf("p50 %s, p99 %s", spread("%.0f", out.added(s.id, name, 0.5)), spread("%.0f", out.added(s.id, name, 0.99))))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// throughputTable is calls a second where nothing but the answers sets the pace, and elsewhere that the pace was kept.
func (out *outcome) throughputTable() result.Table {
	t := result.Table{Head: append([]string{"calls or messages a second"}, out.names...)}
	for _, s := range out.scenarios {
		row := []string{s.title}
		for _, name := range out.names {
			row = append(row, spread("%.0f", out.of(s.id, name, func(s sample) float64 {
				return float64(s.result.Calls) / s.result.Elapsed.Seconds()
			})))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (out *outcome) memoryTable() result.Table {
	t := result.Table{Head: append([]string{"memory, MB, largest of the rounds"}, out.proxies()...)}
	idle, all := []string{"idle"}, []string{"after everything"}
	at2k, at10k := []string{"at 2,000 calls/s"}, []string{"at 10,000 calls/s"}
	for _, name := range out.proxies() {
		idle = append(idle, most(out.idle[name]))
		at2k = append(at2k, most(out.memory(name, "2k-")))
		at10k = append(at10k, most(out.memory(name, "10k-")))
		all = append(all, most(out.memory(name, "")))
	}
	t.Rows = [][]string{idle, at2k, at10k, all}
	return t
}

func most(values []memory) string {
	if len(values) == 0 {
		return "-"
	}
	m := slices.MaxFunc(values, func(a, b memory) int { return cmp.Compare(a.resident, b.resident) })
	return fmt.Sprintf("%.1f (%.1f)", float64(m.resident)/1e6, float64(m.anonymous)/1e6)
}

// csv writes every run.
func (out *outcome) csv(path string) error {
	var b strings.Builder
	b.WriteString("round,scenario,contestant,calls,seconds,cpu_us_per_call,p50_us,p99_us,resident_bytes,anonymous_bytes\n")
	samples := slices.SortedFunc(slices.Values(out.samples), func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.scenario, b.scenario), cmp.Compare(a.contestant, b.contestant), cmp.Compare(a.round, b.round))
	})
	for _, s := range samples {
		fmt.Fprintf(&b, "%d,%s,%s,%d,%.3f,%.2f,%.0f,%.0f,%d,%d\n", s.round, s.scenario, s.contestant, s.result.Calls, s.result.Elapsed.Seconds(),
			s.perCall(), quantile(0.5)(s), quantile(0.99)(s), s.memory.resident, s.memory.anonymous)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
