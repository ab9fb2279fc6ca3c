package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func authority(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	a, err := NewAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s is not PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssuedCertificateVerifiesAndNamesItsSubject(t *testing.T) {
	a, dir := authority(t)
	err := a.Issue("server", Subject{
		CommonName: "kube-apiserver", Organizations: []string{"system:masters"}, DNSNames: []string{"kubernetes"}, IPs: []string{"10.0.0.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(readCert(t, a.CertFile()))
	cert := readCert(t, filepath.Join(dir, "server.crt"))
	for _, name := range []string{"kubernetes", "10.0.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("as a server called %s: %v", name, err)
		}
	}
	client := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := cert.Verify(client); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.0.0.2"}); err == nil {
		t.Error("it verifies for an address that it was not issued for")
	}
	if got := cert.Subject.CommonName + cert.Subject.Organization[0]; got != "kube-apiserversystem:masters" {
		t.Errorf("subject %q", got)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")); err != nil {
		t.Error(err)
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	a, dir := authority(t)
	if err := a.Issue("c", Subject{CommonName: "c"}); err != nil {
		t.Fatal(err)
	}
	if err := SigningPair(dir, "sa"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"c.key", "sa.key"} {
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
}

func TestIssueRefusesWhatIsNoAddress(t *testing.T) {
	a, _ := authority(t)
	if err := a.Issue("x", Subject{CommonName: "x", IPs: []string{"localhost"}}); err == nil || !strings.Contains(err.Error(), `"localhost"`) {
		t.Errorf("error %v", err)
	}
}

func TestKubeconfigHoldsAllItNeeds(t *testing.T) {
	a, dir := authority(t)
	if err := a.Issue("admin", Subject{CommonName: "admin"}); err != nil {
		t.Fatal(err)
	}
	b, err := a.Kubeconfig("lab", "https://127.0.0.1:6443", "admin")
	if err != nil {
		t.Fatal(err)
	}
	var k kubeconfig
	if err := yaml.UnmarshalStrict(b, &k); err != nil {
		t.Fatal(err)
	}
	if k.CurrentContext != "lab" || k.Contexts[0].Context.Cluster != k.Clusters[0].Name || k.Contexts[0].Context.User != k.Users[0].Name {
		t.Errorf("the parts do not refer to each other:\n%s", b)
	}
	if k.Clusters[0].Cluster.Server != "https://127.0.0.1:6443" {
		t.Errorf("server %s", k.Clusters[0].Cluster.Server)
	}
	if _, err := tls.X509KeyPair(k.Users[0].User.ClientCertificateData, k.Users[0].User.ClientKeyData); err != nil {
		t.Error(err)
	}
	if strings.Contains(string(b), dir) {
		t.Error("it refers to files, so it cannot be copied elsewhere")
	}
}
