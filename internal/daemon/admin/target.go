package admin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// view writes one target.
type view struct {
	*markup
	now   time.Time
	stats *sidecar.Stats
	id    string // begins the id of all that is in it
	limit int
}

func (v view) target() {
	s := v.stats
	h := headlineOf(s, v.now)
	v.open("section", attr{"id", v.id}, class("target"), attr{"aria-labelledby", v.id + "-name"})
	v.open("header")
	v.el("h2", s.Name, attr{"id", v.id + "-name"})
	v.open("p", class("route mono"))
	v.text(strings.Join(s.Listen, " "))
	if s.Target != s.Name {
		v.el("span", " → ", attr{"aria-hidden", "true"})
		v.el("span", " to ", class("sr"))
		v.text(s.Target)
	}
	v.end("p")
	v.open("p", class("headline "+h.level.class()))
	v.el("span", h.level.said()+": ", class("sr"))
	v.text(upper(h.text))
	v.end("p")
	v.end("header")
	v.facts()
	v.pods()
	v.passthrough()
	v.guard()
	v.refreshes()
	v.end("section")
}

// upper begins a sentence.
func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// fact is one term of the list of facts; value may be followed by more words.
func (v view) fact(term, value, more string, l level) {
	v.open("div", when(l > fine, class(l.class())))
	v.el("dt", term)
	v.open("dd")
	v.text(value)
	if more != "" {
		v.text(" ")
		v.el("small", more)
	}
	v.end("dd")
	v.end("div")
}

func (v view) facts() {
	s := v.stats
	v.open("dl", class("facts"))
	var all []*sidecar.Pod
	for i := range s.Pods {
		all = append(all, &s.Pods[i])
	}
	v.fact("Calls", perSecond(rate(v.now, all...)), count(s.Calls)+" so far", fine)
	v.fact("In flight", count(s.ClientStreams), "on "+plural(s.Clients, "connection"), fine)
	v.fact("Waiting for a pod", count(s.Waiting), "", noteIf(s.Waiting > 0))
	v.fact("Refused", count(s.Refused), shareOf(s.Refused, s.Calls), noteIf(s.Refused > 0))
	v.fact("Sent again", count(s.Retried), shareOf(s.Retried, s.Calls), fine)
	if s.RejectedClients > 0 {
		v.fact("Connections turned away", count(s.RejectedClients), "", warn)
	}
	v.open("div", when(s.LastError != "", class(warn.class())))
	v.el("dt", "Last answer")
	v.open("dd")
	if s.LastGood.IsZero() {
		v.text("none yet")
	} else {
		v.moment(s.LastGood)
	}
	if s.Source != "" {
		v.text(" ")
		v.el("small", "by "+s.Source)
	}
	v.end("dd")
	v.end("div")
	if s.Propagation.Count > 0 {
		v.fact("First call on a new pod", "after "+latency(seconds(s.Propagation.Sum/float64(s.Propagation.Count))), "on average of "+count(s.Propagation.Count), fine)
	}
	// It stands in the file without what makes it unique among grpc-go's policies.
	v.fact("Policy", strings.TrimPrefix(s.Policy, prefix), "", fine)
	v.end("dl")
	// Before the first answer the headline says it.
	if s.LastError != "" && s.Known {
		v.open("p", class("banner warn"), attr{"id", v.id + "-source"})
		v.el("strong", "The source's last look failed; the pods stay as they were.")
		v.text(" " + s.LastError)
		v.end("p")
	}
}

func noteIf(b bool) level {
	if b {
		return note
	}
	return fine
}

func shareOf(n, total uint64) string {
	if n == 0 || total == 0 {
		return ""
	}
	return percent(float64(n) / float64(total))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// moment writes a time as people say it, with the exact one for machines and
// pointers.
func (v view) moment(t time.Time) {
	v.el("time", ago(v.now, t), attr{"datetime", t.UTC().Format(time.RFC3339Nano)}, title(clock(t)))
}

// column is one column of the table of pods.
type column struct {
	head, hint string
	class      string
}

var podColumns = []column{
	{"Pod", "", "who"},
	{"State", "", "state"},
	{"Share of calls", "of the calls that ended in the last minute; the mark is an equal share", "share"},
	{"Calls", "of the last minute; below, all since it was first seen", "num third"},
	{"Success", "of the last minute's calls, those that show no error of the pod; below, what calls ended with but OK so far", "num third"},
	{"In flight", "calls that have not ended", "num third"},
	{"p50", "half of the last minute's calls were quicker", "num"},
	{"p95", "95 % of the last minute's calls were quicker", "num"},
	{"p99", "99 % of the last minute's calls were quicker", "num"},
	{"Conns", "connections that can take calls", "num"},
}

func (v view) pods() {
	pods, left := v.shown()
	if len(pods) == 0 {
		v.el("p", v.noPods(), class("empty"))
		return
	}
	// The roles say what the elements are already: a narrow screen shows rows as
	// cards, and browsers forget that those are tables.
	v.open("table", class("pods"), attr{"role", "table"})
	v.el("caption", "Pods of "+v.stats.Name, class("sr"))
	v.open("thead", attr{"role", "rowgroup"})
	v.open("tr", attr{"role", "row"})
	for _, c := range podColumns {
		v.open("th", attr{"role", "columnheader"}, attr{"scope", "col"}, class(c.class), when(c.hint != "", title(c.hint)))
		v.text(c.head)
		v.end("th")
	}
	v.end("tr")
	v.end("thead")
	v.open("tbody", attr{"role", "rowgroup"})
	_, members := countPods(*v.stats)
	removed := 0
	for _, p := range pods {
		id := v.id + "-" + p.Addr
		if !isMember(p) {
			removed++
			id = fmt.Sprintf("%s-removed%d-%s", v.id, removed, p.Addr)
		}
		v.pod(p, id, members)
	}
	v.end("tbody")
	v.end("table")
	// The heads say it in their titles, which a finger or a keyboard does not open.
	v.el("p", "Shares, rates, success and latencies are of the last minute. The mark on a bar is an equal share.", class("legend"))
	if left > 0 {
		v.open("p", class("empty"))
		v.text("Pods in trouble stand first. " + plural(left, "more pod") + " not shown: ")
		v.el("a", "show all", attr{"href", "?pods=all"})
		v.end("p")
	}
}

// shown are the pods to show and how many are left out. Only a pool with too many
// is sorted: rows that change places cannot be read.
func (v view) shown() (pods []*sidecar.Pod, left int) {
	for i := range v.stats.Pods {
		pods = append(pods, &v.stats.Pods[i])
	}
	if v.limit == 0 || len(pods) <= v.limit {
		return pods, 0
	}
	slices.SortStableFunc(pods, func(a, b *sidecar.Pod) int { return trouble(b) - trouble(a) })
	return pods[:v.limit], len(pods) - v.limit
}

// trouble ranks pods by how much they are worth a look.
func trouble(p *sidecar.Pod) int {
	switch p.State {
	case sidecar.StateEjected, sidecar.StateUnreachable, sidecar.StateSilent:
		return 4
	case sidecar.StateHeld, sidecar.StateConnecting:
		return 3
	case sidecar.StateDraining:
		return 1
	case sidecar.StateGone:
		return 0
	}
	if ok, total := outcome(p); total > 0 && 1-float64(ok)/float64(total) >= failingAt {
		return 4
	}
	return 2
}

func (v view) noPods() string {
	if !v.stats.Known {
		return "No pods yet: the source has not answered. Calls wait up to their deadline."
	}
	return "The source says that there are no pods. Calls are refused until there is one."
}

func (v view) pod(p *sidecar.Pod, id string, members int) {
	l := stateLevel(p.State)
	v.open("tr", attr{"role", "row"}, attr{"id", id}, class(rowClass(p)))
	v.open("th", attr{"role", "rowheader"}, attr{"scope", "row"}, class("who"))
	v.el("span", called(p), class("name"))
	if p.Name != "" {
		v.el("small", p.Addr, class("mono"))
	}
	if where := strings.Join(slices.DeleteFunc([]string{p.Node, p.Zone}, func(s string) bool { return s == "" }), " · "); where != "" {
		v.el("small", where)
	}
	v.end("th")
	v.cell("State", "state")
	v.el("span", stateWord(p.State), class("pill "+l.class()), title("first seen "+clock(p.Since)))
	if left := p.EjectedUntil.Sub(v.now); p.State == sidecar.StateEjected && left > 0 {
		v.el("small", "for "+span(left)+" more", class("countdown"), title("until "+clock(p.EjectedUntil)))
	}
	if p.StateReason != "" {
		v.el("small", p.StateReason, class("reason"))
	}
	v.end("td")
	v.cell("Share of calls", "share")
	v.bar(p, members)
	v.el("span", percent(p.Share))
	v.end("td")
	v.cell("Calls", "num third")
	v.text(perSecond(rate(v.now, p)))
	v.el("small", count(p.Calls))
	v.end("td")
	v.cell("Success", "num third")
	v.success(p)
	v.end("td")
	v.cell("In flight", "num third")
	v.text(count(p.InFlight))
	if p.Passthrough > 0 {
		v.el("small", "+ "+count(p.Passthrough)+" passed through", class("codes"), title(size(p.PassthroughBytes)+" of connections that are not HTTP/2"))
	}
	v.end("td")
	v.number("p50", latency(p.P50))
	v.number("p95", latency(p.P95))
	v.number("p99", latency(p.P99))
	v.number("Conns", count(p.Connections))
	v.end("tr")
}

func rowClass(p *sidecar.Pod) string {
	if !isMember(p) {
		return "removed"
	}
	return "member"
}

func stateLevel(state string) level {
	switch state {
	case sidecar.StateReady:
		return fine
	case sidecar.StateEjected, sidecar.StateUnreachable, sidecar.StateSilent:
		return bad
	case sidecar.StateHeld:
		return warn
	}
	return note
}

// cell opens a cell; its label stands in front of it where there is no head.
func (v view) cell(label, kind string) {
	v.open("td", attr{"role", "cell"}, class(kind), attr{"data-label", label})
}

func (v view) number(label, value string) {
	v.cell(label, "num")
	v.text(value)
	v.end("td")
}

// bar draws a share. It is made of SVG's attributes, since the content security
// policy allows no style of single elements.
func (v view) bar(p *sidecar.Pod, members int) {
	length := func(share float64) string { return strconv.FormatFloat(100*max(0, min(share, 1)), 'f', 2, 64) + "%" }
	v.open("svg", class("bar"), attr{"aria-hidden", "true"}, attr{"width", "100%"}, attr{"height", "8"})
	v.open("rect", class("track"), attr{"width", "100%"}, attr{"height", "8"}, attr{"rx", "4"})
	v.end("rect")
	v.open("rect", class("part"), attr{"width", length(p.Share)}, attr{"height", "8"}, attr{"rx", "4"})
	v.end("rect")
	if members > 1 {
		v.open("rect", class("fair"), attr{"x", length(1 / float64(members))}, attr{"y", "-2"}, attr{"width", "1.5"}, attr{"height", "12"})
		v.end("rect")
	}
	v.end("svg")
}

// success is the share of calls that went well, and what the others said.
func (v view) success(p *sidecar.Pod) {
	if ok, total := outcome(p); total == 0 {
		v.text(none)
	} else {
		share := float64(ok) / float64(total)
		v.el("span", percent(share), when(1-share >= failingAt, class(bad.class())))
	}
	for _, said := range codesOf(p) {
		v.el("small", said, class("codes"))
	}
}

// codesOf names the two most frequent codes but OK.
func codesOf(p *sidecar.Pod) []string {
	codes := slices.DeleteFunc(sortedKeys(p.Codes), func(c string) bool { return c == "OK" || p.Codes[c] == 0 })
	slices.SortStableFunc(codes, func(a, b string) int {
		switch {
		case p.Codes[a] > p.Codes[b]:
			return -1
		case p.Codes[a] < p.Codes[b]:
			return 1
		}
		return 0
	})
	var words []string
	for i, c := range codes {
		if i == 2 {
			return append(words, "and others")
		}
		words = append(words, c+" "+count(p.Codes[c]))
	}
	return words
}

func (v view) passthrough() {
	p := v.stats.Passthrough
	if p.Total == 0 {
		return
	}
	v.open("p", class("aside"), attr{"id", v.id + "-passthrough"})
	v.el("strong", "Passed through, not balanced call by call: ")
	v.text(plural(p.Total, "connection"))
	var kinds []string
	for _, k := range sortedKeys(p.Kinds) {
		if p.Kinds[k] > 0 {
			kinds = append(kinds, count(p.Kinds[k])+" "+kindWord(k))
		}
	}
	if len(kinds) > 0 {
		v.text(" (" + list(kinds) + ")")
	}
	v.text(", " + count(p.Open) + " open, " + size(p.Bytes))
	if p.Failed > 0 {
		v.text(", " + count(p.Failed) + " found no pod")
	}
	if p.LastPod != "" {
		v.text(", the latest to " + v.podName(p.LastPod))
	}
	v.end("p")
}

// kindWord is what a connection that is passed through looks like.
func kindWord(kind string) string {
	switch kind {
	case "tls":
		return "TLS"
	case "http1":
		return "HTTP/1"
	case "silent":
		return "where the server speaks first"
	case "other":
		return "of another kind"
	}
	return kind
}

// podName is an address with the pod's name where that is known.
func (v view) podName(addr string) string {
	for i := range v.stats.Pods {
		if p := &v.stats.Pods[i]; p.Addr == addr && p.Name != "" {
			return p.Name + " (" + addr + ")"
		}
	}
	return addr
}

// guard tells the decisions about answers with fewer endpoints.
func (v view) guard() {
	v.open("p", class("aside"), attr{"id", v.id + "-guard"})
	v.el("strong", "Guard: ")
	var said []string
	for _, verdict := range endpoint.Verdicts() {
		if n := v.stats.GuardDecisions[string(verdict)]; n > 0 {
			said = append(said, verdictWord(verdict)+" "+count(n)+"×")
		}
	}
	if said == nil {
		v.text("no answer of the source lacked so many pods that it was doubted.")
	} else {
		v.text(list(said) + ".")
	}
	v.end("p")
}

func verdictWord(v endpoint.Verdict) string {
	switch v {
	case endpoint.VerdictHeld:
		return "kept pods that an answer lacked"
	case endpoint.VerdictBelieved:
		return "believed a smaller answer"
	case endpoint.VerdictRestored:
		return "saw missing pods come back"
	case endpoint.VerdictZero:
		return "believed that there are none"
	case endpoint.VerdictExpired:
		return "gave up pods after the time of grace"
	}
	return string(v)
}
