package micro

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

const question = "square.default.svc.cluster.local."

// answerAll starts a server that gives every question the same answer, packed beforehand, so that as little as can be of what is measured
// is the server's. It counts nothing and checks nothing.
func answerAll(b *testing.B, records int) string {
	b.Helper()
	m := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion(question, dns.TypeA))
	m.Compress = true
	for i := range records {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: question, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
			A:   net.IPv4(10, 244, byte(i>>8), byte(i)),
		})
	}
	wire, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed at the end
			}
			go answer(conn, wire)
		}
	}()
	return l.Addr().String()
}

// answer serves one connection until it ends (RFC 1035 section 4.2.2: a length of two octets before each message).
func answer(conn net.Conn, wire []byte) {
	defer func() { _ = conn.Close() }()
	in := make([]byte, 2+dns.MaxMsgSize)
	out := append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	for {
		if _, err := io.ReadFull(conn, in[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(in))
		if _, err := io.ReadFull(conn, in[2:2+n]); err != nil {
			return
		}
		copy(out[2:4], in[2:4]) // the id
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// BenchmarkAsk asks for the addresses of a headless Service over one TCP connection, as a diagnosis does through a port-forward.
func BenchmarkAsk(b *testing.B) {
	for _, n := range []int{3, 1000} {
		server := answerAll(b, n)
		b.Run(fmt.Sprintf("records=%d/impl=ours", n), func(b *testing.B) { askOurs(b, server, n) })
		b.Run(fmt.Sprintf("records=%d/impl=peer", n), func(b *testing.B) { askPeer(b, server, n) })
	}
}

func askOurs(b *testing.B, server string, records int) {
	c := dnsprobe.Client{}
	s, err := c.Open(b.Context(), server)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for b.Loop() {
		a, err := s.Ask(b.Context(), dnsprobe.Question{Name: question, Type: dnsprobe.TypeA})
		if err != nil {
			b.Fatal(err)
		}
		if len(a.Records) != records {
			b.Fatalf("%d records", len(a.Records))
		}
	}
}

func askPeer(b *testing.B, server string, records int) {
	c := dns.Client{Net: "tcp"}
	conn, err := c.DialContext(b.Context(), server)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for b.Loop() {
		q := new(dns.Msg).SetQuestion(question, dns.TypeA)
		a, _, err := c.ExchangeWithConnContext(b.Context(), q, conn)
		if err != nil {
			b.Fatal(err)
		}
		if len(a.Answer) != records {
			b.Fatalf("%d records", len(a.Answer))
		}
	}
}
