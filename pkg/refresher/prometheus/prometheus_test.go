package prometheus_test

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/connectivity"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/prometheus"
)

type fixed refresher.Stats

func (f fixed) Stats() refresher.Stats { return refresher.Stats(f) }

func at(addr, name string) endpoint.Endpoint {
	e := endpoint.At(netip.MustParseAddrPort(addr))
	e.Name = name
	return e
}

// example has every field set, and text that no label may hold.
func example() fixed {
	var took grpcresolver.Histogram
	took.Counts[0], took.Counts[2], took.Count, took.Sum = 2, 1, 3, 6*time.Millisecond
	return fixed{Targets: []refresher.TargetStats{{
		Target: "refresh:///square:grpc", Channels: 2, Source: "dns", Known: true, LastGood: time.UnixMilli(1_700_000_000_500),
		LastErr: errors.New("SERVFAIL"), Panic: true, Changes: 4, DroppedEvents: 5, RefreshTime: took,
		Refreshes: map[string]uint64{"ok": 7, "servfail": 1},
		Verdicts:  map[endpoint.Verdict]uint64{endpoint.VerdictHeld: 2},
		Endpoints: []grpcresolver.EndpointStats{
			{Endpoint: at("10.0.0.1:6565", "default/square-1"), State: connectivity.Ready, Connections: 2, Calls: policy.NodeStats{
				InFlight: 3, Succeeded: 10, Failed: 1, Overloaded: 2, TimedOut: 3, Erred: 6, Neutral: 4, EWMA: 250 * time.Microsecond,
			}},
			{Endpoint: at("10.0.0.2:6565", "bad\xff"), Held: true, State: connectivity.Connecting, EjectedUntil: time.Unix(1, 0)},
		},
	}}}
}

func TestCollect(t *testing.T) {
	const want = `
# HELP grpclb_refresher_channels Channels that use the target now; an idle one does not.
# TYPE grpclb_refresher_channels gauge
grpclb_refresher_channels{target="refresh:///square:grpc"} 2
# HELP grpclb_refresher_disabled 1 when GRPCLB_REFRESHER_DISABLE switched the refresher off: there are no metrics of targets then.
# TYPE grpclb_refresher_disabled gauge
grpclb_refresher_disabled 0
# HELP grpclb_refresher_endpoints Endpoints by what the guard thinks of them: believed, or held although the last answer lacks them.
# TYPE grpclb_refresher_endpoints gauge
grpclb_refresher_endpoints{standing="believed",target="refresh:///square:grpc"} 1
grpclb_refresher_endpoints{standing="held",target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_endpoints_connected Endpoints with a connection that can take calls.
# TYPE grpclb_refresher_endpoints_connected gauge
grpclb_refresher_endpoints_connected{target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_endpoints_ejected Endpoints that get no calls because calls on them failed.
# TYPE grpclb_refresher_endpoints_ejected gauge
grpclb_refresher_endpoints_ejected{target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_events_dropped_total Events that the application's hook had no time for.
# TYPE grpclb_refresher_events_dropped_total counter
grpclb_refresher_events_dropped_total 5
# HELP grpclb_refresher_guard_decisions_total The guard's decisions about answers with fewer endpoints.
# TYPE grpclb_refresher_guard_decisions_total counter
grpclb_refresher_guard_decisions_total{target="refresh:///square:grpc",verdict="believed"} 0
grpclb_refresher_guard_decisions_total{target="refresh:///square:grpc",verdict="expired"} 0
grpclb_refresher_guard_decisions_total{target="refresh:///square:grpc",verdict="held"} 2
grpclb_refresher_guard_decisions_total{target="refresh:///square:grpc",verdict="restored"} 0
grpclb_refresher_guard_decisions_total{target="refresh:///square:grpc",verdict="zero"} 0
# HELP grpclb_refresher_last_answer_timestamp_seconds When the source answered last, in Unix time; 0 before its first answer.
# TYPE grpclb_refresher_last_answer_timestamp_seconds gauge
grpclb_refresher_last_answer_timestamp_seconds{target="refresh:///square:grpc"} 1.7000000005e+09
# HELP grpclb_refresher_panic 1 while so many endpoints are ejected that ejections are set aside.
# TYPE grpclb_refresher_panic gauge
grpclb_refresher_panic{target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_refreshes_total Looks of the source by what came of them.
# TYPE grpclb_refresher_refreshes_total counter
grpclb_refresher_refreshes_total{outcome="ok",target="refresh:///square:grpc"} 7
grpclb_refresher_refreshes_total{outcome="servfail",target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_set_changes_total Changes of the endpoints.
# TYPE grpclb_refresher_set_changes_total counter
grpclb_refresher_set_changes_total{target="refresh:///square:grpc"} 4
# HELP grpclb_refresher_source 1 for the source that the endpoints come from.
# TYPE grpclb_refresher_source gauge
grpclb_refresher_source{source="dns",target="refresh:///square:grpc"} 1
# HELP grpclb_refresher_source_failing 1 while the last look of the source failed; the endpoints stay as they were.
# TYPE grpclb_refresher_source_failing gauge
grpclb_refresher_source_failing{target="refresh:///square:grpc"} 1
`
	var names []string
	for _, m := range regexp.MustCompile(`# TYPE (\S+)`).FindAllStringSubmatch(want, -1) {
		names = append(names, m[1])
	}
	if err := testutil.CollectAndCompare(prometheus.NewCollector(example()), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestCollectEndpoints(t *testing.T) {
	const want = `
# HELP grpclb_refresher_endpoint_calls_total Calls that ended, retries one by one, by what they say about the endpoint.
# TYPE grpclb_refresher_endpoint_calls_total counter
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="erred",target="refresh:///square:grpc"} 6
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="failed",target="refresh:///square:grpc"} 1
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="neutral",target="refresh:///square:grpc"} 4
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="overloaded",target="refresh:///square:grpc"} 2
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="success",target="refresh:///square:grpc"} 10
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.1:6565",name="default/square-1",outcome="timed_out",target="refresh:///square:grpc"} 3
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="erred",target="refresh:///square:grpc"} 0
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="failed",target="refresh:///square:grpc"} 0
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="neutral",target="refresh:///square:grpc"} 0
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="overloaded",target="refresh:///square:grpc"} 0
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="success",target="refresh:///square:grpc"} 0
grpclb_refresher_endpoint_calls_total{endpoint="10.0.0.2:6565",name="bad?",outcome="timed_out",target="refresh:///square:grpc"} 0
# HELP grpclb_refresher_endpoint_latency_seconds The moving average that calls are balanced by; 0 before the first call.
# TYPE grpclb_refresher_endpoint_latency_seconds gauge
grpclb_refresher_endpoint_latency_seconds{endpoint="10.0.0.1:6565",name="default/square-1",target="refresh:///square:grpc"} 0.00025
grpclb_refresher_endpoint_latency_seconds{endpoint="10.0.0.2:6565",name="bad?",target="refresh:///square:grpc"} 0
`
	c := prometheus.NewCollector(example(), prometheus.WithEndpoints())
	err := testutil.CollectAndCompare(c, strings.NewReader(want), "grpclb_refresher_endpoint_calls_total", "grpclb_refresher_endpoint_latency_seconds")
	if err != nil {
		t.Error(err)
	}
}

// TestNames: the names and help texts are those that Prometheus' own linter asks
// for, and what is described is what is collected.
func TestNames(t *testing.T) {
	c := prometheus.NewCollector(example(), prometheus.WithEndpoints())
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	pedantic := client.NewPedanticRegistry()
	pedantic.MustRegister(c)
	if _, err := pedantic.Gather(); err != nil {
		t.Error(err)
	}
}

// TestHistograms: buckets hold what is at most their bound, all of them all.
func TestHistograms(t *testing.T) {
	registry := client.NewPedanticRegistry()
	registry.MustRegister(prometheus.NewCollector(example()))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "grpclb_refresher_refresh_duration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 3 || h.GetSampleSum() != 0.006 || len(h.GetBucket()) != len(grpcresolver.Bounds()) {
			t.Errorf("the histogram is %v", h)
		}
		for i, want := range []uint64{2, 2, 3, 3} {
			if got := h.GetBucket()[i].GetCumulativeCount(); got != want {
				t.Errorf("up to %v s: %d, want %d", h.GetBucket()[i].GetUpperBound(), got, want)
			}
		}
		return
	}
	t.Error("no such histogram")
}

// TestSwitchedOff: there is one metric that says so, and none that are wrong.
func TestSwitchedOff(t *testing.T) {
	c := prometheus.NewCollector(fixed{Disabled: true})
	if n := testutil.CollectAndCount(c); n != 2 {
		t.Errorf("%d metrics, want that it is off and that no events were dropped", n)
	}
	if v := testutil.CollectAndCount(prometheus.NewCollector(fixed{Targets: []refresher.TargetStats{{Target: "a"}}}), "grpclb_refresher_source"); v != 0 {
		t.Error("a source before the first answer")
	}
}
