package admin

import (
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

func TestHeadline(t *testing.T) {
	shares := func(s *sidecar.Stats, part ...float64) {
		for i, p := range part {
			s.Pods[i].Share = p
		}
	}
	tests := map[string]struct {
		change func(s *sidecar.Stats)
		level  level
		want   string
	}{
		"well":  {same, fine, "calls spread over 3 of 3 pods"},
		"quiet": {func(s *sidecar.Stats) { shares(s, 0, 0, 0) }, fine, "3 of 3 pods connected, no calls in the last minute"},
		"waiting": {func(s *sidecar.Stats) {
			s.Known, s.Pods, s.LastError = false, nil, "square-headless.default: NXDOMAIN"
		}, warn, "waiting for the first endpoints: square-headless.default: NXDOMAIN"},
		"waiting, nothing said": {func(s *sidecar.Stats) { s.Known, s.Pods = false, nil }, warn, "waiting for the first endpoints"},
		"zero":                  {func(s *sidecar.Stats) { s.Pods, s.Reason = nil, "the Service has no pods" }, bad, "no endpoints, calls are refused: the Service has no pods"},
		"only removed pods":     {func(s *sidecar.Stats) { s.Pods = s.Pods[:1]; s.Pods[0].State = sidecar.StateGone }, bad, "no endpoints, calls are refused"},
		"none connected": {func(s *sidecar.Stats) {
			for i := range s.Pods {
				s.Pods[i].Connections, s.Pods[i].State, s.Pods[i].Share = 0, sidecar.StateUnreachable, 0
			}
			s.Pods[1].StateReason = "connection refused"
		}, bad, "none of 3 pods can take calls: connection refused"},
		"draining": {func(s *sidecar.Stats) { s.Draining, s.ClientStreams = true, 1 }, note, "draining: 1 call left to end"},
		"panic":    {func(s *sidecar.Stats) { s.Panic = true }, bad, "so many pods fail that ejections are set aside: calls go to all of them"},
		"uneven":   {func(s *sidecar.Stats) { shares(s, 0.96, 0.02, 0.02) }, warn, "1 of 3 pods gets 96\u202f% of calls"},
		// A slow pod gets less by intent.
		"slow pod": {func(s *sidecar.Stats) { shares(s, 0.46, 0.46, 0.08) }, fine, "calls spread over 3 of 3 pods"},
		"one pod":  {func(s *sidecar.Stats) { s.Pods = s.Pods[:1]; shares(s, 1) }, fine, "calls spread over 1 of 1 pod"},
		"failing": {func(s *sidecar.Stats) { s.Pods[1].Name, s.Pods[1].RecentErrors = "default/square-2", 200 }, warn,
			"calls spread over 3 of 3 pods; default/square-2 fails 33\u202f% of its calls"},
		"failing before": {func(s *sidecar.Stats) { s.Pods[1].Failed = 3000 }, fine, "calls spread over 3 of 3 pods"},
		"a few errors":   {func(s *sidecar.Stats) { s.Pods[1].RecentErrors = 29 }, fine, "calls spread over 3 of 3 pods"},
		"several failing": {func(s *sidecar.Stats) { s.Pods[1].RecentErrors, s.Pods[2].RecentErrors = 600, 60 }, warn,
			"calls spread over 3 of 3 pods; 2 pods fail calls"},
		"ejected": {func(s *sidecar.Stats) {
			shares(s, 0.5, 0.5, 0)
			s.Pods[2].State = sidecar.StateEjected
		}, warn, "calls spread over 2 of 3 pods; 1 ejected"},
		"held, new and going": {func(s *sidecar.Stats) {
			s.Pods[0].State, s.Pods[1].State, s.Pods[2].State = sidecar.StateHeld, sidecar.StateWarming, sidecar.StateDraining
			shares(s, 0.5, 0.5, 0)
		}, note, "calls spread over 2 of 2 pods; 1 held, 1 warming up and 1 draining"},
		"source fails": {func(s *sidecar.Stats) { s.LastError, s.LastGood = "SERVFAIL", now.Add(-5*time.Minute) }, warn,
			"calls spread over 3 of 3 pods; the source fails, last answer 5\u202fmin ago"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			tc.change(&s)
			if got := headlineOf(&s, now); got.text != tc.want || got.level != tc.level {
				t.Errorf("%s %q, want %s %q", got.level.said(), got.text, tc.level.said(), tc.want)
			}
		})
	}
}

func TestRate(t *testing.T) {
	old, young := member("10.0.0.1:1"), member("10.0.0.2:1")
	young.Since, young.Recent = now.Add(-10*time.Second), 100
	if got := rate(now, &old, &young); got != 20 {
		t.Errorf("%v calls a second, want 10 and 10", got)
	}
}
