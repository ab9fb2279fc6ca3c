package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// wideFacts prints what stands behind the verdict: why it is taken for gRPC, its clients, who is connected to whom,
// and what DNS and the pods' ports said.
func (p *printer) wideFacts(s diagnose.ServiceReport) {
	p.matrix(s.Spread)
	p.statistic(s.Spread)
	p.blank()
	because := ""
	if len(s.GRPC.Because) > 0 {
		because = ": " + strings.Join(s.GRPC.Because, "; ")
	}
	p.prose(4, []span{{faint, "gRPC    "}}, string(s.GRPC.Level)+because)
	for _, c := range s.Clients {
		text := fmt.Sprintf("%s (%s) dials %s", c.Workload, c.Namespace, strings.Join(c.Targets, ", "))
		if c.Mesh != "" {
			text += ", in " + c.Mesh
		}
		p.prose(4, []span{{faint, "client  "}}, text)
	}
	if p.o.Facts == nil {
		return
	}
	v, ok := p.o.Facts.View(s.Key)
	if !ok {
		return
	}
	p.portFacts(v)
	p.dnsFacts(v)
}

func (p *printer) portFacts(v *diagnose.View) {
	var cells [][]span
	for _, pp := range v.Ports.Value {
		if !slices.ContainsFunc(v.Endpoints(), func(e diagnose.Endpoint) bool { return e.Pod == pp.Pod }) {
			continue
		}
		streams := ""
		switch {
		case pp.MaxConcurrentStreams != nil:
			streams = fmt.Sprint(*pp.MaxConcurrentStreams)
		case pp.Proto == "grpc" || pp.Proto == "h2c":
			streams = "no limit"
		}
		cells = append(cells, []span{
			txt("%s", pp.Pod.Name), txt("%d", pp.Port), txt("%s", pp.Proto), txt("%s", tlsWords(pp.TLS)), txt("%s", streams),
			txt("%s", pp.Health), txt("%s", micros(pp.RTTMicros)), {doubt, pp.Error},
		})
	}
	if len(cells) == 0 {
		return
	}
	p.blank()
	p.table(4, []column{
		{"POD", false}, {"PORT", true}, {"SPEAKS", false}, {"TLS", false}, {"STREAMS", true}, {"HEALTH", false}, {"TIME", true}, {"", false},
	}, cells)
}

func tlsWords(t *diagnose.TLSInfo) string {
	if t == nil {
		return ""
	}
	out := "yes"
	if len(t.DNSNames) > 0 {
		out = t.DNSNames[0]
		if n := len(t.DNSNames) - 1; n > 0 {
			out += fmt.Sprintf(" and %d more", n)
		}
	}
	if t.ClientCert {
		out += ", wants a client certificate"
	}
	return out
}

func (p *printer) dnsFacts(v *diagnose.View) {
	prefix := v.Service.Name + "." + v.Service.Namespace + "."
	var mine []diagnose.DNSAnswer
	for _, a := range v.DNS.Value {
		if strings.HasPrefix(a.Name, prefix) {
			mine = append(mine, a)
		}
	}
	if len(mine) > 0 {
		p.dnsAnswers(mine)
	}
}
