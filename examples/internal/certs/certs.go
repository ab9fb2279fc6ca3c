// Package certs makes the certificate of a TLS example: an authority that lives for one call and signs one server
// certificate for the names under which clients reach the servers. The authority's key is never written anywhere, so
// a leaked Secret gives away one certificate and not the power to make more.
//
// It is meant for an example; a real cluster has cert-manager or a mesh for this.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Request says what to certify.
type Request struct {
	// Names are the DNS names or IP addresses of the server; at least one.
	Names []string
	// From and Until bound the validity.
	From, Until time.Time
}

// Bundle holds PEM text: the authority's certificate, and the server's certificate with its key.
type Bundle struct {
	CA, Cert, Key []byte
}

// ServiceNames lists the names of Services in a namespace as clients inside and outside that namespace write them, from
// the bare name to the full one under the cluster's domain.
func ServiceNames(namespace, domain string, services ...string) []string {
	var names []string
	for _, s := range services {
		names = append(names, s, s+"."+namespace, s+"."+namespace+".svc", s+"."+namespace+".svc."+domain)
	}
	return names
}

// Issue makes a new authority and has it sign one server certificate.
func Issue(r Request) (Bundle, error) {
	if len(r.Names) == 0 {
		return Bundle{}, errors.New("issue a certificate: no name to certify")
	}
	if !r.Until.After(r.From) {
		return Bundle{}, fmt.Errorf("issue a certificate: it would end (%s) before it begins (%s)",
			r.Until.Format(time.RFC3339), r.From.Format(time.RFC3339))
	}
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "grpclb example CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	caKey, caDER, err := sign(r, ca, nil, nil)
	if err != nil {
		return Bundle{}, fmt.Errorf("issue the authority: %w", err)
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: r.Names[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, name)
		}
	}
	key, der, err := sign(r, server, ca, caKey)
	if err != nil {
		return Bundle{}, fmt.Errorf("issue the server's certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Bundle{}, fmt.Errorf("encode the server's key: %w", err)
	}
	return Bundle{
		CA:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// sign makes a key for the template and signs it with the parent's key, or with its own if there is no parent.
func sign(r Request, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// RFC 5280, 4.1.2.2: positive and at most 20 octets.
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = r.From, r.Until
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	return key, der, err
}
