//go:build browser

package browser

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/admin"
	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// pool is a source whose pods really get calls: as many as the time since the
// last look allows, at each pod's rate.
type pool struct {
	mu    sync.Mutex
	pods  []*pod
	stats sidecar.Stats
	info  admin.Info
	last  time.Time
}

// pod is one of them. Its fields may be changed through pool.do.
type pod struct {
	sidecar.Pod
	rate  float64 // calls in a second
	fails float64 // the share of them that end with UNKNOWN
	calls float64
	slow  time.Duration
}

// newPool has three pods that are all well.
func newPool() *pool {
	now := time.Now()
	p := &pool{
		last: now.Add(-time.Minute),
		stats: sidecar.Stats{
			Name: "square-service", Target: "square-service-headless.default.svc.cluster.local:6565", Policy: "peak_ewma", Source: "dns",
			Listen: []string{"127.0.0.10:6565"}, Ready: true, Known: true, LastGood: now, Clients: 2, ClientStreams: 3,
			GuardDecisions: map[string]uint64{}, RefreshOutcomes: map[string]uint64{"dns/ok": 1},
			Propagation: sidecar.Histogram{Bounds: []float64{1}, Counts: []uint64{3, 0}, Count: 3, Sum: 0.13},
		},
		info: admin.Info{
			Version: version.Info{Version: "v0.4.0", Commit: "1a2b3c4d5e6f", GoVersion: "go1.26.8"}, Started: now.Add(-3 * time.Hour),
			Config: admin.Config{File: "/etc/grpclb/sidecar.yaml", Generation: 2, Loaded: now.Add(-40 * time.Minute)},
		},
	}
	for i := range 3 {
		p.pods = append(p.pods, newPod(i))
	}
	p.look("ok", addrs(p.pods), nil, "", "", 3*time.Hour)
	p.stats.Refreshes = append([]sidecar.Refresh{{At: now, Source: "dns", Outcome: "unchanged", Looks: 2158, Size: 3, Took: 640 * time.Microsecond}}, p.stats.Refreshes...)
	return p
}

func newPod(i int) *pod {
	return &pod{rate: 33, slow: 2 * time.Millisecond, Pod: sidecar.Pod{
		// DNS knows neither names nor nodes of pods.
		Addr: fmt.Sprintf("10.244.%d.%d:6565", i/200+1, i%200+11), State: sidecar.StateReady, Since: time.Now().Add(-3 * time.Hour), Connections: 1, InFlight: 1, Codes: map[string]uint64{},
	}}
}

func addrs(pods []*pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Addr)
	}
	return out
}

// do changes the pool.
func (p *pool) do(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// look adds a row to the history; call it within do.
func (p *pool) look(outcome string, added, removed []string, guard, failure string, ago time.Duration) {
	size := len(p.pods)
	p.stats.Refreshes = append([]sidecar.Refresh{{
		At: time.Now().Add(-ago), Source: "dns", Outcome: outcome, Looks: 1, Took: 810 * time.Microsecond,
		Added: added, Removed: removed, Size: size, Guard: guard, Error: failure,
	}}, p.stats.Refreshes...)
}

// Pools is part of admin.Source.
func (p *pool) Pools() []sidecar.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.work(time.Now())
	s := p.stats
	var all float64
	for _, q := range p.pods {
		all += q.rate
	}
	s.Pods = nil
	for _, q := range p.pods {
		row := q.Pod
		row.Codes = maps.Clone(q.Codes)
		if all > 0 {
			row.Share = q.rate / all
		}
		s.Pods = append(s.Pods, row)
	}
	s.Refreshes = slices.Clone(s.Refreshes)
	return []sidecar.Stats{s}
}

// work makes the calls that are due.
func (p *pool) work(now time.Time) {
	since := now.Sub(p.last).Seconds()
	p.last = now
	for _, q := range p.pods {
		q.calls += q.rate * since
		n := uint64(math.Floor(q.calls))
		q.calls -= float64(n)
		failed := uint64(math.Round(float64(n) * q.fails))
		q.Calls += n
		q.Succeeded += n - failed
		q.Erred += failed
		q.Codes["OK"] += n - failed
		if failed > 0 {
			q.Codes["UNKNOWN"] += failed
		}
		minute := min(60, now.Sub(q.Since).Seconds())
		q.Recent, q.RecentErrors = uint64(q.rate*minute), uint64(q.rate*minute*q.fails)
		q.P50, q.P95, q.P99 = 0, 0, 0
		if q.rate > 0 {
			q.P50, q.P95, q.P99 = q.slow, q.slow*5/2, q.slow*6
		}
		p.stats.Calls += n
	}
}

// Info is part of admin.Source.
func (p *pool) Info() admin.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}
