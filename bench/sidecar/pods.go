package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/bench/sidecar/internal/echo"
)

// backendName is what the backends are called in the DNS.
const backendName = "pods-headless.bench.svc.cluster.local"

// servePods is the other program in this binary: the echo servers, in a process of their own, so that nothing of theirs is counted as
// anybody else's.
func servePods(ctx context.Context, port string) error {
	var listeners []net.Listener
	for _, ip := range backends {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	return echo.Serve(ctx, listeners...)
}

// startPods starts it, and a DNS server that knows it.
func startPods(ctx context.Context, f *field) (stop func() error, err error) {
	if f.port, err = freePort(backends...); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := start("pods", f.dir, []string{"GOMAXPROCS=2"}, self, podsCommand, f.port)
	if err != nil {
		return nil, err
	}
	if err := p.answers(ctx, f.pods()...); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	names, err := f.serveNames()
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return func() error { return errors.Join(names(), p.stop()) }, nil
}

func (f *field) pods() []string {
	var out []string
	for _, ip := range backends {
		out = append(out, net.JoinHostPort(ip, f.port))
	}
	return out
}

// serveNames answers for backendName on a port of the loopback interface.
func (f *field) serveNames() (stop func() error, err error) {
	port, err := freePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	f.resolver = net.JoinHostPort("127.0.0.1", port)
	var servers []*dns.Server
	stop = func() error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Shutdown())
		}
		return errors.Join(errs...)
	}
	for _, network := range []string{"udp", "tcp"} {
		s := &dns.Server{Addr: f.resolver, Net: network, Handler: dns.HandlerFunc(answer)}
		up, failed := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(up) }
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-up:
			servers = append(servers, s)
		case err := <-failed:
			return nil, errors.Join(err, stop())
		}
	}
	return stop, nil
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	switch {
	case len(q.Question) != 1 || !strings.EqualFold(q.Question[0].Name, backendName+"."):
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		for _, ip := range backends {
			rr, _ := dns.NewRR(fmt.Sprintf("%s. 5 IN A %s", backendName, ip)) // well formed
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}
