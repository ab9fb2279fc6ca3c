// Command dnswatch runs the refresher's DNS source for some targets inside a
// pod, with the pod's own resolv.conf, and prints what it tells as JSON, one
// line each: Sets that differ from the one before, errors, events.
//
//	dnswatch TARGET...
//
// It is the end-to-end tests' witness and judges nothing. It ends with SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// Line is one thing that a source told.
type Line struct {
	Target string `json:"target"`
	// Set is the addresses of a Set, Reason why it has none, Bytes its size.
	Set    []string `json:"set,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Bytes  int      `json:"bytes,omitempty"`
	// Verified is that of the Set.
	Verified bool `json:"verified,omitempty"`
	// Error is what Fail was told.
	Error string `json:"error,omitempty"`
	// VIP and Twin are those of a ClusterIPTarget, Warning is a Warning's text.
	VIP     string `json:"vip,omitempty"`
	Twin    string `json:"twin,omitempty"`
	Warning string `json:"warning,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dnswatch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, targets []string, out io.Writer) error {
	opener := dns.New(dns.WithInterval(time.Second))
	all := &printer{to: json.NewEncoder(out)}
	var sources []endpoint.Source
	for _, text := range targets {
		server, name, found := strings.Cut(text, "/")
		if !found {
			server, name = "", text
		}
		target, err := endpoint.ParseTarget(server, name, "")
		if err != nil {
			return err
		}
		s, err := opener.Open(target)
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	var running sync.WaitGroup
	for i, s := range sources {
		running.Go(func() {
			if err := s.Run(ctx, &sink{printer: all, target: targets[i], asker: s.(endpoint.Asker)}); err != nil {
				all.print(Line{Target: targets[i], Error: "Run: " + err.Error()})
			}
		})
	}
	running.Wait()
	return nil
}

type printer struct {
	mu sync.Mutex
	to *json.Encoder
}

func (p *printer) print(l Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.to.Encode(l) // the test that reads it will miss it
}

// sink prints, and asks once for a verified Set.
type sink struct {
	*printer
	target string
	asker  endpoint.Asker
	last   *Line
}

func (s *sink) Update(set endpoint.Set) {
	l := Line{Target: s.target, Reason: set.Reason, Bytes: set.Bytes, Verified: set.Verified}
	for _, e := range set.Endpoints {
		l.Set = append(l.Set, e.String())
	}
	if s.last == nil {
		s.asker.Ask(endpoint.Question{Verify: true})
	}
	if s.last == nil || l.Verified || l.Reason != s.last.Reason || !slices.Equal(l.Set, s.last.Set) {
		s.print(l)
	}
	s.last = &l
}

func (s *sink) Fail(err error) { s.print(Line{Target: s.target, Error: err.Error()}) }

func (s *sink) Note(e endpoint.Event) {
	switch e := e.(type) {
	case endpoint.ClusterIPTarget:
		s.print(Line{Target: s.target, VIP: e.VIP.String(), Twin: e.Twin})
	case endpoint.Warning:
		s.print(Line{Target: s.target, Warning: e.Text})
	}
}
