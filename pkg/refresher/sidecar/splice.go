package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

const (
	// spliceTries is how many pods are tried for a connection.
	spliceTries = 3
	// spliceStep and countEvery are after how many bytes, and how long, what was moved
	// is counted. The kernel moves it and tells at the end of a step only.
	spliceStep = 256 << 10
	countEvery = time.Second
	// sayFailedEvery bounds the log where clients try again and again.
	sayFailedEvery = 10 * time.Second
)

// splice is a connection that goes to one pod as it is.
type splice struct {
	client, server net.Conn
	pod            *pod
	began          policy.Nanos
	stopped        atomic.Bool
}

// stop has the goroutines that copy end.
func (s *splice) stop() {
	s.stopped.Store(true)
	_ = s.client.SetDeadline(longAgo)
	_ = s.server.SetDeadline(longAgo)
}

// readUntil bounds reads of one of the connections; the zero time does not.
func (s *splice) readUntil(nc net.Conn, t time.Time) {
	_ = nc.SetReadDeadline(t)
	if s.stopped.Load() {
		_ = nc.SetReadDeadline(longAgo) // it may have been set before t was
	}
}

// count adds bytes that were moved.
func (p *Proxy) count(s *splice, n int64) {
	p.spliced.Add(uint64(n))
	s.pod.spliced.Add(uint64(n))
}

// serveSpliced moves bytes between a client and a pod until both have said
// everything.
func (p *Proxy) serveSpliced(client net.Conn, first []byte, kind string) {
	s, err := p.beginSplice(client, kind)
	if err == nil && len(first) > 0 {
		_, err = s.server.Write(first)
		p.count(s, int64(len(first)))
	}
	if err == nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.move(s, s.server, client)
		}()
		p.move(s, client, s.server)
		<-done
	}
	p.endSplice(s, client, err)
}

// move copies one direction; the kernel does it where both are TCP (splice(2)). The
// end of one direction is handed on and leaves the other one open.
func (p *Proxy) move(s *splice, to, from net.Conn) {
	for {
		s.readUntil(from, time.Now().Add(p.countEvery))
		n, err := io.CopyN(to, from, spliceStep)
		p.count(s, n)
		if errors.Is(err, os.ErrDeadlineExceeded) && !s.stopped.Load() {
			err = nil
			if n == 0 {
				// There is nothing to count, and so no reason to wake up, before more comes.
				s.readUntil(from, time.Time{})
				err = awaitBytes(from)
			}
		}
		if err == nil {
			continue
		}
		h, ok := to.(interface{ CloseWrite() error })
		if !errors.Is(err, io.EOF) || !ok || h.CloseWrite() != nil {
			s.stop()
		}
		return
	}
}

// beginSplice connects to a pod.
func (p *Proxy) beginSplice(client net.Conn, kind string) (*splice, error) {
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return nil, errors.New("the sidecar ends")
	}
	p.sniffing[client] = true
	p.passthrough.Total++
	p.passthrough.Kinds[kind]++
	limit := p.settings.Limits.ConnectTimeout
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	select {
	case <-p.knownSoon:
	case <-ctx.Done():
		return nil, errors.New("the endpoints are not known yet")
	}
	var tried []*pod
	var errs []error
	for range spliceTries {
		pd := p.spliceTo(tried)
		if pd == nil {
			break
		}
		tried = append(tried, pd)
		server, err := dialAny(ctx, p.dial, pd.addresses())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", pd.addr, unreachable(err, limit)))
			continue
		}
		s := &splice{client: client, server: server, pod: pd, began: policy.Now()}
		if !p.keepSplice(s) {
			_ = server.Close()
			return nil, errors.New("the pod was removed, or the sidecar ends")
		}
		return s, nil
	}
	if len(errs) == 0 {
		return nil, errors.New("there is no pod")
	}
	return nil, errors.Join(errs...)
}

func (pd *pod) addresses() []netip.AddrPort {
	pd.p.mu.Lock()
	defer pd.p.mu.Unlock()
	return pd.ep.Addrs
}

// spliceTo chooses a pod. One that calls can go to is best; where the pods speak
// something else than HTTP/2 there is none, and any that takes connections is
// right.
func (p *Proxy) spliceTo(tried []*pod) *pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pass := range 3 {
		var candidates []policy.Candidate
		var pods []*pod
		for _, pd := range p.pods {
			switch {
			case pd.held || slices.Contains(tried, pd):
			case pass == 0 && (len(pd.usable) == 0 || pd.out):
			case pass == 1 && pd.failures > 0 && !pd.answered:
			default:
				candidates = append(candidates, policy.Candidate{Node: pd.node, Weight: float64(max(pd.ep.Weight, 1))})
				pods = append(pods, pd)
			}
		}
		now := policy.Now()
		if i := p.policy.NewPicker(candidates, now).Pick(now); i >= 0 {
			return pods[i]
		}
	}
	return nil
}

// keepSplice notes a connection. It reports false when it must not begin.
func (p *Proxy) keepSplice(s *splice) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || s.pod.gone {
		return false
	}
	p.splices[s] = struct{}{}
	if s.pod.splices == nil {
		s.pod.splices = map[*splice]struct{}{}
	}
	s.pod.splices[s] = struct{}{}
	s.pod.node.Begin(s.began)
	p.passthrough.LastPod = s.pod.addr
	return true
}

// endSplice forgets a connection; s is nil when none was made.
func (p *Proxy) endSplice(s *splice, client net.Conn, err error) {
	if t, ok := client.(*net.TCPConn); ok && err != nil {
		_ = t.SetLinger(0) // a reset says more than an orderly end
	}
	_ = client.Close()
	if s != nil {
		_ = s.server.Close()
	}
	now := policy.Now()
	p.mu.Lock()
	delete(p.sniffing, client)
	if s != nil {
		delete(p.splices, s)
		delete(s.pod.splices, s)
		s.pod.node.End(s.began, now, policy.Neutral)
		s.pod.settle(now)
	}
	if err != nil {
		p.passthrough.Failed++
	}
	p.checkIdle()
	var log *slog.Logger
	if err != nil && (p.saidFailed == 0 || now >= p.saidFailed.Add(sayFailedEvery)) {
		p.saidFailed, log = now, p.settings.Logger
	}
	failed := p.passthrough.Failed
	p.release(now)
	if log != nil {
		log.Warn("connections that are not HTTP/2 find no pod", "failed", failed, "err", err)
	}
}
