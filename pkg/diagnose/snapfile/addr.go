package snapfile

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
)

// addrs replaces addresses so that those with a common prefix keep one of the same length (the scheme of Xu, Fan,
// Ammar and Moon, "Prefix-preserving IP address anonymization", ICNP 2002): a pod stays inside its node's range, and
// equal addresses stay equal. Ranges that mean something to a diagnosis keep their meaning: loopback, link-local,
// multicast, unspecified, and private against public.
type addrs struct {
	salt []byte
	// swapped exchanges two stand-ins in each range of a node, so that its first address is still its first: that is how
	// a hidden source is recognised.
	swapped map[netip.Addr]netip.Addr
}

// kept are the ranges of which the prefix is not changed; of those marked whole nothing is.
var kept = []struct {
	prefix netip.Prefix
	whole  bool
}{
	{netip.MustParsePrefix("0.0.0.0/8"), true},
	{netip.MustParsePrefix("10.0.0.0/8"), false},
	{netip.MustParsePrefix("100.64.0.0/10"), false},
	{netip.MustParsePrefix("127.0.0.0/8"), true},
	{netip.MustParsePrefix("169.254.0.0/16"), true},
	{netip.MustParsePrefix("172.16.0.0/12"), false},
	{netip.MustParsePrefix("192.168.0.0/16"), false},
	{netip.MustParsePrefix("224.0.0.0/3"), true},
	{netip.MustParsePrefix("::/127"), true},
	{netip.MustParsePrefix("fc00::/7"), false},
	{netip.MustParsePrefix("fe80::/10"), true},
	{netip.MustParsePrefix("ff00::/8"), true},
}

func newAddrs(salt []byte, ranges []netip.Prefix) *addrs {
	a := &addrs{salt: salt, swapped: map[netip.Addr]netip.Addr{}}
	for _, r := range ranges {
		gateway := r.Masked().Addr().Next()
		want := a.prefix(r).Addr().Next()
		got := a.permute(gateway)
		if got == want || !r.Contains(gateway) {
			continue
		}
		// Whoever would get want gets what the gateway would have got: still one to one.
		a.swapped[want] = got
		a.swapped[got] = want
	}
	return a
}

// addr returns the stand-in of one address; an IPv4 address inside IPv6 stays one, a zone is dropped.
func (a *addrs) addr(ip netip.Addr) netip.Addr {
	plain := ip.Unmap().WithZone("")
	if !plain.IsValid() {
		return ip
	}
	out := a.permute(plain)
	if other, ok := a.swapped[out]; ok {
		out = other
	}
	if ip.Is4In6() {
		return netip.AddrFrom16(out.As16())
	}
	return out
}

// prefix returns the stand-in of a range, of the same length.
func (a *addrs) prefix(p netip.Prefix) netip.Prefix {
	base := p.Masked().Addr().Unmap()
	return netip.PrefixFrom(a.permute(base), p.Bits()).Masked()
}

// permute flips each bit by a keyed hash of the bits before it, but for bits that lead to a kept range: both of its
// sides stay where they are, so that nothing else can land there.
func (a *addrs) permute(ip netip.Addr) netip.Addr {
	fixed := 0
	for _, k := range kept {
		if k.prefix.Addr().Is4() != ip.Is4() {
			continue
		}
		if k.prefix.Contains(ip) {
			if k.whole {
				return ip
			}
			fixed = max(fixed, k.prefix.Bits())
			continue
		}
		fixed = max(fixed, common(ip, k.prefix)+1)
	}
	out := ip.AsSlice()
	mac := hmac.New(sha256.New, a.salt)
	for bit := fixed; bit < ip.BitLen(); bit++ {
		head := netip.PrefixFrom(ip, bit).Masked()
		mac.Reset()
		mac.Write([]byte("addr:" + head.String()))
		if mac.Sum(nil)[0]&1 == 1 {
			out[bit/8] ^= 0x80 >> (bit % 8)
		}
	}
	res, _ := netip.AddrFromSlice(out)
	return res
}

// common counts the leading bits that an address shares with a range it is not in.
func common(ip netip.Addr, p netip.Prefix) int {
	for n := p.Bits(); n > 0; n-- {
		if netip.PrefixFrom(p.Addr(), n).Masked().Contains(ip) {
			return n
		}
	}
	return 0
}
