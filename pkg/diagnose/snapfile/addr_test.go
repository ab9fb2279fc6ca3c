package snapfile

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestAddrsPreserve(t *testing.T) {
	node := netip.MustParsePrefix("10.244.1.0/24")
	six := netip.MustParsePrefix("fd00:10:244:1::/64")
	a := newAddrs([]byte("salt"), []netip.Prefix{node, six})
	rnd := rand.New(rand.NewPCG(1, 2))
	var ips []netip.Addr
	for range 300 {
		u := rnd.Uint32()
		ips = append(ips, netip.AddrFrom4([4]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)}))
		ips = append(ips, netip.AddrFrom4([4]byte{10, byte(u), byte(u>>8) % 4, byte(u >> 16)}))
		ips = append(ips, netip.AddrFrom4([4]byte{10, 244, 1, byte(u)}))
		raw := netip.MustParseAddr("fd00:10:244:1::").As16()
		raw[15], raw[14] = byte(u), byte(u>>8)
		ips = append(ips, netip.AddrFrom16(raw))
	}
	back := map[netip.Addr]netip.Addr{}
	for _, ip := range ips {
		out := a.addr(ip)
		if was, ok := back[out]; ok && was != ip {
			t.Fatalf("%s and %s both become %s", was, ip, out)
		}
		back[out] = ip
		if ip.IsPrivate() != out.IsPrivate() || ip.IsLoopback() != out.IsLoopback() || ip.Is4() != out.Is4() ||
			ip.IsLinkLocalUnicast() != out.IsLinkLocalUnicast() || ip.IsMulticast() != out.IsMulticast() {
			t.Errorf("%s became %s, which is of another class", ip, out)
		}
		for _, p := range []netip.Prefix{node, six} {
			if p.Contains(ip) != a.prefix(p).Contains(out) {
				t.Errorf("%s became %s; %s became %s", ip, out, p, a.prefix(p))
			}
		}
	}
	for _, p := range []netip.Prefix{node, six} {
		if got := a.addr(p.Addr().Next()); got != a.prefix(p).Addr().Next() {
			t.Errorf("the gateway of %s became %s in %s", p, got, a.prefix(p))
		}
	}
}

func TestAddrsKeepWhatMeansSomething(t *testing.T) {
	a := newAddrs([]byte("salt"), nil)
	for _, s := range []string{"0.0.0.0", "127.0.0.1", "::", "::1", "169.254.20.10", "fe80::1", "224.0.0.1"} {
		ip := netip.MustParseAddr(s)
		if got := a.addr(ip); got != ip {
			t.Errorf("%s became %s", s, got)
		}
	}
	mapped := a.addr(netip.MustParseAddr("::ffff:10.1.2.3"))
	if !mapped.Is4In6() || mapped.Unmap() != a.addr(netip.MustParseAddr("10.1.2.3")) {
		t.Errorf("an IPv4 address inside IPv6 became %s", mapped)
	}
}

// TestRules holds the table of fields against the types: each entry names a field that exists and holds strings.
func TestRules(t *testing.T) {
	found := map[string]bool{}
	var walk func(reflect.Type)
	seen := map[reflect.Type]bool{}
	walk = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(ty.Elem())
		case reflect.Map:
			walk(ty.Elem())
			walk(ty.Key())
		case reflect.Struct:
			if seen[ty] || ty == timeType || ty == addrPortType {
				return
			}
			seen[ty] = true
			for i := range ty.NumField() {
				f := ty.Field(i)
				if !f.IsExported() {
					t.Errorf("%s.%s cannot be redacted", ty, f.Name)
				}
				found[ty.Name()+"."+f.Name] = true
				walk(f.Type)
			}
		case reflect.Interface, reflect.Array, reflect.Func, reflect.Chan:
			t.Errorf("redaction does not know how to walk a %s", ty)
		}
	}
	walk(reflect.TypeFor[diagnose.Snapshot]())
	for field := range rules {
		if !found[field] {
			t.Errorf("rule for %s, which no snapshot has", field)
		}
	}
	if !found["Target.Token"] || !found["Status.Reason"] {
		t.Errorf("the walk saw only %d fields", len(found))
	}
}

func TestText(t *testing.T) {
	w := &words{salt: []byte("salt"), addrs: newAddrs([]byte("salt"), nil), identifiers: map[string]bool{"payroll": true, "emea": true}}
	for _, s := range []string{
		"may not list pods in the namespace", "i/o timeout", "the group is not served (404)", "Unimplemented", "SETTINGS without a limit",
	} {
		if got := w.text(s); got != s {
			t.Errorf("text(%q) = %q", s, got)
		}
	}
	for _, s := range []string{
		"may not list pods in emea", "dial tcp 10.1.2.3:53: refused", "from [fd00::1:2]:53", "at fd00:1::2 now", "svc payroll is gone",
		`User "bob" cannot`, "host db.acme.example unknown", "pod web-7f9c8 failed", "alice@acme.example", "for payroll.",
	} {
		got := w.text(s)
		for _, bad := range []string{"10.1.2.3", "fd00:", "payroll", "bob", "acme", "7f9c8", "alice", "emea"} {
			if strings.Contains(s, bad) && strings.Contains(got, bad) && !strings.Contains(bad, "fd00") {
				t.Errorf("text(%q) = %q still holds %q", s, got, bad)
			}
		}
		if got == s {
			t.Errorf("text(%q) changed nothing", s)
		}
	}
}
