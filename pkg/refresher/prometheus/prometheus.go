// Package prometheus makes metrics of what a refresher knows. It is a package of
// its own so that who wants none links no metrics library.
//
//	registry.MustRegister(prometheus.NewCollector(r))
//
// Everything is read when the registry is scraped; calls pay nothing for it. By
// default the number of series does not grow with the number of endpoints:
// [WithEndpoints] adds series for each.
//
// It refuses to count calls over all endpoints: a sum over endpoints that come
// and go is no counter. grpc-go's OpenTelemetry plugin counts calls by method.
package prometheus

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver"
)

// Source is what a Collector reads: a *refresher.Refresher.
type Source interface {
	Stats() refresher.Stats
}

// Option changes a Collector.
type Option func(*collector)

// WithEndpoints adds metrics of each endpoint, labelled with its address and
// name: five series and one for each outcome of calls. Series end with the
// endpoint.
func WithEndpoints() Option { return func(c *collector) { c.endpoints = true } }

// NewCollector returns a collector of one Refresher's metrics. Two Refreshers in
// one registry need prometheus.WrapRegistererWith and a label that tells them
// apart.
func NewCollector(s Source, opts ...Option) prometheus.Collector {
	c := &collector{source: s}
	for _, o := range opts {
		o(c)
	}
	return c
}

type collector struct {
	source    Source
	endpoints bool
}

// metric is one metric with how it is read from a target.
type metric struct {
	desc *prometheus.Desc
	read func(m metric, t refresher.TargetStats, emit func(prometheus.Metric))
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("grpclb_refresher_"+name, help, labels, nil)
}

func (m metric) gauge(v float64, labels ...string) prometheus.Metric {
	return orInvalid(m.desc)(prometheus.NewConstMetric(m.desc, prometheus.GaugeValue, v, valid(labels)...))
}

func (m metric) counter(v uint64, labels ...string) prometheus.Metric {
	return orInvalid(m.desc)(prometheus.NewConstMetric(m.desc, prometheus.CounterValue, float64(v), valid(labels)...))
}

// orInvalid makes an error one of the scrape in place of the program.
func orInvalid(desc *prometheus.Desc) func(prometheus.Metric, error) prometheus.Metric {
	return func(m prometheus.Metric, err error) prometheus.Metric {
		if err != nil {
			return prometheus.NewInvalidMetric(desc, err)
		}
		return m
	}
}

// valid makes labels of text that others wrote: names of endpoints, outcomes.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	return labels
}

// gaugeOf is a metric with one value for each target.
func gaugeOf(name, help string, value func(refresher.TargetStats) float64) metric {
	return metric{describe(name, help, "target"), func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
		emit(m.gauge(value(t), t.Target))
	}}
}

func histogramOf(name, help string, value func(refresher.TargetStats) grpcresolver.Histogram) metric {
	return metric{describe(name, help, "target"), func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
		h := value(t)
		buckets := map[float64]uint64{}
		var sum uint64
		for i, bound := range grpcresolver.Bounds() {
			sum += h.Counts[i]
			buckets[bound.Seconds()] = sum
		}
		emit(orInvalid(m.desc)(prometheus.NewConstHistogram(m.desc, h.Count, h.Sum.Seconds(), buckets, t.Target)))
	}}
}

// perTarget are the metrics of each target.
var perTarget = []metric{
	gaugeOf("channels", "Channels that use the target now; an idle one does not.",
		func(t refresher.TargetStats) float64 { return float64(t.Channels) }),
	{describe("endpoints", "Endpoints by what the guard thinks of them: believed, or held although the last answer lacks them.", "target", "standing"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			held := count(t, func(e grpcresolver.EndpointStats) bool { return e.Held })
			emit(m.gauge(float64(len(t.Endpoints))-held, t.Target, "believed"))
			emit(m.gauge(held, t.Target, "held"))
		}},
	gaugeOf("endpoints_connected", "Endpoints with a connection that can take calls.", func(t refresher.TargetStats) float64 {
		return count(t, func(e grpcresolver.EndpointStats) bool { return e.State == connectivity.Ready })
	}),
	gaugeOf("endpoints_ejected", "Endpoints that get no calls because calls on them failed.", func(t refresher.TargetStats) float64 {
		return count(t, func(e grpcresolver.EndpointStats) bool { return !e.EjectedUntil.IsZero() })
	}),
	gaugeOf("panic", "1 while so many endpoints are ejected that ejections are set aside.",
		func(t refresher.TargetStats) float64 { return truth(t.Panic) }),
	gaugeOf("last_answer_timestamp_seconds", "When the source answered last, in Unix time; 0 before its first answer.",
		func(t refresher.TargetStats) float64 { return unix(t.LastGood) }),
	gaugeOf("source_failing", "1 while the last look of the source failed; the endpoints stay as they were.",
		func(t refresher.TargetStats) float64 { return truth(t.LastErr != nil) }),
	{describe("source", "1 for the source that the endpoints come from.", "target", "source"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			if t.Source != "" {
				emit(m.gauge(1, t.Target, t.Source))
			}
		}},
	{describe("refreshes_total", "Looks of the source by what came of them.", "target", "outcome"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			for outcome, n := range t.Refreshes {
				emit(m.counter(n, t.Target, outcome))
			}
		}},
	{describe("guard_decisions_total", "The guard's decisions about answers with fewer endpoints.", "target", "verdict"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			for _, v := range endpoint.Verdicts() {
				emit(m.counter(t.Verdicts[v], t.Target, string(v)))
			}
		}},
	{describe("set_changes_total", "Changes of the endpoints.", "target"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			emit(m.counter(t.Changes, t.Target))
		}},
	histogramOf("refresh_duration_seconds", "How long looks of the source took; a watch has none.",
		func(t refresher.TargetStats) grpcresolver.Histogram { return t.RefreshTime }),
	histogramOf("first_call_seconds", "From when an endpoint was seen to its first successful call.",
		func(t refresher.TargetStats) grpcresolver.Histogram { return t.FirstCall }),
	histogramOf("first_call_since_change_seconds", "From when the cluster changed to the first successful call on the endpoint, by the cluster's clock and ours.",
		func(t refresher.TargetStats) grpcresolver.Histogram { return t.FirstCallSinceChange }),
}

// perEndpoint are the metrics of [WithEndpoints].
var perEndpoint = []metric{
	ofEndpoint("endpoint_connections", "Connections that can take calls.",
		func(e grpcresolver.EndpointStats) float64 { return float64(e.Connections) }),
	ofEndpoint("endpoint_in_flight", "Calls that have not ended, retries one by one.",
		func(e grpcresolver.EndpointStats) float64 { return float64(e.Calls.InFlight) }),
	ofEndpoint("endpoint_latency_seconds", "The moving average that calls are balanced by; 0 before the first call.",
		func(e grpcresolver.EndpointStats) float64 { return e.Calls.EWMA.Seconds() }),
	ofEndpoint("endpoint_ejected", "1 while it gets no calls because calls on it failed.",
		func(e grpcresolver.EndpointStats) float64 { return truth(!e.EjectedUntil.IsZero()) }),
	ofEndpoint("endpoint_held", "1 while the guard keeps it although the last answer lacks it.",
		func(e grpcresolver.EndpointStats) float64 { return truth(e.Held) }),
	{describe("endpoint_calls_total", "Calls that ended, retries one by one, by what they say about the endpoint.", "target", "endpoint", "name", "outcome"),
		func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
			for _, e := range t.Endpoints {
				for outcome, n := range map[string]uint64{
					"success": e.Calls.Succeeded, "failed": e.Calls.Failed, "overloaded": e.Calls.Overloaded,
					"timed_out": e.Calls.TimedOut, "erred": e.Calls.Erred, "neutral": e.Calls.Neutral,
				} {
					emit(m.counter(n, t.Target, e.Addr().String(), e.Name, outcome))
				}
			}
		}},
}

func ofEndpoint(name, help string, value func(grpcresolver.EndpointStats) float64) metric {
	return metric{describe(name, help, "target", "endpoint", "name"), func(m metric, t refresher.TargetStats, emit func(prometheus.Metric)) {
		for _, e := range t.Endpoints {
			emit(m.gauge(value(e), t.Target, e.Addr().String(), e.Name))
		}
	}}
}

// overall are the metrics of the Refresher itself.
var (
	disabled = metric{desc: describe("disabled", "1 when "+refresher.DisableVariable+" switched the refresher off: there are no metrics of targets then.")}
	dropped  = metric{desc: describe("events_dropped_total", "Events that the application's hook had no time for.")}
)

// Describe is part of prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- disabled.desc
	out <- dropped.desc
	for _, m := range c.metrics() {
		out <- m.desc
	}
}

// Collect is part of prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	stats := c.source.Stats()
	out <- disabled.gauge(truth(stats.Disabled))
	var lost uint64
	for _, t := range stats.Targets {
		// Each target has the number of all.
		lost = max(lost, t.DroppedEvents)
	}
	out <- dropped.counter(lost)
	emit := func(m prometheus.Metric) { out <- m }
	for _, t := range stats.Targets {
		for _, m := range c.metrics() {
			m.read(m, t, emit)
		}
	}
}

func (c *collector) metrics() []metric {
	if !c.endpoints {
		return perTarget
	}
	return append(perTarget[:len(perTarget):len(perTarget)], perEndpoint...)
}

func count(t refresher.TargetStats, which func(grpcresolver.EndpointStats) bool) float64 {
	n := 0
	for _, e := range t.Endpoints {
		if which(e) {
			n++
		}
	}
	return float64(n)
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
