package inject

import (
	"fmt"
	"slices"
)

// op is one step of a change, on an object and on its text alike. Steps build on each other: the path of each is that of the object as the
// steps before left it.
type op struct {
	do   action
	path []any  // to the mapping, the sequence or, for replace, the text
	key  string // of addKey and removeKey
	at   int    // of removeItem
	val  any    // of addKey and addItem
	old  string // of replace
	now  string
}

type action int

const (
	addKey     action = iota // a key that is not there, before the others
	addItem                  // an item before the others; the sequence may be null
	removeKey                // a key with all that is below it
	removeItem               // one item
	replace                  // a part of a text
)

// at follows a path into an object; nil when there is nothing.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p < 0 || p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func mapAt(v any, path ...any) map[string]any {
	m, _ := at(v, path...).(map[string]any)
	return m
}

func listAt(v any, path ...any) []any {
	l, _ := at(v, path...).([]any)
	return l
}

func textAt(v any, path ...any) string {
	s, _ := at(v, path...).(string)
	return s
}

// put replaces what is at a path that exists.
func put(root any, path []any, v any) {
	last := path[len(path)-1]
	switch parent := at(root, path[:len(path)-1]...).(type) {
	case map[string]any:
		if k, ok := last.(string); ok {
			parent[k] = v
		}
	case []any:
		if i, ok := last.(int); ok && i < len(parent) {
			parent[i] = v
		}
	}
}

// apply does the step to an object in its decoded form.
func (o op) apply(root map[string]any) error {
	switch v := at(root, o.path...).(type) {
	case map[string]any:
		if o.do == addKey {
			v[o.key] = generic(o.val)
			return nil
		}
		if o.do == removeKey {
			delete(v, o.key)
			return nil
		}
	case []any:
		if o.do == addItem {
			put(root, o.path, append([]any{generic(o.val)}, v...))
			return nil
		}
		if o.do == removeItem && o.at < len(v) {
			put(root, o.path, slices.Delete(slices.Clone(v), o.at, o.at+1))
			return nil
		}
	case nil:
		if o.do == addItem {
			put(root, o.path, []any{generic(o.val)})
			return nil
		}
		if o.do == addKey && len(o.path) > 0 {
			put(root, o.path, map[string]any{o.key: generic(o.val)})
			return nil
		}
	case string:
		if s, ok := replaceOnce(v, o.old, o.now); ok && o.do == replace {
			put(root, o.path, s)
			return nil
		}
	}
	return fmt.Errorf("%s is not of the expected form", pathText(o.path))
}

// pathText writes a path for people: spec.template.spec.initContainers.
func pathText(path []any) string {
	out := ""
	for _, p := range path {
		switch p := p.(type) {
		case string:
			if out != "" {
				out += "."
			}
			out += p
		case int:
			out += fmt.Sprintf("[%d]", p)
		}
	}
	return out
}
