package inject

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text is one document and where its parts stand in it.
type text struct {
	src   string
	root  *yaml.Node
	lines []int // where each line begins
	style style
	// greedy takes lines that are indented deeper for a part of what is removed, though no node of it begins there.
	greedy bool
}

var errForm = errors.New("it is written in a form that cannot be edited in place")

func parse(src string) (*text, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(src), &doc); err != nil {
		return nil, err
	}
	t := &text{src: src, lines: lineStarts(src)}
	if len(doc.Content) > 0 {
		t.root = doc.Content[0]
	}
	t.style = t.styleOf()
	return t, nil
}

// lineStarts finds the lines as the YAML parser counts them: it ends lines at CR, LF, CR LF, NEL, LS and PS.
func lineStarts(src string) []int {
	out := []int{0}
	prev := rune(0)
	for i, r := range src {
		switch {
		case r == '\n' && prev == '\r':
			out[len(out)-1] = i + 1
		case r == '\n', r == '\r':
			out = append(out, i+1)
		case r == '\u0085':
			out = append(out, i+2)
		case r == '\u2028', r == '\u2029':
			out = append(out, i+3)
		}
		prev = r
	}
	return out
}

func (t *text) styleOf() style {
	s := style{eol: "\n", step: "  "}
	if i := strings.IndexByte(t.src, '\n'); i > 0 && t.src[i-1] == '\r' {
		s.eol = "\r\n"
	}
	for l := range strings.Lines(t.src) {
		in := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if in != "" && strings.TrimSpace(l) != "" {
			s.step = in
			break
		}
	}
	seen := false
	t.eachPair(t.root, func(k, v *yaml.Node) {
		if v.Kind != yaml.SequenceNode || v.Style&yaml.FlowStyle != 0 || len(v.Content) == 0 || seen {
			return
		}
		if n := t.indent(t.lineOf(v, k.Line)) - (k.Column - 1); n >= 0 && n <= 8 {
			s.seq, seen = strings.Repeat(" ", n), true
		}
	})
	return s
}

func (t *text) eachPair(n *yaml.Node, do func(k, v *yaml.Node)) {
	if n == nil {
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			do(n.Content[i-1], c)
		}
		t.eachPair(c, do)
	}
}

// line returns a line without its end; lines count from 1.
func (t *text) line(n int) string {
	if n < 1 || n > len(t.lines) {
		return ""
	}
	end := len(t.src)
	if n < len(t.lines) {
		end = t.lines[n]
	}
	return strings.TrimRight(t.src[t.lines[n-1]:end], "\r\n")
}

func (t *text) indent(n int) int {
	l := t.line(n)
	return len(l) - len(strings.TrimLeft(l, " "))
}

// offset turns the parser's line and column, which counts characters, into a position in the text.
func (t *text) offset(n *yaml.Node) (int, error) {
	if n.Line < 1 || n.Line > len(t.lines) {
		return 0, errForm
	}
	col := 1
	for i := range t.line(n.Line) + "\n" {
		if col == n.Column {
			return t.lines[n.Line-1] + i, nil
		}
		col++
	}
	return 0, errForm
}

// lineStart is where a line begins; the end of the text for the line after the last.
func (t *text) lineStart(n int) (int, error) {
	switch {
	case n >= 1 && n <= len(t.lines):
		return t.lines[n-1], nil
	case n == len(t.lines)+1 && strings.HasSuffix(t.src, "\n"):
		return len(t.src), nil
	}
	return 0, errForm
}

// find follows a path to a node, and returns the key that it stands under: nil for an item of a sequence.
func (t *text) find(path []any) (key, n *yaml.Node, err error) {
	n = t.root
	for _, p := range path {
		if n == nil || n.Kind == yaml.AliasNode {
			return nil, nil, errForm
		}
		switch p := p.(type) {
		case string:
			i := keyIndex(n, p)
			if i < 0 {
				return nil, nil, errForm
			}
			key, n = n.Content[i], n.Content[i+1]
		case int:
			if n.Kind != yaml.SequenceNode || p >= len(n.Content) {
				return nil, nil, errForm
			}
			key, n = nil, n.Content[p]
		}
	}
	if n == nil || n.Kind == yaml.AliasNode {
		return nil, nil, errForm
	}
	return key, n, nil
}

func keyIndex(n *yaml.Node, key string) int {
	if n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// do returns the text after one step.
func (t *text) do(o op) (string, error) {
	key, n, err := t.find(o.path)
	if err != nil {
		return "", err
	}
	isFlow := n.Style&yaml.FlowStyle != 0
	switch o.do {
	case addKey:
		if isFlow {
			return t.addFlow(n, func(prefix string) string { return quoted(o.key) + ": " + t.style.flow(o.val, prefix) })
		}
		return t.addLines(key, n, t.style.entry(field{o.key, o.val}))
	case addItem:
		if isFlow {
			return t.addFlow(n, func(prefix string) string { return t.style.flow(o.val, prefix) })
		}
		return t.addLines(key, n, t.style.item(o.val))
	case removeKey:
		i := keyIndex(n, o.key)
		if i < 0 {
			return "", errForm
		}
		if isFlow {
			return t.removeFlow(n, i, i+1)
		}
		return t.removeLines(n.Content[i], n.Content[i+1], t.indent(n.Content[i].Line))
	case removeItem:
		if n.Kind != yaml.SequenceNode || o.at >= len(n.Content) {
			return "", errForm
		}
		if isFlow {
			return t.removeFlow(n, o.at, o.at)
		}
		return t.removeLines(n.Content[o.at], n.Content[o.at], t.indent(n.Content[o.at].Line))
	case replace:
		return t.replace(n, o.old, o.now)
	}
	return "", errForm
}

// addLines puts lines below a key, before what is there.
func (t *text) addLines(key, n *yaml.Node, lines []string) (string, error) {
	if key == nil {
		return "", errForm
	}
	var indent int
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == "": // nothing below the key yet
		indent = key.Column - 1
		if !strings.HasPrefix(lines[0], "- ") {
			indent += 2
		} else {
			indent += len(t.style.seq)
		}
	case len(n.Content) == 0 || n.Content[0].Line <= key.Line:
		return "", errForm
	default:
		indent = t.indent(t.lineOf(n, key.Line))
	}
	pos, err := t.lineStart(key.Line + 1)
	if err != nil {
		return "", err
	}
	added := strings.Join(indented(strings.Repeat(" ", indent), lines), t.style.eol) + t.style.eol
	return t.src[:pos] + added + t.src[pos:], nil
}

// lineOf is the line on which the first thing below a key begins. The dash of a sequence may stand above its item.
func (t *text) lineOf(n *yaml.Node, above int) int {
	first := n.Content[0].Line
	if n.Kind != yaml.SequenceNode {
		return first
	}
	for l := first; l > above; l-- {
		if strings.HasPrefix(strings.TrimLeft(t.line(l), " "), "-") {
			return l
		}
	}
	return first
}

// removeLines takes out the lines from one node to the last below another.
func (t *text) removeLines(first, last *yaml.Node, indent int) (string, error) {
	end := lastLine(last)
	for t.greedy && end < len(t.lines) && (t.indent(end+1) > indent && t.line(end+1) != "") {
		end++
	}
	from, err := t.lineStart(first.Line)
	if err != nil {
		return "", err
	}
	to := len(t.src)
	if end < len(t.lines) {
		to = t.lines[end]
	}
	return t.src[:from] + t.src[to:], nil
}

func lastLine(n *yaml.Node) int {
	out := n.Line
	for _, c := range n.Content {
		out = max(out, lastLine(c))
	}
	return out
}

// replace changes a part of a text that stands on one line as it is, without an escape.
func (t *text) replace(n *yaml.Node, old, now string) (string, error) {
	if n.Kind != yaml.ScalarNode || old == "" {
		return "", errForm
	}
	pos, err := t.offset(n)
	if err != nil {
		return "", err
	}
	rest := t.src[pos:]
	if end := strings.IndexAny(rest, "\r\n"); end >= 0 {
		rest = rest[:end]
	}
	i := strings.Index(rest, old)
	if i < 0 {
		return "", errForm
	}
	return t.src[:pos+i] + now + t.src[pos+i+len(old):], nil
}

// replaceOnce changes the first place of old in s; false when there is none.
func replaceOnce(s, old, now string) (string, bool) {
	i := strings.Index(s, old)
	if i < 0 || old == "" {
		return s, false
	}
	return s[:i] + now + s[i+len(old):], true
}

// edit does steps to a document's text and to its object, and returns the text when both came out the same.
func edit(src string, steps []op) (string, error) {
	for _, greedy := range []bool{false, true} {
		out, err := editAs(src, steps, greedy)
		if err == nil {
			return out, nil
		}
		if greedy {
			return "", err
		}
	}
	return "", errForm
}

func editAs(src string, steps []op, greedy bool) (string, error) {
	t, err := parse(src)
	if err != nil {
		return "", err
	}
	want, err := t.decode()
	if err != nil {
		return "", err
	}
	for _, o := range slices.Clone(steps) {
		t.greedy = greedy
		next, err := t.do(o)
		if err != nil {
			return "", err
		}
		if err := o.apply(want); err != nil {
			return "", err
		}
		if t, err = parse(next); err != nil {
			return "", errForm
		}
	}
	got, err := t.decode()
	if err != nil || !same(got, want) {
		return "", errForm
	}
	return t.src, nil
}

// decode returns the document as an object.
func (t *text) decode() (map[string]any, error) {
	if t.root == nil {
		return nil, errForm
	}
	var out map[string]any
	if err := t.root.Decode(&out); err != nil {
		return nil, err
	}
	return out, nil
}

// same compares decoded documents. A key without anything and one with an empty list or mapping mean the same.
func same(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			return len(x) == 0 && b == nil
		}
		for k := range x {
			if _, has := y[k]; !has || !same(x[k], y[k]) {
				return false
			}
		}
		return len(x) == len(y)
	case []any:
		y, ok := b.([]any)
		if !ok {
			return len(x) == 0 && b == nil
		}
		return slices.EqualFunc(x, y, same)
	case nil:
		switch y := b.(type) {
		case map[string]any:
			return len(y) == 0
		case []any:
			return len(y) == 0
		}
		return b == nil
	}
	return reflect.DeepEqual(a, b)
}
