package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// Metric describes one metric of /metrics. Names and meanings are those of
// pkg/refresher/prometheus where the library has the same metric.
type Metric struct {
	// Name is the full name.
	Name string
	// Type is "counter", "gauge" or "histogram".
	Type string
	// Help is a sentence.
	Help string
	// Labels are the names of its labels, nil for none.
	Labels []string
}

// Metrics lists what /metrics has, in its order. A target that has more than
// MaxEndpointSeries pods has none of the metrics with the label "endpoint".
func Metrics() []Metric {
	var out []Metric
	for _, f := range families() {
		out = append(out, f.Metric)
	}
	return out
}

// MaxEndpointSeries is the largest number of pods of a target for which there are
// series for each. Every client's sidecar has them: what one scrape bears, a
// thousand clients' may not.
const MaxEndpointSeries = 256

const prefix = "grpclb_refresher_"

// family is a metric with how it is read.
type family struct {
	Metric
	write func(e *exposition, s snapshot)
}

// snapshot is what one scrape reads.
type snapshot struct {
	pools []sidecar.Stats
	names []string // the label "target" of each of pools
	pods  [][]sidecar.Pod
	info  Info
}

func metrics(w http.ResponseWriter, src Source) {
	s := snapshot{pools: src.Pools(), info: src.Info()}
	s.names = unique(s.pools)
	for i := range s.pools {
		s.pods = append(s.pods, merged(s.pools[i].Pods))
	}
	var e exposition
	for _, f := range families() {
		e.begin(f.Metric)
		f.write(&e, s)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(e.Bytes())
}

// merged is the pods that get series of their own. A pod that was removed and is
// back again is listed twice; a counter must not be.
func merged(pods []sidecar.Pod) []sidecar.Pod {
	var out []sidecar.Pod
	at := map[[2]string]int{}
	for _, p := range pods {
		key := [2]string{label(p.Addr), label(p.Name)}
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			out = append(out, p)
			continue
		}
		out[i] = sum(out[i], p)
	}
	if len(out) > MaxEndpointSeries {
		return nil
	}
	return out
}

// sum adds an earlier membership of a pod to its present one.
func sum(a, b sidecar.Pod) sidecar.Pod {
	a.Connections += b.Connections
	a.InFlight += b.InFlight
	a.Calls += b.Calls
	a.Succeeded += b.Succeeded
	a.Failed += b.Failed
	a.Overloaded += b.Overloaded
	a.TimedOut += b.TimedOut
	a.Erred += b.Erred
	a.Neutral += b.Neutral
	a.BytesIn += b.BytesIn
	a.BytesOut += b.BytesOut
	a.Passthrough += b.Passthrough
	a.PassthroughBytes += b.PassthroughBytes
	a.Ejections += b.Ejections
	codes := map[string]uint64{}
	for _, m := range []map[string]uint64{a.Codes, b.Codes} {
		for code, n := range m {
			codes[code] += n
		}
	}
	a.Codes = codes
	if slices.Equal(a.Latency.Bounds, b.Latency.Bounds) && len(a.Latency.Counts) == len(b.Latency.Counts) {
		counts := slices.Clone(a.Latency.Counts)
		for i, n := range b.Latency.Counts {
			counts[i] += n
		}
		a.Latency = sidecar.Histogram{Bounds: a.Latency.Bounds, Counts: counts, Sum: a.Latency.Sum + b.Latency.Sum, Count: a.Latency.Count + b.Latency.Count}
	}
	return a
}

// families is the table of all metrics.
func families() []family {
	return slices.Concat(daemonFamilies(), targetFamilies(), callFamilies(), endpointFamilies(), processFamilies())
}

// of is a metric with one value for the daemon.
func of(name, kind, help string, value func(Info) float64) family {
	return family{Metric{prefix + name, kind, help, nil}, func(e *exposition, s snapshot) { e.value(value(s.info)) }}
}

// ofTarget is a metric with one value for each target.
func ofTarget(name, kind, help string, value func(s *sidecar.Stats) float64) family {
	return family{Metric{prefix + name, kind, help, []string{"target"}}, func(e *exposition, s snapshot) {
		for i := range s.pools {
			e.value(value(&s.pools[i]), s.names[i])
		}
	}}
}

// eachTarget is a metric with several values for each target.
func eachTarget(name, kind, help string, labels []string, values func(s *sidecar.Stats, emit func(v float64, labels ...string))) family {
	return family{Metric{prefix + name, kind, help, append([]string{"target"}, labels...)}, func(e *exposition, s snapshot) {
		for i := range s.pools {
			values(&s.pools[i], func(v float64, labels ...string) { e.value(v, append([]string{s.names[i]}, labels...)...) })
		}
	}}
}

func histogramOf(name, help string, value func(s *sidecar.Stats) sidecar.Histogram) family {
	return family{Metric{prefix + name, "histogram", help, []string{"target"}}, func(e *exposition, s snapshot) {
		for i := range s.pools {
			e.histogram(value(&s.pools[i]), s.names[i])
		}
	}}
}

func daemonFamilies() []family {
	return []family{
		{Metric{prefix + "build_info", "gauge", "1, with the build that runs.", []string{"version", "commit", "go_version"}}, func(e *exposition, s snapshot) {
			e.value(1, s.info.Version.Version, s.info.Version.Commit, s.info.Version.GoVersion)
		}},
		of("draining", "gauge", "1 while the daemon ends and calls run out.", func(i Info) float64 { return truth(i.Draining) }),
		of("config_generation", "gauge", "How many configurations were put in force, that of the start included.",
			func(i Info) float64 { return float64(i.Config.Generation) }),
		of("config_loaded_timestamp_seconds", "gauge", "When the configuration in force was read, in Unix time.",
			func(i Info) float64 { return unix(i.Config.Loaded) }),
		of("config_last_reload_successful", "gauge", "0 while the file on disk was refused and the configuration before it stays in force.",
			func(i Info) float64 { return truth(i.Config.Error == "") }),
		of("config_reloads_refused_total", "counter", "Changes of the configuration that were refused.",
			func(i Info) float64 { return float64(i.Config.Refused) }),
	}
}

func targetFamilies() []family {
	return []family{
		ofTarget("ready", "gauge", "1 once calls can be taken: a first pod is connected, or the source declared that there is none.",
			func(s *sidecar.Stats) float64 { return truth(s.Ready) }),
		eachTarget("endpoints", "gauge", "Endpoints by what the guard thinks of them: believed, or held although the last answer lacks them.", []string{"standing"},
			func(s *sidecar.Stats, emit func(float64, ...string)) {
				held := countState(s, sidecar.StateHeld)
				_, members := countPods(*s)
				emit(float64(members)-held, "believed")
				emit(held, "held")
			}),
		ofTarget("endpoints_connected", "gauge", "Endpoints with a connection that can take calls.",
			func(s *sidecar.Stats) float64 { n, _ := countPods(*s); return float64(n) }),
		ofTarget("endpoints_ejected", "gauge", "Endpoints that get no calls because calls on them failed.",
			func(s *sidecar.Stats) float64 { return countState(s, sidecar.StateEjected) }),
		ofTarget("endpoints_without_series", "gauge", "Endpoints of a target that has too many for series of each, 0 for others.",
			func(s *sidecar.Stats) float64 {
				if merged(s.Pods) == nil {
					return float64(len(s.Pods))
				}
				return 0
			}),
		ofTarget("panic", "gauge", "1 while so many endpoints are ejected that ejections are set aside.",
			func(s *sidecar.Stats) float64 { return truth(s.Panic) }),
		ofTarget("last_answer_timestamp_seconds", "gauge", "When the source answered last, in Unix time; 0 before its first answer.",
			func(s *sidecar.Stats) float64 { return unix(s.LastGood) }),
		ofTarget("source_failing", "gauge", "1 while the last look of the source failed; the endpoints stay as they were.",
			func(s *sidecar.Stats) float64 { return truth(s.LastError != "") }),
		eachTarget("source", "gauge", "1 for the source that the endpoints come from.", []string{"source"},
			func(s *sidecar.Stats, emit func(float64, ...string)) {
				if s.Source != "" {
					emit(1, s.Source)
				}
			}),
		eachTarget("refreshes_total", "counter", "Looks of the source by what came of them.", []string{"source", "outcome"},
			func(s *sidecar.Stats, emit func(float64, ...string)) {
				for _, key := range sortedKeys(s.RefreshOutcomes) {
					source, outcome, _ := strings.Cut(key, "/")
					emit(float64(s.RefreshOutcomes[key]), source, outcome)
				}
			}),
		eachTarget("guard_decisions_total", "counter", "The guard's decisions about answers with fewer endpoints.", []string{"verdict"},
			func(s *sidecar.Stats, emit func(float64, ...string)) {
				for _, v := range endpoint.Verdicts() {
					emit(float64(s.GuardDecisions[string(v)]), string(v))
				}
			}),
		histogramOf("refresh_duration_seconds", "How long looks of the source took; a watch has none.",
			func(s *sidecar.Stats) sidecar.Histogram { return s.RefreshDuration }),
		histogramOf("first_call_seconds", "From when an endpoint was seen to its first successful call.",
			func(s *sidecar.Stats) sidecar.Histogram { return s.Propagation }),
	}
}

func callFamilies() []family {
	return []family{
		ofTarget("calls_total", "counter", "Calls that ended.", func(s *sidecar.Stats) float64 { return float64(s.Calls) }),
		ofTarget("calls_refused_total", "counter", "Calls that the sidecar answered itself, since no pod could.",
			func(s *sidecar.Stats) float64 { return float64(s.Refused) }),
		ofTarget("calls_retried_total", "counter", "Calls that went to a second endpoint since the first never saw them.",
			func(s *sidecar.Stats) float64 { return float64(s.Retried) }),
		ofTarget("calls_waiting", "gauge", "Calls that no endpoint has taken yet.", func(s *sidecar.Stats) float64 { return float64(s.Waiting) }),
		ofTarget("client_connections", "gauge", "Connections of clients whose calls are balanced.",
			func(s *sidecar.Stats) float64 { return float64(s.Clients) }),
		ofTarget("client_connections_rejected_total", "counter", "Connections of clients that were closed at once, since too many were open.",
			func(s *sidecar.Stats) float64 { return float64(s.RejectedClients) }),
		ofTarget("client_calls", "gauge", "Calls of clients that have not ended.", func(s *sidecar.Stats) float64 { return float64(s.ClientStreams) }),
		eachTarget("passthrough_connections_total", "counter", "Connections that are not HTTP/2, passed to one endpoint as they are, by what they look like.",
			[]string{"kind"}, func(s *sidecar.Stats, emit func(float64, ...string)) {
				for _, kind := range sortedKeys(s.Passthrough.Kinds) {
					emit(float64(s.Passthrough.Kinds[kind]), kind)
				}
			}),
		ofTarget("passthrough_connections", "gauge", "Connections that are passed through now.",
			func(s *sidecar.Stats) float64 { return float64(s.Passthrough.Open) }),
		ofTarget("passthrough_connections_failed_total", "counter", "Connections that were to be passed through and found no endpoint.",
			func(s *sidecar.Stats) float64 { return float64(s.Passthrough.Failed) }),
		ofTarget("passthrough_bytes_total", "counter", "Bytes of connections that are passed through, both ways.",
			func(s *sidecar.Stats) float64 { return float64(s.Passthrough.Bytes) }),
	}
}

func countState(s *sidecar.Stats, state string) float64 {
	n := 0
	for i := range s.Pods {
		if s.Pods[i].State == state {
			n++
		}
	}
	return float64(n)
}

func sortedKeys(m map[string]uint64) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
