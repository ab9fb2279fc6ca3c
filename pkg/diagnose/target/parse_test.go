package target_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

func TestParse(t *testing.T) {
	one := func(token, scheme, host string, port int32) []target.Target {
		return []target.Target{{Token: token, Scheme: scheme, Host: host, Port: port}}
	}
	for _, c := range []struct {
		in   string
		want []target.Target
	}{
		// gRPC naming
		{"dns:///square:6565", one("dns:///square:6565", "dns", "square", 6565)},
		{"dns:square:6565", one("dns:square:6565", "dns", "square", 6565)},
		{"dns:square", one("dns:square", "dns", "square", 0)},
		{"dns://10.96.0.10/square.default:80", one("dns://10.96.0.10/square.default:80", "dns", "square.default", 80)},
		{"dns://10.96.0.10:53/square:80", one("dns://10.96.0.10:53/square:80", "dns", "square", 80)},
		{"DNS:///Square-Service:80", one("DNS:///Square-Service:80", "dns", "square-service", 80)},
		{"dns:///[fd00::1]:80", one("dns:///[fd00::1]:80", "dns", "fd00::1", 80)},
		{"static://square-service:6565", one("static://square-service:6565", "static", "square-service", 6565)},
		{"passthrough:///square:80", one("passthrough:///square:80", "passthrough", "square", 80)},
		{"xds:///square.default.svc.cluster.local:80", one("xds:///square.default.svc.cluster.local:80", "xds", "square.default.svc.cluster.local", 80)},
		{"kubernetes:///square.default:grpc", one("kubernetes:///square.default:grpc", "kubernetes", "square.default", 0)},
		{"kubernetes://shop/square:8080", one("kubernetes://shop/square:8080", "kubernetes", "square.shop", 8080)},
		{"ipv4:10.0.0.1:80", one("ipv4:10.0.0.1:80", "ipv4", "10.0.0.1", 80)},
		{"ipv6:[fd00::1]:80", one("ipv6:[fd00::1]:80", "ipv6", "fd00::1", 80)},
		{"dns+square:80", one("dns+square:80", "dns", "square", 80)},
		{"dnssrv+_grpc._tcp.square.default", one("dnssrv+_grpc._tcp.square.default", "dnssrv", "_grpc._tcp.square.default", 0)},
		{"consul:///square", one("consul:///square", "consul", "", 0)[:0]},
		{"consul://consul:8500/square", one("consul://consul:8500", "consul", "consul", 8500)},
		{"unix:///var/run/app.sock", nil},
		{"unix:/var/run/app.sock", nil},
		// lists
		{"static://a:1,b:2", []target.Target{
			{Token: "static://a:1", Scheme: "static", Host: "a", Port: 1}, {Token: "static://b:2", Scheme: "static", Host: "b", Port: 2},
		}},
		{"ipv4:10.0.0.1:1,10.0.0.2:2", []target.Target{
			{Token: "ipv4:10.0.0.1:1", Scheme: "ipv4", Host: "10.0.0.1", Port: 1}, {Token: "ipv4:10.0.0.2:2", Scheme: "ipv4", Host: "10.0.0.2", Port: 2},
		}},
		{"a:1, b:2", []target.Target{{Token: "a:1", Host: "a", Port: 1}, {Token: "b:2", Host: "b", Port: 2}}},
		{"http://a:1,http://b:2", []target.Target{
			{Token: "http://a:1", Scheme: "http", Host: "a", Port: 1}, {Token: "http://b:2", Scheme: "http", Host: "b", Port: 2},
		}},
		{"a:1,not a host", nil},
		// URLs: nothing but scheme, host and port stays
		{"http://square:80/path?token=s3cret#frag", one("http://square:80", "http", "square", 80)},
		{"https://user:pass@square.default/", one("https://square.default", "https", "square.default", 0)},
		{"grpcs://square:443", one("grpcs://square:443", "grpcs", "square", 443)},
		{"jdbc:postgresql://db:5432/app?password=x", one("jdbc:postgresql://db:5432", "postgresql", "db", 5432)},
		{"dns:///user:pass@square:80", one("dns:///square:80", "dns", "square", 80)},
		{"dns://user:pass@ns1/square:80", one("dns://ns1/square:80", "dns", "square", 80)},
		{"dns:///square:80?lb=x", one("dns:///square:80", "dns", "square", 80)},
		{"user:pass@square:80", one("square:80", "", "square", 80)},
		{"http://", nil},
		{"http:///path", nil},
		// bare
		{"square:6565", one("square:6565", "", "square", 6565)},
		{" \"square:6565\" ", one("square:6565", "", "square", 6565)},
		{"square:6565/path", one("square:6565", "", "square", 6565)},
		{"square", one("square", "", "square", 0)},
		{"square.default.svc.cluster.local.:80", []target.Target{
			{Token: "square.default.svc.cluster.local.:80", Host: "square.default.svc.cluster.local", Port: 80, Rooted: true},
		}},
		{"10.0.0.1:80", one("10.0.0.1:80", "", "10.0.0.1", 80)},
		{"fd00::1", one("fd00::1", "", "fd00::1", 0)},
		{"[fd00::1]", one("[fd00::1]", "", "fd00::1", 0)},
		{"[fd00::1]:80", one("[fd00::1]:80", "", "fd00::1", 80)},
		// none
		{"", nil},
		{"8080", nil},
		{"1.5", nil},
		{"1.2.3", nil},
		{":8080", nil},
		{"square:", nil},
		{"square:0", nil},
		{"square:70000", nil},
		{"square:+80", nil},
		{"square:http", nil},
		{"square:80:90", nil},
		{"[fd00::1", nil},
		{"[square]:80", nil},
		{"[fe80::1%eth0]:80", nil},
		{"-square:80", nil},
		{"{\"a\":1}", nil},
		{"$(HOST):80", nil},
		{"a b:80", nil},
		{"squ\x00are:80", nil},
		{"square-ö:80", nil},
		{strings.Repeat("a", 64) + ":80", nil},
		{strings.Repeat("a", 3000) + ":80", nil},
	} {
		if c.want != nil && len(c.want) == 0 {
			c.want = nil
		}
		if diff := cmp.Diff(c.want, target.Parse(c.in)); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", c.in, diff)
		}
	}
}

// FuzzParse: whatever goes in, what comes out is a clean token that means the same when read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"dns:///square:6565", "static://a:1,b:2", "kubernetes://ns/svc:port", "http://u:p@h:80/x?y#z", "[fd00::1]:80", "dnssrv+_grpc._tcp.x.y",
		"ipv6:[::1]:1,[::2]:2", "a:1, b:2", "jdbc:postgresql://db:5432/app", "dns://u@a/h:1", "square.:80", "passthrough:x", "fe80::1%eth0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range target.Parse(s) {
			if strings.ContainsAny(got.Token, "@?# \t\n\"'") || strings.ContainsAny(got.Host, "/@:?# ") && !strings.Contains(got.Host, "::") && strings.Count(got.Host, ":") < 2 {
				t.Fatalf("Parse(%q): token %q, host %q", s, got.Token, got.Host)
			}
			if got.Host == "" || got.Port < 0 || got.Port > 65535 || len(got.Host) > 320 {
				t.Fatalf("Parse(%q): host %q, port %d", s, got.Host, got.Port)
			}
			again := target.Parse(got.Token)
			if len(again) != 1 || again[0] != got {
				t.Fatalf("Parse(%q) = %+v, but its token reads as %+v", s, got, again)
			}
		}
	})
}
