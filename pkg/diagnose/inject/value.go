package inject

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// field and object are a JSON object whose keys keep their order: a manifest is read by people.
type field struct {
	key string
	val any // string, int32, bool, object, []any
}

type object []field

// generic returns a value as the decoders of YAML and JSON would.
func generic(v any) any {
	switch v := v.(type) {
	case object:
		out := map[string]any{}
		for _, f := range v {
			out[f.key] = generic(f.val)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = generic(x)
		}
		return out
	case int32:
		return int(v)
	}
	return v
}

// style is how a document is written: what new text follows.
type style struct {
	eol  string // line end
	step string // one level of indentation
	seq  string // what the items of a sequence are indented by below their key
}

// block writes a value below its key in YAML's block style: lines without line ends, not indented.
func (s style) block(v any) []string {
	var out []string
	switch v := v.(type) {
	case object:
		for _, f := range v {
			out = append(out, s.entry(f)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, s.item(x)...)
		}
	}
	return out
}

// entry writes one key of a mapping.
func (s style) entry(f field) []string {
	key := plainKey(f.key)
	switch v := f.val.(type) {
	case object:
		return append([]string{key + ":"}, indented("  ", s.block(v))...)
	case []any:
		return append([]string{key + ":"}, indented(s.seq, s.block(v))...)
	}
	return []string{key + ": " + scalar(f.val)}
}

// item writes one item of a sequence.
func (s style) item(v any) []string {
	o, ok := v.(object)
	if !ok {
		return []string{"- " + scalar(v)}
	}
	lines := indented("  ", s.block(o))
	lines[0] = "- " + lines[0][2:]
	return lines
}

func indented(by string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = by + l
	}
	return out
}

// flow writes a value as JSON, which YAML's flow style takes: on one line, or, when prefix has a line break, on several that begin with it.
func (s style) flow(v any, prefix string) string {
	inner := ""
	open, sep, end := "", ", ", ""
	if strings.ContainsAny(prefix, "\r\n") {
		inner = prefix + s.step
		open, sep, end = inner, ","+inner, prefix
	}
	var parts []string
	switch v := v.(type) {
	case object:
		for _, f := range v {
			parts = append(parts, quoted(f.key)+": "+s.flow(f.val, inner))
		}
		return "{" + open + strings.Join(parts, sep) + end + "}"
	case []any:
		for _, x := range v {
			parts = append(parts, s.flow(x, inner))
		}
		return "[" + open + strings.Join(parts, sep) + end + "]"
	case string:
		return quoted(v)
	}
	return scalar(v)
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil { // a string always encodes
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

var (
	// plainScalar are texts that no YAML version takes for anything but a string.
	plainScalar = regexp.MustCompile(`^(--)?[A-Za-z/][A-Za-z0-9_./-]*([:@][A-Za-z0-9_./-]+)*$|^[1-9][0-9]*(m|[KMG]i)$`)
	// wordScalar are the words that some version takes for a boolean, a null or a number.
	wordScalar = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf|\.inf|\.nan)$`)
	control    = regexp.MustCompile(`[^\x20-\x7e]`)
)

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		switch {
		case plainScalar.MatchString(v) && !wordScalar.MatchString(v):
			return v
		case control.MatchString(v):
			return quoted(v)
		}
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case int32:
		return strconv.Itoa(int(v))
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

func plainKey(k string) string { return scalar(k) }
