package dns

import (
	"errors"
	"fmt"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// Outcome is how a look ended, in one word: the Outcome of
// [endpoint.Refreshed].
type Outcome string

// The outcomes. The first four are answers, all others are errors.
const (
	// OutcomeOK: there are endpoints, and not those of the look before.
	OutcomeOK Outcome = "ok"
	// OutcomeUnchanged: the same endpoints as before.
	OutcomeUnchanged Outcome = "unchanged"
	// OutcomeNXDomain: the name does not exist (RFC 2308 section 2.1).
	OutcomeNXDomain Outcome = "nxdomain"
	// OutcomeNoData: the name exists, but has no such records (section 2.2).
	OutcomeNoData Outcome = "nodata"
	// OutcomeServFail: the server could not find out.
	OutcomeServFail Outcome = "servfail"
	// OutcomeRefused: the server does not want to say.
	OutcomeRefused Outcome = "refused"
	// OutcomeReferral: the server knows who would know, and does not ask them.
	OutcomeReferral Outcome = "referral"
	// OutcomeRejected: any other response code.
	OutcomeRejected Outcome = "rejected"
	// OutcomeTimeout: nobody answered in time.
	OutcomeTimeout Outcome = "timeout"
	// OutcomeSpoofed: only answers came that belong to no question (RFC 5452).
	OutcomeSpoofed Outcome = "spoofed"
	// OutcomeMalformed: the answer cannot be read.
	OutcomeMalformed Outcome = "malformed"
	// OutcomeTruncated: a part of the answer came, and TCP did not bring the rest.
	OutcomeTruncated Outcome = "truncated"
	// OutcomeTooLarge: there are more endpoints than a DNS message holds.
	OutcomeTooLarge Outcome = "toolarge"
	// OutcomeUnreachable: no connection to the server.
	OutcomeUnreachable Outcome = "unreachable"
	// OutcomeNoServer: it is not known whom to ask.
	OutcomeNoServer Outcome = "noserver"
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{OutcomeOK, OutcomeUnchanged, OutcomeNXDomain, OutcomeNoData, OutcomeServFail, OutcomeRefused, OutcomeReferral,
		OutcomeRejected, OutcomeTimeout, OutcomeSpoofed, OutcomeMalformed, OutcomeTruncated, OutcomeTooLarge, OutcomeUnreachable, OutcomeNoServer}
}

// Error is what Fail is told: DNS could not say which endpoints there are.
type Error struct {
	// Name is the name that was asked for, fully qualified when it was known how.
	Name string
	// Outcome is why, in one word.
	Outcome Outcome
	// Err has the servers and their reasons; it wraps package dnsprobe's errors.
	Err error
}

// Error says what was asked for, what came of it and what to do about it.
func (e *Error) Error() string {
	text := strings.ReplaceAll(e.Err.Error(), "\n", "; ")
	if hint := hints[e.Outcome]; hint != "" {
		text += ": " + hint
	}
	return fmt.Sprintf("look up %s: %s", e.Name, text)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

var hints = map[Outcome]string{
	OutcomeServFail:    "see the DNS server's log, for CoreDNS: kubectl -n kube-system logs -l k8s-app=kube-dns",
	OutcomeRefused:     "this server does not serve the name to this client: check the nameserver lines of resolv.conf, or the target's authority",
	OutcomeReferral:    "this server does not look names up for others: check the nameserver lines of resolv.conf, or the target's authority",
	OutcomeTimeout:     "check that the DNS servers run, and that network policies allow UDP and TCP port 53 to them",
	OutcomeSpoofed:     "something between here and the DNS server answers in its place",
	OutcomeTruncated:   "the answer does not fit into UDP: allow TCP port 53 to the DNS servers",
	OutcomeTooLarge:    "a DNS message holds 64 KiB, about 4,000 addresses: use the kube source",
	OutcomeUnreachable: "check that the DNS servers run, and the nameserver lines of resolv.conf",
	OutcomeNoServer:    "name a DNS server in the target, refresh://SERVER/NAME:PORT, or a readable resolv.conf",
}

// spoken is the outcome of an answer; found tells that it is one of the answers
// that say something about the name.
func spoken(a *dnsprobe.Answer) (o Outcome, conclusive bool) {
	switch a.Outcome() {
	case dnsprobe.OutcomeFound:
		return OutcomeOK, true
	case dnsprobe.OutcomeNXDomain:
		return OutcomeNXDomain, true
	case dnsprobe.OutcomeNoData:
		return OutcomeNoData, true
	case dnsprobe.OutcomeReferral:
		return OutcomeReferral, false
	case dnsprobe.OutcomeServFail:
		return OutcomeServFail, false
	case dnsprobe.OutcomeRefused:
		return OutcomeRefused, false
	}
	return OutcomeRejected, false
}

// broken is the outcome of an exchange that failed.
func broken(a *dnsprobe.Answer, err error) Outcome {
	switch {
	case errors.Is(err, dnsprobe.ErrTruncatedTCP):
		return OutcomeTooLarge
	case a != nil && a.Flags.Truncated:
		return OutcomeTruncated
	}
	switch dnsprobe.KindOf(err) {
	case dnsprobe.KindTimeout, dnsprobe.KindCanceled:
		return OutcomeTimeout
	case dnsprobe.KindSpoofed:
		return OutcomeSpoofed
	case dnsprobe.KindMalformed, dnsprobe.KindBadQuestion:
		return OutcomeMalformed
	}
	return OutcomeUnreachable
}
