package dnstest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Behaviour is what a hostile server does about one question. Over TCP it is called for one question of a connection after the
// other; over UDP and for several connections at the same time. It returns when done, or soon after Peer.Done.
type Behaviour func(p *Peer)

// Peer is somebody who asked, and the way back.
type Peer struct {
	// Network is "udp" or "tcp".
	Network string
	// Question is what was asked.
	Question *dns.Msg

	ctx    context.Context
	write  func([]byte) error
	hangup func()
}

// Reply returns an honest answer to the question: one address that is 192.0.2.1 or 2001:db8::1, one SRV, or NODATA.
func (p *Peer) Reply() *dns.Msg {
	m := new(dns.Msg).SetReply(p.Question)
	m.Authoritative = true
	q := p.Question.Question[0]
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: TTL}
	switch q.Qtype {
	case dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}}
	case dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: h, AAAA: net.ParseIP("2001:db8::1")}}
	case dns.TypeSRV:
		m.Answer = []dns.RR{&dns.SRV{Hdr: h, Port: 6565, Weight: 100, Target: "a." + q.Name}}
	}
	if opt := p.Question.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
	}
	return m
}

// Send sends a message, framed for the network.
func (p *Peer) Send(m *dns.Msg) bool {
	wire, err := m.Pack()
	return err == nil && p.SendWire(wire)
}

// SendWire sends octets as one message: a datagram, or with TCP's length prefix. It reports whether they could be sent.
func (p *Peer) SendWire(wire []byte) bool {
	if p.Network == "tcp" {
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	return p.SendRaw(wire)
}

// SendRaw sends octets as they are.
func (p *Peer) SendRaw(raw []byte) bool { return p.write(raw) == nil }

// Hangup ends the TCP connection after what was sent; over UDP it does nothing.
func (p *Peer) Hangup() { p.hangup() }

// Done ends when the server does.
func (p *Peer) Done() <-chan struct{} { return p.ctx.Done() }

// Pause lets time pass and reports whether the server is still running.
func (p *Peer) Pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// hostile is a server of raw sockets: what it does is below what a DNS library would let it.
type hostile struct {
	*Server
	ctx     context.Context
	behave  Behaviour
	packets net.PacketConn
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once the server has ended
}

// Attack runs a server with the behaviour until the test ends. Questions that cannot be read are passed over.
func Attack(t testing.TB, behave Behaviour) *Server {
	t.Helper()
	listener, packets := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	h := &hostile{
		Server:  &Server{addr: packets.LocalAddr().String()},
		ctx:     ctx,
		behave:  behave,
		packets: packets,
		conns:   make(map[net.Conn]struct{}),
	}
	h.running.Go(h.serveUDP)
	h.running.Go(func() { h.serveTCP(listener) })
	t.Cleanup(func() {
		cancel()
		err := errors.Join(listener.Close(), packets.Close())
		h.closeConns()
		h.running.Wait()
		if err != nil {
			t.Errorf("stop hostile DNS server: %v", err)
		}
	})
	return h.Server
}

func (h *hostile) serveUDP() {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := h.packets.ReadFrom(buf)
		if err != nil {
			if h.ctx.Err() != nil {
				return
			}
			continue // an ICMP error for an earlier answer
		}
		p := &Peer{
			Network: "udp",
			ctx:     h.ctx,
			write:   func(b []byte) error { _, err := h.packets.WriteTo(b, from); return err },
			hangup:  func() {},
		}
		if h.understand(p, buf[:n]) {
			h.running.Go(func() { h.behave(p) })
		}
	}
}

func (h *hostile) understand(p *Peer, wire []byte) bool {
	p.Question = new(dns.Msg)
	if p.Question.Unpack(wire) != nil || len(p.Question.Question) != 1 {
		return false
	}
	h.note(p.Network, p.Question)
	return true
}

func (h *hostile) serveTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.conns == nil {
			h.mu.Unlock()
			conn.Close()
			return
		}
		h.conns[conn] = struct{}{}
		h.mu.Unlock()
		h.running.Go(func() {
			defer h.forget(conn)
			h.serveConn(conn)
		})
	}
}

func (h *hostile) serveConn(conn net.Conn) {
	var prefix [2]byte
	for {
		if _, err := io.ReadFull(conn, prefix[:]); err != nil {
			return
		}
		wire := make([]byte, binary.BigEndian.Uint16(prefix[:]))
		if _, err := io.ReadFull(conn, wire); err != nil {
			return
		}
		p := &Peer{
			Network: "tcp",
			ctx:     h.ctx,
			write:   func(b []byte) error { _, err := conn.Write(b); return err },
			hangup:  func() { conn.Close() },
		}
		if h.understand(p, wire) {
			h.behave(p)
		}
	}
}

func (h *hostile) forget(conn net.Conn) {
	conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, conn)
}

func (h *hostile) closeConns() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.conns {
		conn.Close()
	}
	h.conns = nil
}
