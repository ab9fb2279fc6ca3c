//go:build browser

package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/admin"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

const rows = `document.querySelectorAll(".pods tbody tr").length`

// cell is the selector of a cell by the pod's address.
func cell(addr, label string) string {
	return fmt.Sprintf(`[id="t0-%s"] [data-label=%q]`, addr, label)
}

func TestLive(t *testing.T) {
	p := newPool()
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	b := open(t, addr, "/", desk)
	b.reads(".headline", "Calls spread over 3 of 3 pods")
	b.reads("#status", "live, as of")
	if n := eval[int](b, rows); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	b.shoot("desk-light-fine")

	first := p.pods[0]
	calls := b.text(cell(first.Addr, "Calls"))
	b.until(fmt.Sprintf(`document.querySelector(%q).innerText !== %q`, cell(first.Addr, "Calls"), calls))

	p.do(func() { first.fails, first.slow = 1.0/3, 180*time.Millisecond })
	b.reads(".headline", first.Addr+" fails 33")
	b.reads(cell(first.Addr, "Success"), "67")
	b.reads(cell(first.Addr, "Success"), "UNKNOWN")

	p.do(func() { first.rate, p.pods[1].rate, p.pods[2].rate = 4, 96, 0 })
	b.reads(".headline", "1 of 3 pods gets 96")
	b.reads(cell(p.pods[1].Addr, "Share of calls"), "96")

	p.do(func() {
		first.State, first.StateReason, first.EjectedUntil = sidecar.StateEjected, "a third of its calls failed, of the others none", time.Now().Add(90*time.Second)
		first.rate, p.pods[1].rate, p.pods[2].rate = 0, 48, 51
		fourth := newPod(3)
		fourth.Since, fourth.State, fourth.rate = time.Now(), sidecar.StateWarming, 3
		p.pods = append(p.pods, fourth)
		p.look("ok", []string{fourth.Addr}, nil, "", "", 0)
		p.stats.Passthrough = sidecar.Passthrough{Open: 1, Total: 3, Bytes: 3_400_000, Kinds: map[string]uint64{"tls": 2, "http1": 1}, LastPod: first.Addr}
	})
	b.until(rows + " === 4")
	b.reads(cell(first.Addr, "State"), "ejected")
	b.reads(cell(first.Addr, "State"), "more")
	b.reads(".headline", "1 ejected")
	b.reads("#t0-refreshes", "10.244.1.14:6565")
	b.reads("#t0-passthrough", "2 TLS")
	b.shoot("pools")

	p.do(func() {
		p.look("servfail", nil, nil, "", "10.96.0.10:53 said SERVFAIL", 0)
		p.look("ok", nil, addrs(p.pods[1:3]), "held: 2 of 4 endpoints are missing at once, asked again over TCP", "", 0)
		p.pods[1].State, p.pods[2].State = sidecar.StateHeld, sidecar.StateHeld
		p.stats.GuardDecisions["held"] = 1
		p.info.Config.Error, p.info.Config.ErrorAt = `targets[0].policy: unknown field "slowstart" (line 12)`, time.Now()
		p.info.Config.Refused = 1
	})
	b.reads("#t0-guard", "kept pods")
	b.reads("#t0-refreshes", "SERVFAIL")
	b.reads("#config-error", "line 12")
	b.until(`document.title.startsWith("Warning")`)
	b.shoot("desk-light-trouble")
}

// TestKeepsPlace: what somebody opened, chose or stands on is the same after the
// next second's numbers.
func TestKeepsPlace(t *testing.T) {
	p := newPool()
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	b := open(t, addr, "/debug/", desk)
	b.reads("#status", "live")
	b.do(chromedp.Click(chromedp.CSS("#t0-refreshes summary")))
	opened := eval[bool](b, `document.querySelector("#t0-refreshes").open`)
	eval[bool](b, `window.row = document.querySelector(".pods tbody tr"); getSelection().selectAllChildren(row.querySelector(".name")); true`)
	calls := b.text(cell(p.pods[0].Addr, "Calls"))
	b.until(fmt.Sprintf(`document.querySelector(%q).innerText !== %q`, cell(p.pods[0].Addr, "Calls"), calls))
	if got := eval[bool](b, `document.querySelector("#t0-refreshes").open`); got != opened {
		t.Errorf("open is %t after the next answer, want %t", got, opened)
	}
	if !eval[bool](b, `document.activeElement?.tagName === "SUMMARY" && row.isConnected && getSelection().toString().includes("10.244")`) {
		t.Errorf("focus on %s, selected %q", eval[string](b, `document.activeElement.tagName`), eval[string](b, `getSelection().toString()`))
	}
	// A row that goes takes no other with it.
	p.do(func() { p.pods = p.pods[1:] })
	b.until(rows + ` === 2 && !row.isConnected`)
	// Pause, by keyboard.
	b.do(chromedp.Focus(chromedp.CSS("#pause")), chromedp.KeyEvent(" "))
	b.reads("#status", "paused")
	before := b.text("main")
	p.do(func() { p.pods = p.pods[1:] })
	// Another tab sees it, and asks once more after that: more than a second.
	other := open(t, addr, "/", desk)
	other.until(rows + ` === 1`)
	calls = other.text(cell(p.pods[0].Addr, "Calls"))
	other.until(fmt.Sprintf(`document.querySelector(%q).innerText !== %q`, cell(p.pods[0].Addr, "Calls"), calls))
	if after := b.text("main"); after != before {
		t.Error("the page changed while paused")
	}
	b.do(chromedp.KeyEvent(" "))
	b.until(rows + ` === 1`)
}

func TestLost(t *testing.T) {
	p := newPool()
	h := admin.Debug(p, nil)
	addr, stop := serve(t, h, "127.0.0.1:0")
	b := open(t, addr, "/", desk)
	b.reads("#status", "live")
	b.mayFail(true)
	stop()
	b.reads("#lost", "No answer from the daemon since")
	b.until(`document.title.startsWith("no answer")`)
	b.shoot("desk-light-lost")
	serve(t, h, addr)
	b.until(`document.querySelector("#lost").hidden && document.querySelector("#status").innerText.startsWith("live")`)
}

func TestWithoutScript(t *testing.T) {
	p := newPool()
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	how := desk
	how.noScript = true
	b := open(t, addr, "/", how)
	b.reads(".headline", "Calls spread over 3 of 3 pods")
	if n := eval[int](b, rows); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if got := b.text("body"); strings.Contains(got, "Pause") || !strings.Contains(got, "without JavaScript") {
		t.Errorf("the page offers what needs a script, or does not tell how it lives without:\n%s", got)
	}
	b.shoot("desk-light-noscript")
	p.do(func() { p.pods[0].fails = 0.5 })
	// It loads itself again.
	b.reads(".headline", "fails 50")
}

// TestNarrow: a phone, in the dark. Nothing has to be scrolled sideways, and the
// tables are still tables to those who cannot see.
func TestNarrow(t *testing.T) {
	for _, dark := range []bool{false, true} {
		t.Run(fmt.Sprintf("dark %t", dark), func(t *testing.T) {
			p := newPool()
			p.do(func() {
				p.pods[2].State, p.pods[2].rate, p.pods[2].Connections = sidecar.StateUnreachable, 0, 0
				p.pods[2].StateReason = "dial tcp 10.244.1.13:6565: connect: connection refused"
				p.pods[1].fails = 0.12
				for i, q := range p.pods {
					q.Name, q.Node, q.Zone = fmt.Sprintf("default/square-6d5f9c7b8-%05x", 0x3a2f1+i*7919), fmt.Sprintf("worker-%d", i+1), "eu-1a"
				}
				p.stats.Passthrough = sidecar.Passthrough{Total: 1, Kinds: map[string]uint64{"tls": 1}, LastPod: p.pods[0].Addr}
			})
			addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
			b := open(t, addr, "/", look{width: 360, height: 740, dark: dark})
			b.reads(".headline", "1 unreachable")
			if w := eval[int](b, `document.documentElement.scrollWidth`); w > 360 {
				t.Errorf("the page is %d pixels wide on 360", w)
			}
			roles := accessible(b)
			for role, least := range map[string]int{"table": 2, "row": 6, "columnheader": 10, "rowheader": 3, "cell": 27, "heading": 1, "main": 1} {
				if roles[role] < least {
					t.Errorf("%d nodes with the role %s, want at least %d", roles[role], role, least)
				}
			}
			name := map[bool]string{false: "light", true: "dark"}[dark]
			b.shoot("phone-" + name)
			wide := open(t, addr, "/", look{width: 1280, height: 900, dark: dark})
			wide.reads(".headline", "1 unreachable")
			wide.shoot("desk-" + name)
		})
	}
}

// TestHostile: names and reasons are text, whatever they hold.
func TestHostile(t *testing.T) {
	const evil = `"><img src=x onerror=alert(1)><script>alert(2)</script></style></textarea><a href="javascript:alert(3)">`
	p := newPool()
	p.do(func() {
		q := p.pods[0]
		q.Name, q.StateReason, q.Node = evil, evil+"\x00\u202e\x1b[31m", strings.Repeat("long", 200)
		q.Codes = map[string]uint64{evil: 3}
		p.stats.Name, p.stats.LastError = evil, evil
		p.look(evil, []string{evil}, []string{evil}, evil, evil, 0)
	})
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	b := open(t, addr, "/", look{width: 360, height: 740})
	b.reads(".pods", evil)
	b.reads("#status", "live")
	if n := eval[int](b, `document.querySelectorAll("main img, main script, main a, main style").length`); n != 0 {
		t.Errorf("%d elements came out of the text", n)
	}
	if w := eval[int](b, `document.documentElement.scrollWidth`); w > 360 {
		t.Errorf("long words make the page %d pixels wide on 360", w)
	}
	b.shoot("phone-hostile")
}

func TestEmpty(t *testing.T) {
	p := newPool()
	p.do(func() {
		p.pods, p.stats.Refreshes, p.stats.Source = nil, nil, ""
		p.stats.Known, p.stats.Ready, p.stats.LastGood = false, false, time.Time{}
		p.stats.LastError = "square-service-headless.default: NXDOMAIN, 10.96.0.10:53 knows no such name"
	})
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	b := open(t, addr, "/", desk)
	b.reads(".headline", "Waiting for the first endpoints: square-service-headless.default: NXDOMAIN")
	b.shoot("desk-light-empty")
}

// TestMany: a thousand pods do not stop the page.
func TestMany(t *testing.T) {
	p := newPool()
	p.do(func() {
		for i := 3; i < 1000; i++ {
			p.pods = append(p.pods, newPod(i))
		}
		p.pods[777].fails = 0.5
	})
	addr, _ := serve(t, admin.Debug(p, nil), "127.0.0.1:0")
	b := open(t, addr, "/", desk)
	b.reads("#status", "live")
	if n := eval[int](b, rows); n != 100 {
		t.Errorf("%d rows, want 100", n)
	}
	if got := b.text(".pods tbody tr .name"); got != p.pods[777].Addr {
		t.Errorf("%s stands first, want the pod in trouble", got)
	}
	b.do(chromedp.Click(chromedp.CSS(`a[href="?pods=all"]`)))
	b.until(rows + " === 1000")
	b.reads("#status", "live")
	calls := b.text(cell(p.pods[0].Addr, "Calls"))
	b.until(fmt.Sprintf(`document.querySelector(%q).innerText !== %q`, cell(p.pods[0].Addr, "Calls"), calls))
}
