package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

var vip = netip.MustParseAddr("10.96.7.7")

// withTwin puts a ClusterIP Service with the port 80 -> 8001 and its twin in.
func withTwin(w *world) {
	w.zone.ClusterIP(square, "grpc", 80, vip)
	w.zone.Headless(twinOf, "grpc", 8001, ips("10.0.0.1", "10.0.0.2")...)
}

func TestClusterIP(t *testing.T) {
	event := endpoint.ClusterIPTarget{Name: "square.default.svc.cluster.local", VIP: vip}
	withEvent := func(twin string) []endpoint.ClusterIPTarget {
		e := event
		e.Twin = twin
		return []endpoint.ClusterIPTarget{e}
	}
	const twin = "square-headless.default.svc.cluster.local"
	cases := []struct {
		name, target string
		opts         []Option
		put          func(w *world)
		want         string
		events       []endpoint.ClusterIPTarget
		warning      string
	}{
		{name: "number, twin with another port", target: "square:80", put: withTwin, want: "10.0.0.1:8001 10.0.0.2:8001", events: withEvent(twin)},
		{name: "name, twin", target: "square:grpc", put: withTwin, want: "10.0.0.1:8001 10.0.0.2:8001", events: withEvent(twin)},
		{name: "not followed", target: "square:80", opts: []Option{FollowHeadlessTwin(false)}, put: withTwin, want: "10.96.7.7:80", events: withEvent("")},
		{name: "name, not followed", target: "square:grpc", opts: []Option{FollowHeadlessTwin(false)}, put: withTwin, want: "10.96.7.7:80", events: withEvent("")},
		{name: "no twin", target: "square:80", want: "10.96.7.7:80", events: withEvent(""),
			put: func(w *world) { w.zone.ClusterIP(square, "grpc", 80, vip) }},
		{name: "another suffix", target: "square:80", opts: []Option{WithTwinSuffix("-pods")}, want: "10.0.0.3:8001",
			put: func(w *world) {
				withTwin(w)
				w.zone.Headless("square-pods.default.svc.cluster.local.", "grpc", 8001, ips("10.0.0.3")...)
			}, events: withEvent("square-pods.default.svc.cluster.local")},
		{name: "the twin is a ClusterIP, too", target: "square:80", want: "10.96.7.7:80", events: withEvent(""),
			put: func(w *world) {
				w.zone.ClusterIP(square, "grpc", 80, vip).ClusterIP(twinOf, "grpc", 80, netip.MustParseAddr("10.96.7.8"))
			}},
		{name: "the twin is a ClusterIP, too, by name", target: "square:grpc", want: "10.96.7.7:80", events: withEvent(""),
			put: func(w *world) {
				w.zone.ClusterIP(square, "grpc", 80, vip).ClusterIP(twinOf, "grpc", 80, netip.MustParseAddr("10.96.7.8"))
			}},
		{name: "the twin lacks the port name", target: "square:grpc", want: "10.96.7.7:80", events: withEvent(""),
			put: func(w *world) {
				w.zone.ClusterIP(square, "grpc", 80, vip).Headless(twinOf, "other", 80, ips("10.0.0.1")...)
			}},
		{name: "several equal ports", target: "square:80", want: "10.0.0.1:80", events: withEvent(twin),
			put: func(w *world) {
				w.zone.ClusterIP(square, "a", 80, vip).ClusterIP(square, "b", 90)
				w.zone.Headless(twinOf, "a", 80, ips("10.0.0.1")...).Add(twinOf+" 30 IN SRV 0 100 90 10-0-0-1."+twinOf, "_b._tcp."+twinOf+" 30 IN SRV 0 100 90 10-0-0-1."+twinOf)
			}},
		{name: "several ports, one of a known name", target: "square:80", want: "10.0.0.1:8001", events: withEvent(twin),
			put: func(w *world) {
				w.zone.ClusterIP(square, "h2c", 80, vip).ClusterIP(square, "metrics", 90)
				w.zone.Headless(twinOf, "h2c", 8001, ips("10.0.0.1")...).Add(twinOf + " 30 IN SRV 0 100 90 10-0-0-1." + twinOf)
			}},
		{name: "several ports, and no telling", target: "square:80", want: "10.96.7.7:80", events: withEvent(""), warning: "name the port in the target",
			put: func(w *world) {
				w.zone.ClusterIP(square, "a", 80, vip).ClusterIP(square, "b", 90)
				w.zone.Headless(twinOf, "a", 8001, ips("10.0.0.1")...).Add(twinOf + " 30 IN SRV 0 100 90 10-0-0-1." + twinOf)
			}},
		{name: "several ports, the twin has one", target: "square:80", want: "10.96.7.7:80", events: withEvent(""), warning: "name the port in the target",
			put: func(w *world) {
				w.zone.ClusterIP(square, "a", 80, vip).ClusterIP(square, "b", 90)
				w.zone.Headless(twinOf, "b", 8001, ips("10.0.0.1")...)
			}},
		{name: "several ports, the known name is another's", target: "square:80", want: "10.96.7.7:80", events: withEvent(""), warning: "name the port in the target",
			put: func(w *world) {
				w.zone.ClusterIP(square, "web", 80, vip).ClusterIP(square, "grpc", 90)
				w.zone.Headless(twinOf, "grpc", 8001, ips("10.0.0.1")...).Add(twinOf + " 30 IN SRV 0 100 91 10-0-0-1." + twinOf)
			}},
		{name: "headless with one pod", target: "square:8001", want: "10.0.0.1:8001",
			put: func(w *world) { w.zone.Headless(square, "grpc", 8001, ips("10.0.0.1")...) }},
		{name: "headless with one pod, by name", target: "square:grpc", want: "10.0.0.1:8001",
			put: func(w *world) { w.zone.Headless(square, "grpc", 8001, ips("10.0.0.1")...) }},
		{name: "headless, asked for by the Service's port", target: "square:80", want: "10.0.0.1:80", warning: "no endpoint of it has port 80: use 8001",
			put: func(w *world) { w.zone.Headless(square, "grpc", 8001, ips("10.0.0.1")...) }},
		{name: "no Service at all", target: "square:80", want: "192.0.2.1:80",
			put: func(w *world) { w.zone.Add(square + " 30 IN A 192.0.2.1") }},
		{name: "an alias of a ClusterIP", target: "alias:80", want: "10.0.0.1:8001 10.0.0.2:8001", events: withEvent(twin),
			put: func(w *world) { withTwin(w); w.zone.Add("alias.default.svc.cluster.local. 30 IN CNAME " + square) }},
		{name: "an alias of a ClusterIP, by name", target: "alias:grpc", want: "10.0.0.1:8001 10.0.0.2:8001", events: withEvent(twin),
			put: func(w *world) {
				withTwin(w)
				w.zone.Add("_grpc._tcp.alias.default.svc.cluster.local. 30 IN CNAME _grpc._tcp." + square)
			}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				c.put(w)
				w.start(c.target, c.opts...)
				w.want(c.want)
				w.after(20 * time.Second) // nothing is said twice
				w.want(c.want)
				if got := w.virtual(); !slices.Equal(got, c.events) {
					w.t.Errorf("events %+v, want %+v", got, c.events)
				}
				switch got := w.warnings(); {
				case c.warning == "" && len(got) > 0, len(got) > 1:
					w.t.Errorf("warnings %q", got)
				case c.warning != "" && (len(got) == 0 || !strings.Contains(got[0], c.warning)):
					w.t.Errorf("warnings %q, want %q", got, c.warning)
				}
			})
		})
	}
}

// TestTwinComesAndGoes follows a Service through its changes.
func TestTwinComesAndGoes(t *testing.T) {
	for _, target := range []string{"square:80", "square:grpc"} {
		t.Run(target, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.zone.ClusterIP(square, "grpc", 80, vip)
				w.start(target)
				w.want("10.96.7.7:80")
				w.zone.Headless(twinOf, "grpc", 8001, ips("10.0.0.1")...)
				w.after(20 * time.Second)
				w.want("10.96.7.7:80")
				w.after(15 * time.Second)
				w.want("10.0.0.1:8001")
				w.zone.Remove(twinOf).Remove("_grpc._tcp." + twinOf).Remove("10-0-0-1." + twinOf)
				w.after(6 * time.Second)
				w.want("NXDOMAIN") // perhaps its pods are not ready at the moment
				w.after(35 * time.Second)
				w.want("10.96.7.7:80")
				w.zone.Headless(twinOf, "grpc", 8001, ips("10.0.0.1")...)
				w.ask(endpoint.Question{}) // a question looks at once
				w.want("10.0.0.1:8001")
				if n := len(w.virtual()); n != 4 {
					w.t.Errorf("%d events, want one for each change: %+v", n, w.virtual())
				}
			})
		})
	}
}

// TestServiceBecomesHeadless: the Service itself is made anew without a VIP.
func TestServiceBecomesHeadless(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.ClusterIP(square, "grpc", 8001, vip)
		w.start("square:8001")
		w.want("10.96.7.7:8001")
		w.zone.Remove(square).Remove("_grpc._tcp."+square).Headless(square, "grpc", 8001, ips("10.0.0.1", "10.0.0.2")...)
		w.after(5 * time.Second)
		w.want("10.0.0.1:8001 10.0.0.2:8001")
		w.zone.Remove(square).Headless(square, "grpc", 8001, ips("10.0.0.1")...)
		w.after(5 * time.Second)
		w.want("10.0.0.1:8001")
		if n := len(w.virtual()); n != 1 {
			w.t.Errorf("events %+v", w.virtual())
		}
		w.zone.Remove(square).ClusterIP(square, "grpc", 8001, vip)
		w.after(5 * time.Second)
		if n := len(w.virtual()); n != 2 {
			w.t.Errorf("events %+v", w.virtual())
		}
	})
}

// TestTwinChangesItsPort: the pods of the twin listen elsewhere after a roll-out,
// and connections fail, which makes the channel ask.
func TestTwinChangesItsPort(t *testing.T) {
	inBubble(t, func(w *world) {
		withTwin(w)
		w.start("square:80")
		w.want("10.0.0.1:8001 10.0.0.2:8001")
		w.zone.Remove(twinOf).Headless(twinOf, "grpc", 8002, ips("10.0.0.1", "10.0.0.2")...)
		w.after(31 * time.Second)
		w.want("10.0.0.1:8001 10.0.0.2:8001")
		w.ask(endpoint.Question{})
		w.want("10.0.0.1:8002 10.0.0.2:8002")
		w.asked()
		w.ask(endpoint.Question{})
		w.want("10.0.0.1:8002 10.0.0.2:8002")
		if got, want := w.asked(), []string{"udp A " + twinOf}; !slices.Equal(got, want) {
			w.t.Errorf("asked %q, want %q: the ports were looked at a moment ago", got, want)
		}
	})
}

// TestJudgedLater: what the Service is cannot be asked at first.
func TestJudgedLater(t *testing.T) {
	inBubble(t, func(w *world) {
		withTwin(w)
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Question.Question[0].Qtype == mdns.TypeSRV {
				dnstest.Rcode(mdns.RcodeServerFailure, false)(p)
				return
			}
			dnstest.Zones(w.zone)(p)
		})
		w.start("square:80")
		w.want("10.96.7.7:80")
		w.net.Serve(server1, w.zone)
		w.after(34 * time.Second)
		w.want("10.0.0.1:8001 10.0.0.2:8001")
	})
}

// TestJudgedOnce: one address is judged once, and what is known of a Service
// outlasts an error.
func TestJudgedOnce(t *testing.T) {
	for name, put := range map[string]func(w *world){
		"headless":   func(w *world) { w.zone.Headless(square, "grpc", 80, ips("10.0.0.1")...) },
		"no Service": func(w *world) { w.zone.Add(square + " 30 IN A 10.0.0.1") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				put(w)
				w.start("square:80")
				w.asked()
				w.after(2 * time.Minute)
				for _, q := range w.asked() {
					if q != "udp A "+square {
						w.t.Errorf("asked %s again", q)
					}
				}
			})
		})
	}
	inBubble(t, func(w *world) {
		w.zone.ClusterIP(square, "grpc", 80, vip)
		w.start("square:80")
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Question.Question[0].Qtype == mdns.TypeSRV {
				dnstest.Rcode(mdns.RcodeServerFailure, false)(p)
				return
			}
			dnstest.Zones(w.zone)(p)
		})
		w.zone.Remove(square).ClusterIP(square, "grpc", 80, netip.MustParseAddr("10.96.7.8"))
		w.after(5 * time.Second)
		if got := w.virtual(); len(got) != 2 || got[1].VIP.String() != "10.96.7.8" {
			w.t.Errorf("events %+v", got)
		}
	})
}

// TestTwinLater: the twin could not be asked for at first; the next look does.
func TestTwinLater(t *testing.T) {
	inBubble(t, func(w *world) {
		withTwin(w)
		w.zone.Fail(twinOf, mdns.RcodeServerFailure)
		w.start("square:80")
		w.want("10.96.7.7:80")
		w.zone.Fail(twinOf, mdns.RcodeSuccess)
		w.after(5 * time.Second)
		w.want("10.0.0.1:8001 10.0.0.2:8001")
	})
}

func TestSRV(t *testing.T) {
	srv := func(target string, fields string) string {
		return "_grpc._tcp." + square + " 30 IN SRV " + fields + " " + target
	}
	cases := []struct {
		name    string
		records []string
		family  Family
		want    string
	}{
		{name: "pod names pair the families", records: []string{
			srv("a."+square, "0 1 6565"), "a." + square + " 30 IN A 10.0.0.1", "a." + square + " 30 IN AAAA fd00::1",
			srv("b."+square, "0 1 6565"), "b." + square + " 30 IN A 10.0.0.2", "b." + square + " 30 IN AAAA fd00::2",
		}, want: "10.0.0.1:6565+[fd00::1]:6565 10.0.0.2:6565+[fd00::2]:6565"},
		{name: "IPv6 preferred", family: FamilyIPv6, records: []string{
			srv("a."+square, "0 1 6565"), "a." + square + " 30 IN A 10.0.0.1", "a." + square + " 30 IN AAAA fd00::1",
		}, want: "[fd00::1]:6565+10.0.0.1:6565"},
		{name: "names made of addresses do not pair", records: []string{
			srv("10-0-0-1."+square, "0 1 6565"), "10-0-0-1." + square + " 30 IN A 10.0.0.1",
			srv("fd00--1."+square, "0 1 6565"), "fd00--1." + square + " 30 IN AAAA fd00::1",
		}, want: "10.0.0.1:6565"},
		{name: "names made of addresses, IPv6 preferred", family: FamilyIPv6, records: []string{
			srv("10-0-0-1."+square, "0 1 6565"), "10-0-0-1." + square + " 30 IN A 10.0.0.1",
			srv("fd00--1."+square, "0 1 6565"), "fd00--1." + square + " 30 IN AAAA fd00::1",
		}, want: "[fd00::1]:6565"},
		{name: "a pod with one family beside one with two", records: []string{
			srv("a."+square, "0 1 6565"), "a." + square + " 30 IN A 10.0.0.1", "a." + square + " 30 IN AAAA fd00::1",
			srv("b."+square, "0 1 6565"), "b." + square + " 30 IN AAAA fd00::2",
		}, want: "10.0.0.1:6565+[fd00::1]:6565 [fd00::2]:6565"},
		{name: "each its port", records: []string{
			srv("a."+square, "0 1 1001"), "a." + square + " 30 IN A 10.0.0.1",
			srv("b."+square, "0 1 1002"), "b." + square + " 30 IN A 10.0.0.2",
		}, want: "10.0.0.1:1001 10.0.0.2:1002"},
		{name: "the best priority", records: []string{
			srv("a."+square, "1 1 6565"), "a." + square + " 30 IN A 10.0.0.1",
			srv("b."+square, "0 1 6565"), "b." + square + " 30 IN A 10.0.0.2",
		}, want: "10.0.0.2:6565"},
		{name: "a target with several addresses", records: []string{
			srv("a."+square, "0 1 6565"), "a." + square + " 30 IN A 10.0.0.1", "a." + square + " 30 IN A 10.0.0.2", "a." + square + " 30 IN AAAA fd00::1",
		}, want: "10.0.0.1:6565 10.0.0.2:6565"},
		{name: "not there, by RFC 2782", records: []string{srv(".", "0 1 6565")}, want: "NODATA"},
		{name: "port 0", records: []string{srv("a."+square, "0 1 0"), "a." + square + " 30 IN A 10.0.0.1"}, want: "NODATA"},
		{name: "a target that is gone", records: []string{
			srv("a."+square, "0 1 6565"), "a." + square + " 30 IN A 10.0.0.1", srv("b."+square, "0 1 6565"),
		}, want: "10.0.0.1:6565"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.zone.Add(c.records...)
				family := FamilyAuto
				if c.family != "" {
					family = c.family
				}
				w.start("square:grpc", WithFamily(family))
				w.want(c.want)
				if e := w.virtual(); e != nil {
					w.t.Errorf("events %+v", e)
				}
			})
		})
	}
}

func TestSRVNamesAndWeights(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1", "10.0.0.2")...)
		w.start("square:grpc")
		for _, e := range w.sets()[0].Endpoints {
			if e.Weight != 0 || !strings.HasSuffix(e.Name, ".square.default.svc.cluster.local") || !e.Ready || !e.Serving {
				w.t.Errorf("endpoint %+v", e)
			}
		}
		w.zone.Add("_grpc._tcp."+square+" 30 IN SRV 0 0 1 c."+square, "c."+square+" 30 IN A 10.0.0.3")
		w.after(5 * time.Second)
		got := w.sets()[1].Endpoints
		if got[0].Weight != 100 || got[2].Weight != 1 {
			w.t.Errorf("weights %d and %d", got[0].Weight, got[2].Weight)
		}
	})
}

func TestUnknownPortName(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:rpc")
		w.want("NXDOMAIN")
		w.after(20 * time.Second)
		if got := w.warnings(); len(got) != 1 || !strings.Contains(got[0], "a port of the Service must have this name") {
			w.t.Errorf("warnings %q", got)
		}
	})
}

// TestSRVWithoutAddresses: UDP leaves the addresses of targets out without a
// sign; some servers never send them.
func TestSRVWithoutAddresses(t *testing.T) {
	bare := func(z *dnstest.Zone, networks ...string) dnstest.Behaviour {
		srvOnly := dnstest.NewZone(t, domain)
		srvOnly.Add("_grpc._tcp."+square+" 30 IN SRV 0 1 6565 a."+square, "_grpc._tcp."+square+" 30 IN SRV 0 1 6565 b."+square)
		return func(p *dnstest.Peer) {
			if p.Question.Question[0].Qtype == mdns.TypeSRV && slices.Contains(networks, p.Network) {
				dnstest.Zones(srvOnly)(p)
				return
			}
			dnstest.Zones(z)(p)
		}
	}
	put := func(w *world) {
		w.zone.Add("_grpc._tcp."+square+" 30 IN SRV 0 1 6565 a."+square, "_grpc._tcp."+square+" 30 IN SRV 0 1 6565 b."+square,
			"a."+square+" 30 IN A 10.0.0.1", "b."+square+" 30 IN AAAA fd00::1")
	}
	const both = "10.0.0.1:6565 [fd00::1]:6565"
	inBubble(t, func(w *world) {
		put(w)
		w.net.Attack(server1, bare(w.zone, "udp"))
		w.start("square:grpc")
		w.want(both)
		if got, want := w.asked(), []string{"udp SRV _grpc._tcp." + square, "tcp SRV _grpc._tcp." + square}; !slices.Equal(got, want) {
			w.t.Errorf("asked %q, want %q", got, want)
		}
	})
	inBubble(t, func(w *world) {
		put(w)
		w.net.Attack(server1, bare(w.zone, "udp", "tcp"))
		w.start("square:grpc")
		w.want(both)
		w.zone.Fail("a."+square, mdns.RcodeServerFailure)
		w.after(5 * time.Second)
		w.wantOutcomes("ok", "servfail") // without it the Set would be a smaller one
		w.want(both)
	})
}

// TestVeryLarge: SRV answers that TCP does not hold.
func TestVeryLarge(t *testing.T) {
	sized := func(n int, ports ...uint16) func(w *world) {
		return func(w *world) {
			for i, addr := range many(n) {
				w.zone.Headless(square, "grpc", ports[i%len(ports)], addr)
			}
		}
	}
	for _, c := range []struct {
		name    string
		put     func(w *world)
		want    int
		outcome string
	}{
		{"addresses left out", sized(900, 6565), 900, "ok"},
		{"records left out", sized(1300, 6565), 1300, "ok"},
		{"several ports, records left out", sized(1300, 6565, 6566), 0, "toolarge"},
		{"a port of nobody, records left out", func(w *world) {
			sized(1300, 6565)(w)
			w.zone.Remove(square)
		}, 0, "toolarge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				c.put(w)
				w.start(square + ":grpc")
				w.wantOutcomes(c.outcome)
				sets := w.sets()
				if c.want == 0 {
					if text := w.errs()[0].Error(); !strings.Contains(text, "use the kube source") {
						w.t.Errorf("error %q", text)
					}
					return
				}
				if n := len(sets[0].Endpoints); n != c.want || sets[0].Endpoints[0].Addr().Port() != 6565 {
					w.t.Errorf("%d endpoints, want %d", n, c.want)
				}
				if n := len(w.asked()); n > 4 {
					w.t.Errorf("%d questions", n)
				}
			})
		})
	}
}

func TestVerify(t *testing.T) {
	prepare := func(w *world) (other *dnstest.Zone) {
		writeConf(w.t, w.conf, "search default.svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n")
		other = dnstest.NewZone(w.t, domain)
		w.net.Serve(server2, other)
		return other
	}
	for _, target := range []string{"square:6565", "square:grpc"} {
		t.Run("union, "+target, func(t *testing.T) {
			inBubble(t, func(w *world) {
				prepare(w).Headless(square, "grpc", 6565, ips("10.0.0.2", "10.0.0.3")...)
				w.zone.Headless(square, "grpc", 6565, ips("10.0.0.1", "10.0.0.2")...)
				w.start(target)
				w.want("10.0.0.1:6565 10.0.0.2:6565")
				w.asked()
				w.ask(endpoint.Question{Verify: true})
				w.want("10.0.0.1:6565 10.0.0.2:6565 10.0.0.3:6565")
				if sets := w.sets(); sets[0].Verified || !sets[1].Verified {
					w.t.Error("Verified belongs to the second Set alone")
				}
				for _, q := range w.asked() {
					if !strings.HasPrefix(q, "tcp ") {
						w.t.Errorf("asked %s", q)
					}
				}
				w.after(5 * time.Second)
				w.want("10.0.0.1:6565 10.0.0.2:6565")
			})
		})
	}
	t.Run("one virtual IP from two servers is one", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w).ClusterIP(square, "grpc", 80, vip)
			w.zone.ClusterIP(square, "grpc", 80, vip)
			w.start("square:80")
			w.ask(endpoint.Question{Verify: true})
			w.want("10.96.7.7:80")
			w.after(5 * time.Second)
			if n := len(w.virtual()); n != 1 {
				w.t.Errorf("events %+v", w.virtual())
			}
		})
	})
	t.Run("one denies, one does not", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w).Headless(square, "grpc", 1, ips("10.0.0.2")...)
			w.start("square:1")
			w.want("NXDOMAIN")
			w.ask(endpoint.Question{Verify: true})
			w.want("10.0.0.2:1")
		})
	})
	t.Run("NODATA counts before NXDOMAIN", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w).Add(square + " 30 IN TXT x")
			w.start("square:1")
			w.ask(endpoint.Question{Verify: true})
			w.want("NODATA")
		})
	})
	t.Run("a server that fails is said", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w)
			w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
			w.net.Attack(server2, dnstest.Rcode(mdns.RcodeServerFailure, false))
			w.start("square:1")
			w.ask(endpoint.Question{Verify: true})
			w.ask(endpoint.Question{Verify: true})
			w.want("10.0.0.1:1")
			if sets := w.sets(); !sets[len(sets)-1].Verified {
				w.t.Error("not verified")
			}
			if got := w.warnings(); len(got) != 1 || !strings.Contains(got[0], server2+" said SERVFAIL") {
				w.t.Errorf("warnings %q", got)
			}
		})
	})
	t.Run("all fail", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w)
			w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
			w.start("square:1")
			w.net.Attack(server1, dnstest.Rcode(mdns.RcodeServerFailure, false))
			w.net.Remove(server2)
			w.ask(endpoint.Question{Verify: true})
			w.wantOutcomes("ok", "servfail")
			if text := w.errs()[0].Error(); !strings.Contains(text, server1+" said SERVFAIL; ") || !strings.Contains(text, server2) {
				w.t.Errorf("error %q does not name both servers", text)
			}
		})
	})
}
