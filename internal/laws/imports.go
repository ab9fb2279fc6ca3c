package laws

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Rule says what some packages of the module may, or must not, import. One of
// the lists Only, Never, NeverDirectly and Importers is set, or several of the
// first three. In all patterns "./" stands for the module itself
// ("./pkg/diagnose"), "std" is the whole standard library, and a trailing "/..."
// includes the packages below.
type Rule struct {
	// Packages are the packages that the rule binds (with Importers: protects).
	Packages []string
	// Except takes packages out of the ones that Packages matches.
	Except []string
	// Only lists all that may be imported directly.
	Only []string
	// Never lists what must not be reached, not even through others.
	Never []string
	// NeverDirectly lists what must not be imported by the packages themselves;
	// what their own imports use is not looked at.
	NeverDirectly []string
	// Importers lists the only packages that may import Packages directly.
	Importers []string
	// Reason is printed with every violation.
	Reason string
}

// Graph is a build's import graph without tests: each package's direct imports,
// standard library included, by import path.
type Graph struct {
	// Module is the main module's path.
	Module string
	// Imports maps the module's own packages and all that they reach.
	Imports map[string][]string
}

// LoadGraph asks the go command in dir for the import graph of the main module
// as built for one operating system (GOOS). Packages that do not load
// completely take part with what is known of them: the compiler reports those
// better.
func LoadGraph(ctx context.Context, dir, goos string) (Graph, error) {
	list := exec.CommandContext(ctx, "go", "list", "-e", "-deps",
		"-json=ImportPath,Imports,Module,Standard,GoFiles,IgnoredGoFiles", "./...")
	list.Dir = dir
	list.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		return Graph{}, fmt.Errorf("go list for %s: %w", goos, err)
	}
	g := Graph{Imports: map[string][]string{}}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
			Standard   bool
			// Both are empty for a package that is only imported and not there.
			GoFiles, IgnoredGoFiles []string
			Module                  *struct {
				Path string
				Main bool
			}
		}
		if err := dec.Decode(&p); err != nil {
			return Graph{}, fmt.Errorf("go list for %s: %w", goos, err)
		}
		if p.Module != nil && p.Module.Main {
			g.Module = p.Module.Path
		}
		if len(p.GoFiles)+len(p.IgnoredGoFiles) == 0 {
			continue
		}
		if p.Standard {
			p.Imports = nil // what the standard library does inside is not ours to rule
		}
		g.Imports[p.ImportPath] = p.Imports
	}
	if g.Module == "" {
		return Graph{}, fmt.Errorf("go list for %s: no package of the main module", goos)
	}
	return g, nil
}

// CheckImports returns what breaks the rules in g. Each pattern of a rule that
// names the module's own packages must match one, or be in pending: a list of
// packages that are planned and not written yet. A pending package that exists
// is a violation too, so that no rule quietly stops ruling.
func CheckImports(g Graph, rules []Rule, pending []string) []Violation {
	var out []Violation
	for _, rule := range rules {
		switch {
		case rule.Importers != nil:
			out = append(out, g.checkImporters(rule)...)
		default:
			out = append(out, g.checkRule(rule)...)
		}
		out = append(out, g.missing(rule, pending)...)
	}
	for _, p := range pending {
		if len(g.matching([]string{p}, nil)) > 0 {
			out = append(out, Violation{p, "exists now: take it off the pending list, so that its rules may never lose it again"})
		}
	}
	sortViolations(out)
	return slices.Compact(out)
}

func (g Graph) checkRule(rule Rule) []Violation {
	var out []Violation
	for _, pkg := range g.matching(rule.Packages, rule.Except) {
		for _, imp := range g.Imports[pkg] {
			if rule.Only != nil && !g.matchAny(rule.Only, imp) || g.matchAny(rule.NeverDirectly, imp) {
				out = append(out, Violation{g.local(pkg), "imports " + g.local(imp) + ": " + rule.Reason})
			}
		}
		if chain := g.reach(pkg, rule.Never); chain != nil {
			out = append(out, Violation{g.local(pkg), "reaches " + strings.Join(chain, " -> ") + ": " + rule.Reason})
		}
	}
	return out
}

func (g Graph) checkImporters(rule Rule) []Violation {
	var out []Violation
	for pkg, imports := range g.Imports {
		if !g.own(pkg) || g.matchAny(rule.Importers, pkg) || g.matchAny(rule.Packages, pkg) {
			continue
		}
		for _, imp := range imports {
			if g.matchAny(rule.Packages, imp) {
				out = append(out, Violation{g.local(pkg), "imports " + g.local(imp) + ": " + rule.Reason})
			}
		}
	}
	return out
}

// missing reports the rule's patterns of this module that match nothing.
func (g Graph) missing(rule Rule, pending []string) []Violation {
	var out []Violation
	for _, pattern := range slices.Concat(rule.Packages, rule.Except, rule.Only, rule.Never, rule.NeverDirectly, rule.Importers) {
		if !strings.HasPrefix(pattern, "./") || slices.Contains(pending, strings.TrimSuffix(pattern, "/...")) {
			continue
		}
		if len(g.matching([]string{pattern}, nil)) == 0 {
			out = append(out, Violation{pattern, "an import rule names it, but no such package exists: renamed? mend the rule, or list it as pending"})
		}
	}
	return out
}

// reach returns the shortest import chain from pkg to a package that a pattern
// matches, without pkg itself; nil when there is none.
func (g Graph) reach(pkg string, patterns []string) []string {
	if len(patterns) == 0 {
		return nil
	}
	from := map[string]string{pkg: ""}
	for queue := []string{pkg}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range g.Imports[queue[0]] {
			if _, seen := from[imp]; seen {
				continue
			}
			from[imp] = queue[0]
			if g.matchAny(patterns, imp) {
				var chain []string
				for at := imp; at != pkg; at = from[at] {
					chain = append(chain, g.local(at))
				}
				slices.Reverse(chain)
				return chain
			}
			queue = append(queue, imp)
		}
	}
	return nil
}

// matching lists the module's own packages that patterns match and except does
// not, sorted.
func (g Graph) matching(patterns, except []string) []string {
	var out []string
	for pkg := range g.Imports {
		if g.own(pkg) && g.matchAny(patterns, pkg) && !g.matchAny(except, pkg) {
			out = append(out, pkg)
		}
	}
	slices.Sort(out)
	return out
}

func (g Graph) matchAny(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if p == "std" {
			if !strings.Contains(firstElement(pkg), ".") && !g.own(pkg) {
				return true
			}
			continue
		}
		if local, ok := strings.CutPrefix(p, "./"); ok {
			p = g.Module + "/" + local
		}
		base, below := strings.CutSuffix(p, "/...")
		if pkg == base || below && strings.HasPrefix(pkg, base+"/") {
			return true
		}
	}
	return false
}

func (g Graph) own(pkg string) bool {
	return pkg == g.Module || strings.HasPrefix(pkg, g.Module+"/")
}

// local writes the module's own packages the way the rules do.
func (g Graph) local(pkg string) string {
	if below, ok := strings.CutPrefix(pkg, g.Module+"/"); ok {
		return "./" + below
	}
	return pkg
}

func firstElement(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}
