package dnstest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/miekg/dns"
)

// Memory is a network of DNS servers without sockets, for tests whose time is testing/synctest's: a goroutine that waits for a
// socket would keep a bubble's clock from going on. Its addresses mean nothing outside of it. The zero value has no servers.
type Memory struct {
	mu      sync.Mutex
	servers map[string]Behaviour
	queries []MemoryQuery
}

// MemoryQuery is a question that a server of a Memory was asked.
type MemoryQuery struct {
	// Server is the address.
	Server string
	Query
}

// Serve puts an honest server at address, in place of whatever is there; see the function Serve.
func (m *Memory) Serve(address string, zones ...*Zone) {
	m.Attack(address, Zones(zones...))
}

// Attack puts a hostile server at address, in place of whatever is there. Connections that are open keep the server they have.
func (m *Memory) Attack(address string, behave Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.servers == nil {
		m.servers = make(map[string]Behaviour)
	}
	m.servers[address] = behave
}

// Remove takes the server away: connecting to address is refused.
func (m *Memory) Remove(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.servers, address)
}

// Queries returns what was asked since the last call, in order.
func (m *Memory) Queries() []MemoryQuery {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(m.queries)
	m.queries = nil
	return out
}

// Zones answers honestly from zones, as a server of Serve does.
func Zones(zones ...*Zone) Behaviour {
	return func(p *Peer) { p.Send(honest(p.Question, p.Network, zones)) }
}

// DialContext opens a connection to a server, "udp" or "tcp".
func (m *Memory) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	behave := m.servers[address]
	m.mu.Unlock()
	if behave == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	ours, theirs := net.Pipe()
	go m.serve(behave, network, address, theirs)
	return ours, nil
}

// serve answers one connection until either side closes it. A pipe hands one
// write to one read that is large enough, as a datagram socket does.
func (m *Memory) serve(behave Behaviour, network, address string, conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	var answering sync.WaitGroup
	defer answering.Wait()
	defer cancel()
	defer conn.Close()
	for {
		wire, err := receive(conn, network)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(wire) != nil || len(q.Question) != 1 {
			continue
		}
		m.note(address, network, q)
		p := &Peer{
			Network: network, Question: q, ctx: ctx,
			write:  func(b []byte) error { _, err := conn.Write(b); return err },
			hangup: func() { conn.Close() },
		}
		answering.Go(func() { behave(p) })
	}
}

func (m *Memory) note(address, network string, q *dns.Msg) {
	s := Server{}
	s.note(network, q)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queries = append(m.queries, MemoryQuery{Server: address, Query: s.queries[0]})
}

func receive(conn net.Conn, network string) ([]byte, error) {
	if network != "tcp" {
		buf := make([]byte, dns.MaxMsgSize)
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	var prefix [2]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	_, err := io.ReadFull(conn, wire)
	return wire, err
}
