package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the time of all tests.
var now = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// fixed is a source that says the same for ever.
type fixed struct {
	pools []sidecar.Stats
	info  Info
}

func (f fixed) Pools() []sidecar.Stats { return f.pools }
func (f fixed) Info() Info             { return f.info }

// daemon is one with a target for each change of a healthy one.
func daemon(changes ...func(*sidecar.Stats)) fixed {
	f := fixed{info: Info{
		Version: version.Info{Version: "v0.4.0", Commit: "1a2b3c4d5e6f", GoVersion: "go1.26.8"},
		Started: now.Add(-3 * time.Hour),
		Config:  Config{Generation: 1, Loaded: now.Add(-3 * time.Hour)},
	}}
	for _, change := range changes {
		s := healthy()
		change(&s)
		f.pools = append(f.pools, s)
	}
	return f
}

func (f fixed) with(change func(*Info)) fixed {
	change(&f.info)
	return f
}

func same(*sidecar.Stats) {}

// healthy is a target with three pods that share the calls.
func healthy() sidecar.Stats {
	s := sidecar.Stats{
		Name: "square", Target: "square-headless.default:6565", Policy: "peak_ewma", Source: "dns", Listen: []string{"127.0.0.10:6565"},
		Ready: true, Known: true, LastGood: now.Add(-2 * time.Second), Clients: 2, ClientStreams: 3, Calls: 9000,
		GuardDecisions:  map[string]uint64{},
		RefreshOutcomes: map[string]uint64{"dns/ok": 1, "dns/unchanged": 12},
		RefreshDuration: sidecar.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{10, 2, 1}, Sum: 0.05, Count: 13},
		Propagation:     sidecar.Histogram{Bounds: []float64{0.1, 1}, Counts: []uint64{3, 0, 0}, Sum: 0.129, Count: 3},
		Refreshes: []sidecar.Refresh{
			{At: now.Add(-2 * time.Second), Source: "dns", Outcome: "unchanged", Looks: 12, Took: 640 * time.Microsecond, Size: 3},
			{At: now.Add(-3 * time.Hour), Source: "dns", Outcome: "ok", Looks: 1, Took: 810 * time.Microsecond, Size: 3,
				Added: []string{"10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565"}},
		},
	}
	for _, addr := range []string{"10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565"} {
		s.Pods = append(s.Pods, member(addr))
	}
	return s
}

// member is a pod that is well.
func member(addr string) sidecar.Pod {
	return sidecar.Pod{
		Addr: addr, State: sidecar.StateReady, Since: now.Add(-3 * time.Hour), Connections: 1, InFlight: 1,
		Calls: 3000, Succeeded: 3000, Codes: map[string]uint64{"OK": 3000}, Recent: 600, Share: 1.0 / 3,
		EWMA: 2 * time.Millisecond, P50: 1800 * time.Microsecond, P95: 5 * time.Millisecond, P99: 12 * time.Millisecond,
		Latency: sidecar.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{1000, 1900, 100}, Sum: 6.5, Count: 3000},
		BytesIn: 30000, BytesOut: 60000,
	}
}

// get asks a handler, as localhost where the request does not say otherwise.
func get(t *testing.T, h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	r.Host = "localhost:15651"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
