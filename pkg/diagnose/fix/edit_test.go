package fix

import (
	"strings"
	"testing"
)

func TestReplaceToken(t *testing.T) {
	cases := []struct{ in, token, want string }{
		{"a:1", "a:1", "NEW"},
		{"a:1,b:2,a:1", "a:1", "NEW,b:2,NEW"},
		{"big-a:1", "a:1", ""},
		{"x.a:1", "a:1", ""},
		{"a:10", "a:1", ""},
		{"a.b", "a", ""},
		{"--target=a:1 --other=aa:1", "a:1", "--target=NEW --other=aa:1"},
		{`{"url":"a:1"}`, "a:1", `{"url":"NEW"}`},
		{"a:1a:1", "a:1", ""},
		{"", "a", ""},
		{"a", "", ""},
	}
	for _, c := range cases {
		got, ok := replaceToken(c.in, c.token, "NEW")
		want, wantOK := c.want, c.want != ""
		if !wantOK {
			want = c.in
		}
		if got != want || ok != wantOK {
			t.Errorf("replaceToken(%q, %q) = %q, %v, want %q, %v", c.in, c.token, got, ok, want, wantOK)
		}
	}
}

func FuzzReplaceToken(f *testing.F) {
	f.Add("x=a:1,b", "a:1")
	f.Add("aaaa", "a")
	f.Fuzz(func(t *testing.T, s, token string) {
		got, ok := replaceToken(s, token, "\x00")
		if strings.Contains(s, "\x00") {
			return
		}
		if back := strings.ReplaceAll(got, "\x00", token); back != s {
			t.Errorf("replaceToken(%q, %q) lost something: %q", s, token, got)
		}
		if ok != strings.Contains(got, "\x00") {
			t.Errorf("replaceToken(%q, %q) = %q, %v", s, token, got, ok)
		}
		if same, _ := replaceToken(s, token, token); same != s {
			t.Errorf("replacing a token by itself changed %q to %q", s, same)
		}
	})
}
