package dnstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Honest answers as Peer.Reply does.
func Honest() Behaviour { return func(p *Peer) { p.Send(p.Reply()) } }

// Silence never answers.
func Silence() Behaviour { return func(*Peer) {} }

// Change answers honestly but for what change does to the message.
func Change(change func(m *dns.Msg)) Behaviour {
	return func(p *Peer) {
		m := p.Reply()
		change(m)
		p.Send(m)
	}
}

// WrongID answers under another id.
func WrongID() Behaviour { return Change(func(m *dns.Msg) { m.Id++ }) }

// WrongQuestion answers as if question had been asked.
func WrongQuestion(question dns.Question) Behaviour {
	return Change(func(m *dns.Msg) { m.Question = []dns.Question{question} })
}

// NotAResponse sends the question back with an answer in it but without the response flag.
func NotAResponse() Behaviour { return Change(func(m *dns.Msg) { m.Response = false }) }

// ChangeCase gives the name of the question back in the other case.
func ChangeCase() Behaviour {
	return Change(func(m *dns.Msg) {
		m.Question[0].Name = strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
				return r ^ 0x20
			}
			return r
		}, m.Question[0].Name)
	})
}

// Rcode answers with a response code and no records, with an SOA in the authority section or without.
func Rcode(rcode int, soa bool) Behaviour {
	return Change(func(m *dns.Msg) {
		m.Rcode, m.Answer = rcode, nil
		if soa {
			m.Ns = []dns.RR{&dns.SOA{
				Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
				Ns:  "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 7,
			}}
		}
	})
}

// RefuseEDNS answers a question with an OPT record by rcode without one, as servers from before EDNS(0) do, and any other honestly.
func RefuseEDNS(rcode int) Behaviour {
	return func(p *Peer) {
		m := p.Reply()
		if p.Question.IsEdns0() != nil {
			m.Rcode, m.Answer, m.Extra = rcode, nil, nil
		}
		p.Send(m)
	}
}

// Truncated sets TC on the networks named and answers honestly on others. The records stay in.
func Truncated(networks ...string) Behaviour {
	return func(p *Peer) {
		m := p.Reply()
		m.Truncated = slices.Contains(networks, p.Network)
		p.Send(m)
	}
}

// CNAMELoop answers with a ring of n CNAMEs that begins and ends at the name asked.
func CNAMELoop(n int) Behaviour {
	return Change(func(m *dns.Msg) {
		owner := m.Question[0].Name
		name := func(i int) string {
			if i%n == 0 {
				return owner
			}
			return fmt.Sprintf("c%d.%s", i, owner)
		}
		m.Answer = nil
		for i := range n {
			h := dns.RR_Header{Name: name(i), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: TTL}
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: h, Target: name(i + 1)})
		}
	})
}

// Huge answers with n A records, whatever the client said it can take; over UDP as far as a datagram holds them.
func Huge(n int) Behaviour {
	return func(p *Peer) {
		m := p.Reply()
		m.Compress, m.Answer = true, nil
		h := dns.RR_Header{Name: p.Question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: TTL}
		for i := range n {
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(10, 0, byte(i>>8), byte(i))})
		}
		if p.Network == "udp" {
			const most = 65535 - 8 - 20 // IPv4 and UDP headers
			m.Truncate(most)
			m.Compress = true
		}
		p.Send(m)
	}
}

// Garbage answers with n random octets, the same in every run.
func Garbage(n int) Behaviour {
	return func(p *Peer) {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		wire := make([]byte, n)
		for i := range wire {
			wire[i] = byte(random.Uint32())
		}
		p.SendWire(wire)
	}
}

// ChangeWire answers honestly but for what change does to the packed message.
func ChangeWire(change func(wire []byte) []byte) Behaviour {
	return func(p *Peer) {
		if wire, err := p.Reply().Pack(); err == nil {
			p.SendWire(change(wire))
		}
	}
}

// HalfMessage sends an honest answer without its last quarter, properly framed, so that it ends within a record.
func HalfMessage() Behaviour {
	return ChangeWire(func(wire []byte) []byte { return wire[:len(wire)-len(wire)/4] })
}

// overTCP leads clients to TCP by setting TC over UDP, and does its deed there.
func overTCP(deed Behaviour) Behaviour {
	return func(p *Peer) {
		if p.Network == "tcp" {
			deed(p)
			return
		}
		m := p.Reply()
		m.Truncated = true
		p.Send(m)
	}
}

// HangupWithin sends TCP's length prefix and the first keep octets of the answer, then ends the connection. keep of -1 cuts the
// prefix itself in two.
func HangupWithin(keep int) Behaviour {
	return overTCP(func(p *Peer) {
		wire, err := p.Reply().Pack()
		if err == nil {
			framed := append([]byte{byte(len(wire) >> 8), byte(len(wire))}, wire...)
			p.SendRaw(framed[:2+keep])
		}
		p.Hangup()
	})
}

// Hangup ends the TCP connection without a word.
func Hangup() Behaviour { return overTCP((*Peer).Hangup) }

// SlowDrip sends the answer over TCP one octet at a time.
func SlowDrip(every time.Duration) Behaviour {
	return overTCP(func(p *Peer) {
		wire, err := p.Reply().Pack()
		if err != nil {
			return
		}
		for _, octet := range append([]byte{byte(len(wire) >> 8), byte(len(wire))}, wire...) {
			if !p.SendRaw([]byte{octet}) || !p.Pause(every) {
				return
			}
		}
	})
}

// Reversed holds answers back until n questions have come, and then sends them last question first.
func Reversed(n int) Behaviour {
	var mu sync.Mutex
	var held []*Peer
	return func(p *Peer) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, p)
		if len(held) < n {
			return
		}
		for _, p := range slices.Backward(held) {
			p.Send(p.Reply())
		}
		held = nil
	}
}

// Forge sends n wrong answers under guessed ids first, which name 203.0.113.66, and then does what then does.
func Forge(n int, then Behaviour) Behaviour {
	return func(p *Peer) {
		for i := range n {
			m := p.Reply()
			m.Id += uint16(i) + 1
			if len(m.Answer) > 0 {
				if a, ok := m.Answer[0].(*dns.A); ok {
					a.A = net.IPv4(203, 0, 113, 66)
				}
			}
			p.Send(m)
		}
		then(p)
	}
}

// FirstOnly behaves as first to the first question it is asked and as rest to all others.
func FirstOnly(first, rest Behaviour) Behaviour {
	var mu sync.Mutex
	asked := false
	return func(p *Peer) {
		mu.Lock()
		again := asked
		asked = true
		mu.Unlock()
		if again {
			rest(p)
			return
		}
		first(p)
	}
}
