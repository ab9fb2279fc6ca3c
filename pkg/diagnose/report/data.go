package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// JSON writes the report as one indented JSON document. Characters that a terminal may act on are written as \u
// escapes, which mean the same to every JSON reader; invalid UTF-8 becomes U+FFFD.
func JSON(w io.Writer, r diagnose.Report) error {
	b, err := marshal(r)
	if err != nil {
		return err
	}
	return write(w, b)
}

func marshal(r diagnose.Report) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return escapeQuoted(b.Bytes()), nil
}

// escapeQuoted puts \u escapes for unprintable characters beyond ASCII, and for the hashes of workflow commands. Both
// occur only inside the double quotes of JSON and of the YAML written here, where the escape means the same.
func escapeQuoted(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r == '#' && i+1 < len(b) && b[i+1] == '#':
			out = append(out, `\u0023`...)
		case r < utf8.RuneSelf && r != 0x7f, quote.Printable(string(r)):
			out = append(out, b[i:i+n]...)
		case r > 0xffff:
			// JSON has no escape for these but the surrogate pair, which YAML does not know: both know the replacement.
			out = append(out, `\ufffd`...)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += n
	}
	return out
}

// YAML writes the report as one YAML document, with the fields in the order of JSON. Texts of several lines (manifests,
// code) are blocks; what a terminal or a CI system may act on is in double quotes, escaped.
func YAML(w io.Writer, r diagnose.Report) error {
	b, err := marshal(r)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil { // JSON is YAML (YAML 1.2, section 1.3), and nodes keep the order
		return fmt.Errorf("encode report: %w", err)
	}
	restyle(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return write(w, escapeQuoted(out.Bytes()))
}

// restyle takes JSON's flow style from a tree and chooses each string's form.
func restyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	for _, c := range n.Content {
		restyle(c)
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return
	}
	switch lines := strings.Split(n.Value, "\n"); {
	case harmless(n.Value):
		n.Style = 0
	case len(lines) > 1 && allHarmless(lines):
		n.Style = yaml.LiteralStyle
	default:
		n.Style = yaml.DoubleQuotedStyle
	}
}

func harmless(s string) bool { return quote.Visible(s) == s }

func allHarmless(lines []string) bool {
	for _, l := range lines {
		if !harmless(l) {
			return false
		}
	}
	return true
}

// Name writes service/NAME for each Service with a finding at or above the report's threshold, one a line, as
// kubectl -o name does: what a loop over "those that need work" takes.
func Name(w io.Writer, r diagnose.Report) error {
	threshold := r.FailOn
	if threshold == 0 {
		threshold = diagnose.High
	}
	var b bytes.Buffer
	for _, s := range r.Services {
		for _, f := range s.Findings {
			if f.Severity >= threshold {
				fmt.Fprintf(&b, "service/%s\n", quote.Visible(s.Name))
				break
			}
		}
	}
	return write(w, b.Bytes())
}

func write(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
