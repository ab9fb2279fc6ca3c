package laws

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Changelog demands a changelog at name with an "Unreleased" heading before the
// first release's, so that a change always has a place to be written down.
func Changelog(name string) Law {
	heading := regexp.MustCompile(`(?m)^## \[?([^\]\n]+)\]?`)
	return Law{
		Name: "the changelog is open",
		Why:  "what is written down at release time is what somebody still remembers",
		Check: func(t *Tree) []Violation {
			text, ok := t.Text(name)
			if !ok {
				return []Violation{{name, "missing"}}
			}
			first := heading.FindStringSubmatch(text)
			if first == nil || strings.TrimSpace(first[1]) != "Unreleased" {
				return []Violation{{name, `the first "## " heading is not "Unreleased"`}}
			}
			return nil
		},
	}
}

// Dependencies compares the direct dependencies of one module with a document
// that justifies them: in it, each is an item "- `module/path`: why". Entries
// are looked for only below the heading (a full line such as "## The module")
// up to the next heading of that level or above.
func Dependencies(doc, heading string, direct []string) Law {
	item := regexp.MustCompile("(?m)^- `([^`]+)`(:? *)(.*)$")
	return Law{
		Name: "every direct dependency is justified (" + strings.TrimLeft(heading, "# ") + ")",
		Why:  "a dependency is code that we ship and answer for; one line says why it beats writing or omitting it",
		Check: func(t *Tree) []Violation {
			body, wrong := t.section(doc, heading)
			if wrong != nil {
				return wrong
			}
			var out []Violation
			var listed []string
			for _, m := range item.FindAllStringSubmatch(body, -1) {
				listed = append(listed, m[1])
				if !slices.Contains(direct, m[1]) {
					out = append(out, Violation{doc, m[1] + " is justified but no direct dependency any more: drop the line"})
				}
				if len(strings.Fields(m[3])) < 3 {
					out = append(out, Violation{doc, m[1] + " is named without a reason"})
				}
			}
			for _, dep := range direct {
				if !slices.Contains(listed, dep) {
					out = append(out, Violation{doc, dep + " is a direct dependency without a line that justifies it"})
				}
			}
			return out
		},
	}
}

// section is what a document says below a heading line, or what is wrong when it
// has none.
func (t *Tree) section(doc, heading string) (string, []Violation) {
	text, ok := t.Text(doc)
	if !ok {
		return "", []Violation{{doc, "missing"}}
	}
	body, ok := section(text, heading)
	if !ok {
		return "", []Violation{{doc, fmt.Sprintf("no heading %q", heading)}}
	}
	return body, nil
}

// section is the text below a heading line, up to the next heading of the same
// or a higher level.
func section(text, heading string) (string, bool) {
	level := strings.IndexByte(heading, ' ')
	var body []string
	inside := false
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == heading {
			inside = true
			continue
		}
		n := len(line) - len(strings.TrimLeft(line, "#"))
		if inside && n > 0 && n <= level && strings.HasPrefix(line[n:], " ") {
			break
		}
		if inside {
			body = append(body, line)
		}
	}
	return strings.Join(body, ""), inside
}

// Commands demands that the commands a document tells people to type exist:
// "make target" in the makefile, "go run ./folder" and "./script" in the tree.
// Only code is read, fenced or between backticks.
func Commands(makefile string, docs ...string) Law {
	var (
		makeCmd = regexp.MustCompile(`(?:^|[\s;&|])make((?: +[A-Za-z][\w=.-]*)+)`)
		runCmd  = regexp.MustCompile(`go run (\./[\w./-]+)`)
	)
	return Law{
		Name: "commands in the documents exist",
		Why:  "the first command a newcomer copies decides whether there is a second one",
		Check: func(t *Tree) []Violation {
			text, ok := t.Text(makefile)
			if !ok {
				return []Violation{{makefile, "missing"}}
			}
			targets := makeTargets(text)
			var out []Violation
			for _, doc := range docs {
				text, ok := t.Text(doc)
				if !ok {
					out = append(out, Violation{doc, "missing"})
					continue
				}
				for _, c := range code(text) {
					for _, m := range makeCmd.FindAllStringSubmatch(c.text, -1) {
						for _, word := range strings.Fields(m[1]) {
							if !strings.Contains(word, "=") && !slices.Contains(targets, word) {
								out = append(out, c.blame(doc, "make "+word+": no such target in "+makefile))
							}
						}
					}
					for _, m := range runCmd.FindAllStringSubmatch(c.text, -1) {
						if !t.Has(path.Clean(m[1])) {
							out = append(out, c.blame(doc, m[0]+": no such folder"))
						}
					}
				}
			}
			return out
		},
	}
}

// snippet is one line of code in a document.
type snippet struct {
	text string
	line int
}

func (s snippet) blame(doc, what string) Violation {
	return Violation{fmt.Sprintf("%s:%d", doc, s.line), what}
}

// code returns a Markdown text's fenced lines (comments and a leading prompt
// taken off) and its inline code.
func code(text string) []snippet {
	inline := regexp.MustCompile("`([^`]+)`")
	var out []snippet
	fenced, n := false, 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			fenced = !fenced
		case fenced:
			command, _, _ := strings.Cut(strings.TrimPrefix(trimmed, "$ "), " #")
			if !strings.HasPrefix(command, "#") {
				out = append(out, snippet{command, n})
			}
		default:
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				out = append(out, snippet{m[1], n})
			}
		}
	}
	return out
}

var targetLine = regexp.MustCompile(`(?m)^([A-Za-z][\w.-]*(?: +[A-Za-z][\w.-]*)*) *:(?:[^=]|$)`)

func makeTargets(makefile string) []string {
	var out []string
	for _, m := range targetLine.FindAllStringSubmatch(makefile, -1) {
		out = append(out, strings.Fields(m[1])...)
	}
	return out
}

// Links demands that relative links and images in Markdown files lead to files
// of the tree. Anchors and addresses on other hosts are not looked at.
func Links(exempt Exempt) Law {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence := regexp.MustCompile("(?ms)^ *```.*?^ *```")
	return Law{
		Name: "links inside the repository resolve",
		Why:  "a dead link costs every reader what a check costs once",
		Check: func(t *Tree) []Violation {
			var out []Violation
			excused := exempt.track()
			for _, name := range t.Files {
				text, ok := t.Text(name)
				if path.Ext(name) != ".md" || !ok {
					continue
				}
				for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
					target, _, _ := strings.Cut(m[1], "#")
					if target == "" || strings.Contains(target, ":") || t.Has(path.Join(path.Dir(name), target)) || excused.covers(name) {
						continue
					}
					out = append(out, Violation{name, "link to " + m[1] + ": no such file"})
				}
			}
			return append(out, excused.stale()...)
		},
	}
}

// MachinePaths forbids text that holds one of the given folders, or anybody's
// home folder. Pass the checkout's own folder and the like: what is true on one
// machine only has no place in a repository.
func MachinePaths(folders []string, exempt Exempt) Law {
	home := regexp.MustCompile(`(?:/home|/Users)/[a-z][\w.-]*/|[A-Z]:\\Users\\`)
	return Law{
		Name: "no paths of one machine",
		Why:  "such a path works for its author alone, and tells everybody else about the author's machine",
		Check: func(t *Tree) []Violation {
			var out []Violation
			excused := exempt.track()
			for _, name := range t.Files {
				text, ok := t.Text(name)
				if !ok {
					continue
				}
				n := 0
				for line := range strings.Lines(text) {
					n++
					found := home.FindString(line)
					for _, folder := range folders {
						if found == "" && containsPath(line, folder) {
							found = folder
						}
					}
					if found != "" && !excused.covers(name) {
						out = append(out, Violation{fmt.Sprintf("%s:%d", name, n), "holds " + found + ": use a relative path, a temporary folder or an environment variable"})
					}
				}
			}
			return append(out, excused.stale()...)
		},
	}
}

// containsPath reports whether line holds folder as a whole path: not as the
// tail of a longer one, nor as the head of a longer name.
func containsPath(line, folder string) bool {
	for rest := line; ; {
		i := strings.Index(rest, folder)
		if i < 0 {
			return false
		}
		before, after := byte(' '), byte(' ')
		if i > 0 {
			before = rest[i-1]
		}
		if end := i + len(folder); end < len(rest) {
			after = rest[end]
		}
		if !nameByte(before) && !nameByte(after) {
			return true
		}
		rest = rest[i+len(folder):]
	}
}

func nameByte(b byte) bool {
	return b == '_' || b == '-' || b == '.' || b == '$' || b == '}' || b == ')' ||
		'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}
