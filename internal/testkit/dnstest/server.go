package dnstest

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// Query is a question that a server was asked.
type Query struct {
	// Network is "udp" or "tcp".
	Network string
	// ID is the message id.
	ID uint16
	// Name and Type are as they came.
	Name string
	Type uint16
	// EDNSSize is the UDP payload size advertised, 0 without OPT.
	EDNSSize uint16
}

// Server is a DNS server on loopback.
type Server struct {
	addr string

	mu      sync.Mutex
	queries []Query
}

// Addr returns host and port, the same for UDP and TCP.
func (s *Server) Addr() string { return s.addr }

// Queries returns what was asked so far, in the order it was read.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

func (s *Server) note(network string, m *dns.Msg) {
	q := Query{Network: network, ID: m.Id, Name: m.Question[0].Name, Type: m.Question[0].Qtype}
	if opt := m.IsEdns0(); opt != nil {
		q.EDNSSize = opt.UDPSize()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, q)
}

// Serve runs an honest server for the zones until the test ends. Names in no zone are REFUSED. A client's EDNS(0) payload size
// is repeated, and UDP answers are cut to it, as CoreDNS does; a TCP connection ends after 128 questions, which CoreDNS does not.
func Serve(t testing.TB, zones ...*Zone) *Server {
	t.Helper()
	listener, packets := listen(t)
	s := &Server{addr: packets.LocalAddr().String()}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		if len(r.Question) != 1 {
			return
		}
		network := w.RemoteAddr().Network()
		s.note(network, r)
		w.WriteMsg(honest(r, network, zones)) // a client that has gone needs no answer
	})
	for _, server := range []*dns.Server{
		{Listener: listener, Handler: handler},
		{PacketConn: packets, Handler: handler},
	} {
		started, stopped := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { stopped <- server.ActivateAndServe() }()
		select {
		case <-started:
		case err := <-stopped:
			t.Fatalf("start DNS server: %v", err)
		}
		t.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-stopped); err != nil {
				t.Errorf("stop DNS server: %v", err)
			}
		})
	}
	return s
}

func honest(r *dns.Msg, network string, zones []*Zone) *dns.Msg {
	reply := new(dns.Msg).SetReply(r)
	zone := closest(zones, r.Question[0].Name)
	if zone == nil {
		reply.Rcode = dns.RcodeRefused
	} else {
		zone.answer(reply)
	}
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		reply.SetEdns0(opt.UDPSize(), false)
	}
	if network == "tcp" {
		size = dns.MaxMsgSize
	}
	reply.Truncate(size)
	reply.Compress = true
	return reply
}

// closest returns the zone with the longest origin that name is in, or nil.
func closest(zones []*Zone, name string) *Zone {
	var best *Zone
	for _, z := range zones {
		if dns.IsSubDomain(z.origin, name) && (best == nil || len(z.origin) > len(best.origin)) {
			best = z
		}
	}
	return best
}

// RefusedAddr returns an address on loopback where nobody listens, on UDP or TCP.
func RefusedAddr(t testing.TB) string {
	t.Helper()
	listener, packets := listen(t)
	addr := packets.LocalAddr().String()
	if err := errors.Join(listener.Close(), packets.Close()); err != nil {
		t.Fatalf("free a port: %v", err)
	}
	return addr
}

// listen opens the same free port of loopback for TCP and UDP.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 50 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("listen on loopback: %v", err)
		}
		packets, err := net.ListenPacket("udp", listener.Addr().String())
		if err == nil {
			return listener, packets
		}
		listener.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("listen on loopback: %v", err)
		}
	}
	t.Fatal("no port of loopback is free for both TCP and UDP")
	return nil, nil
}
