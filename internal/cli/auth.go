package cli

import (
	// The auth providers that a kubeconfig may name: oidc works, the cloud vendors' say where they moved. kubectl links them, and a plugin
	// that did not would refuse kubeconfigs that kubectl takes.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)
