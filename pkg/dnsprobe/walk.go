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
	// NextAsIs: the rest of the search list is passed over, and the name is asked as it is.
	NextAsIs Next = "name-as-is"
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
	// Outcome is what the application is told: found; or else that of the name as it is, when it was asked first; or else
	// nodata when any candidate had none of this type; or else servfail when any could not be resolved; or else that of the
	// last step. It is empty when the deciding step brought no answer.
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
//   - SERVFAIL, REFUSED, NOTIMP, refused connections and time-outs: the same name is asked of the next server, as often
//     as Conf.Attempts says. When all have had their say, the last one's counts.
//   - NXDOMAIN, NODATA and SERVFAIL: the next candidate.
//   - refused connections: the walk ends.
//   - time-outs, REFUSED and all else: the rest of the search list is passed over and the name is asked as it is, unless it was.
//   - the name as it is, when asked first, is always followed by the search list.
//
// They are simplified in that each server has the full time-out in every attempt (glibc shares it out from the second server
// on), and that Rotate begins one server further on with each candidate. The pure Go resolver goes on to the next candidate
// after time-outs too; musl ends at SERVFAIL and at time-outs.
//
// The Walk is never nil. An error comes when the Walk's Outcome is empty, and is that of the step that decided, or of a name without
// any candidate; NXDOMAIN and the like are outcomes and no errors. The end of ctx ends the walk.
func (r *Resolver) Lookup(ctx context.Context, name string, t Type) (*Walk, error) {
	plan := r.Conf.plan(name)
	w := &Walk{Name: name, Type: t, Candidates: r.Conf.Candidates(name)}
	if len(plan) == 0 {
		return w, fmt.Errorf("look up %q: %w: no valid name on the search path", name, ErrBadQuestion)
	}
	servers, client := r.servers(), r.client()
	var verdict tally
	for i := 0; i < len(plan); {
		order := servers
		if r.Conf.Rotate {
			k := i % len(servers)
			order = slices.Concat(servers[k:], servers[:k])
		}
		r.askServers(ctx, &client, w, order, plan[i].name)
		last := &w.Steps[len(w.Steps)-1]
		verdict.add(plan[i].place, last)
		i, last.Next = after(ctx, plan, i, last)
	}
	outcome, err := verdict.decide()
	w.Outcome = outcome
	if err != nil {
		return w, fmt.Errorf("look up %q: %w", name, err)
	}
	return w, nil
}

// after gives the index of the candidate that follows the last step for candidate i, beyond the end when there is none.
func after(ctx context.Context, plan []candidate, i int, last *Step) (int, Next) {
	end := len(plan)
	if last.Outcome == OutcomeFound || i+1 == end || ctx.Err() != nil || errors.Is(last.Err, ErrBadQuestion) {
		return end, NextDone
	}
	if plan[i].place == asIsFirst {
		return i + 1, NextName
	}
	switch last.Outcome {
	case OutcomeNXDomain, OutcomeNoData, OutcomeReferral, OutcomeServFail:
		return i + 1, NextName
	}
	if errors.Is(last.Err, ErrConnRefused) || plan[end-1].place != asIsLast {
		return end, NextDone
	}
	if i+1 == end-1 {
		return i + 1, NextName
	}
	return end - 1, NextAsIs
}

// tally is res_nsearch's order of precedence among what the candidates came to.
type tally struct {
	first, last      *result // first is the name as it is, when asked before the search list
	nodata, servfail bool
}

type result struct {
	outcome Outcome
	err     error
}

func (t *tally) add(at place, s *Step) {
	t.last = &result{s.Outcome, s.Err}
	switch {
	case at == asIsFirst:
		t.first = t.last
	case s.Outcome == OutcomeNoData || s.Outcome == OutcomeReferral:
		t.nodata = true
	case s.Outcome == OutcomeServFail:
		t.servfail = true
	}
}

// decide gives either an outcome or an error.
func (t *tally) decide() (Outcome, error) {
	decisive := t.last
	switch {
	case t.last.outcome == OutcomeFound:
	case t.first != nil:
		decisive = t.first
	case t.nodata:
		return OutcomeNoData, nil
	case t.servfail:
		return OutcomeServFail, nil
	}
	if decisive.outcome == "" {
		return "", decisive.err
	}
	return decisive.outcome, nil
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
