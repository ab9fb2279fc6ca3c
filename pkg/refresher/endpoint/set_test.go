package endpoint_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// words shows endpoints: addresses, then UID and conditions.
func words(eps []endpoint.Endpoint) []string {
	var out []string
	for _, e := range eps {
		var addrs []string
		for _, a := range e.Addrs {
			addrs = append(addrs, a.String())
		}
		word := strings.Join(addrs, "+")
		if e.UID != "" {
			word += "/" + e.UID
		}
		if !e.Ready {
			word += "!"
		}
		if e.Terminating {
			word += "~"
		}
		out = append(out, word)
	}
	return out
}

func unready(e endpoint.Endpoint) endpoint.Endpoint {
	return with(e, func(e *endpoint.Endpoint) { e.Ready, e.Serving = false, false })
}

// ending is terminating and still serving.
func ending(e endpoint.Endpoint) endpoint.Endpoint {
	return with(e, func(e *endpoint.Endpoint) { e.Ready, e.Terminating = false, true })
}

func TestNormalize(t *testing.T) {
	for name, c := range map[string]struct {
		eps  []endpoint.Endpoint
		want []string
	}{
		"sorted":                         {[]endpoint.Endpoint{at("10.0.0.2:1"), at("10.0.0.1:2"), at("10.0.0.1:1")}, []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"}},
		"none":                           {nil, nil},
		"no address":                     {[]endpoint.Endpoint{at(), {Addrs: make([]netip.AddrPort, 2)}}, nil},
		"port 0":                         {[]endpoint.Endpoint{at("10.0.0.1:0", "[fd00::1]:1")}, []string{"[fd00::1]:1"}},
		"mapped":                         {[]endpoint.Endpoint{at("[::ffff:10.0.0.1]:1", "10.0.0.1:1")}, []string{"10.0.0.1:1"}},
		"mapped is the same as not":      {[]endpoint.Endpoint{at("[::ffff:10.0.0.1]:1"), at("10.0.0.1:1")}, []string{"10.0.0.1:1"}},
		"the same twice":                 {[]endpoint.Endpoint{at("10.0.0.1:1"), at("10.0.0.1:1")}, []string{"10.0.0.1:1"}},
		"ready wins":                     {[]endpoint.Endpoint{unready(at("10.0.0.1:1")), at("10.0.0.1:1")}, []string{"10.0.0.1:1"}},
		"serving wins over neither":      {[]endpoint.Endpoint{unready(at("10.0.0.1:1")), ending(at("10.0.0.1:1"))}, []string{"10.0.0.1:1!~"}},
		"a known UID wins":               {[]endpoint.Endpoint{at("10.0.0.1:1"), uid("1", at("10.0.0.1:1"))}, []string{"10.0.0.1:1/1"}},
		"more addresses win":             {[]endpoint.Endpoint{at("[fd00::1]:1"), at("10.0.0.1:1", "[fd00::1]:1")}, []string{"10.0.0.1:1+[fd00::1]:1"}},
		"two pods at one address":        {[]endpoint.Endpoint{uid("1", ending(at("10.0.0.1:1"))), uid("2", at("10.0.0.1:1"))}, []string{"10.0.0.1:1/2"}},
		"two pods at one second one":     {[]endpoint.Endpoint{uid("2", at("10.0.0.2:1", "[fd00::1]:1")), uid("1", at("10.0.0.1:1", "[fd00::1]:1"))}, []string{"10.0.0.1:1+[fd00::1]:1/1", "10.0.0.2:1/2"}},
		"one pod at two addresses":       {[]endpoint.Endpoint{uid("1", unready(at("10.0.0.1:1"))), uid("1", at("10.0.0.2:1"))}, []string{"10.0.0.2:1/1"}},
		"one pod with two ports":         {[]endpoint.Endpoint{uid("1", at("10.0.0.1:2")), uid("1", at("10.0.0.1:1"))}, []string{"10.0.0.1:1/1", "10.0.0.1:2/1"}},
		"sorted, one pod twice":          {[]endpoint.Endpoint{uid("1", at("10.0.0.1:1")), uid("1", at("10.0.0.2:1"))}, []string{"10.0.0.1:1/1"}},
		"sorted, a second address twice": {[]endpoint.Endpoint{at("10.0.0.1:1", "[fd00::1]:1"), at("10.0.0.2:1", "[fd00::1]:1")}, []string{"10.0.0.1:1+[fd00::1]:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(c.eps)
			set := endpoint.Set{Endpoints: c.eps, Source: "s", Reason: "r"}
			got := set.Normalize()
			if diff := cmp.Diff(c.want, words(got.Endpoints)); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
			if got.Source != "s" || got.Reason != "r" {
				t.Error("the rest of the Set is lost")
			}
			if !slices.EqualFunc(before, c.eps, endpoint.Endpoint.Equal) {
				t.Error("Normalize wrote to the Set that it was called on")
			}
		})
	}
}

func TestNormalizeSortsZones(t *testing.T) {
	e := at("10.0.0.1:1")
	e.ForZones = []string{"b", "a"}
	got := endpoint.Set{Endpoints: []endpoint.Endpoint{e}}.Normalize().Endpoints[0]
	if !slices.Equal(got.ForZones, []string{"a", "b"}) || !slices.Equal(e.ForZones, []string{"b", "a"}) {
		t.Errorf("zones are %v, the source's %v", got.ForZones, e.ForZones)
	}
}

func TestNormalizeOfCanonicalSharesIt(t *testing.T) {
	eps := []endpoint.Endpoint{uid("1", at("10.0.0.1:1", "[fd00::1]:1")), uid("2", at("10.0.0.2:1"))}
	if got := (endpoint.Set{Endpoints: eps}).Normalize(); &got.Endpoints[0] != &eps[0] {
		t.Error("a canonical Set was copied")
	}
}

func TestDiff(t *testing.T) {
	a, b, c := at("10.0.0.1:1"), at("10.0.0.2:1"), at("10.0.0.3:1")
	for name, tt := range map[string]struct {
		before, after           []endpoint.Endpoint
		added, removed, changed []string
	}{
		"nothing":       {before: []endpoint.Endpoint{a, b}, after: []endpoint.Endpoint{a, b}},
		"from empty":    {after: []endpoint.Endpoint{a, b}, added: []string{"10.0.0.1:1", "10.0.0.2:1"}},
		"to empty":      {before: []endpoint.Endpoint{a, b}, removed: []string{"10.0.0.1:1", "10.0.0.2:1"}},
		"one for one":   {before: []endpoint.Endpoint{a, b}, after: []endpoint.Endpoint{b, c}, added: []string{"10.0.0.3:1"}, removed: []string{"10.0.0.1:1"}},
		"not ready":     {before: []endpoint.Endpoint{a, b}, after: []endpoint.Endpoint{a, unready(b)}, changed: []string{"10.0.0.2:1!"}},
		"a UID learned": {before: []endpoint.Endpoint{a}, after: []endpoint.Endpoint{uid("1", a)}, changed: []string{"10.0.0.1:1/1"}},
		"another UID":   {before: []endpoint.Endpoint{uid("1", a)}, after: []endpoint.Endpoint{uid("2", a)}, added: []string{"10.0.0.1:1/2"}, removed: []string{"10.0.0.1:1/1"}},
		"a family more": {before: []endpoint.Endpoint{a}, after: []endpoint.Endpoint{at("10.0.0.1:1", "[fd00::1]:1")}, changed: []string{"10.0.0.1:1+[fd00::1]:1"}},
		"one becomes two": {before: []endpoint.Endpoint{at("10.0.0.1:1", "[fd00::1]:1")}, after: []endpoint.Endpoint{a, at("[fd00::1]:1")},
			added: []string{"[fd00::1]:1"}, changed: []string{"10.0.0.1:1"}},
		"two become one": {before: []endpoint.Endpoint{a, at("[fd00::1]:1")}, after: []endpoint.Endpoint{at("10.0.0.1:1", "[fd00::1]:1")},
			removed: []string{"[fd00::1]:1"}, changed: []string{"10.0.0.1:1+[fd00::1]:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := endpoint.Set{Endpoints: tt.before}.Diff(endpoint.Set{Endpoints: tt.after})
			want := fmt.Sprint("+", tt.added, " -", tt.removed, " ~", tt.changed)
			if text := fmt.Sprint("+", words(got.Added), " -", words(got.Removed), " ~", words(got.Changed)); text != want {
				t.Errorf("the difference is %s, want %s", text, want)
			}
			if got.Empty() != (len(tt.added)+len(tt.removed)+len(tt.changed) == 0) {
				t.Errorf("Empty is %v", got.Empty())
			}
		})
	}
}

func TestEligible(t *testing.T) {
	a, b, c := at("10.0.0.1:1"), at("10.0.0.2:1"), at("10.0.0.3:1")
	stopped := with(ending(c), func(e *endpoint.Endpoint) { e.Serving = false })
	for name, tt := range map[string]struct {
		eps  []endpoint.Endpoint
		want []string
	}{
		"all ready":                        {[]endpoint.Endpoint{a, b}, []string{"10.0.0.1:1", "10.0.0.2:1"}},
		"some ready":                       {[]endpoint.Endpoint{a, unready(b), ending(c)}, []string{"10.0.0.1:1"}},
		"none ready, one serves and ends":  {[]endpoint.Endpoint{unready(a), ending(b), stopped}, []string{"10.0.0.2:1!~"}},
		"none":                             {[]endpoint.Endpoint{unready(a), stopped}, nil},
		"empty":                            {nil, nil},
		"ready although it is terminating": {[]endpoint.Endpoint{with(a, func(e *endpoint.Endpoint) { e.Terminating = true }), b}, []string{"10.0.0.1:1~", "10.0.0.2:1"}},
		// publishNotReadyAddresses makes the controller say ready.
	} {
		t.Run(name, func(t *testing.T) {
			got := endpoint.Set{Endpoints: tt.eps}.Eligible()
			if diff := cmp.Diff(tt.want, words(got)); diff != "" {
				t.Errorf("eligible (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzNormalize holds Normalize and Diff to what is true for any Sets.
func FuzzNormalize(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0}, []byte{2, 0, 1, 0})
	f.Add([]byte{0x31, 0x11, 0x32, 0x52, 0x31, 0x22}, []byte{0x11, 0x01, 0x21, 0x91})
	f.Add([]byte{0x11, 1, 0x12, 1, 0x13, 2, 0x13, 2}, []byte{})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if len(one)+len(two) > 400 {
			return
		}
		before, after := readSet(one), readSet(two)
		a, b := before.Normalize(), after.Normalize()
		holds(t, before, a)
		holds(t, after, b)
		before.Endpoints = slices.Clone(before.Endpoints) // a may share them
		slices.Reverse(before.Endpoints)
		if again := before.Normalize(); !slices.EqualFunc(again.Endpoints, a.Endpoints, endpoint.Endpoint.Equal) {
			t.Fatalf("the order matters: %q and %q", words(a.Endpoints), words(again.Endpoints))
		}
		if d := a.Diff(a); !d.Empty() {
			t.Fatalf("a Set differs from itself: %+v", d)
		}
		d, back := a.Diff(b), b.Diff(a)
		if len(a.Endpoints)+len(d.Added)-len(d.Removed) != len(b.Endpoints) || len(b.Endpoints)+len(back.Added)-len(back.Removed) != len(a.Endpoints) {
			t.Fatalf("%d endpoints +%d -%d are %d", len(a.Endpoints), len(d.Added), len(d.Removed), len(b.Endpoints))
		}
		for _, e := range append(d.Added, d.Changed...) {
			if !slices.ContainsFunc(b.Endpoints, e.Equal) {
				t.Fatalf("%v is new and not there", e)
			}
		}
		for _, e := range d.Removed {
			if !slices.ContainsFunc(a.Endpoints, e.Equal) {
				t.Fatalf("%v went and was not there", e)
			}
		}
	})
}

// readSet makes a Set of two bytes each endpoint, from few addresses, so that
// twins are common.
func readSet(data []byte) endpoint.Set {
	var set endpoint.Set
	for i := 0; i+1 < len(data); i += 2 {
		b, c := data[i], data[i+1]
		var e endpoint.Endpoint
		v4 := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, b & 7}), uint16(c>>6))
		v6 := netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: b & 7}), uint16(c>>6))
		mapped := netip.AddrPortFrom(netip.AddrFrom16(v4.Addr().As16()), v4.Port())
		e.Addrs = [][]netip.AddrPort{nil, {v4}, {v6}, {v4, v6}, {v6, v4}, {mapped}, {mapped, v6, v4}, {{}, v4}}[b>>3&7]
		e.UID = []string{"", "1", "2", "3"}[c&3]
		e.Ready, e.Serving, e.Terminating = c&4 != 0, c&8 != 0, c&16 != 0
		e.Name = []string{"", "x"}[c>>5&1]
		if b&64 != 0 {
			e.ForZones = []string{"b", "a"}
		}
		set.Endpoints = append(set.Endpoints, e)
	}
	return set
}

// holds checks one result of Normalize.
func holds(t *testing.T, in, out endpoint.Set) {
	t.Helper()
	addrs, pods := map[netip.AddrPort]bool{}, map[string]bool{}
	for i, e := range out.Endpoints {
		if len(e.Addrs) == 0 || i > 0 && endpoint.Compare(out.Endpoints[i-1], e) >= 0 || !slices.IsSorted(e.ForZones) {
			t.Fatalf("not in order: %q", words(out.Endpoints))
		}
		for _, a := range e.Addrs {
			if !a.IsValid() || a.Port() == 0 || a.Addr().Is4In6() || addrs[a] {
				t.Fatalf("%v is not usable, or there twice: %q", a, words(out.Endpoints))
			}
			addrs[a] = true
		}
		if pod := fmt.Sprint(e.UID, " ", e.Addr().Port()); e.UID != "" && pods[pod] {
			t.Fatalf("the pod %s is there twice: %q", pod, words(out.Endpoints))
		} else {
			pods[pod] = true
		}
	}
	// What was left out had nothing of its own: its pod is there, or its address.
	for _, e := range in.Endpoints {
		lost := len(e.Addrs) > 0
		for _, a := range e.Addrs {
			a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			lost = lost && a.IsValid() && a.Port() != 0 && !addrs[a]
		}
		if lost && !pods[fmt.Sprint(e.UID, " ", e.Addr().Port())] {
			t.Fatalf("%q is lost: %q", words([]endpoint.Endpoint{e}), words(out.Endpoints))
		}
	}
	if again := out.Normalize(); !slices.EqualFunc(again.Endpoints, out.Endpoints, endpoint.Endpoint.Equal) {
		t.Fatalf("not the same when done again: %q and %q", words(out.Endpoints), words(again.Endpoints))
	}
}
