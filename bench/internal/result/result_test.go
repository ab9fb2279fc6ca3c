package result

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVerdicts(t *testing.T) {
	sample := []time.Duration{70 * time.Millisecond, 50 * time.Millisecond, 59 * time.Millisecond}
	cases := []struct {
		name string
		row  Row
		want string
	}{
		{"median under the limit", Times("x", sample).Under(60*time.Millisecond, sample), "met"},
		{"median at the limit", Times("x", sample).Under(59*time.Millisecond, sample), "MISSED"},
		{"nothing measured", Times("x", nil).Under(time.Hour, nil), "MISSED"},
		{"no target", Times("x", sample), ""},
		{"memory is judged by its peak", Bytes("x", []int64{1, 1, 10}, 5), "MISSED"},
		{"memory under the limit", Bytes("x", []int64{1, 1, 4}, 5), "met"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.row.verdict(); got != c.want {
				t.Errorf("verdict %q, want %q (%+v)", got, c.want, c.row)
			}
		})
	}
}

func TestAMissIsPrinted(t *testing.T) {
	s := Section{ID: "id", Title: "title", LeftOut: "no cluster", Rows: []Row{{What: "a", Value: "61 ms", Target: "< 60 ms"}, {What: "b", Peer: true, Value: "1 ms"}}}
	var text, markdown strings.Builder
	if err := Text(&text, s); err != nil {
		t.Fatal(err)
	}
	if err := Markdown(&markdown, s); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), markdown.String()} {
		for _, want := range []string{"MISSED", "61 ms", "< 60 ms", "b (peer)", "no cluster"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in:\n%s", want, out)
			}
		}
	}
}

func TestReplace(t *testing.T) {
	doc := "# head\n<!-- measured: a -->\nold\n<!-- end: a -->\n<!-- measured: b -->\nkept\n<!-- end: b -->\n"
	got, err := Replace(doc, Section{ID: "a", Title: "new", Where: "a machine"})
	want := "# head\n<!-- measured: a -->\n### New\n\nMeasured on: a machine.\n<!-- end: a -->\n<!-- measured: b -->\nkept\n<!-- end: b -->\n"
	if err != nil || got != want {
		t.Errorf("Replace = %q, %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "<!-- measured: a -->\n", "<!-- end: a --><!-- measured: a -->\n", doc[:20]} {
		if _, err := Replace(bad, Section{ID: "a"}); err == nil {
			t.Errorf("Replace(%q) found a place", bad)
		}
	}
}

func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	const doc = "head\n<!-- measured: a -->\n<!-- end: a -->\n<!-- measured: b -->\n<!-- end: b -->\ntail\n"
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	want := func(text string) {
		t.Helper()
		got, err := os.ReadFile(file)
		if err != nil || string(got) != text {
			t.Errorf("the document is %q (%v), want %q", got, err, text)
		}
	}
	if err := Write(file, Section{ID: "a", Title: "new"}, Section{ID: "no such mark"}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a section without marks: %v", err)
	}
	want(doc)
	if err := Write(file, Section{ID: "a", Title: "one"}, Section{ID: "b", Title: "two"}); err != nil {
		t.Error(err)
	}
	want("head\n<!-- measured: a -->\n### One\n<!-- end: a -->\n<!-- measured: b -->\n### Two\n<!-- end: b -->\ntail\n")
}
