package auto

import (
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// TestTune: the service config's pace, unless WithDNS says otherwise.
func TestTune(t *testing.T) {
	r := config.Default(config.PeakEWMA).Refresh
	r.Interval, r.MaxInterval, r.OnTTL, r.FollowHeadlessTwin, r.EmptyGrace = 2*time.Second, 9*time.Second, true, false, time.Minute/2
	own := New(WithDNS(dns.WithInterval(3 * time.Second))).(config.Tuner)
	got := dns.DefaultConfig()
	for _, o := range own.Tune(r).(opener).dns {
		o(&got)
	}
	if got.Interval != 3*time.Second || got.MaxInterval != 9*time.Second || !got.RefreshOnTTL || got.FollowHeadlessTwin || got.RewalkAfter != time.Minute/4 {
		t.Errorf("DNS is asked with %+v", got)
	}
}
