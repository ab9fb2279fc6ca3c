package tlsfiles_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/examples/internal/certs"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tlsfiles"
)

// write puts a fresh bundle into files and returns their paths.
func write(t *testing.T) (ca, cert, key string) {
	t.Helper()
	now := time.Now()
	bundle, err := certs.Issue(certs.Request{Names: []string{"127.0.0.1"}, From: now.Add(-time.Minute), Until: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"ca.crt": bundle.CA, "tls.crt": bundle.Cert, "tls.key": bundle.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
}

func TestServerAndClientAgree(t *testing.T) {
	ca, cert, key := write(t)
	server, err := tlsfiles.Server(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := tlsfiles.Client(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, server, client); err != nil {
		t.Errorf("handshake: %v", err)
	}
	otherCA, _, _ := write(t)
	if client, err = tlsfiles.Client(otherCA); err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, server, client); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
}

func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		// The client's view of the handshake is what the test is about.
		_ = conn.(*tls.Conn).Handshake()
		_ = conn.Close()
	}()
	defer func() {
		_ = listener.Close()
		<-done
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", listener.Addr().String(), client)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestNoFilesMeanPlaintextForAServer(t *testing.T) {
	if config, err := tlsfiles.Server("", ""); config != nil || err != nil {
		t.Errorf("Server: %v, %v; want nothing", config, err)
	}
}

func TestNoFileMeansTheSystemsAuthoritiesForAClient(t *testing.T) {
	config, err := tlsfiles.Client("")
	if err != nil || config.RootCAs != nil || config.InsecureSkipVerify {
		t.Errorf("Client: %+v, %v", config, err)
	}
}

func TestBadFiles(t *testing.T) {
	_, cert, key := write(t)
	missing := filepath.Join(t.TempDir(), "none")
	if _, err := tlsfiles.Server(cert, ""); err == nil {
		t.Error("a certificate without a key was accepted")
	}
	if _, err := tlsfiles.Server("", key); err == nil {
		t.Error("a key without a certificate was accepted")
	}
	if _, err := tlsfiles.Server(missing, key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing certificate: %v", err)
	}
	if _, err := tlsfiles.Client(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing authority: %v", err)
	}
	if _, err := tlsfiles.Client(key); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("a key in place of an authority: %v, want an error that names the file", err)
	}
}
