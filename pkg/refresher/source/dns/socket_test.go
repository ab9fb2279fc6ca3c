package dns

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// arrived is a sink that hands on what it is told.
type arrived chan told

func (a arrived) Update(s endpoint.Set) { a <- told{set: &s} }
func (a arrived) Fail(err error)        { a <- told{err: err} }
func (a arrived) Note(endpoint.Event)   {}

// TestSockets asks servers of sockets on loopback, with the dialer of everyday.
func TestSockets(t *testing.T) {
	zone := dnstest.NewZone(t, domain)
	zone.Headless(square, "grpc", 6565, many(300)...)
	honest := dnstest.Serve(t, zone)
	cases := []struct {
		name, target string
		servers      []string
		want         int // endpoints; 0 for an error
		text         string
	}{
		{name: "A, truncated", target: square + ":6565", servers: []string{honest.Addr()}, want: 300},
		{name: "SRV, truncated", target: square + ":grpc", servers: []string{honest.Addr()}, want: 300},
		{name: "a server that is not there", target: square + ":6565", servers: []string{dnstest.RefusedAddr(t), honest.Addr()}, want: 300},
		{name: "forgeries first", target: square + ":6565", servers: []string{dnstest.Attack(t, dnstest.Forge(20, dnstest.Honest())).Addr()}, want: 1},
		{name: "no server", target: square + ":6565", servers: []string{dnstest.RefusedAddr(t)}, text: "connection refused"},
		{name: "garbage over TCP", target: square + ":6565", servers: []string{dnstest.Attack(t, dnstest.HangupWithin(5)).Addr()}, want: 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			target, err := endpoint.ParseTarget("", c.target, "")
			if err != nil {
				t.Fatal(err)
			}
			source, err := New(WithServers(c.servers...), WithResolvConf("")).Open(target)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got, done := make(arrived, 100), make(chan error, 1)
			go func() { done <- source.Run(ctx, got) }()
			first := <-got
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			switch {
			case c.want == 0 && (first.err == nil || !strings.Contains(first.err.Error(), c.text)):
				t.Errorf("error %v, want one with %q", first.err, c.text)
			case c.want > 0 && (first.set == nil || len(first.set.Endpoints) != c.want):
				t.Errorf("set %+v, error %v, want %d endpoints", first.set, first.err, c.want)
			}
		})
	}
}
