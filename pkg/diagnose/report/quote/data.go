package quote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	yamlnode "go.yaml.in/yaml/v3"
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
	// Text with DEL or C1 in it is no YAML before it is escaped, or is another text: U+0085 ends a line there. A key beyond 1024
	// characters is none in JSON's style.
	if clean(string(raw)) {
		if out, err := blockYAML(raw); err == nil && clean(string(out)) {
			return out, nil
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	doc, err := node(dec)
	if err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	var quoted bytes.Buffer
	enc := yamlnode.NewEncoder(&quoted)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
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

// node reads the next JSON value as a YAML node, with its strings in double quotes.
func node(dec *json.Decoder) (*yamlnode.Node, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		n := &yamlnode.Node{Kind: yamlnode.SequenceNode}
		if t == '{' {
			n.Kind = yamlnode.MappingNode
		}
		for dec.More() { // a mapping's content is key, value, key, value
			c, err := node(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return &yamlnode.Node{Kind: yamlnode.ScalarNode, Tag: "!!str", Style: yamlnode.DoubleQuotedStyle, Value: t}, nil
	case json.Number:
		return &yamlnode.Node{Kind: yamlnode.ScalarNode, Value: t.String()}, nil
	case bool:
		return &yamlnode.Node{Kind: yamlnode.ScalarNode, Value: strconv.FormatBool(t)}, nil
	}
	return &yamlnode.Node{Kind: yamlnode.ScalarNode, Value: "null"}, nil
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
