package snapfile_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// busy is the square snapshot with everything in it that names something.
func busy(t testing.TB) *diagnose.Snapshot {
	s := square(t)
	s.Services.Value[0].Ignore = map[string]string{"readiness-missing": "see PAYROLL-17"}
	s.Services.Value = append(s.Services.Value, diagnose.Service{
		Key: diagnose.Key{Namespace: "default", Name: "square-service-headless"}, Type: "ClusterIP", ClusterIPs: []string{"None"},
		Selector: map[string]string{"app": "square-app"}, Ours: true,
		Ports: []diagnose.ServicePort{{Name: "acme-grpc", Protocol: "TCP", Port: 6565, TargetPort: "acme-grpc", AppProtocol: "kubernetes.io/h2c"}},
	})
	s.DNS.Value = append(s.DNS.Value, diagnose.DNSAnswer{
		Server: s.DNS.Value[0].Server, Name: "square-service-headless.default.svc.cluster.local.", Type: "A", Rcode: "NOERROR",
		Addresses: []string{"10.244.1.4", "10.244.2.5"}, TTL: 30,
		SRV: []diagnose.SRV{{Target: "10-244-1-4.square-service-headless.default.svc.cluster.local.", Port: 6565}},
	})
	s.Workloads.Value[0].Targets = append(s.Workloads.Value[0].Targets,
		diagnose.Target{Container: "aggregator", Source: "configmap", ConfigMap: "aggregator-app-settings", Name: "square.url",
			Token: "10.96.120.7:6565", Host: "10.96.120.7", Port: 6565, Kind: diagnose.TargetIP, Service: s.Targets[0]},
		diagnose.Target{Container: "aggregator", Source: "env", Name: "OTHER", Token: "dns:///payrol.default.svc.cluster.local:1",
			Scheme: "dns", Host: "payrol.default.svc.cluster.local", Port: 1, Kind: diagnose.TargetMissing, GRPC: true})
	// From the node's gateway: one that was there for the whole measurement, and a question of the kubelet's.
	stays, rate := mustSocket(t, "[::ffff:10.244.2.5]:6565", "[::ffff:10.244.2.1]:40000"), 40.0
	stays.RxRate, stays.TxRate = &rate, &rate
	s.Sockets.Value[1].Sockets = append(s.Sockets.Value[1].Sockets, stays, mustSocket(t, "[::ffff:10.244.2.5]:6565", "[::ffff:10.244.2.1]:40001"))
	s.Ports.Value[0].TLS = &diagnose.TLSInfo{ALPN: "h2", DNSNames: []string{"*.acme.example", "square-service"}}
	s.Gaps = append(s.Gaps, diagnose.Gap{Fact: diagnose.FactConfigMaps, Subject: "configmap default/wages-settings",
		Status: diagnose.Status{State: diagnose.Denied, Reason: `User "alice@acme.example" may not get configmaps in default`}})
	return s
}

func mustSocket(t testing.TB, local, remote string) diagnose.Socket {
	t.Helper()
	var s diagnose.Socket
	if err := json.Unmarshal([]byte(`{"local":"`+local+`","remote":"`+remote+`","state":"ESTABLISHED"}`), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// secrets are what a redacted file must not hold, in any case of letters.
var secrets = []string{
	"square", "aggregator", "acme", "context: lab", "payrol", "wages", "app-settings", "alice", "registry",
	"4x2lq", "8hmfz", "zt9wk", "kk8dd", "7c1f2c1e", "10.244.", "10.96.", "10.66.", "10-244-",
}

func TestRedactLeavesNothing(t *testing.T) {
	s := busy(t)
	before := save(t, s)
	red, err := snapfile.Redact(s, []byte("a salt for the test"))
	if err != nil {
		t.Fatal(err)
	}
	if after := save(t, s); after != before {
		t.Error("the original was changed")
	}
	out := strings.ToLower(save(t, red))
	for _, w := range secrets {
		if !strings.Contains(strings.ToLower(before), w) {
			t.Errorf("the test looks for %q, which the original does not hold", w)
		}
		if strings.Contains(out, w) {
			t.Errorf("%q is in the redacted file:\n%s", w, regexp.MustCompile(`.*`+regexp.QuoteMeta(w)+`.*`).FindString(out))
		}
	}
	if !red.Redacted {
		t.Error("not marked as redacted")
	}
}

func save(t testing.TB, s *diagnose.Snapshot) string {
	t.Helper()
	var b bytes.Buffer
	if err := snapfile.Save(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRedactReplays holds the reports of a snapshot and of its redaction side by side: apart from names they are the
// same, sentence by sentence.
func TestRedactReplays(t *testing.T) {
	s := busy(t)
	red, err := snapfile.Redact(s, []byte("a salt for the test"))
	if err != nil {
		t.Fatal(err)
	}
	want, got := outcome(t, s), outcome(t, red)
	if len(want.Services) != 1 || len(want.Services[0].Findings) < 2 {
		t.Fatalf("the original has too few findings to compare: %+v", want)
	}
	if diff := cmp.Diff(shape(t, want), shape(t, got)); diff != "" {
		t.Errorf("the redacted snapshot replays differently (-original +redacted):\n%s", diff)
	}
	flows := got.Services[0].Spread.Flows
	if i := slices.IndexFunc(flows, func(f diagnose.Flow) bool { return f.Hidden }); i < 0 || flows[i].Conns != 1 {
		t.Errorf("the gateway of a node, or the kubelet, is not recognised any more: %+v", flows)
	}
}

func outcome(t testing.TB, s *diagnose.Snapshot) diagnose.Report {
	t.Helper()
	return diagnose.Run(s, diagnose.Options{Checks: checks.All()})
}

var (
	standIn = regexp.MustCompile(`(?i)x[0-9a-f]{10}`)
	address = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)
	// original are the words that are hashed in the original, in the order of the alternatives' length.
	original = regexp.MustCompile(`(?i)square|aggregator|acme|lab|payroll|payrol|wages|alice|settings|see|other|team|registry|example|5d9c|77f4|7d4b|4x2lq|8hmfz|zt9wk|kk8dd|aaaaa|bbbbb|n1|n2`)
)

// shape is a report without names: every name and its stand-in become the same mark, and lists are sorted, since names
// decide about their order.
func shape(t testing.TB, r diagnose.Report) any {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return anonymous(v)
}

func anonymous(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = anonymous(x)
			if f, ok := x.(float64); ok && f < 1e-9 {
				out[k] = 0 // p of a chi-square far out
			}
			if k == "zone" { // "a" is too short a name to be told from an article
				out[k] = "ZONE"
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = anonymous(x)
		}
		slices.SortStableFunc(out, func(a, b any) int {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return bytes.Compare(x, y)
		})
		return out
	case float64:
		return float32(v) // sums in another order differ in the last bits
	case string:
		v = standIn.ReplaceAllString(v, "NAME")
		v = original.ReplaceAllString(v, "NAME")
		return address.ReplaceAllString(v, "ADDRESS")
	}
	return v
}

func TestRedactIsStable(t *testing.T) {
	redact := func(salt string) string {
		s, err := snapfile.Redact(busy(t), []byte(salt))
		if err != nil {
			t.Fatal(err)
		}
		return save(t, s)
	}
	first, second := redact("one salt"), redact("one salt")
	if first != second {
		t.Error("one salt gives two results")
	}
	if redact("one salt") == redact("another") {
		t.Error("the salt has no effect")
	}
	a, err := snapfile.Redact(busy(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := snapfile.Redact(busy(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if save(t, a) == save(t, b) {
		t.Error("without a salt two redactions can be matched")
	}
}

func TestRedactKeepsRelations(t *testing.T) {
	s := busy(t)
	red, err := snapfile.Redact(s, []byte("a salt for the test"))
	if err != nil {
		t.Fatal(err)
	}
	v, ok := red.View(red.Targets[0])
	if !ok {
		t.Fatal("the target is not in the snapshot")
	}
	if n := len(v.Ready()); n != 3 {
		t.Errorf("%d ready endpoints", n)
	}
	if n := len(v.Selected()); n != 3 {
		t.Errorf("%d selected pods", n)
	}
	twin, ok := v.Twin()
	if !ok || twin.Name != v.Service.Name+"-headless" {
		t.Errorf("twin %q of %q", twin.Name, v.Service.Name)
	}
	if p := twin.Ports[0]; !strings.HasSuffix(p.Name, "-grpc") || p.TargetPort != p.Name || p.AppProtocol != "kubernetes.io/h2c" {
		t.Errorf("port %+v", p)
	}
	c := v.Clients()
	if len(c) != 1 || len(c[0].Targets) != 2 {
		t.Fatalf("clients %+v", c)
	}
	for _, tg := range c[0].Targets {
		if !strings.Contains(tg.Token, tg.Host) {
			t.Errorf("token %q and host %q went different ways", tg.Token, tg.Host)
		}
	}
	if tg := c[0].Targets[0]; tg.Token != "static://"+v.Service.Name+":6565" {
		t.Errorf("token %q of %q", tg.Token, v.Service.Name)
	}
	if v.Services.Value[0].Ignore["readiness-missing"] == "" {
		t.Error("the ignored check is not ignored any more")
	}
}
