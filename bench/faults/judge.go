package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/load"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
)

// budget is a promise about one client's run. It returns itself in words, and whether it was kept.
type budget func(*stage, load.Variant, report.Report) (promise string, kept bool)

// noneFailed: not one call.
func noneFailed(st *stage, _ load.Variant, r report.Report) (string, bool) {
	return "0 failed", len(r.Window(st.from, st.to).Failed()) == 0
}

// cacheTime is what CoreDNS's cache adds in the version of the Corefile that has one.
const cacheTime = 30 * time.Second

// firstCall: a new pod is called soon, which is a second after the client can know of it: at once with a watch, else after the interval,
// its jitter of a tenth, and the name server's cache.
func firstCall(st *stage, v load.Variant, r report.Report) (string, bool) {
	limit := time.Second
	if v.Interval > 0 {
		limit += v.Interval + v.Interval/10
		if st.scenario.dns == dnsCached {
			limit += cacheTime
		}
	}
	first := st.firstCalls(r)
	return "first call < " + limit.String(), len(first) == len(st.fresh) && len(first) > 0 && slices.Max(first) < limit
}

// firstCalls are the times from a new endpoint's readiness to its first call, of those that had one before any endpoint was taken away
// again. A call before the driver knew is at 0.
func (st *stage) firstCalls(r report.Report) []time.Duration {
	var out []time.Duration
	for ip, ready := range st.fresh {
		if t, ok := r.FirstCall(ip); ok && (st.shrunk.IsZero() || t.Before(st.shrunk)) {
			out = append(out, max(0, t.Sub(ready)))
		}
	}
	slices.Sort(out)
	return out
}

// noticed is how long the ends of a killed process's connections may be apart.
const noticed = 20 * time.Millisecond

// inFlight: only calls that were under way on the victim when its connection ended, which on a busy machine is a while after the signal:
// until the process is scheduled once more, it takes calls.
func inFlight(st *stage, _ load.Variant, r report.Report) (string, bool) {
	failed := r.Window(st.from, st.to).Failed()
	end := st.hit
	for i, c := range r.On(failed, st.victims...) {
		if at := r.Began.Add(c.End()); i == 0 || at.Before(end) {
			end = at
		}
	}
	limit := r.InFlight(end, end.Add(noticed), st.victims...)
	return fmt.Sprintf("failed <= in flight (%d)", limit), len(failed) <= limit
}

// nodeShare: what was under way on the victims, and 1.5 s of their share of the calls.
func nodeShare(st *stage, _ load.Variant, r report.Report) (string, bool) {
	before := r.Window(st.from, st.hit)
	share := float64(len(r.On(before, st.victims...))) / float64(max(1, len(before)))
	limit := r.InFlight(st.hit, st.hit, st.victims...) + int(1.5*float64(st.rate)*share+0.5)
	return fmt.Sprintf("failed <= in flight + 1.5 s of the share (%d)", limit), len(r.Window(st.from, st.to).Failed()) <= limit
}

// ejectAfter is how many failures in a row put an endpoint out by default.
const ejectAfter = 5

// threshold: as many as it takes to be put out, and what was under way on it by then. The fault is shorter than an ejection.
func threshold(st *stage, _ load.Variant, r report.Report) (string, bool) {
	failed := r.Window(st.from, st.to).Failed()
	limit := ejectAfter
	if len(failed) >= ejectAfter {
		ends := make([]time.Duration, len(failed))
		for i, c := range failed {
			ends[i] = c.End()
		}
		slices.Sort(ends)
		out := ends[ejectAfter-1]
		limit = max(limit, len(r.On(r.Calls, st.victims...).Where(func(c report.Call) bool { return c.Code() != codes.OK && c.Start() <= out })))
	}
	return fmt.Sprintf("failed <= %d + in flight then (%d)", ejectAfter, limit), len(failed) <= limit
}

// backAfter is how long a client may be without its sidecar: kubelet starts it again in a second or two, and gRPC dials again after as long.
const backAfter = 5 * time.Second

// backSoon: no call fails that began later than that.
func backSoon(st *stage, _ load.Variant, r report.Report) (string, bool) {
	return "0 failed after " + backAfter.String(), len(r.Window(st.hit.Add(backAfter), st.to).Failed()) == 0
}

// nearBaseline: the slowest hundredth is not much slower than without the fault.
func nearBaseline(st *stage, _ load.Variant, r report.Report) (string, bool) {
	healthy := r.Window(st.from, st.hit).Quantile(0.99)
	limit := 2*healthy + 10*time.Millisecond
	return fmt.Sprintf("p99 < %s", millis(limit)), r.Window(st.hit, st.to).Quantile(0.99) < limit
}

// noStreamBroken: all streams that were open when it began lived on.
func noStreamBroken(_ *stage, _ load.Variant, r report.Report) (string, bool) {
	return "no stream broken", len(r.Streams) > 0 && !slices.ContainsFunc(r.Streams, report.Stream.Broken)
}

// head are the columns of the table.
func head() []string {
	return []string{"fault", "client", "calls", "failed", "on new pods", "ready to first call", "streams broken", "p50 / p99", "budget", ""}
}

// rows are the lines of one scenario.
func (st *stage) rows() [][]string {
	var out [][]string
	for i, v := range st.variants() {
		r, ok := st.reports[v.Name]
		title := ""
		if i == 0 {
			title = st.scenario.title
		}
		if !ok || st.from.IsZero() || st.hit.IsZero() {
			out = append(out, []string{title, v.Name, "no report", "", "", "", "", "", "", ""})
			continue
		}
		calls := r.Window(st.from, st.to)
		after := r.Window(st.hit, st.to)
		promise, verdict := st.judge(v, r)
		out = append(out, []string{
			title, v.Name, fmt.Sprint(len(calls)), failures(calls), st.onNew(after, r), st.firstText(r), broken(r.Streams),
			millis(after.Quantile(0.5)) + " / " + millis(after.Quantile(0.99)), promise, verdict,
		})
	}
	return out
}

// judge holds ours to its budgets. The others have none.
func (st *stage) judge(v load.Variant, r report.Report) (promise, verdict string) {
	if !v.Ours {
		return "", ""
	}
	var promises []string
	verdict = "met"
	for _, b := range st.scenario.budgets {
		p, kept := b(st, v, r)
		if !kept {
			verdict, p = "MISSED", "**"+p+"**"
		}
		promises = append(promises, p)
	}
	return strings.Join(promises, ", "), verdict
}

func failures(calls report.Calls) string {
	failed := calls.Failed()
	if len(failed) == 0 {
		return "0"
	}
	var parts []string
	counts := failed.Codes()
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if n := counts[code]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, code))
		}
	}
	return fmt.Sprintf("%d (%s)", len(failed), strings.Join(parts, ", "))
}

func (st *stage) onNew(after report.Calls, r report.Report) string {
	if len(st.fresh) == 0 {
		return ""
	}
	var ips []string
	for ip := range st.fresh {
		ips = append(ips, ip)
	}
	if !st.shrunk.IsZero() {
		after = after.Where(func(c report.Call) bool { return c.Start() < r.At(st.shrunk) })
	}
	n := len(r.On(after, ips...))
	return fmt.Sprintf("%d (%.0f %%)", n, 100*float64(n)/float64(max(1, len(after))))
}

func (st *stage) firstText(r report.Report) string {
	if len(st.fresh) == 0 {
		return ""
	}
	first := st.firstCalls(r)
	if len(first) == 0 {
		return "never"
	}
	text := seconds(first[0])
	if last := first[len(first)-1]; len(first) > 1 {
		text += "–" + seconds(last)
	}
	if missing := len(st.fresh) - len(first); missing > 0 {
		text += fmt.Sprintf(", %d of %d never", missing, len(st.fresh))
	}
	return text
}

func broken(streams []report.Stream) string {
	n := 0
	seen := map[codes.Code]bool{}
	var why []string
	for _, s := range streams {
		if !s.Broken() {
			continue
		}
		n++
		if !seen[s.Code] {
			seen[s.Code] = true
			why = append(why, s.Code.String())
		}
	}
	if n == 0 {
		return fmt.Sprintf("0 of %d", len(streams))
	}
	return fmt.Sprintf("%d of %d (%s)", n, len(streams), strings.Join(why, ", "))
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
