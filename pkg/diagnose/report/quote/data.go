package quote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	yamlnode "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// JSON encodes v as one indented JSON document that is safe to show: what Visible would spell out stands as a \u escape,
// which means the same to every reader of JSON. Invalid UTF-8 becomes U+FFFD.
func JSON(v any) ([]byte, error) {
	b, err := plainJSON(v)
	if err != nil {
		return nil, err
	}
	return escape(b, func(out []byte, r rune) []byte {
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			return fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		}
		return fmt.Appendf(out, `\u%04x`, r)
	}), nil
}

func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return b.Bytes(), nil
}

// YAML encodes v, by its JSON form, as one YAML document that is safe to show and that YAML 1.1 and 1.2 readers
// understand alike. Texts of several lines are blocks. A document that holds anything that Visible would spell out has
// all its strings in double quotes, where it can be escaped.
func YAML(v any) ([]byte, error) {
	raw, err := plainJSON(v)
	if err != nil {
		return nil, err
	}
	b := escape(raw, yamlEscape)
	if bytes.Equal(b, raw) { // else the line below fails: YAML knows DEL and C1 as escapes only
		out, err := yaml.JSONToYAML(raw)
		if err != nil {
			return nil, fmt.Errorf("encode YAML: %w", err)
		}
		if clean(string(out)) {
			return out, nil
		}
	}
	var doc yamlnode.Node
	if err := yamlnode.Unmarshal(b, &doc); err != nil { // JSON is YAML but for surrogate pairs, and those are \U now
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	quoteAll(&doc)
	var quoted bytes.Buffer
	enc := yamlnode.NewEncoder(&quoted)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return escape(quoted.Bytes(), yamlEscape), nil
}

func yamlEscape(out []byte, r rune) []byte {
	if r > 0xffff {
		return fmt.Appendf(out, `\U%08x`, r)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

func clean(doc string) bool {
	for line := range strings.Lines(doc) {
		line = strings.TrimSuffix(line, "\n")
		if Visible(line) != line {
			return false
		}
	}
	return true
}

func quoteAll(n *yamlnode.Node) {
	n.Style &^= yamlnode.FlowStyle
	for _, c := range n.Content {
		quoteAll(c)
	}
	if n.Kind == yamlnode.ScalarNode && n.Tag == "!!str" {
		n.Style = yamlnode.DoubleQuotedStyle
	}
}

// escape rewrites what must not be shown. All of it stands inside double quotes: outside of them JSON, and YAML whose
// strings are all quoted, have printable ASCII and line breaks only, and no two hashes.
func escape(b []byte, as func([]byte, rune) []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r == '#' && i+1 < len(b) && b[i+1] == '#':
			out = append(out, `\u0023`...)
		case r == '\n' || shown(r):
			out = append(out, b[i:i+n]...)
		default:
			out = as(out, r)
		}
		i += n
	}
	return out
}
