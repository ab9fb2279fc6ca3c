package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/certs"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
)

// zone is a DNS that knows one name.
type zone struct {
	addresses []string
	srv       []*net.SRV
	err       error
}

func (z zone) LookupHost(context.Context, string) ([]string, error) { return z.addresses, z.err }

func (z zone) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	if z.srv == nil {
		return "", nil, &net.DNSError{IsNotFound: true}
	}
	return "", z.srv, nil
}

func TestExplain(t *testing.T) {
	refused := dialError{"10.244.1.7:80", fmt.Errorf("dial: %w", os.NewSyscallError("connect", syscall.ECONNREFUSED))}
	service := target{host: "grpc-server-service", port: 80}
	unavailable := func(text string) error { return status.Error(codes.Unavailable, text) }
	three := []string{"10.244.1.7", "10.244.1.8", "10.244.2.9"}
	cases := map[string]struct {
		dns  zone
		f    failure
		says string
		not  string
	}{
		"headless, by its SRV records": {
			zone{addresses: three, srv: []*net.SRV{{Port: 8001}, {Port: 8001}}},
			failure{target: service, dial: refused}, "SERVER_HOST=grpc-server-service:8001", "no ready pod",
		},
		"headless with a single pod": {
			zone{addresses: three[:1], srv: []*net.SRV{{Port: 8001}}},
			failure{target: service, dial: refused}, "SERVER_HOST=grpc-server-service:8001", "no ready pod",
		},
		"several addresses, no SRV": {
			zone{addresses: three}, failure{target: service, dial: refused}, "3 addresses", "SERVER_HOST",
		},
		"a ClusterIP without pods": {
			zone{addresses: []string{"10.96.0.7"}, srv: []*net.SRV{{Port: 80}}},
			failure{target: service, dial: refused}, "no ready pod", "headless",
		},
		"no such name": {
			zone{err: &net.DNSError{IsNotFound: true}}, failure{target: service}, "does not exist", "answer",
		},
		"DNS is down": {
			zone{err: &net.DNSError{IsTimeout: true, Err: "i/o timeout"}}, failure{target: service}, "DNS gave no answer", "exist",
		},
		"an address that refuses": {
			zone{err: errors.New("must not be asked")},
			failure{target: target{host: "10.244.1.7", port: 80}, dial: refused}, "Nothing listens at 10.244.1.7:80", "headless",
		},
		"an address that drops": {
			zone{addresses: three},
			failure{target: service, dial: dialError{"10.244.1.7:80", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}}},
			"NetworkPolicy", "refused",
		},
		"no route": {
			zone{addresses: three}, failure{target: service, dial: dialError{"10.244.1.7:80", syscall.EHOSTUNREACH}}, "no route to host", "NetworkPolicy",
		},
		"a certificate for another name": {
			zone{addresses: three},
			failure{target: service, tls: true, call: unavailable(`"transport: authentication handshake failed: tls: failed to verify certificate: x509: …`)},
			"must name that host", "plaintext",
		},
		"TLS to a plaintext server": {
			zone{addresses: three},
			failure{target: service, tls: true, call: unavailable("tls: first record does not look like a TLS handshake")}, "without --tls", "certificate",
		},
		"plaintext to a TLS server": {
			zone{addresses: three}, failure{target: service, call: unavailable("error reading server preface: EOF")}, "--tls", "certificate",
		},
		"another gRPC server": {
			zone{addresses: three}, failure{target: service, call: status.Error(codes.Unimplemented, "unknown service load.LoadService")}, "not the load example", "--tls",
		},
		"anything else": {
			zone{addresses: three}, failure{target: service, call: status.Error(codes.ResourceExhausted, "quota")}, "reason above", "--tls",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.f.call == nil {
				c.f.call = unavailable("connection error")
			}
			got := explain(t.Context(), c.dns, c.f)
			if !strings.Contains(got, c.says) || strings.Contains(got, c.not) {
				t.Errorf("explanation %q, want it to say %q and not %q", got, c.says, c.not)
			}
		})
	}
}

// TestExplainRealSessions makes the mistakes that explainSession tells by grpc-go's words, so that a release which words
// them differently is noticed.
func TestExplainRealSessions(t *testing.T) {
	now := time.Now()
	bundle, err := certs.Issue(certs.Request{
		Names: []string{strings.TrimSuffix(clustertest.Name, ".")}, From: now.Add(-time.Minute), Until: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(bundle.Cert, bundle.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, bundle.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := clustertest.Start(t, 1, answer, clustertest.Options{})
	secure := clustertest.Start(t, 1, answer, clustertest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{pair}}})
	other := clustertest.Start(t, 1, func(grpc.ServiceRegistrar, string) {}, clustertest.Options{})
	name := strings.TrimSuffix(clustertest.Name, ".")
	cases := map[string]struct {
		service clustertest.Service
		host    string
		args    []string
		// says is empty where the run must succeed.
		says string
	}{
		"TLS as it should be":        {secure, name, []string{"--tls-ca", ca}, ""},
		"TLS to plaintext":           {plain, name, []string{"--tls-ca", ca}, "without --tls"},
		"plaintext to TLS":           {secure, name, nil, "may want --tls"},
		"an authority not trusted":   {secure, name, []string{"--tls"}, "signed by an"},
		"a name that is not in it":   {secure, "127.0.0.1", []string{"--tls-ca", ca}, "must name that host"},
		"a server of something else": {other, name, nil, "no load.LoadService"},
		"a name that does not exist": {plain, "nobody.test", nil, "does not exist"},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			address := fmt.Sprintf("dns://%s/%s:%d", c.service.DNS, c.host, c.service.Port)
			o := runAt(t.Context(), t, c.service, address, append(c.args, "--connect-timeout=300ms", "--count=1000")...)
			switch {
			case c.says == "" && o.err != nil:
				t.Errorf("run: %v", o.err)
			case c.says != "" && (o.err == nil || !strings.Contains(o.err.Error(), c.says)):
				t.Errorf("run: %v, want an explanation that says %q", o.err, c.says)
			}
		})
	}
}
