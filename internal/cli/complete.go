package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const completionTimeout = 3 * time.Second

// completeServices completes svc/NAME and svc NAME from the cluster. Without a cluster it completes nothing: completion
// never shows an error.
func (a *app) completeServices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	none := cobra.ShellCompDirectiveNoFileComp
	kind, _, slash := strings.Cut(typed, "/")
	switch {
	case slash && isServiceWord(kind):
		return a.serviceNames(cmd.Context(), kind+"/"), none
	case slash:
		return nil, none
	case len(args) > 0 && isServiceWord(args[0]):
		return a.serviceNames(cmd.Context(), ""), none
	case len(args) == 0:
		return []string{"svc/", "svc"}, none | cobra.ShellCompDirectiveNoSpace
	}
	return a.serviceNames(cmd.Context(), "svc/"), none
}

func (a *app) serviceNames(ctx context.Context, prefix string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	cfg, err := a.config.ToRESTConfig()
	if err != nil {
		return nil
	}
	s, err := collect.NewSession(cfg, collect.SessionOptions{})
	if err != nil {
		return nil
	}
	defer s.Close()
	var list corev1.ServiceList
	if err := s.REST().Get().AbsPath("api", "v1", "namespaces", a.namespace(), "services").Do(ctx).Into(&list); err != nil {
		return nil
	}
	out := make([]string, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, prefix+list.Items[i].Name)
	}
	return out
}
