package inject

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// addFlow puts something behind the opening bracket, in the way that the next thing stands there.
func (t *text) addFlow(n *yaml.Node, write func(prefix string) string) (string, error) {
	open, err := t.opening(n)
	if err != nil {
		return "", err
	}
	if len(n.Content) == 0 {
		return t.src[:open] + write("") + t.src[open:], nil
	}
	first, err := t.offset(n.Content[0])
	if err != nil || first < open {
		return "", errForm
	}
	sep := t.src[open:first]
	if strings.TrimSpace(sep) != "" { // a comment
		return t.src[:open] + write("") + "," + t.src[open:], nil
	}
	if sep == "" {
		return t.src[:open] + write("") + ", " + t.src[open:], nil
	}
	prefix := ""
	if strings.Contains(sep, "\n") {
		prefix = sep
	}
	return t.src[:open] + sep + write(prefix) + "," + t.src[open:], nil
}

// removeFlow takes out the nodes from one index to another, and the comma that kept them apart.
func (t *text) removeFlow(n *yaml.Node, from, to int) (string, error) {
	open, err := t.opening(n)
	if err != nil {
		return "", err
	}
	start, err := t.offset(n.Content[from])
	if err != nil {
		return "", err
	}
	value, err := t.offset(n.Content[to])
	if err != nil {
		return "", err
	}
	end, err := flowEnd(t.src, value)
	if err != nil {
		return "", err
	}
	if from > 0 { // not where it was put: take the comma before it
		comma := strings.LastIndexByte(t.src[:start], ',')
		if comma < open {
			return "", errForm
		}
		return t.src[:comma] + t.src[end:], nil
	}
	rest := t.src[end:]
	trimmed := strings.TrimLeft(rest, " \t\r\n")
	if !strings.HasPrefix(trimmed, ",") { // it was alone
		return t.src[:start] + rest, nil
	}
	rest = trimmed[1:]
	before := t.src[open:start]
	next := strings.TrimLeft(rest, " \t\r\n")
	if before == "" && !strings.HasPrefix(next, "#") {
		return t.src[:start] + next, nil
	}
	return t.src[:open] + rest, nil
}

// opening is the position behind the bracket that opens a flow collection; an anchor or a tag may stand before it.
func (t *text) opening(n *yaml.Node) (int, error) {
	pos, err := t.offset(n)
	if err != nil {
		return 0, err
	}
	i := strings.IndexAny(t.src[pos:], "{[")
	if i < 0 || strings.ContainsAny(t.src[pos:pos+i], "\n#") {
		return 0, errForm
	}
	return pos + i + 1, nil
}

// flowEnd finds the end of a node in flow style that begins at pos and has no comment inside.
func flowEnd(src string, pos int) (int, error) {
	depth := 0
	for i := pos; i < len(src); i++ {
		switch c := src[i]; c {
		case '{', '[':
			depth++
			continue
		case '"', '\'':
			if i = quoteEnd(src, i); i < 0 {
				return 0, errForm
			}
		case '}', ']':
			if depth == 0 {
				return i, nil
			}
			depth--
		case '#':
			return 0, errForm
		case ',', ' ', '\r', '\n':
			if depth == 0 {
				return i, nil
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1, nil
		}
	}
	return 0, errForm
}

// quoteEnd is the position of the quote that ends the text beginning at i, -1 when none does.
func quoteEnd(src string, i int) int {
	q := src[i]
	for j := i + 1; j < len(src); j++ {
		switch {
		case q == '"' && src[j] == '\\':
			j++
		case src[j] == q && q == '\'' && j+1 < len(src) && src[j+1] == q:
			j++
		case src[j] == q:
			return j
		}
	}
	return -1
}
