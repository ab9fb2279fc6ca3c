package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// injectLive writes what injects a live object, or injects it.
func (a *app) injectLive(ctx context.Context, o injectOptions) error {
	around, err := a.look(ctx, o, nil)
	defer around.close()
	if err != nil {
		return err
	}
	obj, w, err := a.readLive(ctx, around.session, o.live)
	if err != nil {
		return err
	}
	doc, err := fix.Inject(w.Kind, w.Namespace, w.Name, obj, nil)
	if err != nil {
		return couldNot(fmt.Errorf("%s: %w", w.Ref(), err), "")
	}
	if doc.Controller != "" {
		return couldNot(fmt.Errorf("%s belongs to %s, which would undo a change", w.Ref(), doc.Controller), "inject that")
	}
	facts := around.around(ctx, w, nil)
	facts.KeptBy = doc.Keeper
	in, err := a.decide(ctx, o, around, w, facts)
	if err != nil {
		return err
	}
	after, err := inject.Add(obj, in)
	if err != nil {
		return couldNot(fmt.Errorf("%s: %w", w.Ref(), err), "")
	}
	var twins []fix.Object
	for _, p := range around.plans {
		if p.Twin != nil && !p.There && !o.noTwin {
			twins = append(twins, *p.Twin)
		}
	}
	c := change{ref: o.live, before: obj, after: after, twins: twins}
	switch {
	case o.apply:
		return a.applyChange(ctx, around.session, c, o.yes)
	case o.patch:
		return a.printPatch(c)
	case doc.Applier != "":
		return couldNot(fmt.Errorf("%s is kept by server-side apply (field manager %s), and a manifest of some of its fields would give up the others", w.Ref(), doc.Applier),
			"inject the manifest that it is applied from, or use --apply, which patches the object")
	}
	if doc, err = fix.Inject(w.Kind, w.Namespace, w.Name, obj, in); err != nil {
		return couldNot(fmt.Errorf("%s: %w", w.Ref(), err), "")
	}
	if doc.Whole {
		a.note("note: %s is written with all fields of its last applied manifest, or apply would remove them: the output shows their values", w.Ref())
	}
	for _, t := range append(twins, fix.Object{Content: doc.Content}) {
		y, err := quote.YAML(t.Content)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.Out, "---\n%s", y)
	}
	return nil
}

// readLive reads the object and its pod template.
func (a *app) readLive(ctx context.Context, s *collect.Session, ref collect.ClientRef) (map[string]any, inject.Workload, error) {
	obj, err := a.workloadReader(ctx, s)(ref.Kind, ref.Namespace, ref.Name)
	if err != nil {
		return nil, inject.Workload{}, s.Named(err)
	}
	if obj["kind"] != ref.Kind {
		return nil, inject.Workload{}, couldNot(fmt.Errorf("what the API server sent is no %s", ref.Kind), "")
	}
	w, err := inject.Read(obj, ref.Namespace)
	if err != nil {
		return nil, w, couldNot(err, "")
	}
	return obj, w, nil
}

// uninjectLive writes the patch that takes an injection out of a live object, or applies it.
func (a *app) uninjectLive(ctx context.Context, o changeOptions) error {
	s, err := a.session(nil)
	if err != nil {
		return err
	}
	defer s.Close()
	obj, w, err := a.readLive(ctx, s, o.live)
	if err != nil {
		return err
	}
	after, had, err := inject.Remove(obj)
	if err != nil {
		return couldNot(fmt.Errorf("%s: %w", w.Ref(), err), "")
	}
	if !had {
		a.note("%s has no sidecar: nothing is changed", w.Ref())
		return nil
	}
	c := change{ref: o.live, before: obj, after: after}
	if o.apply {
		err = a.applyChange(ctx, s, c, o.yes)
	} else {
		err = a.printPatch(c)
	}
	if err != nil {
		return err
	}
	for _, k := range w.Services {
		a.note("note: svc/%s stays, for other clients: kubectl delete svc %s -n %s", k.Name+fix.TwinSuffix, k.Name+fix.TwinSuffix, k.Namespace)
	}
	return nil
}

// change is what becomes of a live object, and the Services that are made first.
type change struct {
	ref           collect.ClientRef
	before, after map[string]any
	twins         []fix.Object
}

func (c change) name() string { return diagnose.ShortKind(c.ref.Kind) + "/" + c.ref.Name }

// patch is the change as a JSON merge patch (RFC 7396), which replaces lists as a whole. It holds only for the object that was read: the
// API server refuses it with a conflict when that was changed or made anew since.
func (c change) patch() ([]byte, bool, error) {
	diff := mergePatch(c.before, c.after)
	if len(diff) == 0 {
		return nil, false, nil
	}
	meta, _ := c.before["metadata"].(map[string]any)
	own, _ := diff["metadata"].(map[string]any)
	if own == nil {
		own = map[string]any{}
	}
	own["uid"], own["resourceVersion"] = meta["uid"], meta["resourceVersion"]
	diff["metadata"] = own
	raw, err := json.Marshal(diff)
	return raw, true, err
}

// mergePatch is what turns one object into another.
func mergePatch(before, after map[string]any) map[string]any {
	out := map[string]any{}
	for k := range before {
		if _, ok := after[k]; !ok {
			out[k] = nil
		}
	}
	for k, now := range after {
		was, ok := before[k]
		wm, isMap := was.(map[string]any)
		nm, both := now.(map[string]any)
		switch {
		case !ok:
			out[k] = now
		case isMap && both:
			if sub := mergePatch(wm, nm); len(sub) > 0 {
				out[k] = sub
			}
		case !sameJSON(was, now):
			out[k] = now
		}
	}
	return out
}

// sameJSON compares values of which one may have Go's integers where the other has what a decoder makes of numbers.
func sameJSON(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func (a *app) printPatch(c change) error {
	raw, some, err := c.patch()
	if err != nil {
		return err
	}
	if !some {
		a.note("%s is as it should be: nothing to patch", c.name())
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	y, err := quote.YAML(m)
	if err != nil {
		return err
	}
	a.note("kubectl patch %s -n %s --type merge --patch-file FILE applies it", c.name(), c.ref.Namespace)
	for _, t := range c.twins {
		a.note("note: %s has to be there, too: `%s fix svc/…` or --apply makes it", t.Ref, Name)
	}
	_, err = a.Out.Write(y)
	return err
}
