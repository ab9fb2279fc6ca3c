package docs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Page is one document.
type Page struct {
	Name    string // slash-separated, relative to the repository
	Blocks  []Block
	Links   []Link
	Calls   []Code          // inline code that calls the plugin
	Flags   []Code          // inline code that begins with a flag
	Anchors map[string]bool // what #fragments may name
}

// Code is a piece of code and where it stands.
type Code struct {
	Page string
	Line int
	Text string
}

// String is the place, as a compiler names it.
func (c Code) String() string { return fmt.Sprintf("%s:%d", c.Page, c.Line) }

// Find lists the Markdown files of the repository, sorted: not what is built,
// input of tests, or hidden.
func Find(root string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && file != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"bin", "dist", "testdata"}, name)) {
			return fs.SkipDir
		}
		if !d.IsDir() && path.Ext(name) == ".md" {
			rel, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for documents: %w", err)
	}
	return out, nil
}

// HasBlocks reports whether the blocks of a document are held to their classes:
// those that a user or contributor copies from.
func HasBlocks(name string) bool {
	switch {
	case !strings.Contains(name, "/"), strings.HasPrefix(name, "docs/"), IsCheck(name):
		return true
	}
	return strings.HasPrefix(name, "examples/") && path.Base(name) == "README.md"
}

// IsCheck reports whether a document is a check's page, which `explain` prints.
func IsCheck(name string) bool { return strings.HasPrefix(name, "pkg/diagnose/checks/pages/") }

// Read parses the documents. The error names every comment that is not
// understood, and the pages that are there are whole all the same.
func Read(root string, names ...string) ([]*Page, error) {
	var pages []*Page
	var errs []error
	for _, name := range names {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return nil, fmt.Errorf("read a document: %w", err)
		}
		p, err := Parse(name, source)
		pages, errs = append(pages, p), append(errs, err)
	}
	return pages, errors.Join(errs...)
}

// Parse reads one document. It never fails as Markdown; the error is about
// comments that look like this package's and are not.
func Parse(name string, source []byte) (*Page, error) {
	r := reader{page: &Page{Name: name, Anchors: map[string]bool{}}, source: source}
	r.elsewhere = strings.HasPrefix(string(source), "<!-- Generated ")
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	err := ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			r.node(n)
		}
		return ast.WalkContinue, nil
	})
	return r.page, errors.Join(append(r.errs, err)...)
}

// reader walks one document from its beginning to its end.
type reader struct {
	page      *Page
	source    []byte
	line      int  // of the last node that had a place
	elsewhere bool // inside a part that something else answers for
	errs      []error
}

func (r *reader) node(n ast.Node) {
	if lines := blockLines(n); lines != nil && lines.Len() > 0 {
		r.line = r.lineOf(lines.At(0).Start)
	}
	switch n := n.(type) {
	case *ast.FencedCodeBlock:
		r.block(n, string(n.Language(r.source)))
	case *ast.CodeBlock:
		r.block(n, "")
	case *ast.HTMLBlock:
		r.html(r.htmlText(n))
		r.rawLinks(r.htmlText(n))
	case *ast.RawHTML:
		r.rawLinks(string(n.Segments.Value(r.source)))
	case *ast.Heading:
		r.anchor(plainText(n, r.source))
	case *ast.Link:
		r.link(string(n.Destination))
	case *ast.Image:
		r.link(string(n.Destination))
	case *ast.AutoLink:
		r.link(string(n.URL(r.source)))
	case *ast.CodeSpan:
		r.inline(strings.Join(strings.Fields(plainText(n, r.source)), " "))
	}
}

func (r *reader) inline(code string) {
	at := Code{r.page.Name, r.line, code}
	switch {
	case strings.HasPrefix(code, "kubectl grpclb "):
		r.page.Calls = append(r.page.Calls, at)
	case strings.HasPrefix(code, "--"):
		r.page.Flags = append(r.page.Flags, at)
	}
}

// blockLines is where a block stands; nil for what is inside a line.
func blockLines(n ast.Node) *text.Segments {
	if n.Type() != ast.TypeBlock {
		return nil
	}
	return n.Lines()
}

func (r *reader) lineOf(offset int) int { return 1 + bytes.Count(r.source[:offset], []byte("\n")) }

// htmlText is a block of HTML as it is written.
func (r *reader) htmlText(n *ast.HTMLBlock) string {
	s := string(n.Lines().Value(r.source))
	if n.HasClosure() {
		s += string(n.ClosureLine.Value(r.source))
	}
	return s
}

// html notices where a part begins and ends that something else answers for.
func (r *reader) html(comment string) {
	for _, begin := range []string{"<!-- sample:", "<!-- measured:", "<!-- generated:", "<!-- followed:"} {
		if strings.HasPrefix(comment, begin) {
			r.elsewhere = true
		}
	}
	for _, end := range []string{"<!-- /sample", "<!-- end:"} {
		if strings.HasPrefix(comment, end) {
			r.elsewhere = false
		}
	}
}

// plainText is the text below a node, without its markup.
func plainText(n ast.Node, source []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.Write(c.Value(source))
			if c.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		default:
			b.WriteString(plainText(c, source))
		}
	}
	return b.String()
}
