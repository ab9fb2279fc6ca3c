package admin

import (
	"bytes"
	"html"
)

// markup writes HTML without html/template, whose reflection keeps 1.7 MB more
// of the binary in the memory of every pod (docs/design/dependencies.md). What
// makes it safe is small: text goes through html.EscapeString, attributes are
// always in double quotes, and names of elements and attributes can only be
// constants, since a string that was read from somewhere is no [word]. There is
// no place for text inside scripts, styles or URLs.
type markup struct{ bytes.Buffer }

// word is text of ours: only constants of the source convert to it by themselves.
type word string

// attr is an attribute. One without a name is left out.
type attr struct {
	name  word
	value string
}

func class(value string) attr { return attr{"class", value} }

// title is what a pointer that rests shows, and never the only place of a fact.
func title(value string) attr { return attr{"title", value} }

// when keeps an attribute only where it applies.
func when(applies bool, a attr) attr {
	if !applies {
		return attr{}
	}
	return a
}

// open writes a start tag.
func (m *markup) open(name word, attrs ...attr) {
	m.WriteByte('<')
	m.WriteString(string(name))
	for _, a := range attrs {
		if a.name == "" {
			continue
		}
		m.WriteByte(' ')
		m.WriteString(string(a.name))
		m.WriteString(`="`)
		m.WriteString(escape(a.value))
		m.WriteByte('"')
	}
	m.WriteByte('>')
}

// end writes an end tag and a line break, so that a fragment is readable as text.
func (m *markup) end(name word) {
	m.WriteString("</")
	m.WriteString(string(name))
	m.WriteByte('>')
	switch name {
	case "tr", "table", "section", "header", "p", "div", "dl", "ol", "li", "h1", "h2", "h3", "summary", "details", "main", "thead", "tbody", "caption":
		m.WriteByte('\n')
	}
}

// text writes text of anybody's.
func (m *markup) text(s string) { m.WriteString(escape(s)) }

// el writes an element that holds text alone.
func (m *markup) el(name word, text string, attrs ...attr) {
	m.open(name, attrs...)
	m.text(text)
	m.end(name)
}

// maxText bounds each piece of text of others; what is longer is in the JSON.
const maxText = 500

func escape(s string) string { return html.EscapeString(oneLine(s)) }
