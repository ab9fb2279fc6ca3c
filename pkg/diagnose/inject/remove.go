package inject

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// injected reports whether a pod template has an injection, or parts of one.
func injected(root map[string]any, path []any) bool {
	if _, ok := mapAt(root, below(path, "metadata", "annotations")...)[diagnose.InjectedAnnotation]; ok {
		return true
	}
	_, i := sidecarAt(root, path)
	return i >= 0
}

// sidecarAt finds the container: the list and its index there, -1 when it is nowhere.
func sidecarAt(root map[string]any, path []any) (string, int) {
	for _, list := range []string{"initContainers", "containers"} {
		cs := listAt(root, below(path, "spec", list)...)
		// A container of the user's own may have the name; ours has our first argument.
		if i := named(cs, diagnose.SidecarName); i >= 0 && textAt(cs[i], "args", 0) == "sidecar" {
			return list, i
		}
	}
	return "", -1
}

// recordOf reads the annotation. Where it is missing or was spoilt, what the container listens on tells which aliases are its own.
func recordOf(root map[string]any, path []any) record {
	var r record
	raw := textAt(root, below(path, "metadata", "annotations", diagnose.InjectedAnnotation)...)
	if json.Unmarshal([]byte(raw), &r) == nil && r.Mode != "" {
		return r
	}
	list, i := sidecarAt(root, path)
	r = record{Native: list == "initContainers", Made: []string{"hostAliases", "initContainers"}}
	if i < 0 {
		return r
	}
	args := listAt(root, append(below(path, "spec", list), i, "args")...)
	for j := range args {
		a, err := netip.ParseAddrPort(textAt(args, j+1))
		if textAt(args, j) == "--listen" && err == nil && a.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			r.IPs = append(r.IPs, a.Addr().String())
		}
	}
	return r
}

// remover collects steps and does each to a copy of the object, so that the next one finds it as it will be.
type remover struct {
	root  map[string]any
	path  []any
	steps []op
}

// removal is what takes an injection out of an object; nil when there is none.
func removal(root map[string]any, path []any) ([]op, error) {
	if !injected(root, path) {
		return nil, nil
	}
	copied, ok := clone(root).(map[string]any)
	if !ok {
		return nil, errForm
	}
	rm := &remover{root: copied, path: path}
	r := recordOf(root, path)
	if err := rm.all(r); err != nil {
		return nil, err
	}
	return rm.steps, nil
}

func (rm *remover) all(r record) error {
	annotations := below(rm.path, "metadata", "annotations")
	keys := []string{diagnose.InjectedAnnotation}
	if r.Default {
		keys = append(keys, defaultContainer)
	}
	for _, k := range keys {
		if err := rm.annotation(r, annotations, k); err != nil {
			return err
		}
	}
	for {
		i := slices.IndexFunc(listAt(rm.root, below(rm.path, "spec", "hostAliases")...), func(x any) bool { return slices.Contains(r.IPs, textAt(x, "ip")) })
		if i < 0 {
			break
		}
		if err := rm.item(r, "hostAliases", i); err != nil {
			return err
		}
	}
	if list, i := sidecarAt(rm.root, rm.path); i >= 0 {
		if err := rm.item(r, list, i); err != nil {
			return err
		}
	}
	for _, w := range slices.Backward(r.Rewrites) {
		// A value that somebody changed since is theirs.
		p, ok := w.path(rm.root, rm.path)
		if v := textAt(rm.root, p...); ok && strings.Contains(v, w.Now) {
			if err := rm.do(op{do: replace, path: p, old: w.Now, now: w.Was}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (rm *remover) do(o op) error {
	if err := o.apply(rm.root); err != nil {
		return err
	}
	rm.steps = append(rm.steps, o)
	return nil
}

// item takes out one item of a list of the pod spec; the last one with the list, where injecting made that.
func (rm *remover) item(r record, list string, i int) error {
	path := below(rm.path, "spec", list)
	if len(listAt(rm.root, path...)) == 1 && r.made(list) {
		return rm.do(op{do: removeKey, path: below(rm.path, "spec"), key: list})
	}
	return rm.do(op{do: removeItem, path: path, at: i})
}

func (rm *remover) annotation(r record, path []any, key string) error {
	all := mapAt(rm.root, path...)
	if _, has := all[key]; !has {
		return nil
	}
	switch {
	case len(all) > 1 || !r.made("annotations"):
		return rm.do(op{do: removeKey, path: path, key: key})
	case len(mapAt(rm.root, below(rm.path, "metadata")...)) > 1 || !r.made("metadata"):
		return rm.do(op{do: removeKey, path: below(rm.path, "metadata"), key: "annotations"})
	}
	return rm.do(op{do: removeKey, path: rm.path, key: "metadata"})
}

// clone copies what decoders make.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = clone(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = clone(x)
		}
		return out
	}
	return v
}

// Remove takes an injection out of an object in its JSON form, which it leaves as it is; false when there was none.
func Remove(obj map[string]any) (map[string]any, bool, error) {
	path := templatePath(textAt(obj, "kind"))
	if path == nil {
		return obj, false, nil
	}
	steps, err := removal(obj, path)
	if err != nil || steps == nil {
		return obj, false, err
	}
	out, err := applied(obj, steps)
	return out, true, err
}

// Add puts an injection into an object in its JSON form, in place of one that it has, and leaves the given one as it is. Parts of an
// object will do: what is missing on the way is made.
func Add(obj map[string]any, in *Injection) (map[string]any, error) {
	path := templatePath(textAt(obj, "kind"))
	if path == nil {
		return nil, fmt.Errorf("a %s has no pod template", textAt(obj, "kind"))
	}
	out, _, err := Remove(obj)
	if err != nil {
		return nil, err
	}
	copied, ok := clone(out).(map[string]any)
	if !ok {
		return nil, errForm
	}
	parent := copied
	for _, p := range append(slices.Clone(path), "spec") {
		k, _ := p.(string)
		next, ok := parent[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			parent[k] = next
		}
		parent = next
	}
	steps, err := in.steps(copied, path)
	if err != nil {
		return nil, err
	}
	return applied(copied, steps)
}

func applied(obj map[string]any, steps []op) (map[string]any, error) {
	out, ok := clone(obj).(map[string]any)
	if !ok {
		return nil, errForm
	}
	for _, o := range steps {
		if err := o.apply(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}
