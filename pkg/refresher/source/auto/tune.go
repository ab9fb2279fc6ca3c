package auto

import (
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/dnstuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// opener is what New returns; it is a [config.Tuner].
type opener struct{ options }

var _ config.Tuner = opener{}

// Open is part of [endpoint.Opener].
func (o opener) Open(t endpoint.Target) (endpoint.Source, error) {
	return of(kube.New(o.kube...), dns.New(o.dns...)).Open(t)
}

// Tune is part of [config.Tuner]: DNS is asked as often as the service config
// says. Options of [WithDNS] count more.
func (o opener) Tune(r config.Refresh) endpoint.Opener {
	o.dns = slices.Concat(dnstuning.Options(r), o.dns)
	return o
}
