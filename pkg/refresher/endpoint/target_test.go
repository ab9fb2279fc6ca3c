package endpoint_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestParseTarget(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, c := range map[string]struct {
		authority, endpoint, defaultPort string
		want                             endpoint.Target
		err                              string // a part of it
	}{
		"a name and a number":      {endpoint: "square:6565", want: endpoint.Target{Host: "square", Port: 6565}},
		"a port by name":           {endpoint: "square.default:grpc", want: endpoint.Target{Host: "square.default", PortName: "grpc"}},
		"a full name":              {endpoint: "square.default.svc.cluster.local.:grpc-web", want: endpoint.Target{Host: "square.default.svc.cluster.local", Absolute: true, PortName: "grpc-web"}},
		"the default port":         {endpoint: "square", defaultPort: "443", want: endpoint.Target{Host: "square", Port: 443}},
		"the default port by name": {endpoint: "square", defaultPort: "grpc", want: endpoint.Target{Host: "square", PortName: "grpc"}},
		"the default is not used":  {endpoint: "square:1", defaultPort: "443", want: endpoint.Target{Host: "square", Port: 1}},
		"IPv4":                     {endpoint: "10.0.0.1:6565", want: endpoint.Target{Host: "10.0.0.1", Port: 6565}},
		"IPv6":                     {endpoint: "[fd00::1]:6565", want: endpoint.Target{Host: "fd00::1", Port: 6565}},
		"IPv6 without a port":      {endpoint: "[fd00::1]", defaultPort: "1", want: endpoint.Target{Host: "fd00::1", Port: 1}},
		"IPv6 without brackets":    {endpoint: "fd00:0::1", defaultPort: "1", want: endpoint.Target{Host: "fd00::1", Port: 1}},
		"IPv6 with a zone":         {endpoint: "[fe80::1%eth0]:1", want: endpoint.Target{Host: "fe80::1%eth0", Port: 1}},
		"a mapped address":         {endpoint: "[::ffff:10.0.0.1]:1", want: endpoint.Target{Host: "10.0.0.1", Port: 1}},
		"a server":                 {authority: "10.96.0.10", endpoint: "square:1", want: endpoint.Target{Server: "10.96.0.10:53", Host: "square", Port: 1}},
		"a server with a port":     {authority: "dns.example.:0053", endpoint: "square:1", want: endpoint.Target{Server: "dns.example:53", Host: "square", Port: 1}},
		"a server over IPv6":       {authority: "[fd00::a]:5353", endpoint: "square:1", want: endpoint.Target{Server: "[fd00::a]:5353", Host: "square", Port: 1}},
		"a bare server over IPv6":  {authority: "fd00::a", endpoint: "square:1", want: endpoint.Target{Server: "[fd00::a]:53", Host: "square", Port: 1}},
		"upper case and _":         {endpoint: "Square_1:1", want: endpoint.Target{Host: "Square_1", Port: 1}},
		"a long label":             {endpoint: long + ":1", want: endpoint.Target{Host: long, Port: 1}},
		"a long port name":         {endpoint: "a:" + long, want: endpoint.Target{Host: "a", PortName: long}},
		"hyphens in a port name":   {endpoint: "a:grpc--web", want: endpoint.Target{Host: "a", PortName: "grpc--web"}},
		"digits in a port name":    {endpoint: "a:1-2", want: endpoint.Target{Host: "a", PortName: "1-2"}},
		"zeros before a number":    {endpoint: "a:0080", want: endpoint.Target{Host: "a", Port: 80}},

		"nothing":                        {endpoint: "", err: "it names nothing"},
		"no port":                        {endpoint: "square", err: "it has no port"},
		"no name":                        {endpoint: ":80", err: "no name before the port"},
		"only a dot":                     {endpoint: ".:80", err: "no name before the port"},
		"an empty port":                  {endpoint: "square:", err: `nothing follows the ":"`},
		"port 0":                         {endpoint: "square:0", err: "port 0 is not from 1 to 65535"},
		"a large port":                   {endpoint: "square:65536", err: "is not from 1 to 65535"},
		"a very large port":              {endpoint: "square:99999999999999999999", err: "is not from 1 to 65535"},
		"a port in upper case":           {endpoint: "square:GRPC", err: `port "GRPC" is neither`},
		"a port that ends with a hyphen": {endpoint: "square:grpc-", err: `port "grpc-" is neither`},
		"too long a port name":           {endpoint: "a:a" + long, err: "is neither"},
		"a bad default":                  {endpoint: "square", defaultPort: "!", err: `port "!" is neither`},
		"a path":                         {endpoint: "square:80/x", err: "without a path, a list or spaces"},
		"a list":                         {endpoint: "a:1,b:1", err: "without a path, a list or spaces"},
		"a space":                        {endpoint: "a :1", err: "without a path, a list or spaces"},
		"a user":                         {endpoint: "u@a:1", err: "without a path, a list or spaces"},
		"two colons":                     {endpoint: "a:1:2", err: "too many colons"},
		"a cut IPv6 address":             {endpoint: "[fd00::1:80", err: `"[" without "]"`},
		"IPv4 in brackets":               {endpoint: "[10.0.0.1]:1", err: `"10.0.0.1" in brackets is not an IPv6 address`},
		"a name in brackets":             {endpoint: "[a]:1", err: "is not an IPv6 address"},
		"junk after brackets":            {endpoint: "[fd00::1]80", err: `after "]" comes ":PORT"`},
		"an empty port after brackets":   {endpoint: "[fd00::1]:", err: `after "]" comes ":PORT"`},
		"two dots":                       {endpoint: "a..b:1", err: "empty label"},
		"a dot in front":                 {endpoint: ".a:1", err: "empty label"},
		"too long a label":               {endpoint: "a" + long + ":1", err: "longer than 63"},
		"too long a name":                {endpoint: strings.Repeat("abc.", 64) + ":1", err: "longer than the 253"},
		"a label of other letters":       {endpoint: "ä:1", err: `the label "ä"`},
		"a label with a hyphen in front": {endpoint: "-a:1", err: `the label "-a"`},
		"an address with a dot":          {endpoint: "10.0.0.1.:1", err: "a dot follows the IP address"},
		"a zone of other letters":        {endpoint: "fd00::1%]", defaultPort: "1", err: `the zone "]"`},
		"an address and a port name":     {endpoint: "10.0.0.1:grpc", err: `the port of an IP address is a number, not "grpc"`},
		"a server with a bad port":       {authority: "10.0.0.1:dns", endpoint: "a:1", err: `the DNS server "10.0.0.1:dns": its port is a number`},
		"a server with port 0":           {authority: "10.0.0.1:0", endpoint: "a:1", err: "its port is a number"},
		"a server with colons":           {authority: "a:1:2", endpoint: "a:1", err: "too many colons"},
		"a server without a name":        {authority: ":53", endpoint: "a:1", err: `the DNS server ":53"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := endpoint.ParseTarget(c.authority, c.endpoint, c.defaultPort)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, endpoint.ErrTarget) {
					t.Errorf("the error is %v, want one with %q", err, c.err)
				}
				if got != (endpoint.Target{}) {
					t.Errorf("beside the error there is %+v", got)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("the target is %+v (error %v), want %+v", got, err, c.want)
			}
		})
	}
}

func TestTargetString(t *testing.T) {
	for want, target := range map[string]endpoint.Target{
		"square:6565":      {Host: "square", Port: 6565},
		"square.a.b.:grpc": {Host: "square.a.b", Absolute: true, PortName: "grpc"},
		"[fd00::1]:1":      {Host: "fd00::1", Port: 1},
	} {
		if got := target.String(); got != want {
			t.Errorf("the target is %q, want %q", got, want)
		}
	}
}

// FuzzParseTarget: what is taken can be written down and taken again.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"square.default:grpc", "[fd00::1]:80", "fd00::1", "10.0.0.1.:1", "a.:1", "a:0080", "[::ffff:1.2.3.4]:1", "[fe80::1%a.b]:1", "a:1-2"} {
		f.Add("", s, "443")
		f.Add(s, "a", "grpc")
	}
	f.Fuzz(func(t *testing.T, authority, text, defaultPort string) {
		target, err := endpoint.ParseTarget(authority, text, defaultPort)
		if err != nil {
			if !errors.Is(err, endpoint.ErrTarget) || target != (endpoint.Target{}) {
				t.Fatalf("error %v with %+v", err, target)
			}
			return
		}
		if target.Host == "" || (target.Port == 0) == (target.PortName == "") || target.IsIP() && (target.PortName != "" || target.Absolute) {
			t.Fatalf("%q gave %+v", text, target)
		}
		again, err := endpoint.ParseTarget(target.Server, target.String(), "")
		if err != nil || again != target {
			t.Fatalf("%+v is written %q and read as %+v (error %v)", target, target, again, err)
		}
	})
}
