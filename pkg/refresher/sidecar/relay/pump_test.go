package relay

import (
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// pump drives an Engine over real transports: one goroutine reads and one writes
// each. It is the simplest owner that is correct, and the Host as well.
type pump struct {
	t       testing.TB
	mu      sync.Mutex
	e       *Engine
	links   map[*Conn]*link
	pods    []*Conn
	next    int
	refuse  *Status
	calls   []Call
	settled *sync.Cond // calls grew, or a connection changed
	wg      sync.WaitGroup
}

type link struct {
	c    *Conn
	nc   net.Conn
	wake *sync.Cond
	gone bool
}

func newPump(t testing.TB, cfg Config) *pump {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p := &pump{t: t, links: make(map[*Conn]*link)}
	p.settled = sync.NewCond(&p.mu)
	p.e = New(cfg, p)
	t.Cleanup(p.close)
	return p
}

func (p *pump) close() {
	p.mu.Lock()
	for _, l := range p.links {
		_ = l.nc.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.e.Counters(); n.Streams != 0 || n.Buffered != 0 || n.Retained != 0 || n.Metadata != 0 || n.Waiting != 0 {
		p.t.Errorf("with all connections gone the engine holds %+v", n)
	}
}

// Pick, Done and Changed make it a Host.
func (p *pump) Pick(_ policy.Nanos, avoid *Conn) (*Conn, *Status) {
	var second *Conn
	for range p.pods {
		p.next++
		b := p.pods[p.next%len(p.pods)]
		if !b.Room() {
			continue
		}
		if b != avoid {
			return b, nil
		}
		second = b
	}
	return second, p.refuse
}

func (p *pump) Done(c Call) {
	p.calls = append(p.calls, c)
	p.settled.Broadcast()
}

func (p *pump) Changed(c *Conn) {
	if l := p.links[c]; l != nil {
		l.wake.Signal()
	}
	p.settled.Broadcast()
}

// add begins to carry bytes between c and nc.
func (p *pump) add(nc net.Conn, client bool) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c *Conn
	if client {
		c = p.e.Client(policy.Now())
	} else {
		c = p.e.Backend(policy.Now())
		p.pods = append(p.pods, c)
	}
	l := &link{c: c, nc: nc, wake: sync.NewCond(&p.mu)}
	p.links[c] = l
	p.wg.Add(2)
	go p.read(l)
	go p.write(l)
	return c
}

// flush wakes the writers that have something to do. The lock is held.
func (p *pump) flush() {
	for _, c := range p.e.Dirty() {
		if l := p.links[c]; l != nil {
			l.wake.Signal()
		}
	}
}

func (p *pump) read(l *link) {
	defer p.wg.Done()
	buf := make([]byte, 64<<10)
	have := 0
	for {
		n, err := l.nc.Read(buf[have:])
		p.mu.Lock()
		have += n
		used, ferr := l.c.Feed(policy.Now(), buf[:have])
		have = copy(buf, buf[used:have])
		if err != nil || ferr != nil {
			p.lost(l, errors.Join(err, ferr))
		}
		p.flush()
		p.mu.Unlock()
		if err != nil || ferr != nil {
			return
		}
	}
}

func (p *pump) write(l *link) {
	defer p.wg.Done()
	var spare []byte
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		b := l.c.TakeOut(spare)
		if b == nil {
			if l.gone || l.c.Done() {
				_ = l.nc.Close()
				return
			}
			l.wake.Wait()
			continue
		}
		p.mu.Unlock()
		n, err := l.nc.Write(b)
		p.mu.Lock()
		spare = b
		l.c.Written(policy.Now(), n)
		if err != nil {
			p.lost(l, err)
			_ = l.nc.Close()
			return
		}
		p.flush()
	}
}

func (p *pump) lost(l *link, err error) {
	l.gone = true
	l.c.Lost(policy.Now(), err)
	l.wake.Signal()
	p.settled.Broadcast()
	p.flush()
}

// await waits until what holds.
func (p *pump) await(what func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !what() {
		p.settled.Wait()
	}
}
