package dnstuning_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/dnstuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

func TestOptions(t *testing.T) {
	tuned := dns.DefaultConfig()
	tuned.Interval, tuned.MaxInterval, tuned.RewalkAfter = 2*time.Second, 9*time.Second, time.Minute
	tuned.RefreshOnTTL, tuned.FollowHeadlessTwin = true, false
	cases := []struct {
		name string
		from config.Refresh
		want dns.Config
	}{
		// Who uses package dns by itself gets what is documented of the configuration.
		{"the defaults are the source's own", config.Default(config.PeakEWMA).Refresh, dns.DefaultConfig()},
		{"every field arrives", config.Refresh{Interval: 2 * time.Second, MaxInterval: 9 * time.Second, OnTTL: true, EmptyGrace: 2 * time.Minute}, tuned},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := dns.DefaultConfig()
			for _, o := range dnstuning.Options(c.from) {
				o(&got)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// plain is an Opener that nothing tunes, tunable one that notes what it is told.
type (
	plain   struct{ endpoint.Opener }
	tunable struct {
		plain
		told config.Refresh
	}
)

func (t tunable) Tune(r config.Refresh) endpoint.Opener { return tunable{t.plain, r} }

func TestOpener(t *testing.T) {
	r := config.Default(config.PeakEWMA).Refresh
	if got := dnstuning.Opener(plain{}, r); got != (plain{}) {
		t.Errorf("what cannot be tuned became %#v", got)
	}
	if got := dnstuning.Opener(tunable{}, r); got != (tunable{told: r}) {
		t.Errorf("what can be tuned became %#v", got)
	}
	target, err := endpoint.ParseTarget("", "square-service:6565", "")
	if err != nil {
		t.Fatal(err)
	}
	// The source says what it was told: an interval that is too short.
	r.Interval = time.Millisecond
	if _, err := dnstuning.Opener(nil, r).Open(target); err == nil || !strings.Contains(err.Error(), "dns source: Interval is 1ms") {
		t.Errorf("DNS with an interval of 1 ms: %v", err)
	}
}
