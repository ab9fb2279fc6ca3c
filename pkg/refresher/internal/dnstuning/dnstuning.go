// Package dnstuning says what an operator tunes of the DNS source in the terms
// of that source. It stands apart from package tuning because a DNS client is
// 2 MB of a program, which who has another source should not pay for.
//
//	opener := dnstuning.Opener(given, c.Refresh) // given may be nil
//
// It checks nothing: a Config is validated where it comes from.
package dnstuning

import (
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// Opener is what opens sources as r wants it: DNS where none is given, otherwise
// the one given, tuned where it lets itself be tuned.
func Opener(given endpoint.Opener, r config.Refresh) endpoint.Opener {
	if given == nil {
		return dns.New(Options(r)...)
	}
	if t, ok := given.(config.Tuner); ok {
		return t.Tune(r)
	}
	return given
}

// Options pace the DNS source as r says. A name that moved is looked for when half
// of the time has passed after which an empty answer is believed: it is found
// before the pool is empty.
func Options(r config.Refresh) []dns.Option {
	opts := []dns.Option{
		dns.WithInterval(r.Interval), dns.WithMaxInterval(r.MaxInterval), dns.WithRewalkAfter(r.EmptyGrace / 2),
		dns.FollowHeadlessTwin(r.FollowHeadlessTwin),
	}
	if r.OnTTL {
		opts = append(opts, dns.RefreshOnTTL())
	}
	return opts
}
