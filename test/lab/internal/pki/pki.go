// Package pki makes the lab's certificate authority, certificates and
// kubeconfigs: what kubeadm puts into /etc/kubernetes, for a cluster that
// lives for hours.
//
// Keys are ECDSA P-256 and written with mode 0600. Nothing is renewed: a new
// cluster has new keys.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is how long certificates hold; clockSkew how far back they begin.
const (
	validity  = 365 * 24 * time.Hour
	clockSkew = time.Hour
)

// Authority signs certificates and writes them into one directory.
type Authority struct {
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a self-signed authority and writes DIR/NAME.crt. Its own
// key is kept in memory only: nobody signs anything later.
func NewAuthority(dir, name string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl, err := template(pkix.Name{CommonName: "grpclb-lab-" + name})
	if err != nil {
		return nil, err
	}
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, name: name, cert: cert, key: key}
	return a, write(a.CertFile(), "CERTIFICATE", der)
}

// CertFile is the path of the authority's own certificate.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, a.name+".crt") }

// Subject is whom a certificate is for.
type Subject struct {
	// CommonName and Organizations are user and groups to the API server.
	CommonName    string
	Organizations []string
	// DNSNames and IPs are where a server is reached; nil for a client.
	DNSNames []string
	IPs      []string
}

// Issue writes DIR/NAME.crt and DIR/NAME.key.
func (a *Authority) Issue(name string, s Subject) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl, err := template(pkix.Name{CommonName: s.CommonName, Organization: s.Organizations})
	if err != nil {
		return err
	}
	tmpl.DNSNames = s.DNSNames
	for _, ip := range s.IPs {
		parsed := net.ParseIP(ip)
		if parsed == nil {
			return fmt.Errorf("certificate %s: %q is no IP address", name, ip)
		}
		tmpl.IPAddresses = append(tmpl.IPAddresses, parsed)
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(a.dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(filepath.Join(a.dir, name+".key"), key)
}

// SigningPair writes DIR/NAME.key and DIR/NAME.pub, for service account tokens.
func SigningPair(dir, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(dir, name+".key"), key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, name+".pub"), "PUBLIC KEY", der)
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(validity),
	}, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return write(path, "EC PRIVATE KEY", der)
}

func write(path, block string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600)
}
