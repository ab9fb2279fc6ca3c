//go:build browser

package browser

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// names is a DNS server for one headless Service.
type names struct {
	service string
	// conf is a resolv.conf that names this server. It has no place for a port, so
	// the server has to have DNS's own.
	conf string

	mu    sync.Mutex
	addrs []netip.Addr
}

// nameServer is an address of loopback's network that nobody else serves DNS on.
const nameServer = "127.0.77.53"

func serveNames(t *testing.T, service string, addrs ...netip.Addr) *names {
	t.Helper()
	n := &names{service: service, conf: filepath.Join(t.TempDir(), "resolv.conf"), addrs: addrs}
	for _, network := range []string{"udp", "tcp"} {
		up, failed := make(chan struct{}), make(chan error, 1)
		s := &dns.Server{Addr: net.JoinHostPort(nameServer, "53"), Net: network, Handler: n, NotifyStartedFunc: func() { close(up) }}
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-up:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-failed
		})
	}
	if err := os.WriteFile(n.conf, fmt.Appendf(nil, "nameserver %s\noptions ndots:1\n", nameServer), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// set changes the addresses.
func (n *names) set(addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = addrs
}

// ServeDNS is part of dns.Handler.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	n.mu.Lock()
	addrs := n.addrs
	n.mu.Unlock()
	switch {
	case len(q.Question) != 1 || !strings.EqualFold(q.Question[0].Name, n.service+"."):
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		for _, a := range addrs {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: a.AsSlice()})
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}
