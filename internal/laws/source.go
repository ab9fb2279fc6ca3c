package laws

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// PackageDocs demands a package comment of at least two sentences' length in
// every package with code of its own; generated-only packages are spared.
func PackageDocs() Law {
	const enough = 60 // characters: "Package x does y." alone says nothing that the name did not
	return Law{
		Name: "every package says what it is",
		Why:  "a reader decides from the package comment whether to read on, and where a new file belongs",
		Check: func(t *Tree) []Violation {
			longest := map[string]int{}
			for _, f := range t.Go {
				if f.Test() || f.Generated {
					continue
				}
				longest[f.Dir()] = max(longest[f.Dir()], len(strings.TrimSpace(f.AST.Doc.Text())))
			}
			var out []Violation
			for dir, n := range longest {
				switch {
				case n == 0:
					out = append(out, Violation{dir, "no package comment: say what the package is and what it refuses to do"})
				case n < enough:
					out = append(out, Violation{dir, fmt.Sprintf("package comment of %d characters: say what the package is and what it refuses to do", n)})
				}
			}
			sortViolations(out)
			return out
		},
	}
}

// Limits are ceilings in lines.
type Limits struct {
	// Func bounds a function declaration outside tests, from func to the brace.
	Func int
	// File bounds a file outside tests; TestFile bounds a test file.
	File, TestFile int
}

// Sizes keeps functions and files below the limits. Generated code is spared.
func Sizes(limits Limits) Law {
	return Law{
		Name: "functions and files stay small",
		Why:  "what fits a screen is reviewed; what does not is skimmed",
		Check: func(t *Tree) []Violation {
			var out []Violation
			for _, f := range t.Go {
				if f.Generated {
					continue
				}
				limit := limits.File
				if f.Test() {
					limit = limits.TestFile
				}
				if f.Lines > limit {
					out = append(out, Violation{f.Path, fmt.Sprintf("%d lines, at most %d: split it by subject", f.Lines, limit)})
				}
				if !f.Test() {
					out = append(out, longFuncs(f, limits.Func)...)
				}
			}
			return out
		},
	}
}

func longFuncs(f GoFile, limit int) []Violation {
	var out []Violation
	for _, decl := range f.AST.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := f.Fset.Position(fn.End()).Line - f.Fset.Position(fn.Pos()).Line + 1
		if lines > limit {
			out = append(out, Violation{f.at(fn.Pos()), fmt.Sprintf("func %s has %d lines, at most %d: name its parts", fn.Name.Name, lines, limit)})
		}
	}
	return out
}

// LibraryManners forbids code under the folder to print, exit, panic or log:
// those belong to whoever calls the library.
func LibraryManners(folder string) Law {
	return Law{
		Name: "library code neither prints, exits, panics nor logs",
		Why:  "an application embeds these packages: its streams, its exit code and its log are not ours to use",
		Check: func(t *Tree) []Violation {
			var out []Violation
			for _, f := range t.Go {
				if f.Test() || f.Generated || !strings.HasPrefix(f.Path, folder) {
					continue
				}
				out = append(out, rudeness(f)...)
			}
			return out
		},
	}
}

func rudeness(f GoFile) []Violation {
	names := importNames(f.AST)
	var out []Violation
	blame := func(n ast.Node, what string) { out = append(out, Violation{f.at(n.Pos()), what}) }
	for _, spec := range f.AST.Imports {
		if p := importPath(spec); p == "log" || strings.HasPrefix(p, "k8s.io/klog") {
			blame(spec, "imports "+p+": return an error or a fact and let the caller log")
		}
	}
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"panic", "print", "println"}, id.Name) {
				blame(n, "calls "+id.Name+": return an error, or write to an io.Writer that was passed in")
			}
		case *ast.SelectorExpr:
			switch name := qualified(n, names); name {
			case "fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "os.Stderr":
				blame(n, "uses "+name+": write to an io.Writer that was passed in")
			case "os.Exit", "syscall.Exit", "runtime.Goexit":
				blame(n, "calls "+name+": return an error; only main ends the process")
			}
		}
		return true
	})
	return out
}

// NoSleep forbids time.Sleep in tests and in everything under the named
// folders, where it would stand for "by now it must have happened". Inside a
// function literal given to synctest.Test the clock is virtual and sleeping
// costs nothing: there it is welcome.
func NoSleep(folders []string, exempt Exempt) Law {
	return Law{
		Name: "tests do not sleep",
		Why:  "a sleep is too short on a busy machine and too long on every other: poll a condition with a deadline, or use testing/synctest",
		Check: func(t *Tree) []Violation {
			var out []Violation
			excused := exempt.track()
			for _, f := range t.Go {
				in := func(folder string) bool { return strings.HasPrefix(f.Path, folder) }
				if f.Generated || !f.Test() && !slices.ContainsFunc(folders, in) {
					continue
				}
				for _, call := range sleeps(f) {
					if !excused.covers(f.Path) {
						out = append(out, Violation{f.at(call.Pos()), "time.Sleep: wait for the condition itself"})
					}
				}
			}
			return append(out, excused.stale()...)
		},
	}
}

func sleeps(f GoFile) []ast.Node {
	names := importNames(f.AST)
	var out []ast.Node
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && qualified(sel, names) == "testing/synctest.Test" {
				return false
			}
		case *ast.SelectorExpr:
			if qualified(n, names) == "time.Sleep" {
				out = append(out, n)
			}
		}
		return true
	})
	return out
}

// NoClock forbids code under the folders, tests aside, to look at the clock or
// to wait. Durations and times that were handed in are fine.
func NoClock(folders []string, exempt Exempt) Law {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	return Law{
		Name: "a diagnosis reads no clock",
		Why:  "a snapshot carries its own time: with another clock in play, the same snapshot would give another report tomorrow",
		Check: func(t *Tree) []Violation {
			var out []Violation
			excused := exempt.track()
			for _, f := range t.Go {
				in := func(folder string) bool { return strings.HasPrefix(f.Path, folder) }
				if f.Test() || !slices.ContainsFunc(folders, in) || excused.covers(f.Path) {
					continue
				}
				names := importNames(f.AST)
				ast.Inspect(f.AST, func(n ast.Node) bool {
					sel, ok := n.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if name, found := strings.CutPrefix(qualified(sel, names), "time."); found && slices.Contains(clock, name) {
						out = append(out, Violation{f.at(sel.Pos()), "uses time." + name + ": take the time from the snapshot"})
					}
					return true
				})
			}
			return append(out, excused.stale()...)
		},
	}
}

// NoInit forbids init functions outside the exempt files and generated code.
func NoInit(exempt Exempt) Law {
	return Law{
		Name: "no init functions",
		Why:  "an init runs for everybody who imports the package, in an order nobody chose, and cannot fail politely",
		Check: func(t *Tree) []Violation {
			var out []Violation
			excused := exempt.track()
			for _, f := range t.Go {
				for _, decl := range f.AST.Decls {
					fn, ok := decl.(*ast.FuncDecl)
					if !ok || f.Generated || fn.Recv != nil || fn.Name.Name != "init" || excused.covers(f.Path) {
						continue
					}
					out = append(out, Violation{f.at(fn.Pos()), "func init: do it in a constructor or in main"})
				}
			}
			return append(out, excused.stale()...)
		},
	}
}

// PackageNames forbids names that say nothing about the content, singular and
// plural, for packages and their folders.
func PackageNames(banned ...string) Law {
	return Law{
		Name: "packages are named for what they hold",
		Why:  "everything fits into a util, so everything ends there; the name at the call site should say what is called",
		Check: func(t *Tree) []Violation {
			var out []Violation
			seen := map[string]bool{}
			for _, f := range t.Go {
				for _, name := range []string{f.AST.Name.Name, path.Base(f.Dir())} {
					name = strings.TrimSuffix(name, "_test")
					vague := slices.Contains(banned, name) || slices.Contains(banned, strings.TrimSuffix(name, "s"))
					if vague && !seen[f.Dir()] {
						seen[f.Dir()] = true
						out = append(out, Violation{f.Dir(), "package called " + name + ": name it for what it holds"})
					}
				}
			}
			return out
		},
	}
}

// importNames maps the name by which a file calls a package to its path. A
// wrong guess for a package whose name differs from its path's last element
// does no harm: the laws ask for packages of the standard library only.
func importNames(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		p := importPath(spec)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // the parser lets no such literal through
	}
	return p
}

// qualified is "import/path.Name" when sel selects from a package, else "".
func qualified(sel *ast.SelectorExpr, names map[string]string) string {
	id, ok := sel.X.(*ast.Ident)
	if !ok || names[id.Name] == "" {
		return ""
	}
	return names[id.Name] + "." + sel.Sel.Name
}
