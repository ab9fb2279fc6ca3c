package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read at all.
const (
	// MaxSize is the size of a file in bytes: what a ConfigMap may hold.
	MaxSize = 1 << 20
	// maxDepth is deeper than the format goes; an alias may point at what holds it.
	maxDepth = 32
	// maxProblems is how many are told: nobody reads more.
	maxProblems = 50
)

// Parse reads a file; name is what problems call it. The warnings are about a
// configuration that is valid and perhaps not what was meant. The error is an
// [*Error] with every problem that was found.
func Parse(name string, data []byte, o Options) (s Settings, warnings []Problem, err error) {
	r := &reader{file: name, opts: o, out: Default()}
	r.document(data)
	for _, a := range o.Override {
		r.assign(a)
	}
	return r.finish()
}

// finish looks at the whole and sorts what was found.
func (r *reader) finish() (Settings, []Problem, error) {
	if len(r.problems) == 0 {
		r.collisions()
	}
	if len(r.problems) == 0 {
		return r.out, r.warnings(), nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(r.problems) - maxProblems; more > 0 {
		r.problems = append(r.problems[:maxProblems], Problem{File: r.file, Text: fmt.Sprintf("and %d problems more", more)})
	}
	return Settings{}, nil, &Error{Problems: r.problems}
}

// reader fills Settings and gathers what is wrong on the way.
type reader struct {
	file     string
	opts     Options
	out      Settings
	problems []Problem
	depth    int

	target  Target      // the one that is being read
	places  []place     // where its fields stand
	policy  policyInput // its policy, so far
	address []bound     // every address of the whole
	targets []place     // the target text of each of out.Targets
}

// place is where something stands.
type place struct {
	line, column int
	path         string
}

// value is a scalar of the right type with its place.
type value struct {
	place
	text string
	dur  time.Duration
	num  int
	flag bool
	raw  string // as JSON
}

func (r *reader) complain(p place, format string, args ...any) {
	r.problems = append(r.problems, r.problem(p, fmt.Sprintf(format, args...)))
}

func (r *reader) problem(p place, text string) Problem {
	return Problem{File: r.file, Line: p.line, Column: p.column, Path: p.path, Text: text}
}

func (r *reader) document(data []byte) {
	if len(data) > MaxSize {
		r.complain(place{}, "it has more than %d bytes, which is what a ConfigMap holds", MaxSize)
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		r.complain(place{line: 1, column: 1}, "it is empty: see docs/sidecar.md for what a file holds")
		return
	case err != nil:
		r.notYAML(err)
		return
	}
	r.read(root(), doc.Content[0], "")
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.notYAML(err)
	default:
		r.complain(place{line: more.Line, column: more.Column}, "a second document: a file holds one")
	}
}

// notYAML takes the place out of the library's "yaml: line 3: what is wrong".
func (r *reader) notYAML(err error) {
	p := place{}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			p.line, p.column, text = line, 1, after
		}
	}
	r.complain(p, "this is no YAML: %s", text)
}

// read holds y against n, and stores what it says.
func (r *reader) read(n *node, y *yaml.Node, path string) {
	p := place{y.Line, y.Column, path}
	for y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	if r.depth++; r.depth > maxDepth {
		r.complain(p, "it holds itself")
	} else {
		switch n.kind {
		case object:
			r.object(n, y, p)
		case list:
			r.list(n, y, p)
		default:
			r.scalar(n, y, p)
		}
	}
	r.depth--
}

func (r *reader) object(n *node, y *yaml.Node, p place) {
	if y.Kind != yaml.MappingNode {
		r.complain(p, "%s is not what it takes: fields of its own, %s", shown(y), strings.Join(names(n), ", "))
		return
	}
	if n.begin != nil {
		n.begin(r, value{place: p})
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, val := y.Content[i], y.Content[i+1]
		at := place{key.Line, key.Column, strings.TrimPrefix(p.path+"."+key.Value, ".")}
		f := n.field(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			at.path = p.path
			r.complain(at, "the name of a field is one word")
		case key.Tag == "!!merge":
			at.path = p.path
			r.complain(at, "merge keys (<<) are not taken; an alias (*NAME) may stand for a whole value")
		case f == nil:
			r.complain(at, "%s", unknown(n, key.Value))
		case seen[f.name] > 0:
			r.complain(at, "it is said a second time; the first is in line %d", seen[f.name])
		default:
			seen[f.name] = key.Line
			r.read(f, val, at.path)
		}
	}
	for _, f := range n.fields {
		if f.required && seen[f.name] == 0 {
			r.complain(p, "%s is missing: it takes %s", f.name, f.example())
		}
	}
	if n.end != nil {
		n.end(r, value{place: p})
	}
}

// example is what a missing field takes, and for a list what each of it.
func (n *node) example() string {
	switch {
	case n.kind == list && n.item.kind == object:
		return "a list of " + strings.Join(names(n.item), ", ")
	case n.kind == list:
		return "a list; each is " + n.item.takes()
	case n.kind == word && len(n.words) == 1:
		return n.words[0]
	}
	return n.takes()
}

func (r *reader) list(n *node, y *yaml.Node, p place) {
	if y.Kind != yaml.SequenceNode {
		hint := ""
		if y.Kind == yaml.ScalarNode && y.Tag == "!!str" {
			hint = fmt.Sprintf(": write [%q]", clip(y.Value))
		}
		r.complain(p, "%s is not what it takes, a list%s", shown(y), hint)
		return
	}
	if len(y.Content) < n.least || len(y.Content) > n.most {
		r.complain(p, "it has %d entries; it takes from %d to %d", len(y.Content), n.least, n.most)
		return
	}
	for i, item := range y.Content {
		r.read(n.item, item, fmt.Sprintf("%s[%d]", p.path, i))
	}
}

// scalar reads one value.
func (r *reader) scalar(n *node, y *yaml.Node, p place) {
	v := value{place: p, text: y.Value}
	if y.Kind != yaml.ScalarNode || y.Tag == "!!null" || !n.reads(y, &v) {
		r.complain(p, "%s is not what it takes: %s%s", shown(y), n.takes(), hint(n, y))
		return
	}
	if err := n.set(r, v); err != nil {
		r.complain(p, "%v", err)
	}
}

// reads takes the value apart by the field's kind; it reports whether it has that.
func (n *node) reads(y *yaml.Node, v *value) bool {
	var err error
	switch n.kind {
	case text:
		return y.Tag == "!!str" && y.Value != ""
	case word:
		return y.Tag == "!!str" && slices.Contains(n.words, y.Value)
	case boolean:
		v.flag, v.raw = y.Value == "true", y.Value
		return y.Tag == "!!bool" && (v.flag || y.Value == "false")
	case number:
		v.num, err = strconv.Atoi(y.Value)
		v.raw = strconv.Itoa(v.num)
		return y.Tag == "!!int" && err == nil && (n.wants != "" || n.inRange(int64(v.num)))
	case duration:
		v.dur, err = time.ParseDuration(y.Value)
		v.raw = strconv.Quote(y.Value)
		return y.Tag == "!!str" && err == nil && (n.wants != "" || n.inRange(int64(v.dur)))
	}
	return false
}

func (n *node) inRange(v int64) bool { return v >= n.min && v <= n.max || v == 0 && n.zero != "" }

// hint says more about mistakes that are often made.
func hint(n *node, y *yaml.Node) string {
	if y.Kind != yaml.ScalarNode {
		return ""
	}
	_, notNumber := strconv.ParseFloat(y.Value, 64)
	switch {
	case y.Tag == "!!null":
		return "; leave the field out for its default"
	case n.kind == duration && notNumber == nil:
		return fmt.Sprintf("; say the unit: \"%ss\"", y.Value)
	case n.kind == text && (y.Value == "false" || y.Value == "no") && strings.Contains(n.wants, `"off"`):
		return "; off is written off"
	case (n.kind == text || n.kind == word) && y.Tag != "!!str" && y.Tag != "":
		return "; put it in quotes"
	case n.kind == number && y.Tag == "!!str" && notNumber == nil:
		return "; leave the quotes away"
	case n.kind == word:
		if near, ok := Nearest(y.Value, n.words); ok {
			return fmt.Sprintf("; did you mean %s?", near)
		}
	}
	return ""
}

// shown is what stands there, for a message.
func shown(y *yaml.Node) string {
	switch {
	case y.Kind == yaml.MappingNode:
		return "an object"
	case y.Kind == yaml.SequenceNode:
		return "a list"
	case y.Tag == "!!null":
		return "nothing"
	case y.Tag == "!!str":
		return strconv.Quote(clip(y.Value))
	}
	return clip(y.Value)
}

// clip shortens foreign text for a message.
func clip(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
