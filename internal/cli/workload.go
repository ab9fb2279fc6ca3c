package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// workloadPaths are the API paths of what `fix` changes.
var workloadPaths = map[string]string{
	"Deployment":  "/apis/apps/v1/namespaces/%s/deployments/%s",
	"StatefulSet": "/apis/apps/v1/namespaces/%s/statefulsets/%s",
	"DaemonSet":   "/apis/apps/v1/namespaces/%s/daemonsets/%s",
	"CronJob":     "/apis/batch/v1/namespaces/%s/cronjobs/%s",
	"ConfigMap":   "/api/v1/namespaces/%s/configmaps/%s",
}

// workloadReader reads one object as it is now, in its JSON form, so that a fix can be written as the whole object: a
// partial manifest would make `kubectl apply` delete what it leaves out.
func (a *app) workloadReader(ctx context.Context) func(kind, namespace, name string) (map[string]any, error) {
	return func(kind, namespace, name string) (map[string]any, error) {
		format, ok := workloadPaths[kind]
		if !ok {
			return nil, fmt.Errorf("a %s cannot be changed by this build", kind)
		}
		s, err := a.session(nil)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		ctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
		defer cancel()
		raw, err := s.REST().Get().AbsPath(fmt.Sprintf(format, namespace, name)).SetHeader("Accept", "application/json").Do(ctx).Raw()
		if err != nil {
			return nil, fmt.Errorf("get %s %s: %w", kind, name, err)
		}
		obj := map[string]any{}
		if err := json.Unmarshal(raw, &obj); err != nil {
			return nil, fmt.Errorf("get %s %s: %w", kind, name, err)
		}
		return obj, nil
	}
}

// onEvent is the session's progress function; p may be nil.
func onEvent(p *progress) func(collect.Event) {
	if p == nil {
		return nil
	}
	return p.event
}
