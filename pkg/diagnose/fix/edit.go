package fix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The reasons for which a target is left to its owner.
var (
	errContainerGone = errors.New("the container is not there any more")
	errTargetGone    = errors.New("the target is not there any more, or is written in another way")
	errImmutable     = errors.New("the ConfigMap is immutable")
	errDone          = errors.New("the new target is there already")
)

// setTarget changes one target in a pod template.
func (o *liveObject) setTarget(e edit) error {
	spec := child(o.live, append(templatePath(o.kind), "spec")...)
	list := containerList(spec, e.t.Container)
	if list == "" {
		return errContainerGone
	}
	c := item(spec, list, e.t.Container)
	var err error
	if e.t.Source == "env" {
		err = o.setEnv(c, list, e)
	} else {
		err = o.setArgs(c, list, e)
	}
	if err == nil {
		o.did("%s of container %s becomes %s", source(e.t), e.t.Container, e.to)
	}
	return err
}

// containerList says which list of a pod's spec holds the container.
func containerList(spec map[string]any, name string) string {
	for _, list := range []string{"containers", "initContainers"} {
		xs, _ := spec[list].([]any)
		if slices.ContainsFunc(xs, func(x any) bool { m, ok := x.(map[string]any); return ok && m["name"] == name }) {
			return list
		}
	}
	return ""
}

// container returns the container inside doc or patch, to be written to.
func (o *liveObject) container(in map[string]any, list, name string) map[string]any {
	return item(child(in, append(templatePath(o.kind), "spec")...), list, name)
}

func (o *liveObject) setEnv(c map[string]any, list string, e edit) error {
	vars, _ := c["env"].([]any)
	value, done := "", false
	for _, x := range vars {
		v, ok := x.(map[string]any)
		if !ok || v["name"] != e.t.Name {
			continue
		}
		old, _ := v["value"].(string)
		done = done || holds(old, e.to)
		if now, ok := replaceToken(old, e.t.Token, e.to); ok {
			v["value"], value = now, now
		}
	}
	switch {
	case value == "" && done:
		return errDone
	case value == "":
		return errTargetGone
	}
	for _, in := range []map[string]any{o.doc, o.patch} {
		v := item(o.container(in, list, e.t.Container), "env", e.t.Name)
		v["value"] = value
		delete(v, "valueFrom") // the last applied manifest may know another source than the live object
	}
	return nil
}

// setArgs changes the command line. Its lists have no merge key: a patch replaces them whole.
func (o *liveObject) setArgs(c map[string]any, list string, e edit) error {
	found, done := false, false
	for _, field := range []string{"command", "args"} {
		old, _ := c[field].([]any)
		done = done || slices.ContainsFunc(old, func(x any) bool { s, _ := x.(string); return holds(s, e.to) })
		now, ok := replaceIn(old, e.t.Token, e.to)
		if !ok {
			continue
		}
		found = true
		c[field] = now
		o.container(o.patch, list, e.t.Container)[field] = now
		doc := o.container(o.doc, list, e.t.Container)
		if applied, ok := doc[field].([]any); ok {
			if own, ok := replaceIn(applied, e.t.Token, e.to); ok {
				doc[field] = own
				continue
			}
		}
		doc[field] = now
	}
	switch {
	case !found && done:
		return errDone
	case !found:
		return errTargetGone
	}
	return nil
}

func replaceIn(list []any, token, to string) ([]any, bool) {
	out := slices.Clone(list)
	found := false
	for i, x := range out {
		s, _ := x.(string)
		if now, ok := replaceToken(s, token, to); ok {
			out[i], found = now, true
		}
	}
	return out, found
}

// setConfigMap changes one target in a ConfigMap's data: under the key that was seen, else under every key that holds
// it (a whole configuration file under one key).
func (o *liveObject) setConfigMap(e edit) error {
	if o.live["immutable"] == true {
		return errImmutable
	}
	data := child(o.live, "data")
	keys := []string{configMapKey(e.t)}
	if s, _ := data[keys[0]].(string); !strings.Contains(s, e.t.Token) {
		keys = keys[:0]
		for k := range data {
			keys = append(keys, k)
		}
		slices.Sort(keys)
	}
	found, done := false, false
	for _, k := range keys {
		s, _ := data[k].(string)
		done = done || holds(s, e.to)
		now, ok := replaceToken(s, e.t.Token, e.to)
		if !ok {
			continue
		}
		found = true
		data[k] = now
		child(o.doc, "data")[k] = now
		child(o.patch, "data")[k] = now
		o.did("%s under %s becomes %s", e.t.Token, k, e.to)
	}
	switch {
	case found:
		return nil
	case done: // also when another workload that reads the same key has brought the change
		return errDone
	}
	return errTargetGone
}

// patchEnv notes a variable's new value in the patch of an object that was not read: it takes the target for the whole
// value.
func (o *liveObject) patchEnv(list string, e edit) {
	item(o.container(o.patch, list, e.t.Container), "env", e.t.Name)["value"] = e.to
}

func (o *liveObject) did(format string, args ...any) { add(&o.done, fmt.Sprintf(format, args...)) }

// replaceToken replaces each occurrence of token in s that stands by itself: "square:6565" is not touched inside of
// "big-square:6565" or "square:65650".
func replaceToken(s, token, to string) (string, bool) {
	if token == "" {
		return s, false
	}
	var b strings.Builder
	found := false
	for rest, before := s, byte(0); ; {
		i := strings.Index(rest, token)
		if i < 0 {
			b.WriteString(rest)
			return b.String(), found
		}
		if i > 0 {
			before = rest[i-1]
		}
		end := i + len(token)
		if inName(before) || end < len(rest) && inName(rest[end]) {
			b.WriteString(rest[:end])
		} else {
			b.WriteString(rest[:i] + to)
			found = true
		}
		before, rest = token[len(token)-1], rest[end:]
	}
}

// holds reports whether token stands by itself in s.
func holds(s, token string) bool {
	_, ok := replaceToken(s, token, token)
	return ok
}

// inName reports whether a byte may continue a host name or a port.
func inName(c byte) bool {
	return c == '-' || c == '.' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// setTemplate sets one label or annotation (field) of the pod template.
func (o *liveObject) setTemplate(field, key, value string) {
	path := append(templatePath(o.kind), "metadata", field)
	child(o.patch, path...)[key] = value
	if o.doc != nil {
		child(o.doc, path...)[key] = value
	}
	o.did("its pods get the %s %s: %s", strings.TrimSuffix(field, "s"), key, value)
}
