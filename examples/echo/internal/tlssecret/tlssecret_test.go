package tlssecret

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

func generate(t *testing.T, args ...string) (corev1.Secret, corev1.ConfigMap) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if err := Run(t.Context(), app.Env{Args: args, Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(stdout.Bytes(), []byte("\n---\n"))
	if len(documents) != 2 {
		t.Fatalf("%d documents, want 2", len(documents))
	}
	var secret corev1.Secret
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict(documents[0], &secret); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(documents[1], &config); err != nil {
		t.Fatal(err)
	}
	return secret, config
}

func TestTheSecretServesBothServicesOfItsNamespace(t *testing.T) {
	secret, config := generate(t, "-namespace", "ex-echo", "-domain", "example.org")
	if secret.Name != SecretName || secret.Namespace != "ex-echo" || secret.Type != corev1.SecretTypeTLS || secret.Kind != "Secret" {
		t.Errorf("secret %s/%s of type %s", secret.Namespace, secret.Name, secret.Type)
	}
	if config.Name != ConfigMapName || config.Namespace != "ex-echo" || config.Data["ca.crt"] == "" {
		t.Errorf("config map %s/%s with %d entries", config.Namespace, config.Name, len(config.Data))
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"be-srv", "be-srv-lb", "be-srv-lb.ex-echo.svc.example.org", "be-srv.ex-echo"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Errorf("the certificate does not serve %s: %v", name, err)
		}
	}
	if err := pair.Leaf.VerifyHostname("be-srv.default"); err == nil {
		t.Error("the certificate serves another namespace")
	}
	for key := range config.Data {
		if key != "ca.crt" {
			t.Errorf("the config map has an entry %s", key)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-days=0"}, {"-days=x"}, {"-unknown"}} {
		var usage *app.UsageError
		if err := Run(t.Context(), app.Env{Args: args, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}); !errors.As(err, &usage) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
	var stdout, stderr bytes.Buffer
	if err := Run(t.Context(), app.Env{Args: []string{"-h"}, Stdout: &stdout, Stderr: &stderr}); err != nil || stdout.Len() != 0 || stderr.Len() == 0 {
		t.Errorf("-h: %v, %d bytes of manifest, %d bytes of help", err, stdout.Len(), stderr.Len())
	}
}
