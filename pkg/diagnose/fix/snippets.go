package fix

import (
	"embed"
	"fmt"
	"path"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode/utf16"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

//go:embed snippets
var code embed.FS

// Languages lists the languages of snippets in the order of a plan.
func Languages() []string { return []string{"go", "java", "python", "node", "cpp", "csharp"} }

// clientCode is what a client's code depends on.
type clientCode struct {
	Target    string
	TLS       bool
	Authority string // with TLS: the name to verify instead of the target's; empty verifies the target's
}

// serverCode is what a server's code depends on.
type serverCode struct {
	Age, Grace time.Duration
}

// snippets renders the code of each language for the client or the server side; a language without a way to do it is
// left out.
func snippets(side string, data any) ([]diagnose.Snippet, error) {
	var out []diagnose.Snippet
	for _, lang := range Languages() {
		text, err := code.ReadFile(path.Join("snippets", side, lang+".tmpl"))
		if err != nil {
			continue
		}
		t, err := template.New(lang).Funcs(template.FuncMap{"q": literal(lang), "ms": time.Duration.Milliseconds, "s": seconds}).Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("snippet for %s: %w", lang, err)
		}
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return nil, fmt.Errorf("snippet for %s: %w", lang, err)
		}
		out = append(out, diagnose.Snippet{Language: lang, Where: side, Code: b.String()})
	}
	return out, nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// literal returns a function that writes a string literal of the language, in printable ASCII only.
func literal(lang string) func(string) string {
	switch lang {
	case "go":
		return strconv.QuoteToASCII
	case "cpp":
		return func(s string) string { return quoted([]byte(s), octal) }
	case "python":
		return func(s string) string {
			return quoted([]rune(s), func(r rune) string { return fmt.Sprintf(`\U%08x`, r) })
		}
	case "java":
		// Java turns \u000a into a line break before it reads the literal (JLS 3.3): what is ASCII must be octal.
		return func(s string) string {
			return quoted(utf16.Encode([]rune(s)), func(u uint16) string {
				if u < 0x80 {
					return octal(u)
				}
				return utf16Escape(u)
			})
		}
	default: // node, csharp
		return func(s string) string { return quoted(utf16.Encode([]rune(s)), utf16Escape) }
	}
}

// octal always has three digits, so that a digit behind it is not taken into it.
func octal[T byte | uint16](c T) string { return fmt.Sprintf(`\%03o`, c) }

func utf16Escape(u uint16) string { return fmt.Sprintf(`\u%04x`, u) }

// quoted writes a literal in double quotes, with an escape for all but plain ASCII.
func quoted[T byte | rune | uint16](units []T, escape func(T) string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, u := range units {
		if u >= 0x20 && u < 0x7f && u != '"' && u != '\\' && u != '?' { // ?: no trigraphs in C++
			b.WriteByte(byte(u))
		} else {
			b.WriteString(escape(u))
		}
	}
	b.WriteByte('"')
	return b.String()
}
