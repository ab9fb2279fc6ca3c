// Command endpointwatch runs one of the refresher's sources for some targets
// inside a pod, with the pod's own rights and resolv.conf, and prints what it
// tells as JSON, one line each: Sets that differ from the one before, errors,
// events.
//
//	endpointwatch dns|kube|auto TARGET...
//
// Of DNS it asks for one verified Set each; a target may be SERVER/NAME:PORT.
// It is the end-to-end tests' witness and judges nothing. It ends with SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/auto"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// Line is one thing that a source told, and when.
type Line struct {
	At     time.Time `json:"at"`
	Target string    `json:"target"`
	// Set is the addresses of a Set, with a mark for those that are not ready;
	// the others are that Set's fields. RSS is the program's memory then, in kB.
	Set           []string  `json:"set,omitempty"`
	Source        string    `json:"source,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Bytes         int       `json:"bytes,omitempty"`
	Verified      bool      `json:"verified,omitempty"`
	Authoritative bool      `json:"authoritative,omitempty"`
	Changed       time.Time `json:"changed,omitzero"`
	RSS           int       `json:"rss,omitempty"`
	// Error is what Fail was told.
	Error string `json:"error,omitempty"`
	// Switch is FROM>TO of a SourceSwitched, Why its reason, VIP and Twin are
	// those of a ClusterIPTarget, Warning is a Warning's text.
	Switch  string `json:"switch,omitempty"`
	Why     string `json:"why,omitempty"`
	VIP     string `json:"vip,omitempty"`
	Twin    string `json:"twin,omitempty"`
	Warning string `json:"warning,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "endpointwatch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: endpointwatch dns|kube|auto TARGET")
	}
	opener, err := source(args[0])
	if err != nil {
		return err
	}
	p := &printer{to: json.NewEncoder(out)}
	var running sync.WaitGroup
	for _, text := range args[1:] {
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
			p.print(Line{Target: text, Error: "Open: " + err.Error()})
			continue
		}
		to := &sink{printer: p, target: text}
		if args[0] == "dns" {
			to.verify = s.(endpoint.Asker)
		}
		running.Go(func() {
			if err := s.Run(ctx, to); err != nil {
				p.print(Line{Target: text, Error: "Run: " + err.Error()})
			}
		})
	}
	running.Wait()
	return nil
}

func source(name string) (endpoint.Opener, error) {
	pace := dns.WithInterval(time.Second)
	switch name {
	case "dns":
		return dns.New(pace), nil
	case "kube":
		return kube.New(), nil
	case "auto":
		return auto.New(auto.WithDNS(pace)), nil
	}
	return nil, fmt.Errorf("no source is called %q", name)
}

type printer struct {
	mu sync.Mutex
	to *json.Encoder
}

func (p *printer) print(l Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.At = time.Now()
	_ = p.to.Encode(l) // the test that reads it will miss it
}

// sink prints.
type sink struct {
	*printer
	target string
	verify endpoint.Asker // asked for a verified Set after the first one; may be nil
	last   string
}

func (s *sink) Update(set endpoint.Set) {
	l := Line{
		Target: s.target, Source: set.Source, Reason: set.Reason, Bytes: set.Bytes, Verified: set.Verified,
		Authoritative: set.Authoritative, Changed: set.Changed, RSS: rss(),
	}
	for _, e := range set.Endpoints {
		mark := ""
		if !e.Ready {
			mark = " unready"
		}
		l.Set = append(l.Set, e.String()+mark)
	}
	if s.verify != nil {
		s.verify.Ask(endpoint.Question{Verify: true})
		s.verify = nil
	}
	same := set.Source + set.Reason + strings.Join(l.Set, ",")
	if set.Verified || same != s.last {
		s.print(l)
	}
	s.last = same
}

func (s *sink) Fail(err error) { s.print(Line{Target: s.target, Error: err.Error()}) }

func (s *sink) Note(e endpoint.Event) {
	switch e := e.(type) {
	case endpoint.SourceSwitched:
		s.print(Line{Target: s.target, Switch: e.From + ">" + e.To, Why: e.Reason})
	case endpoint.ClusterIPTarget:
		s.print(Line{Target: s.target, VIP: e.VIP.String(), Twin: e.Twin})
	case endpoint.Warning:
		s.print(Line{Target: s.target, Warning: e.Text})
	}
}

// rss is the memory that the program holds, in kB; 0 where nobody knows.
func rss() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	n := 0
	if _, rest, found := strings.Cut(string(b), "VmRSS:"); found {
		_, _ = fmt.Sscan(rest, &n) // 0 then
	}
	return n
}
