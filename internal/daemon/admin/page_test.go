package admin

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

func fragmentOf(f fixed, limit int) string {
	var m markup
	fragment(&m, Document{At: now, Info: f.info, Targets: f.pools}, limit)
	return m.String()
}

// troubled shows everything that the page has.
func troubled(s *sidecar.Stats) {
	busy(s)
	s.Pods[0].Name, s.Pods[0].Node, s.Pods[0].Zone = "default/square-1", "worker-1", "eu-1a"
	s.Pods[1].StateReason, s.Pods[1].EjectedUntil, s.Pods[1].RecentErrors = "5 failures in a row", now.Add(12*time.Second), 60
	s.GuardDecisions["believed"], s.GuardDecisions["restored"], s.GuardDecisions["zero"], s.GuardDecisions["expired"] = 1, 1, 1, 1
	s.Refreshes = append([]sidecar.Refresh{
		{At: now.Add(-time.Second), Source: "dns", Outcome: "servfail", Looks: 2, Took: time.Second, Size: 3, Error: "10.96.0.10:53 said SERVFAIL"},
		{At: now.Add(-time.Minute), Source: "dns", Outcome: "ok", Looks: 1, Took: time.Millisecond, Size: 2, Held: 1, Removed: []string{"10.0.0.3:6565"},
			Added: []string{"10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1", "10.0.1.4:1", "10.0.1.5:1", "10.0.1.6:1", "10.0.1.7:1", "10.0.1.8:1"},
			Guard: "held: 1 of 3 endpoints is missing, asked again over TCP"},
	}, s.Refreshes...)
}

// TestFragment: the page of some moments, as text.
func TestFragment(t *testing.T) {
	golden.Text(t, "testdata/healthy.html", fragmentOf(daemon(same), maxRows))
	golden.Text(t, "testdata/troubled.html", fragmentOf(daemon(troubled).with(func(i *Info) {
		i.Draining = true
		i.Config = Config{File: "/etc/g.yaml", Generation: 3, Loaded: now.Add(-time.Hour), Refused: 1, Error: "line 4: no field x", ErrorAt: now.Add(-time.Minute)}
	}), maxRows))
	golden.Text(t, "testdata/empty.html", fragmentOf(daemon(func(s *sidecar.Stats) {
		*s = sidecar.Stats{Name: s.Name, Target: s.Target, Listen: s.Listen, Policy: s.Policy, LastError: "NXDOMAIN"}
	}, func(s *sidecar.Stats) { s.Name, s.Pods, s.Refreshes = "none", nil, nil }), maxRows))
	golden.Text(t, "testdata/nothing.html", fragmentOf(daemon(), maxRows))
}

// TestPageHasTheFragment: a browser without scripts gets the same words at once.
func TestPageHasTheFragment(t *testing.T) {
	f := daemon(troubled, same)
	p := page{source: f, now: func() time.Time { return now }}
	w := get(t, http.HandlerFunc(p.serve), "/")
	if !strings.Contains(w.Body.String(), fragmentOf(f, maxRows)) {
		t.Error("the page has another fragment than the script asks for")
	}
	if got := get(t, http.HandlerFunc(p.serveFragment), "/debug/fragment").Body.String(); got != fragmentOf(f, maxRows) {
		t.Error("the fragment is another one")
	}
	for title, f := range map[string]fixed{
		"pools – grpclb-refresher": daemon(same), "Warning: 1 of 2 targets – grpclb-refresher": daemon(same, func(s *sidecar.Stats) { s.Pods[0].RecentErrors = 600 }),
		"draining – grpclb-refresher": daemon(same).with(func(i *Info) { i.Draining = true }),
	} {
		if !strings.Contains(fragmentOf(f, 0), `data-title="`+title+`"`) {
			t.Errorf("no title %q", title)
		}
	}
}

// TestHostileText: text of others adds no element, no attribute, no control
// character.
func TestHostileText(t *testing.T) {
	// pieces is the page without its text.
	pieces := func(text string) []string {
		f := daemon(func(s *sidecar.Stats) {
			troubled(s)
			s.Name, s.Target, s.Policy, s.Source, s.Reason, s.LastError, s.Listen = text, text, text, text, text, text, []string{text, text}
			for i := range s.Pods {
				p := &s.Pods[i]
				p.Addr, p.Name, p.Node, p.Zone, p.StateReason, p.Codes = text, text, text, text, text, map[string]uint64{text: 1}
			}
			s.Pods[2].State = text
			s.Passthrough.Kinds, s.Passthrough.LastPod = map[string]uint64{text: 1}, text
			for i := range s.Refreshes {
				r := &s.Refreshes[i]
				r.Source, r.Outcome, r.Guard, r.Error, r.Added, r.Removed = text, text, text, text, []string{text}, []string{text}
			}
		}).with(func(i *Info) { i.Version.Version, i.Config.File, i.Config.Error = text, text, text })
		out := fragmentOf(f, maxRows)
		if bad := regexp.MustCompile("[\x00-\x09\x0b-\x1f\x7f\u0085\u2028\u2029\u202a-\u202e\u2066-\u2069]").FindString(out); bad != "" {
			t.Errorf("%.20q: the page has the character %q", text, bad)
		}
		var pieces []string
		for z := html.NewTokenizer(strings.NewReader(out)); z.Next() != html.ErrorToken; {
			switch token := z.Token(); token.Type {
			case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
				piece := token.Type.String() + " " + token.Data
				for _, a := range token.Attr {
					piece += " " + a.Key
				}
				pieces = append(pieces, piece)
			case html.CommentToken, html.DoctypeToken:
				pieces = append(pieces, "comment")
			}
		}
		return pieces
	}
	plain := pieces("plain")
	for _, text := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onclick='x`, "</main></body>", "<!-- ", "-->", "]]>", "&lt;b&gt;", "&#x3c;b>",
		"\x00<b>", "a\nb\rc\td", "\u202eevil\u2066", "\xff\xfe<\xc0", "javascript:alert(1)", "{{.}}", "`${1}`", strings.Repeat("long<", 1000), "\u2028\u2029\u0085",
	} {
		if got := pieces(text); !slices.Equal(got, plain) {
			t.Errorf("%.40q changes the page:\n%v", text, got)
		}
	}
}

func manyPods(n int) func(s *sidecar.Stats) {
	return func(s *sidecar.Stats) {
		s.Pods = nil
		for i := range n {
			p := member(fmt.Sprintf("10.0.%d.%d:6565", i/200, i%200))
			p.Name, p.Node, p.Zone, p.Share = fmt.Sprintf("default/square-6d5f9c7b8-%05d", i), "worker-1", "eu-1a", 1/float64(n)
			s.Pods = append(s.Pods, p)
		}
	}
}

// TestMany: a thousand pods are shown in part, those in trouble first, and a
// second's answer stays small.
func TestMany(t *testing.T) {
	f := daemon(manyPods(1000))
	f.pools[0].Pods[900].State, f.pools[0].Pods[901].RecentErrors, f.pools[0].Pods[902].State = sidecar.StateEjected, 300, sidecar.StateConnecting
	f.pools[0].Pods[0].State = sidecar.StateGone
	out := fragmentOf(f, maxRows)
	if rows := strings.Count(out, `role="rowheader"`); rows != maxRows || !strings.Contains(out, "900 more pods not shown") {
		t.Errorf("%d rows", rows)
	}
	var order []string
	for _, m := range regexp.MustCompile(`class="name">([^<]*)`).FindAllStringSubmatch(out, 4) {
		order = append(order, strings.TrimPrefix(m[1], "default/square-6d5f9c7b8-"))
	}
	if !slices.Equal(order, []string{"00900", "00901", "00902", "00001"}) {
		t.Errorf("first stand %v", order)
	}
	if len(out) > 250_000 {
		t.Errorf("%d bytes a second for 100 of 1,000 pods", len(out))
	}
	all := fragmentOf(f, 0)
	if rows := strings.Count(all, `role="rowheader"`); rows != 1000 || len(all) > 2_000_000 {
		t.Errorf("%d rows, %d bytes", rows, len(all))
	}
	h := Debug(f, nil)
	for path, want := range map[string]int{"/": 100, "/?pods=all": 1000, "/?pods=none": 100} {
		if rows := strings.Count(get(t, h, path).Body.String(), `role="rowheader"`); rows != want {
			t.Errorf("%s has %d rows, want %d", path, rows, want)
		}
	}
}

func BenchmarkFragment(b *testing.B) {
	for _, pods := range []int{3, 100, 1000} {
		f := daemon(manyPods(pods))
		b.Run(strconv.Itoa(pods), func(b *testing.B) {
			for b.Loop() {
				fragmentOf(f, 0)
			}
		})
	}
}

// TestContrast: text is readable on what it stands on, in the light and in the
// dark (WCAG 2.2, success criterion 1.4.3: 4.5 to 1).
func TestContrast(t *testing.T) {
	schemes := strings.SplitN(style, "@media (prefers-color-scheme: dark)", 2)
	if len(schemes) != 2 {
		t.Fatal("no dark scheme")
	}
	colour := regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)
	for i, text := range schemes {
		palette := map[string]string{}
		for _, m := range colour.FindAllStringSubmatch(text, -1) {
			palette[m[1]] = m[2]
		}
		for _, pair := range [][2]string{
			{"text", "page"}, {"text", "card"}, {"muted", "page"}, {"muted", "card"}, {"muted", "track"}, {"fine", "card"}, {"bad", "card"}, {"note", "page"}, {"note", "card"}, {"warn", "card"},
			{"fine", "fine-bg"}, {"note", "note-bg"}, {"warn", "warn-bg"}, {"bad", "bad-bg"},
			{"text", "fine-bg"}, {"text", "note-bg"}, {"text", "warn-bg"}, {"text", "bad-bg"},
		} {
			if got := contrast(t, palette[pair[0]], palette[pair[1]]); got < 4.5 {
				t.Errorf("scheme %d: %s on %s is %.2f to 1", i, pair[0], pair[1], got)
			}
		}
		// What is no text needs less (success criterion 1.4.11).
		if got := contrast(t, palette["data"], palette["track"]); got < 3 {
			t.Errorf("scheme %d: a bar on its track is %.2f to 1", i, got)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(hex string) float64 {
		var sum float64
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			v := float64(n) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	if len(a) != 7 || len(b) != 7 {
		t.Fatalf("no colour: %q %q", a, b)
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
