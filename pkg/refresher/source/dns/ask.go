package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// asker puts the questions of one look to the name servers.
type asker struct {
	client   dnsprobe.Client
	servers  []string // in the order of this look
	attempts int
	search   dnsprobe.ResolvConf // for the candidates of a name
	// everyone asks all servers over TCP and unites their answers.
	everyone bool
	// hungry takes a truncated answer for want of any: nothing is known yet.
	hungry bool
	// lost are the servers that said nothing when everyone was asked.
	lost []string
}

// reply is what the servers said about one question.
type reply struct {
	outcome Outcome // OutcomeOK, OutcomeNXDomain or OutcomeNoData
	answers []*dnsprobe.Answer
	partial bool // a truncated answer that TCP did not complete
	cut     bool // SRV records that not even TCP holds
}

// records are those of all answers that answer the question, each once.
func (r reply) records() []dnsprobe.Record {
	type key struct {
		addr           netip.Addr
		target         string
		port, priority uint16
	}
	var out []dnsprobe.Record
	seen := make(map[key]bool)
	for _, a := range r.answers {
		for _, rec := range a.Final() {
			k := key{rec.Address, strings.ToLower(rec.Target), rec.Port, rec.Priority}
			if !seen[k] {
				seen[k] = true
				out = append(out, rec)
			}
		}
	}
	return out
}

// owner is the name that has the records: the one asked, or where its CNAMEs lead.
func (r reply) owner() string { return r.answers[0].CanonicalName() }

// size is that of the largest answer.
func (r reply) size() int {
	n := 0
	for _, a := range r.answers {
		n = max(n, a.Size)
	}
	return n
}

// overTCP reports whether an answer came over TCP.
func (r reply) overTCP() bool {
	return slices.ContainsFunc(r.answers, func(a *dnsprobe.Answer) bool { return a.Transport == dnsprobe.TCP })
}

// ttl is the least of the answers, 0 when they name none.
func (r reply) ttl() time.Duration {
	least := time.Duration(0)
	for i, a := range r.answers {
		if t, ok := a.TTL(); ok && (i == 0 || t < least) {
			least = t
		}
	}
	return least
}

// newAsker prepares a look: whom to ask, how, and in which order.
func (w *watcher) newAsker(verify bool) (*asker, error) {
	moved, err := false, error(nil)
	if w.cfg.ResolvConf != "" {
		moved, err = w.conf.load()
	}
	servers := w.cfg.Servers
	if w.target.Server != "" {
		servers = []string{w.target.Server}
	}
	conf := w.conf.conf
	if conf.Attempts == 0 {
		conf = dnsprobe.DefaultResolvConf() // no file, and none needed so far
	}
	switch {
	case len(servers) > 0: // the file would only have added a search list
	case err != nil:
		return nil, &Error{Name: w.target.Host, Outcome: OutcomeNoServer, Err: err}
	default:
		servers = serversOf(conf)
	}
	if moved {
		w.pin, w.absent = nil, time.Time{}
	}
	for _, warning := range conf.Warnings {
		w.warn("%s, %s", w.cfg.ResolvConf, warning)
	}
	w.preferred = w.prefer(servers)
	if conf.Rotate {
		k := w.looks % len(servers)
		servers = slices.Concat(servers[k:], servers[:k])
	}
	w.looks++
	a := &asker{
		client:  dnsprobe.Client{Dial: w.cfg.Dial, Timeout: conf.Timeout, EDNSSize: ednsSize},
		servers: servers, attempts: conf.Attempts, search: conf, everyone: verify, hungry: !w.known(),
	}
	if conf.UseVC || w.large || verify {
		a.client.Transport = dnsprobe.TCP
	}
	return a, nil
}

// prefer is the family to ask for first.
func (w *watcher) prefer(servers []string) dnsprobe.Type {
	switch w.cfg.Family {
	case FamilyIPv4:
		return dnsprobe.TypeA
	case FamilyIPv6:
		return dnsprobe.TypeAAAA
	}
	if host, _, err := net.SplitHostPort(servers[0]); err == nil {
		if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().Is6() && !addr.IsLoopback() {
			return dnsprobe.TypeAAAA
		}
	}
	return dnsprobe.TypeA
}

// ask asks until a server says something about the name, or all of them. The
// error is an *Error.
func (a *asker) ask(ctx context.Context, name string, t dnsprobe.Type) (reply, error) {
	q := dnsprobe.Question{Name: name, Type: t}
	if a.everyone {
		return a.askEveryone(ctx, q)
	}
	heard := make([]*failure, len(a.servers))
	for range max(1, a.attempts) {
		for i, server := range a.servers {
			if heard[i] != nil && heard[i].said {
				continue
			}
			answer, err := a.client.Ask(ctx, server, q)
			r, bad := judge(server, answer, err)
			switch {
			case bad == nil:
				return r, nil
			case ctx.Err() != nil:
				return reply{}, gaveUp(name, []*failure{bad})
			case bad.partial && a.hungry:
				return r, nil
			}
			heard[i] = bad
		}
	}
	return reply{}, gaveUp(name, heard)
}

// askEveryone asks all servers at the same time. An endpoint that one of them
// knows exists, so that only if all deny the name it is denied.
func (a *asker) askEveryone(ctx context.Context, q dnsprobe.Question) (reply, error) {
	replies, bad := make([]reply, len(a.servers)), make([]*failure, len(a.servers))
	var asking sync.WaitGroup
	for i, server := range a.servers {
		asking.Go(func() {
			answer, err := a.client.Ask(ctx, server, q)
			replies[i], bad[i] = judge(server, answer, err)
		})
	}
	asking.Wait()
	var all reply
	for i, r := range replies {
		switch {
		case bad[i] != nil:
			a.lost = append(a.lost, bad[i].Error())
		case r.outcome == OutcomeOK && all.outcome != OutcomeOK, all.outcome == "", r.outcome == OutcomeNoData && all.outcome == OutcomeNXDomain:
			all = r
		case r.outcome == all.outcome:
			all.answers, all.cut = append(all.answers, r.answers...), all.cut || r.cut
		}
	}
	if all.outcome == "" {
		return reply{}, gaveUp(q.Name, bad)
	}
	return all, nil
}

// peek asks over UDP and takes what fits: for questions about the kind of a
// name, where a few of its records say it.
func (a *asker) peek(ctx context.Context, name string, t dnsprobe.Type) (reply, error) {
	one := *a
	one.everyone, one.hungry = false, true
	one.client.KeepTruncated = true
	if !a.search.UseVC {
		one.client.Transport = dnsprobe.UDP
	}
	return one.ask(ctx, name, t)
}

// failure is why one server's word does not count.
type failure struct {
	outcome Outcome
	// said means that the server answered, so that asking it again now would
	// bring the same; partial that a part of the answer came.
	said, partial bool
	err           error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// judge tells what one server's answer is worth. A partial one comes with both.
func judge(server string, a *dnsprobe.Answer, err error) (reply, *failure) {
	if errors.Is(err, dnsprobe.ErrTruncatedTCP) && a.Question.Type == dnsprobe.TypeSRV && len(a.Final()) > 0 {
		return reply{outcome: OutcomeOK, answers: []*dnsprobe.Answer{a}, cut: true}, nil
	}
	if err != nil {
		f := &failure{outcome: broken(a, err), err: err}
		if a == nil || len(a.Final()) == 0 {
			return reply{}, f
		}
		f.partial = true
		return reply{outcome: OutcomeOK, answers: []*dnsprobe.Answer{a}, partial: true}, f
	}
	outcome, conclusive := spoken(a)
	if !conclusive {
		return reply{}, &failure{outcome: outcome, said: true, err: fmt.Errorf("%s said %s", server, saying(a, outcome))}
	}
	return reply{outcome: outcome, answers: []*dnsprobe.Answer{a}, partial: a.Flags.Truncated}, nil
}

func saying(a *dnsprobe.Answer, o Outcome) string {
	if o == OutcomeReferral {
		return "to ask other servers"
	}
	return a.Rcode.String()
}

// gaveUp is the error of a question that no server answered. Of several outcomes
// the first server's counts: it is the one that should have known.
func gaveUp(name string, heard []*failure) *Error {
	e := &Error{Name: strings.TrimSuffix(name, "."), Outcome: heard[0].outcome}
	var errs []error
	for _, f := range heard {
		if f != nil {
			errs = append(errs, f)
		}
	}
	e.Err = errors.Join(errs...)
	return e
}
