package dnsprobe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// EDNSSizeGlibc is the UDP payload size that glibc advertises with the edns0 option, in octets (RESOLV_EDNS_BUFFER_SIZE).
const EDNSSizeGlibc = 1200

// Resolver looks names up the way a pod's stub resolver does, and keeps a record of every step.
type Resolver struct {
	// Client gives the DialFunc. What resolv.conf speaks of (time-out, transport, EDNS(0)) is taken from Conf.
	Client Client
	// Conf is the pod's resolv.conf; see [ParseResolvConf]. An Attempts or Timeout of 0 counts as the default.
	Conf ResolvConf
	// Servers overrides Conf.Nameservers with addresses that Client.Dial understands: for other ports, and for forwarded ones.
	Servers []string
}

// Next is what a step of a Walk led to.
type Next string

// What follows a step.
const (
	// NextServer: the same name is asked of the next server, or of the first again in the next attempt.
	NextServer Next = "next-server"
	// NextName: the next candidate is asked.
	NextName Next = "next-name"
	// NextDone: the walk ended here.
	NextDone Next = "done"
)

// Step is one question of a Walk.
type Step struct {
	Result
	// Attempt counts from 1 how often the list of servers was gone through for this name.
	Attempt int `json:"attempt"`
	// Outcome sums up the answer; empty when there is none.
	Outcome Outcome `json:"outcome,omitempty"`
	// Next is what the step led to.
	Next Next `json:"next"`
}

// Walk is a lookup along a search path, step by step.
type Walk struct {
	// Name and Type are what was looked up, as the application would say it.
	Name string `json:"name"`
	Type Type   `json:"type"`
	// Candidates are all names that might have been asked, in order.
	Candidates []string `json:"candidates"`
	// Steps are the questions asked, in order.
	Steps []Step `json:"steps"`
	// Outcome is what the application is told: found; nodata when any candidate had none of this type; servfail when a
	// candidate could not be resolved though others do not exist; nxdomain otherwise. It is empty when the walk ended without an
	// answer.
	Outcome Outcome `json:"outcome,omitempty"`
}

// Answer is the one that ended the walk with records, or nil.
func (w *Walk) Answer() *Answer {
	if n := len(w.Steps); n > 0 && w.Outcome == OutcomeFound {
		return w.Steps[n-1].Answer
	}
	return nil
}

// Lookup walks the search path for name. The rules are those of glibc's res_nsearch and res_nsend:
//
//   - found: the walk ends.
//   - NXDOMAIN and NODATA: the next candidate.
//   - SERVFAIL, REFUSED, NOTIMP, refused connections and time-outs: the same name of the next server, as often as
//     Conf.Attempts says.
//   - when all servers gave no usable answer for a name: the next candidate if the last answer was SERVFAIL. After anything else the
//     walk ends, so that a name which may exist is not mistaken for one further down the path.
//
// They are simplified in that each server has the full time-out in every attempt (glibc shares it out from the second server
// on), and that Rotate begins one server further on with each candidate. The pure Go resolver walks on after time-outs too;
// musl ends at SERVFAIL.
//
// The Walk is never nil. The error is that of the last step when the walk ended without any answer, or of a name with
// no candidate at all; NXDOMAIN and the like are outcomes and no errors.
func (r *Resolver) Lookup(ctx context.Context, name string, t Type) (*Walk, error) {
	w := &Walk{Name: name, Type: t, Candidates: r.Conf.Candidates(name)}
	servers := r.servers()
	if len(w.Candidates) == 0 {
		return w, fmt.Errorf("look up %q: %w: no valid name on the search path", name, ErrBadQuestion)
	}
	client := r.client()
	tally := make(map[Outcome]bool)
	for i, candidate := range w.Candidates {
		order := servers
		if r.Conf.Rotate {
			k := i % len(servers)
			order = slices.Concat(servers[k:], servers[:k])
		}
		r.askServers(ctx, &client, w, order, candidate)
		last := &w.Steps[len(w.Steps)-1]
		tally[last.Outcome] = true
		if last.Next = afterName(last.Outcome); last.Next == NextDone {
			break
		}
	}
	last := &w.Steps[len(w.Steps)-1]
	last.Next = NextDone
	w.Outcome = verdict(last.Outcome, tally)
	if w.Outcome == "" {
		return w, fmt.Errorf("look up %q: %w", name, last.Err)
	}
	return w, nil
}

// verdict is res_nsearch's order of precedence when the path is exhausted.
func verdict(last Outcome, tally map[Outcome]bool) Outcome {
	if afterName(last) == NextDone {
		return last
	}
	for _, o := range []Outcome{OutcomeNoData, OutcomeServFail} {
		if tally[o] {
			return o
		}
	}
	return last
}

// afterName tells what follows when all servers have had their say about one candidate.
func afterName(o Outcome) Next {
	switch o {
	case OutcomeNXDomain, OutcomeNoData, OutcomeReferral, OutcomeServFail:
		return NextName
	}
	return NextDone
}

// askServers asks for one candidate until a server gives a usable answer, and adds the steps to w: at least one.
func (r *Resolver) askServers(ctx context.Context, client *Client, w *Walk, servers []string, candidate string) {
	q := Question{Name: candidate, Type: w.Type}
	for attempt := range max(1, r.attempts()) {
		for _, server := range servers {
			a, err := client.Ask(ctx, server, q)
			step := Step{Result: newResult(server, q, a, err), Attempt: attempt + 1, Next: NextServer}
			if a != nil && usableDespite(err) {
				step.Outcome = a.Outcome()
			}
			w.Steps = append(w.Steps, step)
			if !asksOn(ctx, step) {
				return
			}
		}
	}
}

// usableDespite lets answers count that a stub resolver would use: a truncated one over TCP still has its records.
func usableDespite(err error) bool { return err == nil || errors.Is(err, ErrTruncatedTCP) }

// asksOn tells whether the next server is asked for the same name.
func asksOn(ctx context.Context, s Step) bool {
	if ctx.Err() != nil || errors.Is(s.Err, ErrBadQuestion) {
		return false
	}
	if s.Outcome == OutcomeRejected {
		return s.Answer.Rcode == RcodeNotImplemented
	}
	return s.Outcome == "" || s.Outcome == OutcomeServFail || s.Outcome == OutcomeRefused
}

func (r *Resolver) attempts() int {
	if r.Conf.Attempts > 0 {
		return r.Conf.Attempts
	}
	return DefaultResolvConf().Attempts
}

func (r *Resolver) servers() []string {
	if len(r.Servers) > 0 {
		return r.Servers
	}
	nameservers := r.Conf.Nameservers
	if len(nameservers) == 0 {
		nameservers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	out := make([]string, 0, len(nameservers))
	for _, addr := range nameservers {
		out = append(out, net.JoinHostPort(addr.String(), "53"))
	}
	return out
}

func (r *Resolver) client() Client {
	c := Client{Dial: r.Client.Dial, Timeout: r.Conf.Timeout}
	if r.Conf.UseVC {
		c.Transport = TCP
	}
	if r.Conf.EDNS0 {
		c.EDNSSize = EDNSSizeGlibc
	}
	return c
}
