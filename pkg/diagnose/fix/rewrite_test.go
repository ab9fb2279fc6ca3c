package fix

import (
	"errors"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestRewrite(t *testing.T) {
	cases := []struct{ in, token, want, why string }{
		{"a:1", "a:1", "NEW", ""},
		{" \"a:1\"\n", "a:1", " \"NEW\"\n", ""},
		{"https://a:1/", "https://a:1", "NEW", ""},
		{"$(A_SERVICE_HOST):1", "$(A_SERVICE_HOST):1", "NEW", ""},
		{"NEW", "a:1", "", "there already"},
		{"a:1,b:2", "a:1", "", "a list"},
		{"a:1,$(B)", "a:1", "", "composed of $(B)"},
		{"https://a:1/healthz", "https://a:1", "", "only a part"},
		{"static://a:1?x=1", "static://a:1", "", "only a part"},
		{"--addr=a:1 --log", "a:1", "", "only a part"},
		{"static://$(HOST):${PORT}", "static://a:1", "", "composed of $(HOST), ${PORT}"},
		{"$(ADDR)", "a:1", "", "takes the value of $(ADDR)"},
		{"big-a:1", "a:1", "", "not there any more"},
		{"a:10", "a:1", "", "not there any more"},
		{"", "a:1", "", "not there any more"},
		{"x", "", "", "not there any more"},
	}
	for _, c := range cases {
		scheme := ""
		if strings.HasPrefix(c.token, "https") {
			scheme = "https"
		}
		got, err := rewrite(c.in, edit{t: diagnose.Target{Token: c.token, Scheme: scheme}, to: "NEW"})
		if got != c.want || (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("rewrite(%q, %q) = %q, %v, want %q, %q", c.in, c.token, got, err, c.want, c.why)
		}
	}
}

func TestRewriteText(t *testing.T) {
	cases := map[string]struct {
		in, want string // nothing is rewritten when want is empty
		left     bool
		err      error
	}{
		"one value":           {"a:1\n", "NEW\n", false, nil},
		"yaml":                {"x:\n  sq: a:1 # here\n  - sq: 'a:1'\n", "x:\n  sq: NEW # here\n  - sq: 'NEW'\n", false, nil},
		"properties":          {"square.address=a:1\r\nother = b\n", "square.address=NEW\r\nother = b\n", false, nil},
		"shell":               {"export SQ=\"a:1\"\nX=1", "export SQ=\"NEW\"\nX=1", false, nil},
		"json in one line":    {`{"sq":"a:1","n":1,` + "\n" + `"z": "a:1"}`, `{"sq":"NEW","n":1,` + "\n" + `"z": "NEW"}`, false, nil},
		"toml table":          {"[sq]\nt = {addr = \"a:1\", n = 1}\n", "[sq]\nt = {addr = \"NEW\", n = 1}\n", false, nil},
		"a list as well":      {"sq: a:1\nall: a:1,b:2\n", "sq: NEW\nall: a:1,b:2\n", true, nil},
		"comments stay":       {"# sq: a:1\nsq: a:1\n", "# sq: a:1\nsq: NEW\n", false, nil},
		"yaml list":           {"all:\n- a:1\n- b:2\n", "", true, errPart},
		"json list":           {"{\"all\":[\"a:1\",\"b:2\"],\n\"x\":[\"a:1\"]}", "", true, errPart},
		"flow list":           {"all: [a:1]\nx: y\n", "", true, errPart},
		"quoted in a list":    {"all = \"a:1\", \"b:2\"\nx=y\n", "", true, errPart},
		"path behind it":      {"sq: a:1/healthz\nx: y\n", "", true, errPart},
		"nginx":               {"location / {\n  grpc_pass a:1;\n}\n", "", true, errPart},
		"another name":        {"sq: big-a:1\nx: a:10\n", "", false, errTargetGone},
		"done by another":     {"sq: NEW\nx: y\n", "", false, errDone},
		"only in a comment":   {"# a:1\nx: y\n", "", false, errTargetGone},
		"list of one line":    {"a:1,b:2", "", true, errPart},
		"quotes do not match": {"sq: \"a:1'\nx: y\n", "", true, errPart},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, left, err := rewriteText(c.in, edit{t: diagnose.Target{Token: "a:1"}, to: "NEW"})
			if got != c.want || left != c.left || !errors.Is(err, c.err) {
				t.Errorf("got %q, %v, %v\nwant %q, %v, %v", got, left, err, c.want, c.left, c.err)
			}
		})
	}
}

func FuzzRewriteText(f *testing.F) {
	f.Add("x=a:1\n- y: \"a:1\"", "a:1")
	f.Add("aaaa", "a")
	f.Fuzz(func(t *testing.T, s, token string) {
		if strings.Contains(s, "\x00") || strings.ContainsAny(token, "\x00\n") {
			return
		}
		got, _, err := rewriteText(s, edit{t: diagnose.Target{Token: token}, to: "\x00"})
		if err != nil {
			return
		}
		if back := strings.ReplaceAll(got, "\x00", token); back != s {
			t.Errorf("rewriting %q in %q lost something: %q", token, s, got)
		}
		if !strings.Contains(got, "\x00") {
			t.Errorf("rewriting %q in %q did nothing, without a reason", token, s)
		}
	})
}
