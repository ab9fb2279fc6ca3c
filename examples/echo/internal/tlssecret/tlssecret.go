// Package tlssecret writes the Secret and the ConfigMap that the TLS variant of the echo example mounts, around a
// certificate made at that moment. Nothing of it is ever stored in the repository.
package tlssecret

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/certs"
)

// The objects that the TLS example's manifests mount.
const (
	// SecretName holds tls.crt and tls.key, for the backends alone.
	SecretName = "be-tls"
	// ConfigMapName holds ca.crt, for whoever calls them.
	ConfigMapName = "be-ca"
)

// Run is the program: it prints a Secret and a ConfigMap for `kubectl apply -f -`.
func Run(_ context.Context, env app.Env) error {
	flags := flag.NewFlagSet("gen", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	namespace := flags.String("namespace", "default", "the namespace that the example is deployed in; it is part of the certified names")
	domain := flags.String("domain", "cluster.local", "the cluster's DNS domain")
	days := flags.Int("days", 30, "how long the certificate is good, in days")
	if err := flags.Parse(env.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return app.Usagef("read the flags: %w", err)
	}
	if *days < 1 {
		return app.Usagef("-days=%d: a certificate must be good for at least a day", *days)
	}
	now := time.Now()
	bundle, err := certs.Issue(certs.Request{
		Names: certs.ServiceNames(*namespace, *domain, "be-srv", "be-srv-lb"),
		// An hour back, for nodes whose clocks run late.
		From:  now.Add(-time.Hour),
		Until: now.AddDate(0, 0, *days),
	})
	if err != nil {
		return err
	}
	text, err := Manifest(*namespace, bundle)
	if err != nil {
		return err
	}
	if _, err := env.Stdout.Write(text); err != nil {
		return fmt.Errorf("print the manifest: %w", err)
	}
	return nil
}

// Manifest writes the bundle as YAML documents: the Secret and the ConfigMap.
func Manifest(namespace string, b certs.Bundle) ([]byte, error) {
	objects := []any{
		corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: namespace},
			Type:       corev1.SecretTypeTLS,
			Data:       map[string][]byte{corev1.TLSCertKey: b.Cert, corev1.TLSPrivateKeyKey: b.Key},
		},
		corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: ConfigMapName, Namespace: namespace},
			Data:       map[string]string{"ca.crt": string(b.CA)},
		},
	}
	var documents [][]byte
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("write the manifest: %w", err)
		}
		documents = append(documents, text)
	}
	return bytes.Join(documents, []byte("---\n")), nil
}
