package docs_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/grpclb/kubectl-grpclb/internal/cli"
	"github.com/grpclb/kubectl-grpclb/test/docs"
)

// TestBlocks: every block has a language and is in exactly one class.
func TestBlocks(t *testing.T) {
	n := 0
	for _, b := range blocks(load(t)) {
		n++
		if what := b.Complaint(); what != "" {
			t.Errorf("%s: %s\n%s", b, what, b.Text)
		}
	}
	if n == 0 {
		t.Error("no block was found: the search for them is broken")
	}
}

// mostUnrun is how many blocks may stay unrun. It is a ceiling to notice: raise
// it for a block that really cannot run, and lower it when one goes.
const mostUnrun = 30

// TestNotRun lists the blocks that nothing runs.
func TestNotRun(t *testing.T) {
	unrun := blocks(load(t), docs.NotRun)
	for _, b := range unrun {
		t.Logf("%s: %s", b, b.Reason)
	}
	if len(unrun) > mostUnrun {
		t.Errorf("%d blocks are not run, %d may be: mark what can run with <!-- run: here --> or <!-- run: lab -->", len(unrun), mostUnrun)
	}
}

// TestRunHere runs the blocks that need no cluster, page by page.
func TestRunHere(t *testing.T) {
	ran := 0
	for _, p := range load(t) {
		if !docs.HasBlocks(p.Name) || len(blocks([]*docs.Page{p}, docs.Here)) == 0 {
			continue
		}
		ran++
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			s := docs.Session{Command: desk(t), Report: func(b docs.Block, err error) { t.Errorf("%s: %v", b, err) }}
			s.Run(t.Context(), p, docs.Here)
		})
	}
	if ran == 0 {
		t.Error("no page has a block to run here: the search for them is broken")
	}
}

// TestDocumentedCalls: the shell can read every block of commands, and the plugin knows
// the command and the flags of every call of it in a document.
func TestDocumentedCalls(t *testing.T) {
	pages := load(t)
	var scripts []docs.Code
	for _, b := range blocks(pages) {
		switch b.Class {
		case docs.Here, docs.Lab, docs.NotRun, docs.Commands, docs.Elsewhere:
			if b.Lang == "sh" && !strings.HasPrefix(b.Reason, "a form") {
				scripts = append(scripts, b.Code)
			}
		case docs.Data:
			scripts = append(scripts, pipelines(t, b)...)
		}
	}
	for _, p := range pages {
		scripts = append(scripts, p.Calls...)
	}
	calls := 0
	for _, s := range scripts {
		text := s.Text
		if !strings.Contains(text, "\n") {
			text = form.Replace(text)
		}
		args, err := docs.Calls(text)
		if err != nil {
			t.Errorf("%s: sh cannot read it: %v\n%s", s, err, s.Text)
		}
		for _, a := range args {
			calls++
			if err := known(t, a); err != nil {
				t.Errorf("%s: kubectl grpclb %s: %v", s, strings.Join(a, " "), err)
			}
		}
	}
	if calls < 50 {
		t.Errorf("only %d calls of the plugin were found: the search for them is broken", calls)
	}
}

// TestDocumentedFlags: a flag that is named by itself is one that the reference knows.
func TestDocumentedFlags(t *testing.T) {
	reference, err := os.ReadFile(filepath.Join(root, "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range load(t) {
		if !docs.HasBlocks(p.Name) || strings.HasPrefix(p.Name, "examples/") { // those are the examples' own
			continue
		}
		for _, f := range p.Flags {
			n++
			name := strings.FieldsFunc(f.Text, func(r rune) bool { return r == ' ' || r == '=' })[0]
			known := strings.Contains(string(reference), "`"+name+"`") || strings.Contains(string(reference), "`"+name+" ")
			if !known && name != "--help" && !daemonFlag(name) {
				t.Errorf("%s: docs/commands.md has no flag %s, and neither has docs/sidecar.md: mend the document, or run `make generate` if the flag is new", f, name)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d flags were found: the search for them is broken", n)
	}
}

// form takes the signs of a synopsis out of inline code.
var form = strings.NewReplacer("[", "", "]", "", "|", "", "...", "", "…", "", "(", "", ")", "")

func pipelines(t *testing.T, b docs.Block) []docs.Code {
	t.Helper()
	values, err := docs.Documents(b)
	if err != nil {
		return nil // TestData says so
	}
	var out []docs.Code
	for _, v := range values {
		scripts, err := docs.Scripts(v)
		if err != nil && !docs.IsObject(v) {
			t.Errorf("%s: %v", b, err)
		}
		for _, s := range scripts {
			out = append(out, docs.Code{Page: b.Page, Line: b.Line, Text: s + "\n"})
		}
	}
	return out
}

// known asks the plugin for help on a call, which it gives only when it
// understands the command and the flags.
func known(t *testing.T, args []string) error {
	t.Helper()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"diagnose"}, args...)
	}
	for i, a := range args {
		if a == "--" {
			args = args[:i]
			break
		}
	}
	var out, errs bytes.Buffer
	code := cli.Main(t.Context(), append(args[:len(args):len(args)], "--help"), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	switch {
	case code != 0:
		return fmt.Errorf("the plugin does not know this: %s", strings.TrimSpace(errs.String()))
	case args[0] != "help" && !strings.Contains(out.String(), cli.Name+" "+args[0]):
		return fmt.Errorf("the plugin has no command %q", args[0])
	}
	return nil
}

// TestData: yaml and json blocks are what they say, and objects of Kubernetes
// have no field that the API does not know.
func TestData(t *testing.T) {
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, b := range blocks(load(t)) {
		if b.Lang != "yaml" && b.Lang != "json" || b.Class == docs.Elsewhere || b.Class == docs.NotRun {
			continue
		}
		values, err := docs.Documents(b)
		if err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if len(values) == 0 || !docs.IsObject(values[0]) || strings.HasPrefix(values[0]["apiVersion"].(string), "grpclb.dev/") {
			continue
		}
		for doc := range strings.SplitSeq(b.Text, "\n---\n") {
			if _, _, err := strict.Decode([]byte(doc), nil, nil); err != nil {
				t.Errorf("%s: no object that Kubernetes knows: %v", b, err)
			}
		}
	}
}

// TestGo compiles Go programs, and parses what is only a part of one.
func TestGo(t *testing.T) {
	for _, b := range blocks(load(t), docs.Go) {
		if !strings.HasPrefix(b.Text, "package ") {
			const wrapped = "package p\nfunc _() {\n%s\n}\n"
			if _, err := parser.ParseFile(token.NewFileSet(), "", fmt.Sprintf(wrapped, b.Text), 0); err != nil {
				t.Errorf("%s: this is no Go: %v", b, err)
			}
			continue
		}
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(b.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		vet := exec.CommandContext(t.Context(), "go", "vet", file)
		vet.Dir = root
		if out, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s: go vet: %v\n%s", b, err, out)
		}
	}
}

// TestLinks: every link inside the repository leads to a file and an anchor that exist.
func TestLinks(t *testing.T) {
	pages := load(t)
	n := 0
	for _, p := range pages {
		n += len(p.Links)
	}
	if n < 50 {
		t.Errorf("only %d links were found: the search for them is broken", n)
	}
	for _, err := range docs.CheckLinks(root, pages) {
		t.Error(err)
	}
}

// TestIndex: a page that no index leads to is read by nobody.
func TestIndex(t *testing.T) {
	pages := load(t)
	for _, p := range pages {
		dir := path.Dir(p.Name)
		index := dir + "/README.md"
		if p.Name == index || dir != "docs" && dir != "docs/design" && dir != "docs/schema" {
			continue
		}
		i := slices.IndexFunc(pages, func(p *docs.Page) bool { return p.Name == index })
		if i < 0 || !slices.ContainsFunc(pages[i].Links, func(l docs.Link) bool { return l.Text == path.Base(p.Name) }) {
			t.Errorf("%s does not link to %s: give it a line there that says when to read it", index, path.Base(p.Name))
		}
	}
}
