package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// fleets are the numbers of clients that are reckoned with.
var fleets = []int{1_000, 100_000}

// fleet reckons what many clients of one Service cost the cluster's DNS and its API server. The waits are those of the DNS source's own
// Pace under a clock that is only a number; the sizes are those of real messages. Nothing is sent.
func fleet(_ context.Context, _ *bench, s *result.Section) error {
	var out strings.Builder
	table := func(title string, rows [][]string) {
		fmt.Fprintf(&out, "%s\n\n", title)
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, r := range rows {
			fmt.Fprintln(w, strings.Join(r, "\t")+"\t")
		}
		_ = w.Flush() // a strings.Builder takes everything
		out.WriteString("\n")
	}
	table("Questions of clients that start at the same moment: the busiest 100 ms, as a rate, and the mean", together())
	answers, err := answersOf(10, 100, 300)
	if err != nil {
		return err
	}
	table("DNS traffic to and from the clients, nothing changes (steady state)", traffic(answers))
	table("Time until a client sees a change (look to look, without caches on the way)", sight())
	watches, err := watching(300)
	if err != nil {
		return err
	}
	table("The API server, for clients that watch EndpointSlices instead: 300 endpoints in 3 slices", watches)
	s.Block = out.String()
	s.Note("Simulated with the DNS source's own Pace (interval 5 s, at most 30 s, jitter 10 %%) under a virtual clock; nothing is sent, so the machine does not matter.")
	s.Note("Octets are those of real messages with IP and UDP or TCP headers. Over TCP the handshake, one acknowledgement for two segments and the end " +
		"are reckoned with; over UDP nothing is lost. CoreDNS compresses names only where an answer would not fit otherwise, and so does this.")
	s.Note("When a connection ends, its client asks at once, three times in a row and then once a second at most: a pod with a connection from each of " +
		"100,000 clients that goes away costs 100,000 questions in the time in which the connections end, which is the server's grace period when it drains.")
	s.Note("Lists after a failed watch and the API server's own caches are not reckoned with.")
	return nil
}

// manner is a way to pace looks.
type manner struct {
	name string
	pace func() dns.Pace
	// jitterOnly leaves out that the first wait is a random part of the interval.
	jitterOnly bool
}

func manners() []manner {
	plain := func() dns.Pace { c := dns.DefaultConfig(); c.Jitter = 0; return c.Pace() }
	whole := func() dns.Pace { return dns.DefaultConfig().Pace() }
	return []manner{
		{name: "0 % jitter", pace: plain},
		{name: "10 % jitter", pace: whole, jitterOnly: true},
		{name: "10 % jitter, random first wait (default)", pace: whole},
	}
}

// looks calls at with the time of each look of one client that starts at 0.
func (m manner) looks(until time.Duration, l dns.Look, at func(time.Duration)) {
	p := m.pace()
	p.Random = rand.Float64
	first := l
	first.Changed = true
	t := time.Duration(0)
	at(t)
	wait := p.Next(first)
	if m.jitterOnly {
		wait = p.Next(first)
	}
	for t += wait; t < until; t += p.Next(l) {
		at(t)
	}
}

// together is the table of the rates after a common start.
func together() [][]string {
	const window = 100 * time.Millisecond
	spans := []struct{ from, to time.Duration }{{time.Second, time.Minute}, {4 * time.Minute, 5 * time.Minute}, {14 * time.Minute, 15 * time.Minute}}
	rows := [][]string{{"clients", "pace", "1st minute", "5th minute", "15th minute", "mean"}}
	for _, clients := range fleets {
		for _, m := range manners() {
			histogram := make([]int, 15*time.Minute/window)
			for range clients {
				m.looks(15*time.Minute, dns.Look{}, func(t time.Duration) { histogram[t/window]++ })
			}
			row := []string{count(clients), m.name}
			for _, s := range spans {
				busiest := slices.Max(histogram[s.from/window : s.to/window])
				row = append(row, count(busiest*int(time.Second/window))+"/s")
			}
			total := 0
			for _, n := range histogram[int(time.Minute/window):] {
				total += n
			}
			rows = append(rows, append(row, count(total/(14*60))+"/s"))
		}
	}
	return rows
}

// answer is what one look moves, and the size of the answer alone.
type answer struct {
	what   string
	size   int
	octets int
}

// Headers in octets: Ethernet's are left out, as they are in what a pod's interface counts.
const (
	ipUDP    = 20 + 8
	ipTCP    = 20 + 32 // with time stamps
	segment  = 1448
	ednsSize = 1232
)

// answersOf packs the messages of looks at so many endpoints, as A and as SRV.
func answersOf(numbers ...int) ([]answer, error) {
	const name = "square.default.svc.cluster.local."
	var out []answer
	for _, kind := range []uint16{mdns.TypeA, mdns.TypeSRV} {
		for _, n := range numbers {
			asked := name
			if kind == mdns.TypeSRV {
				asked = "_grpc._tcp." + name
			}
			q := new(mdns.Msg).SetQuestion(asked, kind)
			q.SetEdns0(ednsSize, false)
			m := new(mdns.Msg).SetReply(q)
			for i := range n {
				ip := net.IPv4(10, 244, byte(i>>8), byte(i))
				host := strings.ReplaceAll(ip.String(), ".", "-") + "." + name
				a := &mdns.A{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 30}, A: ip}
				if kind == mdns.TypeA {
					m.Answer = append(m.Answer, a)
					continue
				}
				a.Hdr.Name = host
				m.Extra = append(m.Extra, a)
				m.Answer = append(m.Answer, &mdns.SRV{Hdr: mdns.RR_Header{Name: asked, Rrtype: kind, Class: mdns.ClassINET, Ttl: 30}, Port: 6565, Weight: 1, Target: host})
			}
			m.SetEdns0(ednsSize, false)
			a := answer{what: fmt.Sprintf("%d endpoints, %s", n, mdns.TypeToString[kind]), size: m.Len()}
			udp := m.Copy()
			udp.Truncate(ednsSize)
			asking, err := q.Pack()
			if err != nil {
				return nil, err
			}
			if !udp.Truncated && len(udp.Extra) == len(m.Extra) {
				a.size = udp.Len()
				a.octets = len(asking) + a.size + 2*ipUDP
			} else {
				segments := (a.size + 2 + segment - 1) / segment
				packets := 3 + 1 + segments + (segments+1)/2 + 4 // handshake, question, answer, acknowledgements, end
				a.octets = len(asking) + 2 + a.size + 2 + packets*ipTCP
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// traffic is the table of octets per second, with the back-off and without.
func traffic(answers []answer) [][]string {
	rows := [][]string{{"answer", "size", "questions/s per client", "1,000 clients", "100,000 clients", "without back-off"}}
	steady := func(a answer, backOff bool) float64 { // looks per second of one client
		m := manners()[2]
		if !backOff {
			m.pace = func() dns.Pace { c := dns.DefaultConfig(); c.MaxInterval = c.Interval; return c.Pace() }
		}
		n := 0
		const from, to = 5 * time.Minute, 65 * time.Minute
		for range 100 {
			m.looks(to, dns.Look{Bytes: a.size}, func(t time.Duration) {
				if t >= from {
					n++
				}
			})
		}
		return float64(n) / 100 / (to - from).Seconds()
	}
	for _, a := range answers {
		rate := steady(a, true)
		perClient := rate * float64(a.octets)
		rows = append(rows, []string{
			a.what, count(a.size) + " B", fmt.Sprintf("%.3f", rate), octets(1000 * perClient), octets(100_000 * perClient),
			octets(100_000 * steady(a, false) * float64(a.octets)),
		})
	}
	return rows
}

// sight is the table of how long a change stays unseen.
func sight() [][]string {
	rows := [][]string{{"answer", "p50", "p95", "longest"}}
	for _, c := range []struct {
		name  string
		bytes int
	}{{"up to 1,232 octets", 600}, {"more, after minutes without a change (back-off)", 5000}} {
		var unseen []time.Duration
		for range 20_000 {
			change, seen := 10*time.Minute+time.Duration(rand.Float64()*float64(time.Minute)), time.Duration(0)
			manners()[2].looks(12*time.Minute, dns.Look{Bytes: c.bytes}, func(t time.Duration) {
				if t >= change && seen == 0 {
					seen = t
				}
			})
			unseen = append(unseen, seen-change)
		}
		slices.Sort(unseen)
		at := func(share float64) string {
			return fmt.Sprintf("%.1f s", unseen[int(share*float64(len(unseen)-1))].Seconds())
		}
		rows = append(rows, []string{c.name, at(0.5), at(0.95), at(1)})
	}
	return rows
}

// watching is the table of what watches cost.
func watching(endpoints int) ([][]string, error) {
	slice := sliceOf(min(endpoints, 100))
	text, err := json.Marshal(slice)
	if err != nil {
		return nil, err
	}
	wire, err := slice.Marshal()
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"clients", "open watches", "new watches (each lasts 15 to 30 min)", "one pod changes, protobuf (ours)", "the same, JSON"}}
	for _, n := range fleets {
		// The kube source asks for watches of 15 to 30 minutes, 22.5 on average.
		rows = append(rows, []string{count(n), count(n), fmt.Sprintf("%.1f/s", float64(n)/(22.5*60)), bytesOf(float64(n * len(wire))), bytesOf(float64(n * len(text)))})
	}
	return rows, nil
}

// sliceOf is an EndpointSlice as the controller writes it.
func sliceOf(endpoints int) *discoveryv1.EndpointSlice {
	yes, no, name, number, tcp, node, zone := true, false, "grpc", int32(6565), corev1.ProtocolTCP, "worker-17", "zone-a"
	s := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "square-service-x7k2p", GenerateName: "square-service-", Namespace: "default", UID: "7d0a8a1e-6f0e-4b57-9d43-0a4a3c1d9a55",
			ResourceVersion: "123456789", Generation: 42, Labels: map[string]string{discoveryv1.LabelServiceName: "square-service", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
			Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-21T10:00:00Z"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &tcp}},
	}
	for i := range endpoints {
		e := discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", i>>8, i&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			NodeName:   &node, Zone: &zone,
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("square-service-6c9f7d5b8-%05x", i),
				UID: types.UID(fmt.Sprintf("7d0a8a1e-6f0e-4b57-9d43-%012x", i)),
			},
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func count(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func octets(perSecond float64) string { return bytesOf(perSecond) + "/s" }

func bytesOf(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", n/1e6)
	}
	return fmt.Sprintf("%.1f kB", n/1e3)
}
