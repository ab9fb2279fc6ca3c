package dnsprobe_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

func endpoint(addr string, port uint16) dnsprobe.Endpoint {
	return dnsprobe.Endpoint{Address: netip.MustParseAddr(addr), Port: port}
}

// answerOf returns an answer for s.test. with a final record for each address.
func answerOf(t dnsprobe.Type, addrs ...string) *dnsprobe.Answer {
	out := &dnsprobe.Answer{Question: dnsprobe.Question{Name: "s.test.", Type: t}}
	for _, addr := range addrs {
		out.Records = append(out.Records, dnsprobe.Record{Name: "S.test.", Type: t, TTL: 30, Address: netip.MustParseAddr(addr)})
	}
	return out
}

func srvAnswer(records ...dnsprobe.Record) *dnsprobe.Answer {
	out := &dnsprobe.Answer{Question: dnsprobe.Question{Name: "s.test.", Type: dnsprobe.TypeSRV}}
	for _, r := range records {
		if r.Type == dnsprobe.TypeSRV {
			r.Name = "s.test."
			out.Records = append(out.Records, r)
			continue
		}
		out.Additional = append(out.Additional, r)
	}
	return out
}

func TestCompare(t *testing.T) {
	one, two, three := endpoint("10.0.0.1", 6565), endpoint("10.0.0.2", 6565), endpoint("10.0.0.3", 6565)
	six := endpoint("fd00::1", 6565)
	srv := func(target string, port uint16) dnsprobe.Record {
		return dnsprobe.Record{Type: dnsprobe.TypeSRV, Target: target, Port: port}
	}
	glue := func(name, addr string) dnsprobe.Record {
		return dnsprobe.Record{Name: name, Type: dnsprobe.TypeA, Address: netip.MustParseAddr(addr)}
	}
	stranger := answerOf(dnsprobe.TypeA, "10.0.0.1")
	stranger.Records = append(stranger.Records, glue("other.test.", "10.0.0.9"))
	tests := map[string]struct {
		answer *dnsprobe.Answer
		want   []dnsprobe.Endpoint
		expect dnsprobe.Comparison
	}{
		"same, other order, repeated": {answerOf(dnsprobe.TypeA, "10.0.0.2", "10.0.0.1", "10.0.0.2"), []dnsprobe.Endpoint{one, two, one},
			dnsprobe.Comparison{Matched: 2}},
		"both empty": {answerOf(dnsprobe.TypeA), nil, dnsprobe.Comparison{}},
		"missing and extra": {answerOf(dnsprobe.TypeA, "10.0.0.3", "10.0.0.1"), []dnsprobe.Endpoint{two, one},
			dnsprobe.Comparison{Matched: 1, Missing: []dnsprobe.Endpoint{endpoint("10.0.0.2", 0)}, Extra: []dnsprobe.Endpoint{endpoint("10.0.0.3", 0)}}},
		"all missing, sorted": {answerOf(dnsprobe.TypeA), []dnsprobe.Endpoint{three, one, two},
			dnsprobe.Comparison{Missing: []dnsprobe.Endpoint{endpoint("10.0.0.1", 0), endpoint("10.0.0.2", 0), endpoint("10.0.0.3", 0)}}},
		"A concerns IPv4 only":    {answerOf(dnsprobe.TypeA, "10.0.0.1"), []dnsprobe.Endpoint{one, six}, dnsprobe.Comparison{Matched: 1}},
		"AAAA concerns IPv6 only": {answerOf(dnsprobe.TypeAAAA, "fd00::1"), []dnsprobe.Endpoint{one, six}, dnsprobe.Comparison{Matched: 1}},
		"mapped counts as IPv4": {answerOf(dnsprobe.TypeA, "10.0.0.1"), []dnsprobe.Endpoint{endpoint("::ffff:10.0.0.1", 6565)},
			dnsprobe.Comparison{Matched: 1}},
		"several ports of a pod": {answerOf(dnsprobe.TypeA, "10.0.0.1"), []dnsprobe.Endpoint{one, endpoint("10.0.0.1", 80)},
			dnsprobe.Comparison{Matched: 1}},
		"records of other names": {stranger, []dnsprobe.Endpoint{one}, dnsprobe.Comparison{Matched: 1}},
		"SRV":                    {srvAnswer(srv("A.test.", 6565), glue("a.test.", "10.0.0.1")), []dnsprobe.Endpoint{one}, dnsprobe.Comparison{Matched: 1}},
		"SRV with the wrong port": {srvAnswer(srv("a.test.", 80), glue("a.test.", "10.0.0.1")), []dnsprobe.Endpoint{one},
			dnsprobe.Comparison{Missing: []dnsprobe.Endpoint{one}, Extra: []dnsprobe.Endpoint{endpoint("10.0.0.1", 80)}}},
		"SRV without addresses": {srvAnswer(srv("b.test.", 6565), srv("a.test.", 6565), srv("a.test.", 80)), []dnsprobe.Endpoint{one},
			dnsprobe.Comparison{Missing: []dnsprobe.Endpoint{one}, Unresolved: []string{"a.test.", "b.test."}}},
		"SRV says there is none": {srvAnswer(srv(".", 0)), nil, dnsprobe.Comparison{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := dnsprobe.Compare(test.answer, test.want)
			if diff := cmp.Diff(test.expect, got, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			differs := len(test.expect.Missing)+len(test.expect.Extra)+len(test.expect.Unresolved) > 0
			if got.Equal() == differs {
				t.Errorf("equal: %v", got.Equal())
			}
		})
	}
}
