package dns

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// guarded is a source under the guard, as every pool has it.
type guarded struct {
	*world
	loop *reconcile.Loop

	mu       sync.Mutex
	verdicts []endpoint.Verdict
}

// underGuard runs a test with five pods behind a headless Service.
func underGuard(t *testing.T, test func(g *guarded)) {
	t.Helper()
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, many(5)...)
		source, err := New(WithDial(w.net.DialContext), WithResolvConf(w.conf)).Open(endpoint.Target{Host: "square", Port: 1})
		if err != nil {
			w.t.Fatal(err)
		}
		g := &guarded{world: w}
		g.loop = reconcile.New(reconcile.Options{Source: source, Config: reconcile.DefaultConfig(), Publish: func(reconcile.State) {}, Events: g.note})
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() { done <- g.loop.Run(ctx) }()
		w.t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		})
		synctest.Wait()
		g.members(5, 0)
		test(g)
	})
}

func (g *guarded) note(e endpoint.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d, ok := e.(endpoint.GuardDecision); ok {
		g.verdicts = append(g.verdicts, d.Verdict)
	}
}

// members demands so many of each standing.
func (g *guarded) members(believed, held int) {
	g.t.Helper()
	got := map[reconcile.Standing]int{}
	for _, m := range g.loop.State().Members() {
		got[m.Standing]++
	}
	if got[reconcile.Believed] != believed || got[reconcile.Held] != held {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.t.Errorf("%d believed and %d held, want %d and %d (verdicts %v)", got[reconcile.Believed], got[reconcile.Held], believed, held, g.verdicts)
	}
}

// serve puts other pods behind the Service.
func (g *guarded) serve(n int) {
	zone := dnstest.NewZone(g.t, domain)
	zone.Headless(square, "grpc", 1, many(n)...)
	g.net.Serve(server1, zone)
}

// TestFaultsUnderTheGuard: what stock grpc-go's resolver closes connections for.
func TestFaultsUnderTheGuard(t *testing.T) {
	for name, fault := range map[string]dnstest.Behaviour{
		"SERVFAIL": dnstest.Rcode(mdns.RcodeServerFailure, false), "silence": dnstest.Silence(), "nobody": nil,
		"forgeries": dnstest.Forge(3, dnstest.Silence()), "half a message": dnstest.HalfMessage(),
	} {
		t.Run(name, func(t *testing.T) {
			underGuard(t, func(g *guarded) {
				g.net.Attack(server1, fault)
				g.after(10 * time.Minute)
				g.members(5, 0)
				g.serve(6)
				g.after(11 * time.Second)
				g.members(6, 0)
			})
		})
	}
	for _, rcode := range []int{mdns.RcodeNameError, mdns.RcodeSuccess} {
		t.Run(fmt.Sprintf("20 s of %s without records", mdns.RcodeToString[rcode]), func(t *testing.T) {
			underGuard(t, func(g *guarded) {
				g.net.Attack(server1, dnstest.Rcode(rcode, true))
				g.after(20 * time.Second)
				g.members(0, 5)
				g.serve(5)
				g.after(6 * time.Second)
				g.members(5, 0)
			})
		})
	}
	t.Run("NXDOMAIN for good", func(t *testing.T) {
		underGuard(t, func(g *guarded) {
			g.net.Attack(server1, dnstest.Rcode(mdns.RcodeNameError, true))
			g.after(70 * time.Second)
			g.members(0, 0)
		})
	})
}

// TestShrinkUnderTheGuard: an answer with few endpoints is asked again at once;
// one that a second look contradicts costs nobody a connection, and one that it
// confirms counts within seconds.
func TestShrinkUnderTheGuard(t *testing.T) {
	underGuard(t, func(g *guarded) {
		g.serve(2)
		g.after(5500 * time.Millisecond)
		g.after(1500 * time.Millisecond)
		g.members(2, 0)
	})
	underGuard(t, func(g *guarded) {
		// Over UDP, from a server that has just started; the truth over TCP.
		few := dnstest.NewZone(g.t, domain)
		few.Headless(square, "grpc", 1, many(1)...)
		g.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Network == "udp" {
				dnstest.Zones(few)(p)
				return
			}
			dnstest.Zones(g.zone)(p)
		})
		g.after(30 * time.Second)
		believed := 0
		for _, m := range g.loop.State().Members() {
			if m.Standing == reconcile.Believed {
				believed++
			}
		}
		if n := len(g.loop.State().Members()); n != 5 {
			g.t.Errorf("%d members (%d believed), want all five kept", n, believed)
		}
	})
}
