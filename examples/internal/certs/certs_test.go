package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/examples/internal/certs"
)

func request(names ...string) certs.Request {
	now := time.Now()
	return certs.Request{Names: names, From: now.Add(-time.Hour), Until: now.Add(time.Hour)}
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheCertificateServesItsNamesAndNoOthers(t *testing.T) {
	bundle, err := certs.Issue(request("be-srv", "be-srv.default.svc.cluster.local", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(bundle.Cert, bundle.Key); err != nil {
		t.Errorf("certificate and key: %v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle.CA) {
		t.Fatal("the authority is not a certificate")
	}
	leaf := parse(t, bundle.Cert)
	for name, accepted := range map[string]bool{
		"be-srv": true, "be-srv.default.svc.cluster.local": true, "127.0.0.1": true,
		"be-srv-lb": false, "127.0.0.2": false, "x.be-srv": false,
	} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if (err == nil) != accepted {
			t.Errorf("verify for %s: %v, want accepted: %v", name, err, accepted)
		}
	}
	after := x509.VerifyOptions{Roots: roots, DNSName: "be-srv", CurrentTime: time.Now().Add(2 * time.Hour)}
	if _, err := leaf.Verify(after); err == nil {
		t.Error("the certificate does not expire")
	}
}

func TestAnotherAuthorityIsNotTrusted(t *testing.T) {
	ours, err := certs.Issue(request("be-srv"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := certs.Issue(request("be-srv"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parse(t, theirs.CA))
	if _, err := parse(t, ours.Cert).Verify(x509.VerifyOptions{Roots: roots, DNSName: "be-srv"}); err == nil {
		t.Error("two runs share an authority")
	}
}

func TestIssueRefuses(t *testing.T) {
	if _, err := certs.Issue(request()); err == nil {
		t.Error("a certificate without a name was issued")
	}
	r := request("a")
	r.Until = r.From
	if _, err := certs.Issue(r); err == nil {
		t.Error("a certificate that is never valid was issued")
	}
}

func TestServiceNames(t *testing.T) {
	want := []string{
		"be-srv", "be-srv.ns", "be-srv.ns.svc", "be-srv.ns.svc.example.org",
		"lb", "lb.ns", "lb.ns.svc", "lb.ns.svc.example.org",
	}
	if diff := cmp.Diff(want, certs.ServiceNames("ns", "example.org", "be-srv", "lb")); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
