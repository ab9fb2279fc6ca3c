package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// off switches an address off.
const off = "off"

// bound is an address that something listens on.
type bound struct {
	place
	addr netip.AddrPort
}

// listenable takes an IP address and a port. Names are not taken: what "localhost"
// is depends on a file, and two of its addresses would be two listeners.
func listenable(s string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		s = "[::]:" + port
	}
	a, err := netip.ParseAddrPort(s)
	switch {
	case err != nil && strings.HasPrefix(s, "localhost:"):
		return a, fmt.Errorf("%q: an IP address is wanted: 127.0.0.1%s", clip(s), strings.TrimPrefix(s, "localhost"))
	case err != nil:
		return a, fmt.Errorf("%q is not an IP address and a port, such as 127.0.0.10:6565 or [::1]:6565", clip(s))
	case a.Port() == 0:
		return a, fmt.Errorf("%q: the port is a number from 1 to 65535", clip(s))
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

func setAdmin(r *reader, v value) error {
	r.out.Admin.Listen = netip.AddrPort{}
	if v.text == off {
		return nil
	}
	a, err := listenable(v.text)
	if err != nil {
		return err
	}
	r.out.Admin.Listen = a
	r.address = append(r.address, bound{v.place, a})
	return nil
}

// setDebug takes loopback addresses alone, whatever else is allowed: the page has
// no login.
func setDebug(r *reader, v value) error {
	r.out.Admin.Debug = netip.AddrPort{}
	if v.text == off {
		return nil
	}
	a, err := listenable(v.text)
	if err != nil {
		return err
	}
	if !a.Addr().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address: the page has no login, use kubectl port-forward to see it", v.text)
	}
	r.out.Admin.Debug = a
	r.address = append(r.address, bound{v.place, a})
	return nil
}

// isName holds a text against aName, by hand: regular expressions that are made at
// the start stay in memory.
func isName(s string) bool {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	if s == "" || len(s) > nameBytes || !letter(s[0]) || !letter(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !letter(s[i]) && !strings.ContainsRune("._:-", rune(s[i])) {
			return false
		}
	}
	return true
}

func setHost(r *reader, v value) error {
	if !isName(v.text) || strings.Contains(v.text, ":") {
		return fmt.Errorf("%q is not a host name without a port", clip(v.text))
	}
	r.out.Admin.Hosts = append(r.out.Admin.Hosts, strings.ToLower(v.text))
	return nil
}

func beginTarget(r *reader, v value) {
	r.target, r.places = defaultTarget(), nil
	r.policy = policyInput{name: config.PeakEWMA, place: v.place}
}

func endTarget(r *reader, v value) {
	if r.target.Name == "" {
		r.target.Name = r.target.Target
	}
	r.out.Targets = append(r.out.Targets, r.target)
	r.targets = append(r.targets, v.place)
}

func setName(r *reader, v value) error {
	if !isName(v.text) {
		return fmt.Errorf("%q is not what it takes: letters, digits, dots, hyphens, underscores and colons, at most 128", clip(v.text))
	}
	r.target.Name = v.text
	return nil
}

func setListen(r *reader, v value) error {
	a, err := listenable(v.text)
	if err != nil {
		return err
	}
	if !a.Addr().IsLoopback() && !r.opts.AllowNonLoopback {
		return fmt.Errorf("%s is not a loopback address: every machine that reaches this one could call the pods by it; "+
			"use 127.0.0.1 to 127.255.255.254 or [::1], or start the daemon with --allow-non-loopback", v.text)
	}
	r.target.Listen = append(r.target.Listen, a)
	r.address = append(r.address, bound{v.place, a})
	return nil
}

func setTarget(r *reader, v value) error {
	if _, err := sidecar.ParseTarget(v.text); err != nil {
		return err
	}
	r.target.Target = v.text
	return nil
}

// policyInput is what a target says about its policy, until all of it is known.
type policyInput struct {
	place
	name   string
	leaves []policyLeaf
}

type policyLeaf struct {
	place
	field string // below the policy's name: "refresh.interval"
	raw   string
}

func beginPolicy(r *reader, v value) { r.policy.place = v.place }

func setPolicy(field string) func(*reader, value) error {
	return func(r *reader, v value) error {
		r.policy.leaves = append(r.policy.leaves, policyLeaf{v.place, field, v.raw})
		return nil
	}
}

// endPolicy holds the whole against package config, and finds the places of what
// that one says.
func endPolicy(r *reader, _ value) {
	p := r.policy
	tree := map[string]any{}
	for _, l := range p.leaves {
		at := tree
		parts := strings.Split(l.field, ".")
		for _, folder := range parts[:len(parts)-1] {
			below, ok := at[folder].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[folder] = below
			}
			at = below
		}
		at[parts[len(parts)-1]] = json.RawMessage(l.raw)
	}
	data, err := json.Marshal(tree)
	if err != nil {
		r.complain(p.place, "%v", err)
		return
	}
	cfg, err := config.Parse(p.name, data)
	var wrong *config.Error
	switch {
	case errors.As(err, &wrong):
		for _, w := range wrong.Fields {
			field, text, _ := strings.Cut(strings.TrimPrefix(w, p.name+"."), ": ")
			at := p.place
			if i := slices.IndexFunc(p.leaves, func(l policyLeaf) bool { return l.field == field }); i >= 0 {
				at = p.leaves[i].place
			} else {
				text = field + ": " + text // its default contradicts what was said
			}
			r.complain(at, "%s", strings.ReplaceAll(text, policyPrefix, ""))
		}
	case err != nil:
		r.complain(p.place, "%v", err)
	default:
		r.target.Policy = cfg
	}
}

// collisions finds addresses that cannot both be listened on.
func (r *reader) collisions() {
	all := r.address
	said := func(path string) bool {
		return slices.ContainsFunc(r.address, func(b bound) bool { return b.path == path })
	}
	if a := r.out.Admin.Listen; a.IsValid() && !said("admin.listen") && !said("--admin") {
		all = append([]bound{{place{path: "admin.listen"}, a}}, all...)
	}
	if a := r.out.Admin.Debug; a.IsValid() && !said("admin.debug") && !said("--debug") {
		all = append([]bound{{place{path: "admin.debug"}, a}}, all...)
	}
	for i, b := range all {
		for _, a := range all[:i] {
			if !collide(a.addr, b.addr) {
				continue
			}
			at, other := b, a
			if at.path == "admin.listen" || at.path == "admin.debug" {
				at, other = a, b // the default one stands nowhere
			}
			where := other.path
			if other.line > 0 {
				where += fmt.Sprintf(" (line %d)", other.line)
			}
			r.complain(at.place, "%s cannot be listened on beside %s of %s", at.addr, other.addr, where)
			break
		}
	}
	names := map[string]int{}
	for i, t := range r.out.Targets {
		if first, taken := names[t.Name]; taken {
			r.complain(r.targets[i], "targets[%d] is called %q, too: give one of them another name", first, t.Name)
			continue
		}
		names[t.Name] = i
	}
}

// collide reports whether the kernel refuses to listen on both. [::] takes the
// port of every address of both families, as Go opens it.
func collide(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() {
		return false
	}
	covers := func(x, y netip.Addr) bool {
		return x == y || x.IsUnspecified() && (x.Is6() || y.Is4())
	}
	return covers(a.Addr(), b.Addr()) || covers(b.Addr(), a.Addr())
}

// usualGrace is a pod's terminationGracePeriodSeconds unless it says otherwise.
const usualGrace = 30

// warnings are about what is valid and seldom meant, as far as it can be known
// without asking anybody.
func (r *reader) warnings() []Problem {
	var out []Problem
	warn := func(p place, format string, args ...any) {
		out = append(out, r.problem(p, fmt.Sprintf(format, args...)))
	}
	if total := r.out.DrainDelay + r.out.DrainTimeout; total.Seconds() > usualGrace {
		warn(place{path: "drainTimeout"}, "draining may take %s; a pod is killed after terminationGracePeriodSeconds, %d unless it says otherwise",
			short(total), usualGrace)
	}
	first := map[string]int{}
	for i, t := range r.out.Targets {
		p := r.targets[i]
		parsed, err := sidecar.ParseTarget(t.Target)
		switch {
		case err != nil: // it was parsed before
		case parsed.IsIP():
			warn(p, "%s is one address: there is nothing to balance", t.Target)
		case !parsed.Absolute && !strings.Contains(parsed.Host, "."):
			warn(p, "%s has no namespace: it is looked for in the one of the pod that the daemon runs in", t.Target)
		}
		if j, again := first[t.Target]; again {
			warn(p, "targets[%d] has the same target: one target with both addresses would share its connections", j)
		} else {
			first[t.Target] = i
		}
	}
	return out
}
