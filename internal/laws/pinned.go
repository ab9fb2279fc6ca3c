package laws

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// Pinned demands exact versions wherever the project starts code by others: in
// makefiles, scripts, workflows, the release's configuration and the Go programs
// that run tools. Nothing is taken at its newest; an action of a workflow is
// named by its commit, since a tag can be moved; and a tools module replaces
// nothing, or its go.mod would name what is not run.
func Pinned() Law {
	var (
		moving = regexp.MustCompile(`@(latest|upgrade|master|main|HEAD)\b`)
		uses   = regexp.MustCompile(`^\s*(?:- )?uses: *['"]?([^'"\s#]+)`)
		commit = regexp.MustCompile(`@[0-9a-f]{40}$`)
		image  = regexp.MustCompile(`^docker://.*@sha256:[0-9a-f]{64}$`)
	)
	return Law{
		Name: "tools are pinned",
		Why:  "a build that takes the newest of anything is another build tomorrow, by somebody else's hand",
		Check: func(t *Tree) []Violation {
			var out []Violation
			for _, name := range t.Files {
				text, ok := t.Text(name)
				if !ok || !runsTools(name) {
					continue
				}
				n := 0
				for line := range strings.Lines(text) {
					n++
					at := fmt.Sprintf("%s:%d", name, n)
					if m := moving.FindString(line); m != "" {
						out = append(out, Violation{at, "takes what is newest (" + m + "): name a version, in a module under tools/ where it is a Go program"})
					}
					if m := uses.FindStringSubmatch(line); m != nil && strings.HasPrefix(name, ".github/") {
						if a := m[1]; !strings.HasPrefix(a, "./") && !commit.MatchString(a) && !image.MatchString(a) {
							out = append(out, Violation{at, "the action " + a + " is not named by its commit: its tag may be moved; write the tag behind it as a comment"})
						}
					}
					if strings.HasPrefix(name, "tools/") && path.Base(name) == "go.mod" && strings.HasPrefix(strings.TrimSpace(line), "replace ") {
						out = append(out, Violation{at, "a tools module replaces a module: what runs is not what the line with its version says"})
					}
				}
			}
			return out
		},
	}
}

// runsTools reports whether code by others is started from a file. Documents are
// left out: what a reader installs is the reader's choice.
func runsTools(name string) bool {
	if strings.HasPrefix(name, ".github/") || strings.HasPrefix(name, ".ci/") || strings.HasPrefix(name, "tools/") {
		return true
	}
	switch path.Ext(name) {
	case ".mk", ".sh", ".yaml", ".yml":
		return !inTestdata(name)
	case ".go":
		return strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "bench/")
	}
	return path.Base(name) == "Makefile"
}

// FuzzTargets demands that a document lists the fuzz targets of the tree, each
// as an item "- `folder`: `FuzzName`, ...", below the heading.
func FuzzTargets(doc, heading string) Law {
	item := regexp.MustCompile("(?m)^- `([^`]+)`: (.*)$")
	name := regexp.MustCompile("`(Fuzz\\w*)`")
	return Law{
		Name: "every fuzz target is listed",
		Why:  "which parsers of foreign bytes are fuzzed is part of what the document promises; a list that is not kept promises nothing",
		Check: func(t *Tree) []Violation {
			body, wrong := t.section(doc, heading)
			if wrong != nil {
				return wrong
			}
			listed := map[string]bool{}
			for _, m := range item.FindAllStringSubmatch(body, -1) {
				for _, f := range name.FindAllStringSubmatch(m[2], -1) {
					listed[m[1]+" "+f[1]] = true
				}
			}
			var out []Violation
			for _, target := range fuzzTargets(t) {
				if !listed[target] {
					out = append(out, Violation{doc, target + " is not in the list: add it"})
				}
				delete(listed, target)
			}
			for gone := range listed {
				out = append(out, Violation{doc, gone + " is listed and not in the tree: drop it"})
			}
			sortViolations(out)
			return out
		},
	}
}

// fuzzTargets names them as "folder FuzzName".
func fuzzTargets(t *Tree) []string {
	var out []string
	for _, f := range t.Go {
		if !f.Test() {
			continue
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") || len(fn.Type.Params.List) != 1 {
				continue
			}
			out = append(out, f.Dir()+" "+fn.Name.Name)
		}
	}
	return out
}
