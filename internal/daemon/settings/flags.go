package settings

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Pair is an address and the target that it leads to, as the command line names
// them.
type Pair struct{ Listen, Target string }

// Assignment is the value of a field that was given outside of a file.
type Assignment struct {
	// Path is the field's, as in [Fields], without "targets[]." for those of
	// targets: they hold for all of them.
	Path string
	// Text is the value as it was written.
	Text string
	// From names the flag or variable, for messages: "--interval".
	From string
}

// FromFlags makes Settings of a command line alone. Pairs of one target share its
// pool. The results are those of [Parse].
func FromFlags(pairs []Pair, given []Assignment, o Options) (Settings, []Problem, error) {
	r := &reader{opts: o, out: Default()}
	var targets []string
	listens := map[string][]string{}
	for _, p := range pairs {
		if listens[p.Target] == nil {
			targets = append(targets, p.Target)
		}
		listens[p.Target] = append(listens[p.Target], p.Listen)
	}
	var each []Assignment
	for _, a := range given {
		if _, ofTarget := fieldOf(a.Path); ofTarget {
			each = append(each, a)
			continue
		}
		r.assign(a)
	}
	for i, t := range targets {
		beginTarget(r, value{place: place{path: "--target " + clip(t)}})
		for _, l := range listens[t] {
			r.assign(Assignment{"listen[]", l, "--listen"})
		}
		r.assign(Assignment{"target", t, "--target"})
		problems := len(r.problems)
		for _, a := range each {
			r.assign(a)
		}
		endPolicy(r, value{})
		if i > 0 {
			r.problems = r.problems[:problems] // said of the first one already
		}
		endTarget(r, value{place: place{path: "--target " + clip(t)}})
	}
	return r.finish()
}

// Find returns the field at the path of an [Assignment]; ok is false when there is
// none, and near then says what was probably meant.
func Find(path string) (f Field, near string, ok bool) {
	n, _ := fieldOf(path)
	if n != nil {
		return n.Field, "", true
	}
	var all []string
	for _, f := range Fields() {
		all = append(all, strings.TrimPrefix(f.Path, "targets[]."))
	}
	near, _ = Nearest(path, all)
	return Field{}, near, false
}

// fieldOf finds a field by its path, and tells whether each target has it.
func fieldOf(path string) (n *node, each bool) {
	for _, from := range []*node{root(), targetNode()} {
		at := from
		for part := range strings.SplitSeq(path, ".") {
			name, isList := strings.CutSuffix(part, "[]")
			if at = at.field(name); at != nil && isList {
				at = at.item
			}
			if at == nil {
				break
			}
		}
		if at != nil && at.kind != object && at.kind != list {
			return at, each
		}
		each = true
	}
	return nil, false
}

// assign reads a value as if it stood in a file.
func (r *reader) assign(a Assignment) {
	n, _ := fieldOf(a.Path)
	if n == nil {
		r.complain(place{path: a.From}, "no such field: %s", clip(a.Path))
		return
	}
	y := &yaml.Node{Kind: yaml.ScalarNode, Value: a.Text, Tag: "!!str"}
	switch n.kind {
	case number:
		y.Tag = "!!int"
	case boolean:
		y.Tag = "!!bool"
	}
	r.scalar(n, y, place{path: a.From})
}
