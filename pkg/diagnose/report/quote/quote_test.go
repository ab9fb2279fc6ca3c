package quote_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

func TestVisible(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"plain", "svc/square-service · 3 → 6565, ärger 漢字", "svc/square-service · 3 → 6565, ärger 漢字"},
		{"ansi", "\x1b[31mred", `\u001b[31mred`},
		{"c1 csi", "\u009b31m", `\u009b31m`},
		{"delete", "a\x7f", `a\u007f`},
		{"lines", "a\r\nb\u2028c\u2029d\te", `a\u000d\u000ab\u2028c\u2029d\u0009e`},
		{"bidi", "a\u202eb\u2066c\u200fd", `a\u202eb\u2066c\u200fd`},
		{"zero width", "a\u200bb\ufeffc\u2060d", `a\u200bb\ufeffc\u2060d`},
		{"blank letters", "a\u3164b\u115fc", `a\u3164b\u115fc`},
		{"variation selector", "a\ufe0f", `a\ufe0f`},
		{"no-break space", "a\u00a0b", `a\u00a0b`},
		{"tag", "a\U000e0041", `a\U000e0041`},
		{"invalid", "a\xffb\xc3", `a\xffb\xc3`},
		{"github", "::error::boom", `\u003a:error::boom`},
		{"github later", "see ::set-output name=x::y", `see \u003a:set-output name=x::y`},
		{"github old", "##[group]x", `\u0023#[group]x`},
		{"azure", "x ##vso[task]y", `x \u0023#vso[task]y`},
		{"ipv6", "::1 and ::ffff:10.0.0.1 and 2001:db8::1", "::1 and ::ffff:10.0.0.1 and 2001:db8::1"},
		{"code", "std::string", "std::string"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := quote.Visible(c.in); got != c.want {
				t.Errorf("Visible(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b]0;x\a", "::error::x", "##[x]###", "\xf0\x28", "a\u202eb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := quote.Visible(s)
		if !utf8.ValidString(got) || !quote.Printable(got) {
			t.Errorf("Visible(%q) = %q is not all visible", s, got)
		}
		if again := quote.Visible(got); again != got {
			t.Errorf("Visible is not stable: %q then %q", got, again)
		}
		if strings.Contains(got, "##") || strings.HasPrefix(strings.TrimLeft(got, " "), "::error") {
			t.Errorf("Visible(%q) = %q still holds a workflow command", s, got)
		}
	})
}

func TestShell(t *testing.T) {
	cases := []struct{ in, want string }{
		{"svc/square-service", "svc/square-service"},
		{"A=dns:///x:1", "A=dns:///x:1"},
		{"", "''"},
		{"a b", "'a b'"},
		{"it's", `'it'\''s'`},
		{"$(reboot)", "'$(reboot)'"},
		{"`id`", "'`id`'"},
		{"~root", "'~root'"},
		{"=ls", "'=ls'"},
		{"a;b", "'a;b'"},
		{"*", "'*'"},
		{"{a,b}", "'{a,b}'"},
		{"ümlaut", "'ümlaut'"},
	}
	for _, c := range cases {
		if got, ok := quote.Shell(c.in); !ok || got != c.want {
			t.Errorf("Shell(%q) = %q, %v, want %q", c.in, got, ok, c.want)
		}
	}
	for _, bad := range []string{"a\nb", "\x1b[A", "a\u202eb", "\xff", "a\x00", "##[error]x", "a##vso[b]", "::error::x", "a ::error::x"} {
		if got, ok := quote.Shell(bad); ok {
			t.Errorf("Shell(%q) = %q, want it refused", bad, got)
		}
	}
}

// FuzzShell proves the quoting with a real shell: what was quoted arrives as it was, as one argument.
func FuzzShell(f *testing.F) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		f.Skip("no POSIX shell on this machine")
	}
	for _, s := range []string{"", "a", "a b", "'", "''", `\`, `"`, "$HOME", "`id`", "-n", "%s", "!x", "#", "a'b'c", "漢", "~", "x=~", "a\n", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, ok := quote.Shell(s)
		if !ok {
			if quote.Visible(s) == s {
				t.Fatalf("Shell(%q) refused text that arrives as it is", s)
			}
			return
		}
		if quote.Visible(q) != q {
			t.Errorf("Shell(%q) = %q does not arrive as it is", s, q)
		}
		out, err := exec.CommandContext(t.Context(), sh, "-c", "printf '<%s>' "+q).Output()
		if err != nil || string(out) != "<"+s+">" {
			t.Errorf("sh got %q (%v) from %s, want %q", out, err, q, s)
		}
	})
}

func TestCommandLine(t *testing.T) {
	c := diagnose.Command{Args: []string{"kubectl", "grpclb", "fix", "svc/a b"}, PipeTo: []string{"kubectl", "apply", "-f", "-"}}
	if got, ok := quote.CommandLine(c); !ok || got != "kubectl grpclb fix 'svc/a b' | kubectl apply -f -" {
		t.Errorf("got %q, %v", got, ok)
	}
	for name, c := range map[string]diagnose.Command{
		"empty":        {},
		"unprintable":  {Args: []string{"kubectl", "\x1b"}},
		"in the pipe":  {Args: []string{"kubectl"}, PipeTo: []string{"a\nb"}},
		"only the end": {PipeTo: []string{"kubectl"}},
	} {
		if got, ok := quote.CommandLine(c); ok {
			t.Errorf("%s: got %q, want it refused", name, got)
		}
	}
}

// hostile are strings that a format must carry unharmed, and show harmlessly.
var hostile = []string{
	"plain", "yes", "0x10", "1e3", "null", "~", "- a", "a: b", "# c", "a\nb\n", "\n::error::x\n", "\x1b[31m\u009b", "a\u202eb", "\U000e0041", "😀",
	"##[group]", "'\"\\", "\t", " lead", "trail ", "\u2028", "\u0085", "a\u0085b", strings.Repeat("long ", 100) + "\x1b",
}

func TestDataRoundTrip(t *testing.T) {
	type doc struct {
		List []string          `json:"list"`
		Map  map[string]string `json:"map"`
		N    int64             `json:"n"`
		F    float64           `json:"f"`
		Null *int              `json:"null"`
	}
	check := func(t *testing.T, d doc) {
		t.Helper()
		for name, enc := range map[string]func(any) ([]byte, error){"json": quote.JSON, "yaml": quote.YAML} {
			b, err := enc(d)
			if err != nil {
				t.Fatal(err)
			}
			var back doc
			if name == "json" {
				err = json.Unmarshal(b, &back)
			} else {
				err = yaml.UnmarshalStrict(b, &back)
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, b)
			}
			if diff := cmp.Diff(d, back); diff != "" {
				t.Errorf("%s changed the data:\n%s\n%s", name, diff, b)
			}
			for line := range strings.Lines(string(b)) {
				if line = strings.TrimSuffix(line, "\n"); quote.Visible(line) != line {
					t.Errorf("%s shows %q", name, line)
				}
			}
		}
	}
	for _, s := range hostile {
		check(t, doc{List: []string{s}, Map: map[string]string{s: s}, N: 1 << 60, F: 0.25})
	}
	check(t, doc{List: hostile, Map: map[string]string{}, N: -1})
}
