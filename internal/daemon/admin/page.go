package admin

import (
	"crypto/sha256"
	_ "embed" // the style and the script of the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

var (
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

// icon is a favicon, so that a browser asks for none: three dots, evenly spread.
const icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cg fill='%232f6fde'%3E" +
	"%3Ccircle cx='8' cy='3.5' r='2.6'/%3E%3Ccircle cx='3.4' cy='11.8' r='2.6'/%3E%3Ccircle cx='12.6' cy='11.8' r='2.6'/%3E%3C/g%3E%3C/svg%3E"

// contentPolicy allows what the page is made of and nothing else: a name or a
// reason that ever got out of its quotes could still not run.
func contentPolicy() string {
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return strings.Join([]string{
		"default-src 'none'", "style-src " + hash(style), "script-src " + hash(script), "connect-src 'self'", "img-src data:",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; ")
}

// page serves what people look at, and the same as JSON.
type page struct {
	source Source
	now    func() time.Time
	policy string
}

func (p page) document() Document {
	d := Document{At: p.now().UTC(), Info: p.source.Info(), Targets: p.source.Pools()}
	if d.Targets == nil {
		d.Targets = []sidecar.Stats{}
	}
	return d
}

func (p page) serveJSON(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(p.document(), "", "  ")
	if err != nil {
		http.Error(w, "The pools cannot be written as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

// serve writes the whole page. What changes in it is the same fragment that the
// script asks for later, so that there is one renderer.
func (p page) serve(w http.ResponseWriter, r *http.Request) {
	d := p.document()
	var m markup
	m.WriteString("<!doctype html>\n")
	m.open("html", attr{"lang", "en"})
	m.open("head")
	m.open("meta", attr{"charset", "utf-8"})
	m.open("meta", attr{"name", "viewport"}, attr{"content", "width=device-width, initial-scale=1"})
	m.open("meta", attr{"name", "color-scheme"}, attr{"content", "light dark"})
	m.el("title", pageTitle(d))
	m.open("link", attr{"rel", "icon"}, attr{"href", icon})
	m.open("noscript")
	m.open("meta", attr{"http-equiv", "refresh"}, attr{"content", "5"})
	m.end("noscript")
	m.open("style")
	m.WriteString(style)
	m.end("style")
	m.end("head")
	m.open("body")
	m.open("div", class("top"))
	m.el("span", "grpclb-refresher", class("brand"))
	m.open("span", class("pulse"))
	m.open("span", attr{"id", "status"})
	m.text("as of " + d.At.Format("15:04:05") + " UTC")
	m.end("span")
	m.el("button", "Pause", attr{"id", "pause"}, attr{"type", "button"}, attr{"hidden", ""})
	m.end("span")
	m.end("div")
	m.open("div", attr{"id", "lost"}, class("banner bad"), attr{"role", "alert"}, attr{"hidden", ""})
	m.end("div")
	fragment(&m, d, limitOf(r))
	m.open("footer")
	m.text("The same as data: ")
	m.el("a", "/debug/pools", attr{"href", "/debug/pools"})
	m.el("noscript", " · without JavaScript this page loads itself again every 5 s")
	m.end("footer")
	m.open("script")
	m.WriteString(script)
	m.end("script")
	m.end("body")
	m.end("html")
	w.Header().Set("Content-Security-Policy", p.policy)
	p.write(w, &m)
}

func (p page) serveFragment(w http.ResponseWriter, r *http.Request) {
	var m markup
	fragment(&m, p.document(), limitOf(r))
	p.write(w, &m)
}

func (p page) write(w http.ResponseWriter, m *markup) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(m.Bytes())
}

// maxRows is how many pods of a target the page shows unless it is asked for all.
const maxRows = 100

func limitOf(r *http.Request) int {
	if r.URL.Query().Get("pods") == "all" {
		return 0
	}
	return maxRows
}

// pageTitle is what a browser's tab says: the worst of all targets.
func pageTitle(d Document) string {
	worst, problems := fine, 0
	for i := range d.Targets {
		l := headlineOf(&d.Targets[i], d.At).level
		worst = max(worst, l)
		if l >= warn {
			problems++
		}
	}
	switch {
	case d.Info.Draining:
		return "draining – grpclb-refresher"
	case problems > 0:
		return fmt.Sprintf("%s: %d of %s – grpclb-refresher", worst.said(), problems, plural(len(d.Targets), "target"))
	}
	return "pools – grpclb-refresher"
}

// fragment is all of the page that changes. limit is the largest number of pods
// to show of a target, 0 for no limit.
func fragment(m *markup, d Document, limit int) {
	m.open("main", attr{"id", "live"}, attr{"data-title", pageTitle(d)}, attr{"data-at", d.At.Format("15:04:05")})
	about(m, d)
	if len(d.Targets) == 0 {
		m.el("p", "No target is configured, so there is nothing to show.", class("empty"))
	}
	for i := range d.Targets {
		v := view{markup: m, now: d.At, stats: &d.Targets[i], id: fmt.Sprintf("t%d", i), limit: limit}
		v.target()
	}
	m.end("main")
}

// about is what concerns the whole daemon.
func about(m *markup, d Document) {
	c := d.Info.Config
	m.open("p", class("about"))
	m.text(d.Info.Version.Version)
	m.text(" · up ")
	m.el("time", span(d.At.Sub(d.Info.Started)), attr{"datetime", d.Info.Started.UTC().Format(time.RFC3339)}, title("since "+clock(d.Info.Started)))
	m.text(" · configuration ")
	if c.File == "" {
		m.text("from flags")
	} else {
		m.el("span", c.File, class("mono"))
		m.text(", generation " + count(c.Generation) + ", loaded ")
		m.el("time", ago(d.At, c.Loaded), attr{"datetime", c.Loaded.UTC().Format(time.RFC3339)}, title(clock(c.Loaded)))
		if c.Refused > 0 {
			m.text(", " + plural(c.Refused, "change") + " refused")
		}
	}
	m.end("p")
	if d.Info.Draining {
		m.open("p", class("banner note"), attr{"id", "draining"})
		m.el("strong", "The daemon ends.")
		m.text(" No new connections are taken, calls run out.")
		m.end("p")
	}
	if c.Error != "" {
		m.open("p", class("banner warn"), attr{"id", "config-error"})
		m.el("strong", "The changed configuration was refused "+ago(d.At, c.ErrorAt)+".", title(clock(c.ErrorAt)))
		m.text(" " + c.Error)
		m.end("p")
	}
}
