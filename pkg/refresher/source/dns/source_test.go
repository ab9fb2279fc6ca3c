package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// writeConf writes a resolv.conf, by rename as agents do, and returns its path.
func writeConf(t testing.TB, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "resolv.conf")
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAddresses(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 6565, ips("10.0.0.2", "10.0.0.1")...)
		w.start("square.default:6565")
		w.want("10.0.0.1:6565 10.0.0.2:6565")
		set := w.sets()[0]
		if set.Source != "dns" || set.Authoritative || set.Verified || set.TTL != dnstest.TTL*time.Second || set.Bytes == 0 || set.At.IsZero() {
			w.t.Errorf("set %+v", set)
		}
		want := []string{
			"udp A square.default.default.svc.cluster.local.", "udp A square.default.svc.cluster.local.", "udp SRV square.default.svc.cluster.local.",
		}
		if got := w.asked(); !slices.Equal(got, want) {
			w.t.Errorf("asked %q, want %q", got, want)
		}
		w.after(5 * time.Second)
		w.wantOutcomes("ok", "unchanged")
		if got, want := w.asked(), []string{"udp A square.default.svc.cluster.local."}; !slices.Equal(got, want) {
			w.t.Errorf("then asked %q, want the pinned name alone: %q", got, want)
		}
		w.zone.Remove(square).Headless(square, "grpc", 6565, ips("10.0.0.3")...)
		w.after(5 * time.Second)
		w.want("10.0.0.3:6565")
		if n := len(w.sets()); n != 3 {
			w.t.Errorf("%d updates, want one for each look", n)
		}
	})
}

func TestNames(t *testing.T) {
	cases := []struct {
		name, target string
		asked        []string // of type A
	}{
		{"short", "square:1", []string{"square.default.svc.cluster.local."}},
		{"with the namespace", "square.default:1", []string{"square.default.default.svc.cluster.local.", square}},
		{"absolute", square + ":1", []string{square}},
		{"full without the dot", "square.default.svc.cluster.local:1", []string{
			square + "default.svc." + domain, square + "svc." + domain, square + domain, square,
		}},
		{"another server", "127.9.9.9/square:1", []string{square}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
				if strings.Contains(c.target, "/") {
					w.net.Remove(server1)
					w.net.Serve("127.9.9.9:53", w.zone)
				}
				w.start(c.target)
				w.want("10.0.0.1:1")
				var got []string
				for _, q := range w.asked() {
					if name, ok := strings.CutPrefix(q, "udp A "); ok {
						got = append(got, name)
					}
				}
				if !slices.Equal(got, c.asked) {
					w.t.Errorf("asked %q, want %q", got, c.asked)
				}
			})
		})
	}
}

func TestFamilies(t *testing.T) {
	aaaa := func(w *world, rcode int) {
		w.net.Attack(server1, func(p *dnstest.Peer) {
			m := new(mdns.Msg).SetRcode(p.Question, rcode)
			if p.Question.Question[0].Qtype == mdns.TypeAAAA {
				p.Send(m)
				return
			}
			dnstest.Zones(w.zone)(p)
		})
	}
	cases := []struct {
		name   string
		addrs  []string
		family Family
		also   func(w *world)
		want   string
	}{
		{name: "both, automatic", addrs: []string{"10.0.0.1", "fd00::1"}, want: "10.0.0.1:1"},
		{name: "both, IPv6 preferred", addrs: []string{"10.0.0.1", "fd00::1"}, family: FamilyIPv6, want: "[fd00::1]:1"},
		{name: "both, IPv4 preferred", addrs: []string{"10.0.0.1", "fd00::1"}, family: FamilyIPv4, want: "10.0.0.1:1"},
		{name: "only the other", addrs: []string{"fd00::1"}, want: "[fd00::1]:1"},
		{name: "only the other, IPv6 preferred", addrs: []string{"10.0.0.1"}, family: FamilyIPv6, want: "10.0.0.1:1"},
		{name: "the preferred one fails", addrs: []string{"10.0.0.1", "fd00::1"}, family: FamilyIPv6, want: "10.0.0.1:1",
			also: func(w *world) { aaaa(w, mdns.RcodeServerFailure) }},
		{name: "the other fails and is not needed", addrs: []string{"10.0.0.1"}, want: "10.0.0.1:1",
			also: func(w *world) { aaaa(w, mdns.RcodeServerFailure) }},
		{name: "a filter's answer", addrs: []string{"0.0.0.0", "224.0.0.1"}, want: "NODATA"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.zone.Headless(square, "grpc", 1, ips(c.addrs...)...)
				if c.also != nil {
					c.also(w)
				}
				family := FamilyAuto
				if c.family != "" {
					family = c.family
				}
				w.start("square:1", WithFamily(family))
				w.want(c.want)
			})
		})
	}
}

// TestFamilyStays: an error about the family in use is no reason to connect to
// all pods anew over the other one; the lack of it is.
func TestFamilyStays(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1", "fd00::1")...)
		honest := dnstest.Zones(w.zone)
		w.start("square:1")
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Question.Question[0].Qtype == mdns.TypeA {
				dnstest.Rcode(mdns.RcodeServerFailure, false)(p)
				return
			}
			honest(p)
		})
		w.after(5 * time.Second)
		w.wantOutcomes("ok", "servfail")
		w.want("10.0.0.1:1")
		w.net.Serve(server1, w.zone)
		w.zone.Remove(square).Headless(square, "grpc", 1, ips("fd00::1")...)
		w.after(5 * time.Second)
		w.wantOutcomes("ok", "servfail", "ok")
		w.want("[fd00::1]:1")
	})
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("fd00::1")...)
		honest := dnstest.Zones(w.zone)
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Question.Question[0].Qtype == mdns.TypeAAAA {
				dnstest.Rcode(mdns.RcodeRefused, false)(p)
				return
			}
			honest(p)
		})
		w.start("square:1")
		w.wantOutcomes("refused") // NODATA and an error are not an empty answer
	})
}

func TestIPv6NameServerPrefersIPv6(t *testing.T) {
	inBubble(t, func(w *world) {
		writeConf(w.t, w.conf, strings.ReplaceAll(podConf, "10.96.0.10", "fd00:10::a"))
		w.net.Serve("[fd00:10::a]:53", w.zone)
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1", "fd00::1")...)
		w.start("square:1")
		w.want("[fd00::1]:1")
	})
}

func TestErrors(t *testing.T) {
	cases := []struct {
		outcome Outcome
		do      dnstest.Behaviour // nil: nobody listens
		text    string
	}{
		{OutcomeServFail, dnstest.Rcode(mdns.RcodeServerFailure, false), "said SERVFAIL: see the DNS server's log"},
		{OutcomeRefused, dnstest.Rcode(mdns.RcodeRefused, false), "said REFUSED: this server does not serve the name"},
		{OutcomeRejected, dnstest.Rcode(mdns.RcodeNotZone, false), "said NOTZONE"},
		{OutcomeTimeout, dnstest.Silence(), "no answer in time"},
		{OutcomeSpoofed, dnstest.WrongID(), "something between here and the DNS server answers in its place"},
		{OutcomeMalformed, dnstest.HalfMessage(), "malformed"},
		{OutcomeUnreachable, nil, "connection refused"},
		{OutcomeReferral, dnstest.Change(func(m *mdns.Msg) {
			m.Answer, m.Authoritative = nil, false
			rr, _ := mdns.NewRR("local. 30 IN NS ns.local.")
			m.Ns = []mdns.RR{rr}
		}), "to ask other servers"},
	}
	for _, c := range cases {
		t.Run(string(c.outcome), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
				w.start("square:1")
				w.net.Attack(server1, c.do)
				w.after(40 * time.Second)
				outcomes := w.outcomes()
				if outcomes[1] != string(c.outcome) {
					w.t.Fatalf("outcomes %v", outcomes)
				}
				w.want("10.0.0.1:1")
				err := w.errs()[0]
				if !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "look up square.default.svc.cluster.local: ") {
					w.t.Errorf("error %q lacks %q", err, c.text)
				}
				w.net.Serve(server1, w.zone)
				w.after(40 * time.Second)
				if last := w.outcomes()[len(w.outcomes())-1]; last != "unchanged" {
					w.t.Errorf("after the trouble: %v", w.outcomes())
				}
			})
		})
	}
}

func TestEmptyAnswers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.start("square:1")
		w.want("NXDOMAIN")
		if set := w.sets()[0]; set.Authoritative {
			w.t.Error("a DNS answer is not authoritative")
		}
		w.zone.Add(square + " 30 IN TXT x")
		w.after(5 * time.Second)
		w.want("NODATA")
		w.zone.Remove(square).Add("square.cluster.local. 30 IN TXT x")
		w.after(5 * time.Second)
		w.want("NODATA")
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.after(5 * time.Second)
		w.want("10.0.0.1:1")
		w.wantOutcomes("nxdomain", "nodata", "nodata", "ok")
	})
}

// TestPin: a short NXDOMAIN of the name that was found does not lead to another
// name; a long one does, and the first name comes back.
func TestPin(t *testing.T) {
	inBubble(t, func(w *world) {
		const stranger = "square.svc.cluster.local."
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...).Headless(stranger, "grpc", 1, ips("10.9.9.9")...)
		w.start("square:1")
		w.want("10.0.0.1:1")
		w.zone.Fail(square, mdns.RcodeNameError)
		w.after(20 * time.Second)
		w.want("NXDOMAIN")
		w.zone.Fail(square, mdns.RcodeSuccess)
		w.after(5 * time.Second)
		w.want("10.0.0.1:1")
		w.zone.Fail(square, mdns.RcodeNameError)
		w.after(34 * time.Second)
		w.want("NXDOMAIN")
		w.asked()
		w.after(6 * time.Second)
		w.want("10.9.9.9:1")
	})
}

// TestPastAnError: a name that is found only because an earlier one could not be
// looked up is used, and not pinned.
func TestPastAnError(t *testing.T) {
	inBubble(t, func(w *world) {
		const second = "square.svc.cluster.local."
		w.zone.Headless(second, "grpc", 1, ips("10.0.0.2")...).Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.zone.Fail(square, mdns.RcodeServerFailure)
		w.start("square:1")
		w.want("10.0.0.2:1")
		w.zone.Fail(square, mdns.RcodeSuccess)
		w.after(5 * time.Second)
		w.want("10.0.0.1:1")
	})
	inBubble(t, func(w *world) { // an error, and no name: not empty
		w.zone.Fail(square, mdns.RcodeServerFailure)
		w.start("square:1")
		w.wantOutcomes("servfail")
	})
	inBubble(t, func(w *world) { // other errors end the walk
		w.zone.Headless("square.svc.cluster.local.", "grpc", 1, ips("10.0.0.2")...)
		w.zone.Fail(square, mdns.RcodeRefused)
		w.start("square:1")
		w.wantOutcomes("refused")
	})
}

func TestServers(t *testing.T) {
	two := "search default.svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5 timeout:2 attempts:2"
	prepare := func(w *world, options string) {
		writeConf(w.t, w.conf, two+options+"\n")
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1", "10.0.0.2")...)
		w.net.Serve(server2, w.zone)
	}
	servers := func(w *world) (out []string) {
		for _, q := range w.net.Queries() {
			out = append(out, q.Server)
		}
		return out
	}
	t.Run("the first counts", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, "")
			w.start("square:1")
			servers(w)
			w.after(10 * time.Second)
			if got, want := servers(w), []string{server1, server1}; !slices.Equal(got, want) {
				w.t.Errorf("asked %v, want %v", got, want)
			}
		})
	})
	t.Run("rotate", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, " rotate")
			w.start("square:1")
			servers(w)
			w.after(10 * time.Second)
			if got, want := servers(w), []string{server2, server1}; !slices.Equal(got, want) {
				w.t.Errorf("asked %v, want %v", got, want)
			}
		})
	})
	t.Run("time-out, attempts", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, "")
			w.net.Attack(server1, dnstest.Silence())
			w.start("square:1")
			w.after(2 * time.Second)
			w.after(2 * time.Second) // the SRV question
			w.want("10.0.0.1:1 10.0.0.2:1")
			w.net.Attack(server2, dnstest.Silence())
			servers(w)
			w.after(5*time.Second + 8*time.Second)
			if got, want := servers(w), []string{server1, server2, server1, server2}; !slices.Equal(got, want) {
				w.t.Errorf("asked %v, want %v", got, want)
			}
			w.wantOutcomes("ok", "timeout")
		})
	})
	t.Run("a server that spoke is not asked the same again", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, "")
			w.start("square:1")
			w.net.Attack(server1, dnstest.Rcode(mdns.RcodeServerFailure, false))
			w.net.Remove(server2)
			servers(w)
			w.after(5 * time.Second)
			if got, want := servers(w), []string{server1}; !slices.Equal(got, want) {
				w.t.Errorf("asked %v, want %v", got, want)
			}
			w.wantOutcomes("ok", "servfail")
		})
	})
	t.Run("use-vc", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, " use-vc")
			w.start("square:1")
			for _, q := range w.asked() {
				if !strings.HasPrefix(q, "tcp ") {
					w.t.Errorf("asked %s", q)
				}
			}
		})
	})
	t.Run("Servers", func(t *testing.T) {
		inBubble(t, func(w *world) {
			prepare(w, "")
			w.net.Remove(server1)
			w.start("square:1", WithServers(server2))
			w.want("10.0.0.1:1 10.0.0.2:1")
		})
	})
}

func TestResolvConfChanges(t *testing.T) {
	inBubble(t, func(w *world) {
		other := dnstest.NewZone(w.t, domain)
		w.net.Serve(server2, other)
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		other.Headless(square, "grpc", 1, ips("10.0.0.2")...).Headless("square.test.svc.cluster.local.", "grpc", 1, ips("10.0.0.3")...)
		w.start("square:1")
		w.want("10.0.0.1:1")
		writeConf(w.t, w.conf, strings.ReplaceAll(podConf, "10.96.0.10", "10.96.0.11"))
		w.after(5 * time.Second)
		w.want("10.0.0.2:1")
		writeConf(w.t, w.conf, "search test.svc.cluster.local\nnameserver 10.96.0.11\nnameserver nonsense\n")
		w.after(5 * time.Second)
		w.want("10.0.0.3:1")
		if got := w.warnings(); len(got) != 1 || !strings.Contains(got[0], `"nonsense" is no IP address`) {
			w.t.Errorf("warnings %q", got)
		}
		if err := os.Remove(w.conf); err != nil {
			w.t.Fatal(err)
		}
		w.after(5 * time.Second)
		w.wantOutcomes("ok", "ok", "ok", "unchanged")
	})
}

// TestConfInPlace: written over with as many octets.
func TestConfInPlace(t *testing.T) {
	path := writeConf(t, "", podConf)
	f := confFile{path: path}
	for i, text := range []string{podConf, strings.ReplaceAll(podConf, "10.96.0.10", "10.96.0.11")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
		if moved, err := f.load(); moved || err != nil {
			t.Errorf("load: %t, %v", moved, err)
		}
		if got, want := serversOf(f.conf)[0], []string{server1, server2}[i]; got != want {
			t.Errorf("server %s, want %s", got, want)
		}
	}
}

func TestNoResolvConf(t *testing.T) {
	inBubble(t, func(w *world) {
		w.conf += ".missing"
		w.start("square:1")
		w.wantOutcomes("noserver")
		if text := w.errs()[0].Error(); !strings.Contains(text, "refresh://SERVER/NAME:PORT") {
			w.t.Errorf("error %q does not say what to do", text)
		}
	})
	inBubble(t, func(w *world) {
		w.conf += ".missing"
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("10.96.0.10/" + square + ":1")
		w.want("10.0.0.1:1")
	})
	inBubble(t, func(w *world) { // glibc asks the local host then
		writeConf(w.t, w.conf, "search default.svc.cluster.local\n")
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.net.Serve("127.0.0.1:53", w.zone)
		w.start("square:1")
		w.want("10.0.0.1:1")
	})
}

func TestLargeAnswers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, many(300)...)
		w.start("square:1")
		if n := len(w.sets()[0].Endpoints); n != 300 {
			w.t.Fatalf("%d endpoints", n)
		}
		if got := w.asked(); !slices.Contains(got, "udp A "+square) || !slices.Contains(got, "tcp A "+square) {
			w.t.Errorf("asked %q", got)
		}
		w.after(6 * time.Second)
		if got, want := w.asked(), []string{"tcp A " + square}; !slices.Equal(got, want) {
			w.t.Errorf("asked %q, want TCP at once", got)
		}
		w.zone.Remove(square).Headless(square, "grpc", 1, many(3)...)
		w.after(10 * time.Second)
		w.asked()
		w.after(5 * time.Second)
		if got, want := w.asked(), []string{"udp A " + square}; !slices.Equal(got, want) {
			w.t.Errorf("asked %q, want UDP again", got)
		}
	})
}

func many(n int) []netip.Addr {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("10.1.%d.%d", i>>8, i&255)
	}
	return ips(out...)
}

// TestNoTCP: with TCP blocked a part of a large answer is used when nothing is
// known, and never afterwards: each answer has another part.
func TestNoTCP(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, many(300)...)
		honest := dnstest.Zones(w.zone)
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Network == "udp" {
				honest(p)
			}
			p.Hangup()
		})
		w.start("square:1")
		if n := len(w.sets()[0].Endpoints); n < 20 || n > 80 {
			w.t.Errorf("%d endpoints", n)
		}
		if got := w.warnings(); len(got) != 1 || !strings.Contains(got[0], "allow TCP port 53") {
			w.t.Errorf("warnings %q", got)
		}
		w.after(15 * time.Second)
		if got := w.outcomes(); got[0] != "ok" || slices.Contains(got[1:], "ok") || !slices.Contains(got, "truncated") {
			w.t.Errorf("outcomes %v", got)
		}
		last := w.errs()[len(w.errs())-1]
		if !strings.Contains(last.Error(), "TCP port 53") {
			w.t.Errorf("error %q", last)
		}
	})
}

func TestFixedTargets(t *testing.T) {
	for target, want := range map[string]string{
		"10.0.0.7:1": "10.0.0.7:1", "[fd00::7]:1": "[fd00::7]:1", "localhost:1": "127.0.0.1:1+[::1]:1",
	} {
		t.Run(target, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.start(target)
				w.want(want)
				w.after(time.Hour)
				if n := len(w.sets()); n != 1 {
					w.t.Errorf("%d updates", n)
				}
				w.ask(endpoint.Question{Verify: true})
				if sets := w.sets(); len(sets) != 2 || !sets[1].Verified || !sets[0].Authoritative {
					w.t.Errorf("updates %+v", sets)
				}
				if got := w.asked(); got != nil {
					w.t.Errorf("asked %v", got)
				}
			})
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	good := endpoint.Target{Host: "square", Port: 1}
	cases := []struct {
		name   string
		target endpoint.Target
		opts   []Option
		want   string
	}{
		{"interval", good, []Option{WithInterval(time.Millisecond)}, "Interval is 1ms"},
		{"max interval", good, []Option{WithMaxInterval(time.Second)}, "MaxInterval is 1s"},
		{"jitter", good, []Option{WithJitter(2)}, "Jitter is 2"},
		{"rewalk", good, []Option{WithRewalkAfter(-1)}, "RewalkAfter is -1ns"},
		{"family", good, []Option{WithFamily("x")}, `Family is "x"`},
		{"suffix", good, []Option{WithTwinSuffix("")}, "TwinSuffix"},
		{"file", good, []Option{WithResolvConf("")}, "ResolvConf is empty"},
		{"no port", endpoint.Target{Host: "square"}, nil, "a host and a port"},
		{"no host", endpoint.Target{Port: 1}, nil, "a host and a port"},
		{"port name of an address", endpoint.Target{Host: "10.0.0.1", PortName: "grpc"}, nil, "give the port's number"},
		{"port name of localhost", endpoint.Target{Host: "localhost", PortName: "grpc"}, nil, "give the port's number"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := New(c.opts...).Open(c.target); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	for _, o := range [][]Option{{FollowHeadlessTwin(false), WithTwinSuffix("")}, {WithInterval(time.Minute)}, {WithResolvConf(""), WithServers("x:53")}} {
		if _, err := New(o...).Open(good); err != nil {
			t.Error(err)
		}
	}
}
