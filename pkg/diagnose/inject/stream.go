package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Stream is a file of manifests: YAML documents or JSON objects, one after the other, some of them Lists. Its text stays as it is but for
// what is put in and taken out.
type Stream struct {
	mark   string // the byte order mark that the text begins with, or nothing
	chunks []chunk
	json   bool
}

// byteOrderMark is what some editors put before UTF-8. No parser is to see it: it would be a part of the first key.
const byteOrderMark = "\ufeff"

// ErrNotUTF8 is the error of a text that is UTF-16, in another encoding, or none.
var ErrNotUTF8 = errors.New("it is not UTF-8")

// chunk is one document with everything up to the next: the line of dashes before it and the comments around it belong to it.
type chunk struct {
	src  string
	line int // of the stream, on which it begins
	root map[string]any
}

// Object is one object of a stream; the items of a List are objects.
type Object struct {
	chunk int
	path  []any
	root  map[string]any
}

// Content is the object's JSON form; it is not to be changed.
func (o Object) Content() map[string]any { return o.root }

// ParseError is a document that cannot be read.
type ParseError struct {
	Line int // on which the document begins
	Err  error
}

// parserLine is how the parser names a line, which it counts from the document's first.
var parserLine = regexp.MustCompile(`\bline (\d+)\b`)

// Error names the line, in one line: the parser has one for each thing that is wrong. Its lines become those of the stream.
func (e *ParseError) Error() string {
	text := parserLine.ReplaceAllStringFunc(e.Err.Error(), func(s string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(s, "line "))
		if err != nil {
			return s
		}
		return fmt.Sprintf("line %d", n+e.Line-1)
	})
	return fmt.Sprintf("the document that begins on line %d cannot be read: %s", e.Line, strings.Join(strings.Fields(text), " "))
}

// Unwrap returns the parser's error.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a stream.
func Parse(src []byte) (*Stream, error) {
	s := &Stream{}
	if !utf8.Valid(src) || bytes.IndexByte(src, 0) >= 0 { // the parser would read UTF-16, and count other bytes
		return nil, &ParseError{1, ErrNotUTF8}
	}
	if rest, ok := bytes.CutPrefix(src, []byte(byteOrderMark)); ok {
		src, s.mark = rest, byteOrderMark
	}
	var parts []string
	if strings.HasPrefix(strings.TrimLeft(string(src), " \t\r\n"), "{") {
		parts = splitJSON(src)
		s.json = parts != nil
	}
	if parts == nil {
		parts = splitYAML(string(src))
	}
	line := 1
	for _, p := range parts {
		c := chunk{src: p, line: line}
		line += strings.Count(p, "\n")
		t, err := parse(p)
		if err != nil {
			return nil, &ParseError{c.line, err}
		}
		if t.root != nil {
			var v any
			if err := t.root.Decode(&v); err != nil {
				return nil, &ParseError{c.line, err}
			}
			c.root, _ = v.(map[string]any)
		}
		s.chunks = append(s.chunks, c)
	}
	return s, nil
}

// splitYAML cuts at the lines that begin a document. Such a line cannot stand inside of anything (YAML 1.2, section 9.1.2).
func splitYAML(src string) []string {
	var out []string
	start, pos := 0, 0
	for l := range strings.Lines(src) {
		word := strings.TrimRight(l, "\r\n")
		if word == "---" || strings.HasPrefix(word, "--- ") || strings.HasPrefix(word, "---\t") {
			if !prologue(src[start:pos]) {
				out = append(out, src[start:pos])
				start = pos
			}
		}
		pos += len(l)
	}
	return append(out, src[start:])
}

// prologue reports whether a text holds blank lines, comments and directives alone: they belong to the document that follows.
func prologue(src string) bool {
	for l := range strings.Lines(src) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "%") {
			return false
		}
	}
	return true
}

// splitJSON cuts behind each value and the blanks that follow it; nil when the text is not JSON all along.
func splitJSON(src []byte) []string {
	var out []string
	dec := json.NewDecoder(bytes.NewReader(src))
	start := 0
	for {
		var v json.RawMessage
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) && len(out) > 0 {
			out[len(out)-1] += string(src[start:])
			return out
		}
		if err != nil {
			return nil
		}
		end := int(dec.InputOffset())
		for end < len(src) && strings.IndexByte(" \t\r\n", src[end]) >= 0 {
			end++
		}
		out = append(out, string(src[start:end]))
		start = end
	}
}

// String returns the stream's text.
func (s *Stream) String() string {
	var b strings.Builder
	b.WriteString(s.mark)
	for _, c := range s.chunks {
		b.WriteString(c.src)
	}
	return b.String()
}

// eol is how the stream ends its lines.
func (s *Stream) eol() string {
	text := s.String()
	if i := strings.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// endLine ends the last line of a stream, if it has no end. A text that ends with the file, and then with a line end, would be another.
func (s *Stream) endLine() error {
	if len(s.chunks) == 0 {
		return nil
	}
	last := &s.chunks[len(s.chunks)-1]
	if last.src == "" || strings.HasSuffix(last.src, "\n") {
		return nil
	}
	ended := last.src + s.eol()
	t, err := parse(ended)
	if err == nil && last.root != nil {
		var root map[string]any
		if root, err = t.decode(); err == nil && !same(last.root, root) {
			err = errForm
		}
	}
	if err != nil {
		return errors.New("the last document ends in the middle of a line: end the file with a line end")
	}
	last.src = ended
	return nil
}

// Append adds the documents of another stream, which is not to be used afterwards: between YAML documents stands a line of dashes.
func (s *Stream) Append(more *Stream) error {
	if err := s.endLine(); err != nil {
		return err
	}
	eol := s.eol()
	if s.json != more.json {
		s.asYAML(eol)
		more.asYAML(eol)
	}
	for i, c := range more.chunks {
		if i == 0 && !s.json && !dashed(c.src) {
			c.src = "---" + eol + c.src
		}
		s.chunks = append(s.chunks, c)
	}
	return nil
}

// asYAML makes YAML documents of JSON objects that follow each other without a sign.
func (s *Stream) asYAML(eol string) {
	if !s.json {
		return
	}
	s.json = false
	for i := range s.chunks {
		c := &s.chunks[i]
		c.src = strings.TrimRight(c.src, " \t\r\n") + eol
		if i > 0 {
			c.src = "---" + eol + c.src
		}
	}
}

// dashed reports whether a document has the line that divides it from the one before.
func dashed(src string) bool {
	for l := range strings.Lines(src) {
		if strings.HasPrefix(l, "---") {
			return true
		}
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			return false
		}
	}
	return false
}

// Objects returns the objects of the stream in order.
func (s *Stream) Objects() []Object {
	var out []Object
	for i, c := range s.chunks {
		if c.root == nil {
			continue
		}
		items, isList := c.root["items"].([]any)
		if !isList || !strings.HasSuffix(textAt(c.root, "kind"), "List") {
			out = append(out, Object{chunk: i, root: c.root})
			continue
		}
		for j, x := range items {
			if m, ok := x.(map[string]any); ok {
				out = append(out, Object{chunk: i, path: []any{"items", j}, root: m})
			}
		}
	}
	return out
}

// Workload reads an object as a workload; false when it is of another kind.
func (s *Stream) Workload(o Object, namespace string) (Workload, bool, error) {
	if !isWorkload(o.root) {
		return Workload{}, false, nil
	}
	w, err := Read(o.root, namespace)
	return w, true, err
}

// Add puts an injection into a workload of the stream, in place of one that it has.
func (s *Stream) Add(o Object, in *Injection) error {
	was := s.chunks[o.chunk].src
	if _, err := s.Remove(o); err != nil {
		return err
	}
	clean := s.chunks[o.chunk].src
	c := &s.chunks[o.chunk]
	steps, err := in.steps(c.root, o.template())
	if err == nil {
		err = s.edit(c, steps)
	}
	if err != nil {
		return errors.Join(err, s.set(c, was))
	}
	// What was put in has to come out again without a trace.
	again := *c
	steps, err = removal(again.root, o.template())
	if err == nil {
		err = s.edit(&again, steps)
	}
	if err == nil && again.src != clean {
		err = errForm
	}
	if err != nil {
		return errors.Join(err, s.set(c, was))
	}
	return nil
}

// Remove takes the injection out of a workload of the stream; false when there is none.
func (s *Stream) Remove(o Object) (bool, error) {
	c := &s.chunks[o.chunk]
	if !isWorkload(at(c.root, o.path...)) {
		return false, nil
	}
	steps, err := removal(c.root, o.template())
	if err != nil || steps == nil {
		return false, err
	}
	return true, s.edit(c, steps)
}

// template is the path of the object's pod template in its document.
func (o Object) template() []any {
	return append(append([]any{}, o.path...), templatePath(textAt(o.root, "kind"))...)
}

func (s *Stream) edit(c *chunk, steps []op) error {
	out, err := edit(c.src, steps)
	if err != nil {
		return err
	}
	return s.set(c, out)
}

func (s *Stream) set(c *chunk, src string) error {
	t, err := parse(src)
	if err != nil {
		return err
	}
	root, err := t.decode()
	if err != nil {
		return err
	}
	c.src, c.root = src, root
	return nil
}

// AddTwin appends a headless Service that comes with the injection. Whether the stream ends with a line end stays as it is.
func (s *Stream) AddTwin(content map[string]any, write func(any) ([]byte, error), comment string) error {
	content, ok := clone(content).(map[string]any)
	if !ok {
		return errForm
	}
	meta := mapAt(content, "metadata")
	notes := mapAt(meta, "annotations")
	if notes == nil {
		notes = map[string]any{}
	}
	notes[diagnose.InjectedAnnotation] = diagnose.TwinMark
	meta["annotations"] = notes
	b, err := write(content)
	if err != nil {
		return err
	}
	text := strings.TrimRight(string(b), "\n") + "\n"
	eol, whole := s.eol(), s.String()
	if !s.json {
		text = "---\n# " + comment + "\n" + text
	}
	text = strings.ReplaceAll(text, "\n", eol)
	if !strings.HasSuffix(whole, "\n") && whole != "" {
		if err := s.endLine(); err != nil {
			return err
		}
		text = strings.TrimSuffix(text, eol)
	}
	if strings.TrimSpace(whole) == "" {
		s.chunks = nil
	}
	s.chunks = append(s.chunks, chunk{src: text, root: content})
	return nil
}

// RemoveTwins takes out the headless Services that injections brought, and returns their namespaces and names.
func (s *Stream) RemoveTwins() []diagnose.Key {
	var out []diagnose.Key
	var keep []chunk
	for i, c := range s.chunks {
		if textAt(c.root, "kind") != "Service" || textAt(c.root, "metadata", "annotations", diagnose.InjectedAnnotation) != diagnose.TwinMark {
			keep = append(keep, c)
			continue
		}
		out = append(out, diagnose.Key{Namespace: textAt(c.root, "metadata", "namespace"), Name: textAt(c.root, "metadata", "name")})
		if i == len(s.chunks)-1 && !strings.HasSuffix(c.src, "\n") && len(keep) > 0 {
			last := &keep[len(keep)-1]
			last.src = strings.TrimSuffix(strings.TrimSuffix(last.src, "\n"), "\r")
		}
	}
	s.chunks = keep
	return out
}

// JSON reports whether the stream is JSON, and what is added to it has to be.
func (s *Stream) JSON() bool { return s.json }
