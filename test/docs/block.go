package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// Class says what is done with a block.
type Class string

// The classes. Each block is in exactly one; None is a block that says nothing
// of itself, which fails the tests.
const (
	None      Class = ""
	Here      Class = "run here"  // sh, run without a cluster
	Lab       Class = "run: lab"  // sh, run on a cluster
	Output    Class = "output"    // what the block before it prints
	Data      Class = "data"      // yaml or json
	Go        Class = "go"        // compiled
	Commands  Class = "commands"  // indented, on a check's page, with NAMES to fill in
	NotRun    Class = "not run"   // syntax only, with the reason
	Elsewhere Class = "elsewhere" // written by a generator, or followed by a test of its own
)

// Block is a piece of code that stands by itself.
type Block struct {
	Code
	Class      Class
	Lang       string
	Exit       int    // the exit code that a run has to have
	Background bool   // a run that does not end by itself
	Again      bool   // a run that measures: repeated when its output is not yet what is shown
	Reason     string // why it is not run
}

// languages are the words after the fence that are known here.
var languages = []string{"sh", "text", "yaml", "json", "go"}

// Excuses are the beginnings of the reasons for which a block may stay unrun.
var Excuses = map[string]string{
	"needs the internet":  "it downloads what no test may depend on",
	"needs a release":     "it names files that exist once a version is published",
	"needs another tool":  "it shows the way with a program that the project neither needs nor pins",
	"needs another setup": "a kind of cluster, an account or a registry that the lab does not have",
	"is the suite itself": "what it starts would start this test",
	"changes the project": "it writes into the work tree or publishes",
	"run elsewhere":       "another test runs exactly this, named in the reason",
	"a form":              "a synopsis with words to fill in, as the page says",
	"a drawing":           "it shows how things hang together, and is no output",
}

func (r *reader) block(n ast.Node, lang string) {
	lines := n.Lines()
	if lines.Len() == 0 {
		return
	}
	start := r.lineOf(lines.At(0).Start)
	b := Block{Code: Code{r.page.Name, start, string(lines.Value(r.source))}, Lang: lang}
	_, fenced := n.(*ast.FencedCodeBlock)
	mark, marked := r.mark(n)
	switch {
	case r.elsewhere:
		b.Class = Elsewhere
	case marked:
		if err := b.apply(mark); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", b, err))
		}
	case !fenced && IsCheck(r.page.Name):
		b.Class, b.Lang = Commands, "sh"
	case lang == "yaml" || lang == "json":
		b.Class = Data
	case lang == "go":
		b.Class = Go
	}
	r.page.Blocks = append(r.page.Blocks, b)
}

var comment = regexp.MustCompile(`^<!-- (run|output|not run)\b:? ?(.*?) ?-->\s*$`)

// mark is the comment that directly precedes a block.
func (r *reader) mark(n ast.Node) ([]string, bool) {
	before, ok := n.PreviousSibling().(*ast.HTMLBlock)
	if !ok {
		return nil, false
	}
	lines := strings.Split(strings.TrimSpace(r.htmlText(before)), "\n")
	m := comment.FindStringSubmatch(lines[len(lines)-1])
	return m, m != nil
}

// apply reads a comment into the block.
func (b *Block) apply(mark []string) error {
	switch mark[1] {
	case "output":
		b.Class = Output
		if mark[2] != "" {
			return fmt.Errorf("<!-- output --> takes nothing, not %q", mark[2])
		}
	case "not run":
		b.Class, b.Reason = NotRun, mark[2]
	case "run":
		return b.run(strings.Split(mark[2], ", "))
	}
	return nil
}

func (b *Block) run(words []string) error {
	classes := map[string]Class{"here": Here, "lab": Lab}
	b.Class = classes[words[0]]
	if b.Class == None {
		return fmt.Errorf("run: %q is neither here nor lab", words[0])
	}
	for _, w := range words[1:] {
		code, isExit := strings.CutPrefix(w, "exit ")
		n, err := strconv.Atoi(code)
		switch {
		case isExit && err == nil:
			b.Exit = n
		case w == "background":
			b.Background = true
		case w == "again":
			b.Again = true
		default:
			return fmt.Errorf("run: %q is none of exit CODE, background, again", w)
		}
	}
	return nil
}

// Complaint says what is wrong with a block's form and what to do; empty when
// nothing is.
func (b Block) Complaint() string {
	switch {
	case b.Class == Elsewhere || b.Class == Commands:
		return ""
	case b.Lang == "":
		return "a code block without a language: write one of " + strings.Join(languages, ", ") + " after the fence (and no indented blocks)"
	case !slices.Contains(languages, b.Lang):
		return fmt.Sprintf("the language %q is not known here: use one of %s, or teach test/docs to check it", b.Lang, strings.Join(languages, ", "))
	case b.Class == None && b.Lang == "sh":
		return "nothing says whether these commands are run: put <!-- run: here -->, <!-- run: lab --> or <!-- not run: REASON --> on the line before"
	case b.Class == None:
		return "nothing says what this text is: put <!-- output --> on the line before if the block above prints it, else <!-- not run: REASON -->"
	case (b.Class == Here || b.Class == Lab) && b.Lang != "sh":
		return "only sh is run, not " + b.Lang
	case b.Class == NotRun && excuse(b.Reason) == "":
		return fmt.Sprintf("%q is no reason that counts: begin with one of Excuses in test/docs/block.go, and say more about this case", b.Reason)
	}
	return ""
}

// excuse is the accepted beginning of a reason that goes on, or empty.
func excuse(reason string) string {
	for known := range Excuses {
		if rest, ok := strings.CutPrefix(reason, known); ok && len(strings.Fields(rest)) > 1 {
			return known
		}
	}
	return ""
}
