package fix

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// variable is one entry of a container's env.
type variable struct{ name, value string }

// setEnv changes the variable of the target, and the one that holds its port: both or none.
func (o *liveObject) setEnv(c map[string]any, list string, e edit) error {
	now, err := rewrite(valueOf(c, e.t.Name), e)
	if err != nil {
		return err
	}
	changes := []variable{{e.t.Name, now}}
	if e.port != 0 {
		if strings.TrimSpace(valueOf(c, e.t.PortName)) != strconv.Itoa(int(e.t.Port)) {
			return errPortApart
		}
		changes = append(changes, variable{e.t.PortName, strconv.Itoa(int(e.port))})
	}
	for _, v := range changes {
		if users := composedOf(c, v.name); len(users) > 0 {
			return &stays{why: fmt.Sprintf("other values of the container are put together from $(%s): %s", v.name, strings.Join(users, ", "))}
		}
	}
	for _, v := range changes {
		for _, in := range []map[string]any{o.live, o.doc, o.patch} {
			entry := item(o.container(in, list, e.t.Container), "env", v.name)
			entry["value"] = v.value
			delete(entry, "valueFrom") // the last applied manifest may know another source than the live object
		}
		if v.name == e.t.PortName {
			o.did("env %s of container %s becomes %s", v.name, e.t.Container, v.value)
		}
	}
	return nil
}

// valueOf is the value of a variable as written in the template; a later entry of the same name wins.
func valueOf(c map[string]any, name string) string {
	value := ""
	vars, _ := c["env"].([]any)
	for _, x := range vars {
		if v, ok := x.(map[string]any); ok && v["name"] == name {
			value, _ = v["value"].(string)
		}
	}
	return value
}

// composedOf names the variables and arguments of a container that have $(NAME) inside of a longer word: a new value
// would end up in the middle of theirs. One that is $(NAME) and nothing else takes any value.
func composedOf(c map[string]any, name string) []string {
	var out []string
	look := func(where, s string) {
		for _, ref := range []string{"$(" + name + ")", "${" + name + "}"} {
			for rest, i := s, strings.Index(s, ref); i >= 0; i = strings.Index(rest, ref) {
				if !edge(last(rest[:i])) || !edge(next(rest[i+len(ref):])) {
					add(&out, where)
				}
				rest = rest[i+len(ref):]
			}
		}
	}
	vars, _ := c["env"].([]any)
	for _, x := range vars {
		if v, ok := x.(map[string]any); ok {
			s, _ := v["value"].(string)
			look(fmt.Sprintf("env %v", v["name"]), s)
		}
	}
	for _, field := range []string{"command", "args"} {
		xs, _ := c[field].([]any)
		for _, x := range xs {
			s, _ := x.(string)
			look(field, s)
		}
	}
	return out
}

// last and next are the byte beside a cut, 0 at the end of the text.
func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

func next(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

// edge reports whether a byte ends a word of a command line.
func edge(c byte) bool { return c == 0 || strings.IndexByte(" \t\r\n\"'=", c) >= 0 }

// setArgs changes the command line. Its lists have no merge key: a patch replaces them whole.
func (o *liveObject) setArgs(c map[string]any, list string, e edit) error {
	if e.port != 0 {
		return errPortApart
	}
	var why error
	found := false
	for _, field := range []string{"command", "args"} {
		old, _ := c[field].([]any)
		now, err := rewriteArgs(old, e)
		if err != nil {
			why = worse(why, err)
			continue
		}
		found = true
		c[field] = now
		o.container(o.patch, list, e.t.Container)[field] = now
		doc := o.container(o.doc, list, e.t.Container)
		if applied, ok := doc[field].([]any); ok {
			if own, err := rewriteArgs(applied, e); err == nil {
				doc[field] = own
				continue
			}
		}
		doc[field] = now
	}
	if found {
		return nil
	}
	return why
}

// rewriteArgs changes the value of the target's flag, or the plain argument that is the target.
func rewriteArgs(args []any, e edit) ([]any, error) {
	out := slices.Clone(args)
	why, found := errTargetGone, false
	for i, x := range args {
		s, _ := x.(string)
		prefix, value, ok := valueAt(args, i, e.t.Name)
		if !ok {
			if standsIn(s, e.t.Token) && strings.ContainsAny(s, " \t\n") {
				why = worse(why, &stays{why: "the target is a word of a shell command"})
			}
			continue
		}
		now, err := rewrite(value, e)
		if err != nil {
			why = worse(why, err)
			continue
		}
		out[i], found = prefix+now, true
	}
	if !found {
		return nil, why
	}
	return out, nil
}

// valueAt reads one argument as the value of the flag name (--flag=value, --flag value), or as a plain argument when
// name is empty.
func valueAt(args []any, i int, name string) (prefix, value string, ok bool) {
	s, _ := args[i].(string)
	before := ""
	if i > 0 {
		before, _ = args[i-1].(string)
	}
	switch {
	case name == "":
		return "", s, !strings.HasPrefix(s, "-") && (!strings.HasPrefix(before, "-") || strings.Contains(before, "="))
	case strings.HasPrefix(s, name+"="):
		return name + "=", s[len(name)+1:], true
	}
	return "", s, before == name
}

// setConfigMap changes one target under its key of a ConfigMap, and the port beside it. left tells that the target also
// stands inside of longer values there.
func (o *liveObject) setConfigMap(e edit) (left bool, err error) {
	if o.live["immutable"] == true {
		return false, errImmutable
	}
	data := child(o.live, "data")
	key := configMapKey(e.t)
	old, _ := data[key].(string)
	now := ""
	if e.t.Source == "env" {
		now, err = rewrite(old, e)
	} else {
		now, left, err = rewriteText(old, e)
	}
	if err != nil {
		return left, err
	}
	changes := []variable{{key, now}}
	if e.port != 0 {
		beside, ok := portKey(e)
		value, _ := data[beside].(string)
		if !ok || strings.TrimSpace(value) != strconv.Itoa(int(e.t.Port)) {
			return false, errPortApart
		}
		changes = append(changes, variable{beside, strconv.Itoa(int(e.port))})
		o.did("%s becomes %d", beside, e.port)
	}
	for _, v := range changes {
		for _, in := range []map[string]any{o.live, o.doc, o.patch} {
			child(in, "data")[v.name] = v.value
		}
	}
	o.did("%s under %s becomes %s", e.t.Token, key, e.to)
	return left, nil
}

// portKey is the key of the port's variable, when its name is made of a key in the way that the target's is: a prefix
// of envFrom and the key.
func portKey(e edit) (string, bool) {
	prefix, ok := strings.CutSuffix(e.t.Name, configMapKey(e.t))
	if !ok || e.t.PortName == "" || e.t.Source != "env" {
		return "", false
	}
	return strings.CutPrefix(e.t.PortName, prefix)
}

// patchEnv notes a variable's new value in the patch of an object that was not read: it takes the target for the whole
// value.
func (o *liveObject) patchEnv(list, container, name, value string) {
	item(o.container(o.patch, list, container), "env", name)["value"] = value
}

func (o *liveObject) did(format string, args ...any) { add(&o.done, fmt.Sprintf(format, args...)) }

// setTemplate sets one label or annotation (field) of the pod template.
func (o *liveObject) setTemplate(field, key, value string) {
	path := append(templatePath(o.kind), "metadata", field)
	child(o.patch, path...)[key] = value
	if o.doc != nil {
		child(o.doc, path...)[key] = value
	}
	o.did("its pods get the %s %s: %s", strings.TrimSuffix(field, "s"), key, value)
}

// worse keeps the more telling of two reasons.
func worse(a, b error) error {
	if a == nil || errors.Is(a, errTargetGone) {
		return b
	}
	return a
}
