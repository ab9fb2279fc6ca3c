package cli

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// workloadKinds are the resources of what `fix` changes.
var workloadKinds = map[string]collect.Resource{
	"Deployment": collect.Deployments, "StatefulSet": collect.StatefulSets, "DaemonSet": collect.DaemonSets,
	"CronJob": collect.CronJobs, "ConfigMap": collect.ConfigMaps,
}

// workloadReader reads one object as it is now, in its JSON form, so that a fix can be written as the whole object: a
// partial manifest would make `kubectl apply` delete what it leaves out.
func (a *app) workloadReader(ctx context.Context, s *collect.Session) func(kind, namespace, name string) (map[string]any, error) {
	return func(kind, namespace, name string) (map[string]any, error) {
		r, ok := workloadKinds[kind]
		if !ok {
			return nil, fmt.Errorf("a %s cannot be changed by this build", kind)
		}
		op := collect.Op{Verb: "get", Resource: r, Namespace: namespace, Object: name}
		cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
		defer cancel()
		path := []string{"apis", r.Group, r.Version, "namespaces", namespace, r.Name, name}
		if r.Group == "" {
			path = append([]string{"api"}, path[2:]...)
		}
		raw, err := s.REST().Get().AbsPath(path...).SetHeader("Accept", "application/json").Do(cctx).Raw()
		if err != nil {
			return nil, s.Failure(ctx, op, statusOf(raw, err))
		}
		obj := map[string]any{}
		if err := json.Unmarshal(raw, &obj); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		return obj, nil
	}
}

// statusOf takes the API server's own words out of a refused request for raw bytes, which client-go does not decode.
func statusOf(raw []byte, err error) error {
	var st metav1.Status
	if json.Unmarshal(raw, &st) == nil && st.Kind == "Status" && st.Code != 0 {
		return &apierrors.StatusError{ErrStatus: st}
	}
	return err
}

// onEvent is the session's progress function; p may be nil.
func onEvent(p *progress) func(collect.Event) {
	if p == nil {
		return nil
	}
	return p.event
}
