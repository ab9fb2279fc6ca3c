package target

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

const (
	maxText    = 1 << 20 // a ConfigMap holds no more
	maxLine    = 4096
	maxEntries = 5000 // of one text
)

// args reads a command line: --flag=value, --flag value, -Dkey=value, NAME=value, and plain addresses. An argument with blanks in it
// is taken for a shell's.
func (f *finder) args(args []string) []entry {
	var out []entry
	add := func(name, value string, whole bool) {
		v := f.expand(value)
		out = append(out, entry{source: SourceArg, name: name, key: name, value: v, written: value, whole: whole})
	}
	for i, a := range args {
		if len(a) > maxText {
			continue
		}
		if strings.ContainsAny(a, " \t\n") {
			if words := shellWords(a); len(words) > 1 {
				out = append(out, f.args(words)...)
				continue
			}
		}
		name, value, ok := strings.Cut(a, "=")
		switch {
		case ok && isFlagName(name):
			add(name, value, true)
		case strings.HasPrefix(a, "-") && isFlagName(a) && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			add(a, args[i+1], true)
		case !strings.HasPrefix(a, "-"):
			if i > 0 && strings.HasPrefix(args[i-1], "-") && isFlagName(args[i-1]) {
				continue // taken as that flag's value
			}
			add("", a, false)
		}
	}
	return out
}

// shellWords splits at blanks and shell punctuation and takes quotes off. It is no shell: it only has to find words.
func shellWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n\"';|&<>`", r) })
}

func isFlagName(s string) bool {
	s = strings.TrimLeft(s, "-")
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !isLetter(r) && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
}

// textEntries reads a configuration file: JSON as a whole, anything else (YAML, properties, TOML, ini, shell, XML, nginx) line by
// line. name is what the entries are called; their paths of keys serve for guessing only.
func textEntries(source, name, configMap, text string) []entry {
	if len(text) > maxText {
		return nil
	}
	w := textWalker{source: source, name: name, configMap: configMap}
	if source == SourceConfigMap {
		w.mapKey = name
	}
	trimmed := strings.TrimSpace(text)
	if strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") {
		var v any
		if json.Unmarshal([]byte(trimmed), &v) == nil {
			w.json("", v, 0)
			return w.out
		}
	}
	if !strings.ContainsAny(trimmed, "\n \t=") {
		// A ConfigMap key with one value in it, named like a variable.
		w.add(name, trimmed, true)
		return w.out
	}
	w.lines(text)
	return w.out
}

type textWalker struct {
	source, name, configMap string
	mapKey                  string
	out                     []entry
	section                 string // of TOML and ini
	stack                   []indented
}

type indented struct {
	indent int
	key    string
}

func (w *textWalker) add(key, value string, whole bool) {
	if len(w.out) < maxEntries {
		w.out = append(w.out, entry{source: w.source, name: w.name, configMap: w.configMap, mapKey: w.mapKey, key: key, value: value, whole: whole})
	}
}

func (w *textWalker) json(path string, v any, depth int) {
	if depth > 50 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if p := policyExact.FindString(k); p != "" { // {"loadBalancingConfig":[{"round_robin":{}}]}
				w.add(join(path, k), p, false)
			}
			w.json(join(path, k), v[k], depth+1)
		}
	case []any:
		for _, e := range v {
			w.json(path, e, depth+1)
		}
	case string:
		w.value(path, v)
	case float64:
		w.add(path, strconv.FormatFloat(v, 'f', -1, 64), true)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (w *textWalker) lines(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		body := strings.TrimLeft(line, " \t")
		if body == "" || len(line) > maxLine || isComment(body) {
			continue
		}
		if strings.HasPrefix(body, "[") && strings.HasSuffix(body, "]") && !strings.ContainsAny(body, ",\"") {
			w.section, w.stack = strings.Trim(body, "[] "), nil
			continue
		}
		w.line(len(line)-len(body), body)
	}
}

func isComment(s string) bool {
	for _, p := range []string{"#", "//", ";", "--", "<!--", "*"} {
		if strings.HasPrefix(s, p) {
			return !strings.HasPrefix(s, "---")
		}
	}
	return false
}

// line reads one line of YAML, properties or a shell's assignments; failing that, its words.
func (w *textWalker) line(indent int, body string) {
	for {
		rest, ok := strings.CutPrefix(body, "- ")
		if !ok {
			break
		}
		indent += len(body) - len(strings.TrimLeft(rest, " "))
		body = strings.TrimLeft(rest, " ")
	}
	for len(w.stack) > 0 && w.stack[len(w.stack)-1].indent >= indent {
		w.stack = w.stack[:len(w.stack)-1]
	}
	key, value, ok := cutKey(body)
	if !ok {
		w.value(w.path(""), body)
		return
	}
	if value == "" {
		w.stack = append(w.stack, indented{indent, key})
		return
	}
	w.value(w.path(key), value)
}

func (w *textWalker) path(key string) string {
	path := w.section
	for _, s := range w.stack {
		path = join(path, s.key)
	}
	if key == "" {
		return path
	}
	return join(path, key)
}

// cutKey splits "key: value", "key = value", "export KEY=value" and `"key": "value",`.
func cutKey(s string) (key, value string, ok bool) {
	s = strings.TrimPrefix(s, "export ")
	i := strings.IndexAny(s, "=:")
	if i <= 0 {
		return "", "", false
	}
	if s[i] == ':' && i+1 < len(s) && s[i+1] != ' ' && s[i+1] != '\t' {
		// host:port or scheme://, not a key; properties files may write key:value, which is left to the words.
		return "", "", false
	}
	key = strings.Trim(s[:i], ` "'	`)
	if !isFlagName(key) {
		return "", "", false
	}
	return key, strings.TrimSpace(s[i+1:]), true
}

// value takes a value as a whole if it is one target, else looks at its words.
func (w *textWalker) value(path, v string) {
	v = strings.TrimSpace(v)
	if i := strings.Index(v, " #"); i >= 0 {
		v = strings.TrimSpace(v[:i])
	}
	v = strings.TrimSuffix(strings.TrimSuffix(v, ","), ";")
	plain := strings.Trim(v, `"'`)
	if Parse(plain) != nil || isPort(plain) {
		w.add(path, plain, true)
		return
	}
	if p := policyIn(path, plain); p != "" {
		w.add(path, plain, false)
	}
	for _, t := range strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(" \t\"'`,;()[]{}<>|=", r) }) {
		if len(t) > 3 && strings.ContainsAny(t, ":+") {
			w.add(path, t, false)
		}
	}
}
