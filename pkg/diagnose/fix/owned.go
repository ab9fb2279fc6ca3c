package fix

import (
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// byServer are fields of an object that a manifest has no say in, though some hold them.
var byServer = []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}

// refresh gives a last applied manifest the values that the object has now, and takes out what is gone from it. So
// applying it undoes nothing that happened since: an image that was set, a scale that was changed by hand. Which fields
// it holds stays the same, and with it what its owner's next apply may remove.
func refresh(applied, live map[string]any, kind string) error {
	var of any
	switch kind {
	case "Deployment":
		of = appsv1.Deployment{}
	case "StatefulSet":
		of = appsv1.StatefulSet{}
	case "DaemonSet":
		of = appsv1.DaemonSet{}
	case "CronJob":
		of = batchv1.CronJob{}
	case "ConfigMap":
		of = corev1.ConfigMap{}
	default:
		return fmt.Errorf("a %s is not changed by this build", kind)
	}
	schema, err := strategicpatch.NewPatchMetaFromStruct(of)
	if err != nil {
		return fmt.Errorf("merge rules of a %s: %w", kind, err)
	}
	refreshMap(applied, live, schema)
	delete(applied, "status")
	for _, k := range byServer {
		delete(child(applied, "metadata"), k)
	}
	return nil
}

// refreshMap works on objects; schema is nil below a field of which no merge rules are known.
func refreshMap(applied, live map[string]any, schema strategicpatch.LookupPatchMeta) {
	for k, old := range applied {
		now, ok := live[k]
		if !ok {
			delete(applied, k)
			continue
		}
		switch old := old.(type) {
		case map[string]any:
			if m, ok := now.(map[string]any); ok {
				refreshMap(old, m, inside(schema, k))
				continue
			}
		case []any:
			if l, ok := now.([]any); ok {
				applied[k] = refreshList(old, l, schema, k)
				continue
			}
		}
		applied[k] = now
	}
}

func inside(schema strategicpatch.LookupPatchMeta, key string) strategicpatch.LookupPatchMeta {
	if schema == nil {
		return nil
	}
	sub, _, err := schema.LookupPatchMetadataForStruct(key)
	if err != nil {
		return nil // labels and the like: a map of strings, which has no merge rules
	}
	return sub
}

// refreshList works on lists: those that are merged element by element keep the elements that they have, all others
// are replaced whole when applied, and so have to be whole.
func refreshList(applied, live []any, schema strategicpatch.LookupPatchMeta, key string) []any {
	if schema == nil {
		return live
	}
	sub, rules, err := schema.LookupPatchMetadataForSlice(key)
	if err != nil || !slices.Contains(rules.GetPatchStrategies(), "merge") {
		return live
	}
	mergeKey := rules.GetPatchMergeKey()
	var out []any
	for _, x := range applied {
		old, ok := x.(map[string]any)
		if !ok {
			if slices.ContainsFunc(live, func(y any) bool { return reflect.DeepEqual(x, y) }) {
				out = append(out, x)
			}
			continue
		}
		i := slices.IndexFunc(live, func(y any) bool {
			m, ok := y.(map[string]any)
			return ok && reflect.DeepEqual(m[mergeKey], old[mergeKey])
		})
		if i < 0 {
			continue
		}
		now, _ := live[i].(map[string]any)
		refreshMap(old, now, sub)
		out = append(out, old)
	}
	return out
}
