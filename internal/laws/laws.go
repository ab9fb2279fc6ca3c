// Package laws holds the rules that the repository keeps about itself: who may
// import whom, how long a function may be, which calls library code refuses to
// make, which words the documents must contain.
//
// A law is a value with a name, a reason and a function from a [Tree] of files
// to violations. The function sees nothing else, neither the disk nor the
// clock, so that each law is proved able to fail on a small made-up tree; the
// repository's own test (repo_test.go) applies them to the real one.
//
//	for _, v := range laws.PackageDocs().Check(tree) {
//		t.Errorf("%s: %s", v.Where, v.What)
//	}
//
// The package judges form only. What needs types or data flow is the linter's
// work, what needs a running program is a test's.
package laws

import (
	"fmt"
	"slices"
	"strings"
)

// Law is one rule with its reason.
type Law struct {
	// Name is the rule as a short sentence; it becomes the subtest's name.
	Name string
	// Why says what went wrong, or would, without the rule.
	Why string
	// Check returns what breaks the rule, in the order of the files; nil when
	// the tree is sound.
	Check func(*Tree) []Violation
}

// Violation is one place that breaks a law.
type Violation struct {
	// Where is a slash-separated path, with ":line" when a line is to blame.
	Where string
	// What says what is there and what to do about it.
	What string
}

// String is the form in which a test prints a violation.
func (v Violation) String() string { return v.Where + ": " + v.What }

// Exempt names the places that may break a law, each with the reason. A key is
// a path, or a folder with a trailing slash. An entry that excuses nothing is
// itself a violation, so that the list shrinks when its cause goes away.
type Exempt map[string]string

// tracker notes which exemptions were used during one Check.
type tracker struct {
	exempt Exempt
	used   map[string]bool
}

func (e Exempt) track() *tracker { return &tracker{exempt: e, used: map[string]bool{}} }

// covers reports whether path is excused, and remembers by which entry.
func (t *tracker) covers(path string) bool {
	for key := range t.exempt {
		if key == path || strings.HasSuffix(key, "/") && strings.HasPrefix(path, key) {
			t.used[key] = true
			return true
		}
	}
	return false
}

// stale returns a violation for each entry that excused nothing.
func (t *tracker) stale() []Violation {
	var out []Violation
	for key, reason := range t.exempt {
		if !t.used[key] {
			out = append(out, Violation{key, fmt.Sprintf("exempt (%s), but nothing there needs it: drop the entry", reason)})
		}
	}
	sortViolations(out)
	return out
}

func sortViolations(v []Violation) {
	slices.SortFunc(v, func(a, b Violation) int { return strings.Compare(a.String(), b.String()) })
}
