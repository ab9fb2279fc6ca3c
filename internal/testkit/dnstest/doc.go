// Package dnstest runs real DNS servers on loopback for tests: an honest one with zones that a test can change while it serves, and a
// hostile one that does whatever a [Behaviour] says, down to single octets. Both listen on UDP and TCP on the same port, end
// with the test, and remember what they were asked.
//
//	zone := dnstest.NewZone(t, "cluster.local.")
//	zone.Headless("square.default.svc.cluster.local.", "grpc", 6565, addrs...)
//	server := dnstest.Serve(t, zone)
//
//	hostile := dnstest.Attack(t, dnstest.WrongID())
//
// A [Dialer] hands out connections that ignore deadlines, as the streams of a Kubernetes port-forward do, and fails the
// test if one of them is left open.
//
// It refuses to be a general DNS server: no wildcards, no delegation, no DNSSEC, no transfers, and nothing beyond loopback.
package dnstest
