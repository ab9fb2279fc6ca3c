package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Workload is an object with a pod template, as it is without an injection.
type Workload struct {
	Kind string
	diagnose.Key
	// Named is false when the manifest names no namespace: Key then has the default one.
	Named    bool
	Template corev1.PodTemplateSpec
	// Injected is true when the object had an injection, which is replaced; Services are those that it was for.
	Injected bool
	Services []diagnose.Key
}

// Ref returns the workload as kubectl takes it: "deploy/aggregator-app".
func (w Workload) Ref() string { return diagnose.ShortKind(w.Kind) + "/" + w.Name }

// templatePath leads to a kind's pod template; nil for a kind that has none.
func templatePath(kind string) []any {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController":
		return []any{"spec", "template"}
	case "CronJob":
		return []any{"spec", "jobTemplate", "spec", "template"}
	case "Pod":
		return []any{}
	}
	return nil
}

// isWorkload reports whether a document is an object of a kind that is injected; a kind of the same name in another group is not.
func isWorkload(obj any) bool {
	group, _, ok := strings.Cut(textAt(obj, "apiVersion"), "/")
	if !ok {
		group = ""
	}
	return templatePath(textAt(obj, "kind")) != nil && (group == "" || group == "apps" || group == "batch")
}

// Read reads an object in its JSON form as a workload; namespace is what it has when it names none. An injection is not shown.
func Read(obj map[string]any, namespace string) (Workload, error) {
	w := Workload{Kind: textAt(obj, "kind"), Key: diagnose.Key{Namespace: namespace, Name: textAt(obj, "metadata", "name")}}
	if w.Name == "" {
		w.Name = textAt(obj, "metadata", "generateName")
	}
	if ns := textAt(obj, "metadata", "namespace"); ns != "" {
		w.Namespace, w.Named = ns, true
	}
	if !isWorkload(obj) {
		return w, fmt.Errorf("a %s has no pod template", w.Kind)
	}
	without, had, err := Remove(obj)
	if err != nil {
		return w, fmt.Errorf("%s: %w", w.Ref(), err)
	}
	w.Injected = had
	for _, s := range recordOf(obj, templatePath(w.Kind)).Services {
		if ns, name, ok := strings.Cut(s, "/"); ok {
			w.Services = append(w.Services, diagnose.Key{Namespace: ns, Name: name})
		}
	}
	tmpl := mapAt(without, templatePath(w.Kind)...)
	raw, err := json.Marshal(map[string]any{"metadata": tmpl["metadata"], "spec": tmpl["spec"]})
	if err != nil {
		return w, fmt.Errorf("%s: %w", w.Ref(), err)
	}
	if err := json.Unmarshal(raw, &w.Template); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			err = fmt.Errorf("%s is not of the form %s", wrong.Field, wrong.Value)
		}
		return w, fmt.Errorf("%s: its pod template is not one: %w", w.Ref(), err)
	}
	if len(w.Template.Spec.Containers) == 0 {
		return w, fmt.Errorf("%s has no containers", w.Ref())
	}
	return w, nil
}
