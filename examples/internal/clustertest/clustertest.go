// Package clustertest puts what a client sees of a headless Service on the loopback interface, for tests: several gRPC
// servers on addresses of their own that share one port, and a DNS server that knows them by one name. Everything in it
// is real but the cluster.
//
// It needs the addresses 127.0.0.2 and up, which Linux has by default; elsewhere the test is skipped.
package clustertest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
)

// Name is what the DNS server calls the Service.
const Name = "pods.test."

// Service is a running headless Service.
type Service struct {
	// Port is the one that every pod listens on.
	Port int
	// Addresses are the pods', in the order of their names pod-0, pod-1, …
	Addresses []string
	// DNS is the host:port of the DNS server, over UDP.
	DNS string
}

// Options of a Service; the zero value is plaintext.
type Options struct {
	TLS *tls.Config
}

// Start runs pods servers until the test ends; register is told each one's name.
func Start(t testing.TB, pods int, register func(r grpc.ServiceRegistrar, pod string), o Options) Service {
	t.Helper()
	s := Service{}
	listeners := listenTogether(t, pods)
	_, port, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, l := range listeners {
		host, _, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s.Addresses = append(s.Addresses, host)
		server := serve.GRPC{
			Listener: l,
			Register: func(r grpc.ServiceRegistrar) { register(r, fmt.Sprintf("pod-%d", i)) },
			TLS:      o.TLS,
		}
		running.Go(func() {
			if err := server.Run(ctx); err != nil {
				t.Errorf("pod-%d: %v", i, err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	s.DNS = startDNS(t, s.Addresses, s.Port)
	return s
}

// Target is the Service's name as grpc-go's DNS resolver wants it, asked of the Service's own DNS server.
func (s Service) Target() string { return s.TargetAt(s.Port) }

// TargetAt is Target with another port.
func (s Service) TargetAt(port int) string {
	return fmt.Sprintf("dns://%s/%s:%d", s.DNS, Name, port)
}

// Resolver asks the Service's DNS server and no other.
func (s Service) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.DNS)
	}}
}

// listenTogether finds a port that is free on the first n loopback addresses at once.
func listenTogether(t testing.TB, n int) []net.Listener {
	t.Helper()
	const attempts = 20
	for range attempts {
		listeners, err := tryListen(n)
		switch {
		case err == nil:
			return listeners
		case errors.Is(err, syscall.EADDRINUSE):
		case runtime.GOOS != "linux":
			t.Skipf("the loopback interface of this system has one address only: %v", err)
		default:
			t.Fatal(err)
		}
	}
	t.Fatalf("no port is free on %d loopback addresses after %d attempts", n, attempts)
	return nil
}

func tryListen(n int) ([]net.Listener, error) {
	var listeners []net.Listener
	port := "0"
	for i := range n {
		l, err := net.Listen("tcp", net.JoinHostPort(fmt.Sprintf("127.0.0.%d", i+1), port))
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
		if _, port, err = net.SplitHostPort(l.Addr().String()); err != nil {
			return nil, err
		}
	}
	return listeners, nil
}

func startDNS(t testing.TB, addresses []string, port int) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: zone{addresses, uint16(port)}}
	stopped := make(chan error, 1)
	go func() { stopped <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-stopped
	})
	return conn.LocalAddr().String()
}

// zone answers as a cluster's DNS does for a headless Service: one A record for each pod, one SRV record for each with
// the pods' own port, NXDOMAIN for every other name.
type zone struct {
	addresses []string
	port      uint16
}

// ServeDNS implements dns.Handler.
func (z zone) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	question := query.Question[0]
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 30}
	switch {
	case dns.CanonicalName(question.Name) != Name:
		reply.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypeA:
		for _, a := range z.addresses {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.ParseIP(a)})
		}
	case question.Qtype == dns.TypeSRV:
		for i := range z.addresses {
			reply.Answer = append(reply.Answer, &dns.SRV{Hdr: header, Port: z.port, Target: fmt.Sprintf("%d.%s", i, Name)})
		}
	}
	// A client that left before its answer is its own affair.
	_ = w.WriteMsg(reply)
}
