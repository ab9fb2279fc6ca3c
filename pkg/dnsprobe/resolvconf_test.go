package dnsprobe_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// podConf is what kubelet writes for a pod with dnsPolicy ClusterFirst.
const podConf = `search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
`

func parse(t testing.TB, text string) dnsprobe.ResolvConf {
	t.Helper()
	conf, err := dnsprobe.ParseResolvConf(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestParseResolvConf(t *testing.T) {
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("d%d.test", i)
	}
	tests := map[string]struct {
		text string
		want func(c *dnsprobe.ResolvConf) // what differs from the default
		warn []string                     // a part of each warning
	}{
		"empty": {},
		"a pod's": {text: podConf, want: func(c *dnsprobe.ResolvConf) {
			c.Nameservers = []netip.Addr{netip.MustParseAddr("10.96.0.10")}
			c.Search = []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}
			c.Ndots = 5
		}},
		"comments, tabs, CRLF": {text: "# nameserver 1.1.1.1\n; x\n\nnameserver\t\t10.0.0.1\r\n", want: func(c *dnsprobe.ResolvConf) {
			c.Nameservers = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		}},
		"no newline at the end": {text: "nameserver fe80::1%eth0", want: func(c *dnsprobe.ResolvConf) {
			c.Nameservers = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}
		}},
		"three nameservers count": {text: "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\nnameserver 10.0.0.4\n",
			want: func(c *dnsprobe.ResolvConf) {
				c.Nameservers = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::1")}
			}, warn: []string{"10.0.0.4 is beyond the first 3"}},
		"the last of domain and search counts": {text: "search a.test b.test\ndomain c.test. d.test\n",
			want: func(c *dnsprobe.ResolvConf) { c.Search = []string{"c.test"} }},
		"search empties the list": {text: "domain c.test\nsearch\n"},
		"root and bad domains": {text: "search . a..b " + strings.Repeat("x", 64) + " ok.test.\n",
			want: func(c *dnsprobe.ResolvConf) { c.Search = []string{".", "ok.test"} }, warn: []string{`"a..b"`, "no domain name"}},
		"all options": {text: "options ndots:2 timeout:3 attempts:4 rotate use-vc edns0 no-tld-query single-request\noptions trust-ad\n",
			want: func(c *dnsprobe.ResolvConf) {
				c.Ndots, c.Timeout, c.Attempts = 2, 3*time.Second, 4
				c.Rotate, c.UseVC, c.EDNS0, c.NoTLDQuery = true, true, true, true
				c.OtherOptions = []string{"single-request", "trust-ad"}
			}},
		"options beyond the limits": {text: "options ndots:99 timeout:0 timeout:99 attempts:99\n",
			want: func(c *dnsprobe.ResolvConf) { c.Ndots, c.Timeout, c.Attempts = 15, 30*time.Second, 5 },
			warn: []string{`"ndots:99" counts as 15`, `"timeout:0" counts as 1`, `"timeout:99" counts as 30`, `"attempts:99" counts as 5`}},
		"options without numbers": {text: "options ndots ndots: ndots:-1 ndots:x ndots:99999999999\n",
			warn: []string{`"ndots"`, `"ndots:"`, `"ndots:-1"`, `"ndots:x"`, `"ndots:99999999999"`}},
		"nonsense": {text: "nameserver\nnameserver example.com\nnameservers 10.0.0.1\n nameserver 10.0.0.1\nsortlist 10/8\ndomain\n",
			warn: []string{"line 1: nameserver without", `line 2: nameserver "example.com"`, `line 3: unknown keyword "nameservers"`,
				"line 4: keyword \"nameserver\" is indented", "line 6: domain without"}},
		"more domains than Kubernetes allows": {text: "search " + strings.Join(many, " ") + "\n",
			want: func(c *dnsprobe.ResolvConf) { c.Search = many }, warn: []string{"33 domains"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := parse(t, test.text)
			want := dnsprobe.DefaultResolvConf()
			if test.want != nil {
				test.want(&want)
			}
			warnings := got.Warnings
			got.Warnings = nil
			if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(warnings) != len(test.warn) {
				t.Fatalf("warnings %q, want %d", warnings, len(test.warn))
			}
			for i, part := range test.warn {
				if !strings.Contains(warnings[i], part) {
					t.Errorf("warning %q does not speak of %q", warnings[i], part)
				}
			}
		})
	}
}

func TestParseResolvConfThatCannotBeRead(t *testing.T) {
	if _, err := dnsprobe.ParseResolvConf(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("a reader's error is lost")
	}
	if _, err := dnsprobe.ParseResolvConf(strings.NewReader(strings.Repeat("x", 70_000))); err == nil {
		t.Error("a line without end is taken")
	}
}

func TestCandidates(t *testing.T) {
	const short = "search a.test b.test\n"
	long := strings.Repeat("abcdefgh.", 27) + "abc" // 246 characters: fits alone, not below a search domain
	tests := map[string]struct {
		conf, name string
		want       []string
	}{
		"short name in a pod": {podConf, "square-service",
			[]string{"square-service.default.svc.cluster.local.", "square-service.svc.cluster.local.", "square-service.cluster.local.", "square-service."}},
		"four dots of five": {podConf, "square.default.svc.cluster.local",
			[]string{"square.default.svc.cluster.local.default.svc.cluster.local.", "square.default.svc.cluster.local.svc.cluster.local.",
				"square.default.svc.cluster.local.cluster.local.", "square.default.svc.cluster.local."}},
		"final dot":                 {podConf, "square.default.svc.cluster.local.", []string{"square.default.svc.cluster.local."}},
		"as many dots as ndots":     {short, "x.y", []string{"x.y.", "x.y.a.test.", "x.y.b.test."}},
		"ndots of zero":             {short + "options ndots:0\n", "x", []string{"x.", "x.a.test.", "x.b.test."}},
		"no dot, ndots of one":      {short, "x", []string{"x.a.test.", "x.b.test.", "x."}},
		"no search list":            {"", "x", []string{"x."}},
		"no bare top level":         {short + "options no-tld-query\n", "x", []string{"x.a.test.", "x.b.test."}},
		"root in the search list":   {"search . a.test\n", "x", []string{"x.", "x.a.test."}},
		"root after the name as is": {"search . a.test\n", "x.y", []string{"x.y.", "x.y.a.test."}},
		"root twice":                {"search . .\n", "x", []string{"x."}},
		"domain that ends in a dot": {"search a\\.\n", "x", []string{`x.a\..`, "x."}},
		"case is kept":              {short, "X.y", []string{"X.y.", "X.y.a.test.", "X.y.b.test."}},
		"too long below a domain":   {"search " + strings.Repeat("y", 20) + "\n", long, []string{long + "."}},
		"no name":                   {podConf, "", nil},
		"no valid name":             {podConf, "a..b", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conf := parse(t, test.conf)
			if diff := cmp.Diff(test.want, conf.Candidates(test.name)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
