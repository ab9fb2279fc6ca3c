// Package load is the client of the fault benchmarks: calls at a fixed rate, whatever happens to them, and long streams.
//
// The rate is open loop: a call that hangs does not hold up the next one, as the requests of a service's own users would not wait
// either. Nothing is retried here, waited for (wait-for-ready) or kept alive beyond what a [Variant] does by itself.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/wire"
)

// Options are one run's. All but Retry must be set.
type Options struct {
	// Service and Namespace name a headless Service with the port PortName at Port. Beside it is one with a ClusterIP: see [Through].
	Service, Namespace string
	// Rate is calls a second, Deadline each call's.
	Rate     int
	Deadline time.Duration
	// Retry adds a retryPolicy for UNAVAILABLE and RESOURCE_EXHAUSTED to the service config.
	Retry bool
}

// The port of the Service, by name and number.
const (
	PortName = "grpc"
	Port     = 8080
)

// Run is a client at work.
type Run struct {
	opts    Options
	target  *Target
	began   time.Time
	calls   sync.WaitGroup
	streams sync.WaitGroup
	stop    context.CancelFunc // no new calls
	end     context.CancelFunc // streams end

	life context.Context // of streams; ends with end

	mu       sync.Mutex
	r        report.Report // guarded by mu, as is all below
	peers    map[string]int
	stopping bool
}

// maxErrors is how many different messages of failed calls are kept.
const maxErrors = 8

// Start opens a channel and begins to call.
func Start(v Variant, o Options) (*Run, error) {
	if o.Rate <= 0 || o.Deadline <= 0 || o.Service == "" || o.Namespace == "" {
		return nil, fmt.Errorf("options incomplete: %+v", o)
	}
	target, err := v.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", v.Name, err)
	}
	r := &Run{opts: o, target: target, began: time.Now(), peers: map[string]int{}}
	r.r = report.Report{Variant: v.Name, Hidden: v.Hidden, Began: r.began}
	pacing, stop := context.WithCancel(context.Background())
	life, end := context.WithCancel(context.Background())
	r.stop, r.end, r.life = stop, end, life
	r.calls.Go(func() { r.pace(pacing) })
	return r, nil
}

// pace begins a call every 1/Rate of a second.
func (r *Run) pace(ctx context.Context) {
	every := time.Second / time.Duration(r.opts.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := time.Now(); ; next = next.Add(every) {
		wait := time.Until(next)
		if wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return
		}
		r.late(-wait)
		if -wait > time.Second/4 {
			next = time.Now() // the machine stood still: a burst of what was missed would only measure that
		}
		r.calls.Go(r.call)
	}
}

func (r *Run) late(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.r.Lag = max(r.r.Lag, by)
}

func (r *Run) call() {
	ctx, cancel := context.WithTimeout(context.Background(), r.opts.Deadline)
	defer cancel()
	var p peer.Peer
	var trailer metadata.MD
	out := new(wrapperspb.Int64Value)
	start := time.Now()
	err := r.target.Conn.Invoke(ctx, wire.Call, wrapperspb.Int64(1), out, grpc.Peer(&p), grpc.Trailer(&trailer))
	took := time.Since(start)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if m := err.Error(); len(r.r.Errors) < maxErrors && !slices.Contains(r.r.Errors, m) {
			r.r.Errors = append(r.r.Errors, m)
		}
	}
	r.r.Calls = append(r.r.Calls, report.NewCall(start.Sub(r.began), took, status.Code(err), r.peerLocked(r.server(trailer, p.Addr))))
}

// server is the address of the server: what it says of itself, else what was dialled, unless that is a proxy's. It is empty when neither is
// known.
func (r *Run) server(said metadata.MD, dialled net.Addr) string {
	if v := said.Get(wire.ServedBy); len(v) > 0 {
		return v[0]
	}
	if dialled == nil || r.r.Hidden {
		return ""
	}
	return host(dialled)
}

// peerLocked is the index of a peer, which is new at first; -1 for the empty name.
func (r *Run) peerLocked(name string) int {
	if name == "" {
		return -1
	}
	i, ok := r.peers[name]
	if !ok {
		i = len(r.r.Peers)
		r.peers[name], r.r.Peers = i, append(r.r.Peers, name)
	}
	return i
}

func host(addr net.Addr) string {
	h, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return h
}

// State is a run in short.
type State struct {
	Calls, Failed int
	// OnPeer counts the calls that succeeded, by the server's IP address.
	OnPeer map[string]int
}

// State tells how it goes.
func (r *Run) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Calls: len(r.r.Calls), OnPeer: map[string]int{}}
	for _, c := range r.r.Calls {
		switch {
		case c.Code() != codes.OK:
			s.Failed++
		case c.Peer() >= 0:
			s.OnPeer[r.r.Peers[c.Peer()]]++
		}
	}
	return s
}

// Stop ends the run, waits for the calls that are under way, and reports.
func (r *Run) Stop() (report.Report, error) {
	r.stop()
	r.calls.Wait()
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.end()
	r.streams.Wait()
	notes := r.target.Notes()
	err := r.target.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.r.Notes = notes
	return r.r, errors.Join(err)
}
