package dns

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// FuzzAnswers has a server answer with any message: what it leads to is an error
// that says so, a denial, or endpoints that can be dialled.
func FuzzAnswers(f *testing.F) {
	zone := dnstest.NewZone(f, domain)
	zone.Headless(square, "grpc", 6565, ips("10.0.0.1", "10.0.0.2", "fd00::1")...).ClusterIP(twinOf, "grpc", 80, vip)
	zone.Add("_grpc._tcp."+square+" 30 IN SRV 1 2 7 .", "_grpc._tcp."+square+" 30 IN SRV 0 2 7 nobody."+square)
	var net dnstest.Memory
	net.Serve(server1, zone)
	for _, q := range []struct {
		name string
		kind uint16
	}{{square, mdns.TypeA}, {square, mdns.TypeAAAA}, {"_grpc._tcp." + square, mdns.TypeSRV}, {"_grpc._tcp." + twinOf, mdns.TypeSRV}, {"nobody." + domain, mdns.TypeA}} {
		wire := exchange(f, &net, q.name, q.kind)
		f.Add(q.kind == mdns.TypeSRV, wire)
	}
	f.Fuzz(func(t *testing.T, srv bool, wire []byte) {
		var net dnstest.Memory
		net.Attack(server1, func(p *dnstest.Peer) {
			own := append([]byte(nil), wire...)
			if len(own) >= 2 {
				binary.BigEndian.PutUint16(own, p.Question.Id)
			}
			p.SendWire(own)
		})
		a := &asker{
			client:  dnsprobe.Client{Dial: net.DialContext, Timeout: 10 * time.Second, EDNSSize: ednsSize, Transport: dnsprobe.TCP},
			servers: []string{server1}, attempts: 1, hungry: true,
		}
		w := want{port: 1, family: dnsprobe.TypeA}
		if srv {
			w.portName = "grpc"
		}
		found, err := a.find(context.Background(), square, w)
		if err != nil {
			if outcomeOf(err) == OutcomeOK || err.Error() == "" {
				t.Errorf("error %v", err)
			}
			return
		}
		if (found.outcome == OutcomeOK) != (len(found.endpoints) > 0) {
			t.Errorf("outcome %s with %d endpoints", found.outcome, len(found.endpoints))
		}
		for _, e := range found.endpoints {
			for _, addr := range e.Addrs {
				if !usable(addr.Addr(), addr.Port()) {
					t.Errorf("endpoint %+v", e)
				}
			}
			if len(e.Addrs) == 0 || len(e.Addrs) > 2 {
				t.Errorf("endpoint with %d addresses", len(e.Addrs))
			}
		}
	})
}

// exchange asks a server of the network once and returns its answer's octets.
func exchange(t testing.TB, net *dnstest.Memory, name string, kind uint16) []byte {
	t.Helper()
	conn, err := net.DialContext(context.Background(), "udp", server1)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q, err := new(mdns.Msg).SetQuestion(name, kind).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(q); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, mdns.MaxMsgSize)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}
