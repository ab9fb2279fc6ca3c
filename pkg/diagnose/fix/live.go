package fix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// liveObject is an object of the cluster, and the document that changes it when applied.
//
// What may be left out of that document depends on how the object came to be. `kubectl apply` deletes what the last
// applied manifest had and the new one lacks (a three-way merge); it leaves alone what neither has. So an object that
// was applied is written with the fields of its last manifest (see refresh), and any other as the changed fields alone.
// The whole live object would be the worse choice: it turns defaults and the fields of other writers (the replicas of
// an autoscaler) into applied ones, which the owner's next apply then removes.
type liveObject struct {
	kind, ref, namespace string

	live  map[string]any // nil when offline
	doc   map[string]any // what is applied
	patch map[string]any // the same change as a strategic-merge patch
	whole bool           // doc is the last applied manifest
	// applier is the field manager of server-side apply; empty when the object is not applied that way. Then doc is not to
	// be used: under the same manager it would mean to give up every field that it leaves out (KEP-555).
	applier string
	done    []string // the changes, as words
}

// read returns the object; nil when offline. Each object is asked for once, and an error is returned once: afterwards
// the object counts as offline.
func (b *builder) read(kind, namespace, name string) (*liveObject, error) {
	if b.o.Workload == nil {
		return nil, nil
	}
	id := strings.Join([]string{kind, namespace, name}, "/")
	if o, ok := b.objects[id]; ok {
		if o.live == nil {
			return nil, nil
		}
		return o, nil
	}
	raw, err := b.o.Workload(kind, namespace, name)
	if err != nil {
		b.unread(id, kind, namespace, name)
		return nil, err
	}
	o, err := newLive(kind, namespace, name, raw)
	if err != nil {
		b.unread(id, kind, namespace, name)
		return nil, err
	}
	b.remember(id, o)
	return o, nil
}

// offline returns the stand-in for a workload that is not read: only its patch is ever used.
func (b *builder) offline(w diagnose.Workload) *liveObject {
	id := strings.Join([]string{w.Kind, w.Namespace, w.Name}, "/")
	if o, ok := b.objects[id]; ok {
		return o
	}
	return b.unread(id, w.Kind, w.Namespace, w.Name)
}

func (b *builder) unread(id, kind, namespace, name string) *liveObject {
	o := &liveObject{kind: kind, ref: diagnose.ShortKind(kind) + "/" + name, namespace: namespace, patch: map[string]any{}}
	b.remember(id, o)
	return o
}

func (b *builder) remember(id string, o *liveObject) {
	if b.objects == nil {
		b.objects = map[string]*liveObject{}
	}
	b.objects[id] = o
	b.order = append(b.order, id)
}

func newLive(kind, namespace, name string, raw map[string]any) (*liveObject, error) {
	live, err := clone(raw)
	if err != nil {
		return nil, err
	}
	if live["kind"] != kind || text(live, "metadata", "name") != name {
		return nil, fmt.Errorf("what was read is no %s %s", kind, name)
	}
	o := &liveObject{kind: kind, ref: diagnose.ShortKind(kind) + "/" + name, namespace: namespace, live: live, patch: map[string]any{}}
	applied := text(live, "metadata", "annotations", corev1.LastAppliedConfigAnnotation)
	if applied != "" {
		if err := k8sjson.Unmarshal([]byte(applied), &o.doc); err != nil || o.doc["kind"] != kind || text(o.doc, "metadata", "name") != name {
			return nil, errors.New("its last applied manifest cannot be read")
		}
		if err := refresh(o.doc, live, kind); err != nil {
			return nil, err
		}
		o.whole = true
	} else {
		o.doc = map[string]any{"apiVersion": live["apiVersion"], "kind": kind, "metadata": map[string]any{"name": name}}
		o.applier = applier(live)
	}
	child(o.doc, "metadata")["namespace"] = namespace
	return o, nil
}

// applier is the first field manager that applied an object on the server's side.
func applier(live map[string]any) string {
	fields, _ := at(live, "metadata", "managedFields").([]any)
	for _, f := range fields {
		if m, ok := f.(map[string]any); ok && m["operation"] == string(metav1.ManagedFieldsOperationApply) && text(m, "subresource") == "" {
			return cmp.Or(text(m, "manager"), "unknown")
		}
	}
	return ""
}

// clone makes a deep copy with the number types that Kubernetes uses, so that the caller's object stays as it is.
func clone(m map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("copy object: %w", err)
	}
	var out map[string]any
	if err := k8sjson.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("copy object: %w", err)
	}
	return out, nil
}

// controller names the object that manages this one, empty when none does.
func (o *liveObject) controller() string {
	refs, _ := at(o.live, "metadata", "ownerReferences").([]any)
	for _, r := range refs {
		if m, ok := r.(map[string]any); ok && m["controller"] == true {
			return fmt.Sprintf("%v/%v", m["kind"], m["name"])
		}
	}
	return ""
}

// keeper names the tool that writes the object from elsewhere, empty when no label or annotation tells.
func (o *liveObject) keeper() string {
	labels, _ := at(o.live, "metadata", "labels").(map[string]any)
	notes, _ := at(o.live, "metadata", "annotations").(map[string]any)
	has := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return labels[k] != nil || notes[k] != nil })
	}
	switch {
	case labels[diagnose.ManagedByLabel] == "Helm" || has("meta.helm.sh/release-name"):
		return "Helm"
	case has("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"):
		return "Argo CD"
	case has("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"):
		return "Flux"
	}
	return ""
}

// templatePath is the path of a kind's pod template.
func templatePath(kind string) []string {
	if kind == "CronJob" {
		return []string{"spec", "jobTemplate", "spec", "template"}
	}
	return []string{"spec", "template"}
}

// finish turns the objects that were changed into documents, patches and caveats.
func (b *builder) finish() {
	for _, id := range b.order {
		o := b.objects[id]
		if len(o.patch) == 0 {
			continue
		}
		y, err := quote.YAML(o.patch)
		if err != nil {
			b.note("%s: %v.", o.ref, err)
			continue
		}
		b.plan.Patches = append(b.plan.Patches, diagnose.Patch{Namespace: o.namespace, Subject: o.ref, YAML: string(y)})
		if o.doc != nil {
			b.emit(o)
		}
	}
}

// emit makes an object that was read a part of the plan.
func (b *builder) emit(o *liveObject) {
	if k := o.keeper(); k != "" {
		b.caveat("%s is kept by %s: change it there too, or the old target comes back.", o.ref, k)
	}
	if o.applier != "" {
		b.patchCommand(o)
		b.caveat("%s is kept by server-side apply (field manager %s), so it is patched: change it in that manifest too, or the next apply reports a conflict or brings the old target back.",
			o.ref, o.applier)
		return
	}
	b.plan.Objects = append(b.plan.Objects, Object{Ref: o.ref, Namespace: o.namespace, Why: strings.Join(o.done, "; "), Content: o.doc})
	if o.whole {
		b.caveat("%s is written with all fields of its last applied manifest, or apply would remove them: the output shows their values.", o.ref)
	}
}

// patchCommand adds the command that makes an object's change as a strategic-merge patch, before those that restart it.
func (b *builder) patchCommand(o *liveObject) {
	raw, err := json.Marshal(o.patch)
	if err != nil {
		b.note("%s: %v.", o.ref, err)
		return
	}
	i := slices.IndexFunc(b.plan.Commands, func(c diagnose.Command) bool { return slices.Contains(c.Args, "rollout") })
	if i < 0 {
		i = len(b.plan.Commands)
	}
	b.plan.Commands = slices.Insert(b.plan.Commands, i, diagnose.Command{
		Args: []string{"kubectl", "patch", o.ref, "-n", o.namespace, "--type=strategic", "-p", string(raw)}, Note: strings.Join(o.done, "; "),
	})
}

// at follows keys into nested objects; nil when there is nothing.
func at(m map[string]any, keys ...string) any {
	var v any = m
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

func text(m map[string]any, keys ...string) string {
	s, _ := at(m, keys...).(string)
	return s
}

// child follows keys into nested objects and makes those that are missing.
func child(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		next, ok := m[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	return m
}

// item returns the element of m[list] with that name, and makes it when it is missing.
func item(m map[string]any, list, name string) map[string]any {
	xs, _ := m[list].([]any)
	for _, x := range xs {
		if e, ok := x.(map[string]any); ok && e["name"] == name {
			return e
		}
	}
	e := map[string]any{"name": name}
	m[list] = append(xs, e)
	return e
}
