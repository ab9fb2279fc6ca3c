package endpoint_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// at returns a ready endpoint at the addresses, "10.0.0.1:1".
func at(addrs ...string) endpoint.Endpoint {
	e := endpoint.Endpoint{Ready: true, Serving: true}
	for _, a := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParseAddrPort(a))
	}
	return e
}

// with returns e changed.
func with(e endpoint.Endpoint, change func(*endpoint.Endpoint)) endpoint.Endpoint {
	change(&e)
	return e
}

func uid(id string, e endpoint.Endpoint) endpoint.Endpoint {
	return with(e, func(e *endpoint.Endpoint) { e.UID = id })
}

func TestAt(t *testing.T) {
	e := endpoint.At(netip.MustParseAddrPort("[::ffff:10.0.0.1]:6565"))
	if e.String() != "10.0.0.1:6565" || !e.Ready || !e.Serving || e.Terminating {
		t.Errorf("At is %+v", e)
	}
	if got := (endpoint.Endpoint{}).Addr(); got != (netip.AddrPort{}) {
		t.Errorf("the address of nothing is %v", got)
	}
}

func TestSame(t *testing.T) {
	const v4, v6, other = "10.0.0.1:1", "[fd00::1]:1", "10.0.0.2:1"
	for name, c := range map[string]struct {
		a, b endpoint.Endpoint
		want bool
	}{
		"one address":                  {at(v4), at(v4), true},
		"another port":                 {at(v4), at("10.0.0.1:2"), false},
		"a shared family":              {at(v4, v6), at(v6), true},
		"the preferred family differs": {at(v4, v6), at(v6, v4), true},
		"no address in common":         {at(v4), at(v6), false},
		"one UID":                      {uid("1", at(v4)), uid("1", at(v4)), true},
		"two UIDs":                     {uid("1", at(v4)), uid("2", at(v4)), false},
		"one UID unknown":              {uid("1", at(v4)), at(v4), true},
		"one UID at two addresses":     {uid("1", at(v4)), uid("1", at(other)), false},
		"no addresses":                 {at(), at(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.a.Same(c.b); got != c.want {
				t.Errorf("Same is %v", got)
			}
			if got := c.b.Same(c.a); got != c.want {
				t.Errorf("the other way round it is %v", got)
			}
		})
	}
}

// TestEqual changes every field in turn, also those of the future.
func TestEqual(t *testing.T) {
	full := endpoint.Endpoint{
		Addrs: at("10.0.0.1:1", "[fd00::1]:1").Addrs, UID: "u", Name: "ns/pod", Node: "n", Zone: "z",
		ForZones: []string{"a", "b"}, Ready: true, Serving: true, Weight: 3,
	}
	if !full.Equal(full) {
		t.Fatal("an endpoint does not equal itself")
	}
	for i := range reflect.TypeFor[endpoint.Endpoint]().NumField() {
		other := full
		field := reflect.ValueOf(&other).Elem().Field(i)
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(!field.Bool())
		default:
			field.SetZero()
		}
		if full.Equal(other) || other.Equal(full) {
			t.Errorf("Equal does not see %s", reflect.TypeFor[endpoint.Endpoint]().Field(i).Name)
		}
	}
}

// TestShared looks from both ends; what both have is counted once.
func TestShared(t *testing.T) {
	a, b, c, d := at("10.0.0.1:1"), at("10.0.0.2:1"), at("10.0.0.3:1"), at("10.0.0.4:1")
	zoned := func(zones ...string) endpoint.Endpoint { e := at("10.0.0.9:1"); e.ForZones = zones; return e }
	type list = []endpoint.Endpoint
	for name, tc := range map[string]struct {
		a, b       list
		head, tail int
	}{
		"nothing":           {},
		"nothing to share":  {a: list{a, b}},
		"the same":          {a: list{a, b, c}, b: list{a, b, c}, head: 3},
		"one replaced":      {a: list{a, b, d}, b: list{a, c, d}, head: 1, tail: 1},
		"one more":          {a: list{a, b, c, d}, b: list{a, b, d}, head: 2, tail: 1},
		"one less at first": {a: list{b, c}, b: list{a, b, c}, tail: 2},
		"one twice":         {a: list{a, a}, b: list{a}, head: 1},
		"other zones":       {a: list{zoned("x"), a}, b: list{zoned("y"), a}, tail: 1},
		"the same zones":    {a: list{zoned("x"), a}, b: list{zoned("x"), b}, head: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if head, tail := endpoint.Shared(tc.a, tc.b); head != tc.head || tail != tc.tail {
				t.Errorf("%d and %d, want %d and %d", head, tail, tc.head, tc.tail)
			}
			if head, tail := endpoint.Shared(tc.b, tc.a); head != tc.head || tail != tc.tail {
				t.Errorf("the other way round %d and %d, want %d and %d", head, tail, tc.head, tc.tail)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	sorted := []endpoint.Endpoint{at(), at("10.0.0.1:1"), uid("a", at("10.0.0.1:1")), uid("b", at("10.0.0.1:1")), at("10.0.0.1:2"), at("10.0.0.2:1"), at("[fd00::1]:1")}
	if !slices.IsSortedFunc(sorted, endpoint.Compare) {
		t.Error("the order is not by address, port, UID")
	}
}

func TestIndex(t *testing.T) {
	eps := []endpoint.Endpoint{at("10.0.0.1:1", "[fd00::1]:1"), uid("2", at("10.0.0.2:1")), at("10.0.0.1:1")}
	ix := endpoint.Index(eps)
	for name, c := range map[string]struct {
		e    endpoint.Endpoint
		want int
	}{
		"by the preferred address": {at("10.0.0.1:1"), 0},
		"by the other address":     {at("[fd00::1]:1"), 0},
		"by the second of its own": {at("10.9.9.9:1", "10.0.0.2:1"), 1},
		"another pod":              {uid("3", at("10.0.0.2:1")), -1},
		"unknown":                  {at("10.0.0.3:1"), -1},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := ix.Find(eps, c.e)
			if !ok {
				got = -1
			}
			if got != c.want {
				t.Errorf("found at %d, want %d", got, c.want)
			}
		})
	}
}

func TestVerdictsAreDistinct(t *testing.T) {
	all := endpoint.Verdicts()
	if len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) || slices.Contains(all, "") {
		t.Errorf("the verdicts are %q", all)
	}
}

func TestOpenerFunc(t *testing.T) {
	var asked endpoint.Target
	var opener endpoint.Opener = endpoint.OpenerFunc(func(t endpoint.Target) (endpoint.Source, error) { asked = t; return nil, nil })
	want := endpoint.Target{Host: "square", Port: 6565}
	if _, err := opener.Open(want); err != nil || asked != want {
		t.Errorf("opened %+v, error %v", asked, err)
	}
}
