package admin

import (
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// refreshes is the history of looks, the newest first. It is closed while nothing
// happened in it.
func (v view) refreshes() {
	rows := v.stats.Refreshes
	eventful := false
	for i := range rows {
		eventful = eventful || isEvent(&rows[i])
	}
	v.open("details", attr{"id", v.id + "-refreshes"}, when(eventful, attr{"open", ""}))
	v.open("summary")
	v.el("span", "Refreshes", class("h3"))
	switch {
	case len(rows) == 0:
		v.text(" none yet")
	case rows[0].Error != "":
		v.text(" the latest failed " + ago(v.now, rows[0].At))
	default:
		v.text(fmt.Sprintf(" the latest %s: %s, %s", ago(v.now, rows[0].At), rows[0].Outcome, plural(rows[0].Size, "pod")))
	}
	v.end("summary")
	if len(rows) > 0 {
		v.open("table", class("refreshes"), attr{"role", "table"})
		v.el("caption", "Looks of the source, the newest first", class("sr"))
		v.open("thead", attr{"role", "rowgroup"})
		v.open("tr", attr{"role", "row"})
		for _, head := range []string{"When", "Outcome", "Change", "Pods", "Took"} {
			v.el("th", head, attr{"role", "columnheader"}, attr{"scope", "col"}, when(head == "Pods" || head == "Took", class("num")))
		}
		v.end("tr")
		v.end("thead")
		v.open("tbody", attr{"role", "rowgroup"})
		for i := range rows {
			v.refresh(&rows[i])
		}
		v.end("tbody")
		v.end("table")
	}
	v.end("details")
}

// isEvent is false for a look that found what was there before.
func isEvent(r *sidecar.Refresh) bool {
	return len(r.Added)+len(r.Removed) > 0 || r.Guard != "" || r.Error != ""
}

func (v view) refresh(r *sidecar.Refresh) {
	v.open("tr", attr{"role", "row"}, when(!isEvent(r), class("quiet")))
	v.cell("When", "when")
	v.moment(r.At)
	v.end("td")
	v.cell("Outcome", "outcome")
	v.el("span", r.Outcome, when(r.Error != "", class(bad.class())))
	if r.Looks > 1 {
		v.text(" ")
		v.el("small", count(r.Looks)+" times in a row")
	}
	if r.Source != "" {
		v.text(" ")
		v.el("small", r.Source)
	}
	v.end("td")
	v.cell("Change", "change")
	if !isEvent(r) {
		v.el("span", "none", class("muted"))
	}
	v.addresses("ins", "+", "added", r.Added)
	v.addresses("del", "−", "removed", r.Removed)
	if r.Guard != "" {
		v.el("small", "guard: "+r.Guard, class("reason"))
	}
	if r.Error != "" {
		v.el("small", r.Error, class("reason bad"))
	}
	v.end("td")
	pods := count(r.Size)
	if r.Held > 0 {
		pods += " + " + count(r.Held) + " held"
	}
	v.number("Pods", pods)
	v.number("Took", latency(r.Took))
	v.end("tr")
}

// maxAddresses is how many addresses of a change are shown.
const maxAddresses = 6

func (v view) addresses(element word, sign, said string, addrs []string) {
	for i, a := range addrs {
		if i == maxAddresses {
			v.el(element, sign+" "+count(len(addrs)-i)+" more", class("mono"))
			return
		}
		v.open(element, class("mono"))
		v.el("span", sign+" ", attr{"aria-hidden", "true"})
		v.el("span", said+" ", class("sr"))
		v.text(v.podName(a))
		v.end(element)
	}
}
