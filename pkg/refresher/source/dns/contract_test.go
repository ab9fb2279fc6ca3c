package dns

import (
	"net/netip"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint/endpointtest"
)

func TestContract(t *testing.T) {
	for _, target := range []string{"square:6565", "square:grpc"} {
		t.Run(target, func(t *testing.T) {
			endpointtest.TestSource(t, endpointtest.Harness{Looks: true, New: func(t *testing.T) endpointtest.World { return newContractWorld(t, target) }})
		})
	}
}

// newContractWorld is a source that looks more often than one may outside of
// tests.
func newContractWorld(t *testing.T, name string) endpointtest.World {
	t.Helper()
	var net dnstest.Memory
	var zone *dnstest.Zone
	put := func(endpoints ...endpoint.Endpoint) {
		// A zone is filled before it is served, so that no look sees a part.
		zone = dnstest.NewZone(t, domain)
		var addrs []netip.Addr
		for _, e := range endpoints {
			addrs = append(addrs, e.Addr().Addr())
		}
		zone.Headless(square, "grpc", 6565, addrs...)
		net.Serve(server1, zone)
	}
	put()
	target, err := endpoint.ParseTarget("10.96.0.10", name, "")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Dial, cfg.ResolvConf = net.DialContext, writeConf(t, "", podConf)
	opened, err := open(cfg, target)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*source)
	s.cfg.Interval = 20 * time.Millisecond
	return endpointtest.World{
		Source: s, Put: put,
		Break: func() { net.Attack(server1, dnstest.Rcode(mdns.RcodeServerFailure, false)) },
		Mend:  func() { net.Serve(server1, zone) },
	}
}
