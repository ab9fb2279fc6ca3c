package dnsprobe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// trace renders a walk as one line for each step.
func trace(w *dnsprobe.Walk, names map[string]string) []string {
	var out []string
	for _, s := range w.Steps {
		what := string(s.Outcome)
		if s.Failure != nil {
			what = string(s.Failure.Kind)
		}
		out = append(out, fmt.Sprintf("%s@%s/%d %s -> %s", s.Question.Name, names[s.Server], s.Attempt, what, s.Next))
	}
	return out
}

func TestLookupRules(t *testing.T) {
	zone := dnstest.NewZone(t, "test.").Add("x.b.test. 5 IN A 10.0.0.1", "v6.a.test. 5 IN AAAA fd00::1", "below.v4.b.test. 5 IN A 10.0.0.2")
	zone.Fail("fails.a.test.", dns.RcodeServerFailure).Fail("odd.a.test.", dns.RcodeFormatError).Fail("no.a.test.", dns.RcodeNotImplemented)
	zone.Add("fails.b.test. 5 IN A 10.0.0.3").Fail("broken.a.test.", dns.RcodeServerFailure)
	good := dnstest.Serve(t, zone)
	silent := dnstest.Attack(t, dnstest.Silence())
	refused := dnstest.RefusedAddr(t)
	names := map[string]string{good.Addr(): "good", silent.Addr(): "silent", refused: "closed"}
	one := []string{good.Addr()}
	tests := map[string]struct {
		name    string
		servers []string
		options string
		outcome dnsprobe.Outcome
		want    []string
	}{
		"found at the second": {name: "x", servers: one, outcome: dnsprobe.OutcomeFound,
			want: []string{"x.a.test.@good/1 nxdomain -> next-name", "x.b.test.@good/1 found -> done"}},
		"nodata goes on and is remembered": {name: "v6", servers: one, outcome: dnsprobe.OutcomeNoData,
			want: []string{"v6.a.test.@good/1 nodata -> next-name", "v6.b.test.@good/1 nxdomain -> next-name",
				"v6.@good/1 refused -> next-server", "v6.@good/2 refused -> done"}},
		"nowhere": {name: "nowhere.test.", servers: one, outcome: dnsprobe.OutcomeNXDomain,
			want: []string{"nowhere.test.@good/1 nxdomain -> done"}},
		"servfail tries all, then the next name": {name: "fails", servers: one, outcome: dnsprobe.OutcomeFound,
			want: []string{"fails.a.test.@good/1 servfail -> next-server", "fails.a.test.@good/2 servfail -> next-name",
				"fails.b.test.@good/1 found -> done"}},
		"servfail outweighs nxdomain": {name: "broken", servers: one, options: "options no-tld-query\n", outcome: dnsprobe.OutcomeServFail,
			want: []string{"broken.a.test.@good/1 servfail -> next-server", "broken.a.test.@good/2 servfail -> next-name",
				"broken.b.test.@good/1 nxdomain -> done"}},
		"formerr leads to the name as it is": {name: "odd", servers: one, outcome: dnsprobe.OutcomeRefused,
			want: []string{"odd.a.test.@good/1 rejected -> name-as-is", "odd.@good/1 refused -> next-server", "odd.@good/2 refused -> done"}},
		"notimp asks the next server": {name: "no", servers: one, options: "options no-tld-query\n", outcome: dnsprobe.OutcomeRejected,
			want: []string{"no.a.test.@good/1 rejected -> next-server", "no.a.test.@good/2 rejected -> done"}},
		"as it is first, whatever comes of it": {name: "y.x", servers: one, outcome: dnsprobe.OutcomeRefused,
			want: []string{"y.x.@good/1 refused -> next-server", "y.x.@good/2 refused -> next-name",
				"y.x.a.test.@good/1 nxdomain -> next-name", "y.x.b.test.@good/1 nxdomain -> done"}},
		"the second server answers": {name: "x.b.test.", servers: []string{silent.Addr(), refused, good.Addr()}, outcome: dnsprobe.OutcomeFound,
			want: []string{"x.b.test.@silent/1 timeout -> next-server", "x.b.test.@closed/1 connection-refused -> next-server",
				"x.b.test.@good/1 found -> done"}},
		"time-outs pass the list over": {name: "x", servers: []string{silent.Addr()},
			want: []string{"x.a.test.@silent/1 timeout -> next-server", "x.a.test.@silent/2 timeout -> name-as-is",
				"x.@silent/1 timeout -> next-server", "x.@silent/2 timeout -> done"}},
		"one attempt": {name: "x", servers: []string{refused}, options: "options attempts:1\n",
			want: []string{"x.a.test.@closed/1 connection-refused -> done"}},
		"rotation": {name: "x", servers: []string{good.Addr(), refused}, options: "options rotate\n", outcome: dnsprobe.OutcomeFound,
			want: []string{"x.a.test.@good/1 nxdomain -> next-name", "x.b.test.@closed/1 connection-refused -> next-server",
				"x.b.test.@good/1 found -> done"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conf := parse(t, "search a.test b.test\n"+test.options)
			if slices.Contains(test.servers, silent.Addr()) {
				conf.Timeout = short
			}
			r := dnsprobe.Resolver{Client: dnsprobe.Client{Dial: dnstest.NewDialer(t).DialContext}, Conf: conf, Servers: test.servers}
			w, err := r.Lookup(t.Context(), test.name, dnsprobe.TypeA)
			if (err == nil) != (test.outcome != "") || w.Outcome != test.outcome {
				t.Errorf("outcome %q, error %v; want %q", w.Outcome, err, test.outcome)
			}
			if diff := cmp.Diff(test.want, trace(w, names)); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if found := w.Answer() != nil; found != (test.outcome == dnsprobe.OutcomeFound) {
				t.Errorf("answer %v", w.Answer())
			}
		})
	}
}

// TestLookupAsAPodDoes walks the path of a real pod's file for a name with fewer dots than ndots.
func TestLookupAsAPodDoes(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 3), dnstest.NewZone(t, "."))
	r := dnsprobe.Resolver{Conf: parse(t, podConf), Servers: []string{server.Addr()}}
	w, err := r.Lookup(t.Context(), "square.default.svc.cluster.local", dnsprobe.TypeA)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Steps) != 4 || w.Answer() == nil || len(w.Answer().Addresses()) != 3 || len(w.Candidates) != 4 {
		t.Errorf("walk %v", trace(w, nil))
	}
	w, err = r.Lookup(t.Context(), "square", dnsprobe.TypeA)
	if err != nil || len(w.Steps) != 1 {
		t.Errorf("error %v, walk %v", err, trace(w, nil))
	}
}

func TestLookupOptionsReachTheClient(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 3))
	r := dnsprobe.Resolver{Conf: parse(t, "options use-vc edns0\n"), Servers: []string{server.Addr()}}
	if _, err := r.Lookup(t.Context(), service, dnsprobe.TypeA); err != nil {
		t.Fatal(err)
	}
	if q := server.Queries()[0]; q.Network != "tcp" || q.EDNSSize != dnsprobe.EDNSSizeGlibc {
		t.Errorf("asked %+v", q)
	}
	// The zero value of a configuration asks the local host by glibc's defaults.
	for _, conf := range []dnsprobe.ResolvConf{{}, parse(t, "nameserver ::1\n")} {
		refuses := func(_ context.Context, network, address string) (net.Conn, error) {
			if network != "udp" || address != "127.0.0.1:53" && address != "[::1]:53" {
				t.Errorf("dialled %s %s", network, address)
			}
			return nil, dnsprobe.ErrConnRefused
		}
		r = dnsprobe.Resolver{Client: dnsprobe.Client{Dial: refuses}, Conf: conf}
		w, err := r.Lookup(t.Context(), "x", dnsprobe.TypeA)
		if !errors.Is(err, dnsprobe.ErrConnRefused) || len(w.Steps) != 2 {
			t.Errorf("error %v, %d steps", err, len(w.Steps))
		}
	}
}

func TestLookupEnds(t *testing.T) {
	server := dnstest.Attack(t, dnstest.Silence())
	r := dnsprobe.Resolver{Conf: parse(t, podConf), Servers: []string{server.Addr()}}
	if w, err := r.Lookup(t.Context(), "a..b", dnsprobe.TypeA); !errors.Is(err, dnsprobe.ErrBadQuestion) || w == nil || len(w.Steps) != 0 {
		t.Errorf("bad name: error %v, walk %v", err, w)
	}
	if w, err := r.Lookup(t.Context(), "x", 0); !errors.Is(err, dnsprobe.ErrBadQuestion) || len(w.Steps) != 1 {
		t.Errorf("bad type: error %v, walk %v", err, w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	r.Conf.Timeout = time.Hour
	if w, err := r.Lookup(ctx, "x", dnsprobe.TypeA); !errors.Is(err, dnsprobe.ErrTimeout) || len(w.Steps) != 1 {
		t.Errorf("out of time: error %v, %d steps", err, len(w.Steps))
	}
}
