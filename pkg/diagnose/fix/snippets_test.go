package fix

import (
	"go/parser"
	"go/token"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// render returns the code of each language.
func render(t testing.TB, side string, data any) map[string]string {
	t.Helper()
	ss, err := snippets(side, data)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range ss {
		out[s.Language] = s.Code
	}
	return out
}

func TestEveryLanguageHasCode(t *testing.T) {
	for _, tls := range []bool{false, true} {
		for _, authority := range []string{"", "a.example"} {
			code := render(t, "client", clientCode{Target: "dns:///a:1", TLS: tls, Authority: authority})
			for _, lang := range Languages() {
				if !strings.Contains(code[lang], "dns:///a:1") || !strings.Contains(strings.ReplaceAll(code[lang], "RoundRobin", "round_robin"), "round_robin") {
					t.Errorf("%s: %s", lang, code[lang])
				}
				override := tls && authority != ""
				if lang == "csharp" { // SocketsHttpHandler has no override that holds
					if strings.Contains(code[lang], "TargetHost =") || strings.Contains(code[lang], "The certificate has to be valid") != override {
						t.Errorf("TLS %v, authority %q:\n%s", tls, authority, code[lang])
					}
					override = false
				}
				if has := strings.Contains(code[lang], "a.example"); has != override {
					t.Errorf("%s, TLS %v, authority %q:\n%s", lang, tls, authority, code[lang])
				}
			}
		}
	}
	server := render(t, "server", serverCode{Age: 90 * time.Second, Grace: 1500 * time.Millisecond})
	for lang, code := range server {
		if !strings.Contains(code, "90000") || !strings.Contains(code, "1500") {
			t.Errorf("%s: %s", lang, code)
		}
	}
	if _, ok := server["csharp"]; ok || len(server) != len(Languages())-1 {
		t.Errorf("server code for %d languages", len(server))
	}
}

// nasty are targets that would end a string literal, or more, if they were pasted into code.
var nasty = []string{
	`a"b`, `a\b`, "a\nb", "a\rb", `a'b`, "a`b", "a${b}c", "a#{b}", "%s", "a\x00b", "ü漢😀", "a\u2028b", `\u0022`, "?" + "?/", "a\x7f1", "</script>", "{{.}}", `"+x+"`,
}

func TestLiterals(t *testing.T) {
	for _, lang := range Languages() {
		q := literal(lang)
		for _, s := range nasty {
			got := q(s)
			inner := strings.TrimSuffix(strings.TrimPrefix(got, `"`), `"`)
			if len(inner)+2 != len(got) {
				t.Fatalf("%s: %q became %s", lang, s, got)
			}
			for i := 0; i < len(inner); i++ {
				switch c := inner[i]; {
				case c < 0x20 || c > 0x7e:
					t.Errorf("%s: %q became %s: not printable ASCII", lang, s, got)
				case c == '\\':
					i++ // whatever is escaped
				case c == '"':
					t.Errorf("%s: %q became %s: ends early", lang, s, got)
				}
			}
		}
	}
	// Java reads \u escapes before literals: those for quotes and line breaks would end one.
	for _, s := range nasty {
		if got := literal("java")(s); strings.Contains(strings.ReplaceAll(got, `\\`, ""), `\u00`) && !strings.Contains(s, "ü") {
			t.Errorf("java: %q became %s", s, got)
		}
	}
	for _, s := range nasty {
		if back, err := strconv.Unquote(literal("go")(s)); err != nil || back != s {
			t.Errorf("go: %q came back as %q, %v", s, back, err)
		}
	}
}

// TestLiteralsInTheirLanguage asks the interpreters that this machine has.
func TestLiteralsInTheirLanguage(t *testing.T) {
	for lang, run := range map[string]func(string) []string{
		"python": func(lit string) []string {
			return []string{"python3", "-c", "import sys; sys.stdout.buffer.write((" + lit + ").encode())"}
		},
		"node": func(lit string) []string { return []string{"node", "-e", "process.stdout.write(" + lit + ")"} },
	} {
		t.Run(lang, func(t *testing.T) {
			if _, err := exec.LookPath(run("")[0]); err != nil {
				t.Skipf("no %s on this machine", lang)
			}
			args := run(literal(lang)(strings.Join(nasty, "|")))
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).Output()
			if want := strings.Join(nasty, "|"); err != nil || string(out) != want {
				t.Errorf("got %q (%v), want %q", out, err, want)
			}
		})
	}
}

func TestGoCodeParses(t *testing.T) {
	for _, c := range []struct {
		side string
		data any
	}{
		{"client", clientCode{Target: `dns:///a"b`}},
		{"client", clientCode{Target: "dns:///a:1", TLS: true}},
		{"client", clientCode{Target: "dns:///a:1", TLS: true, Authority: "b"}},
		{"server", serverCode{Age: time.Minute, Grace: time.Second}},
	} {
		src := "package x\n\n" + render(t, c.side, c.data)["go"]
		if _, err := parser.ParseFile(token.NewFileSet(), "x.go", src, parser.AllErrors); err != nil {
			t.Errorf("%v\n%s", err, src)
		}
	}
}
