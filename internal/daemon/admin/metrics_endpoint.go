package admin

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

var endpointLabels = []string{"target", "endpoint", "name"}

// eachEndpoint is a metric with values for each pod; emit takes the values of the
// labels beyond endpointLabels.
func eachEndpoint(name, kind, help string, labels []string, values func(p *sidecar.Pod, emit func(v float64, labels ...string))) family {
	all := append(endpointLabels[:len(endpointLabels):len(endpointLabels)], labels...)
	return family{Metric{prefix + name, kind, help, all}, func(e *exposition, s snapshot) {
		for i, pods := range s.pods {
			for k := range pods {
				p := &pods[k]
				values(p, func(v float64, labels ...string) {
					e.value(v, append([]string{s.names[i], p.Addr, p.Name}, labels...)...)
				})
			}
		}
	}}
}

func ofEndpoint(name, kind, help string, value func(p *sidecar.Pod) float64) family {
	return eachEndpoint(name, kind, help, nil, func(p *sidecar.Pod, emit func(float64, ...string)) { emit(value(p)) })
}

func endpointFamilies() []family {
	return []family{
		ofEndpoint("endpoint_connections", "gauge", "Connections that can take calls.", func(p *sidecar.Pod) float64 { return float64(p.Connections) }),
		ofEndpoint("endpoint_in_flight", "gauge", "Calls that have not ended, retries one by one.", func(p *sidecar.Pod) float64 { return float64(p.InFlight) }),
		ofEndpoint("endpoint_latency_seconds", "gauge", "The moving average that calls are balanced by; 0 before the first call.",
			func(p *sidecar.Pod) float64 { return p.EWMA.Seconds() }),
		ofEndpoint("endpoint_ejected", "gauge", "1 while it gets no calls because calls on it failed.",
			func(p *sidecar.Pod) float64 { return truth(p.State == sidecar.StateEjected) }),
		ofEndpoint("endpoint_held", "gauge", "1 while the guard keeps it although the last answer lacks it.",
			func(p *sidecar.Pod) float64 { return truth(p.State == sidecar.StateHeld) }),
		eachEndpoint("endpoint_state", "gauge", "1 for the state that it is in.", []string{"state"},
			func(p *sidecar.Pod, emit func(float64, ...string)) { emit(1, p.State) }),
		ofEndpoint("endpoint_ejections_total", "counter", "How often it was ejected.", func(p *sidecar.Pod) float64 { return float64(p.Ejections) }),
		eachEndpoint("endpoint_calls_total", "counter", "Calls that ended, retries one by one, by what they say about the endpoint.", []string{"outcome"},
			func(p *sidecar.Pod, emit func(float64, ...string)) {
				emit(float64(p.Succeeded), "success")
				emit(float64(p.Failed), "failed")
				emit(float64(p.Overloaded), "overloaded")
				emit(float64(p.TimedOut), "timed_out")
				emit(float64(p.Erred), "erred")
				emit(float64(p.Neutral), "neutral")
			}),
		eachEndpoint("endpoint_codes_total", "counter", "Calls that ended, retries one by one, by gRPC status code; OTHER is none of gRPC's, NONE that there was none.",
			[]string{"code"}, func(p *sidecar.Pod, emit func(float64, ...string)) {
				codes := boundedCodes(p.Codes)
				for _, code := range sortedKeys(codes) {
					emit(float64(codes[code]), code)
				}
			}),
		{Metric{prefix + "endpoint_call_duration_seconds", "histogram", "How long calls took.", endpointLabels}, func(e *exposition, s snapshot) {
			for i, pods := range s.pods {
				for k := range pods {
					e.histogram(pods[k].Latency, s.names[i], pods[k].Addr, pods[k].Name)
				}
			}
		}},
		ofEndpoint("endpoint_received_bytes_total", "counter", "Bytes of messages that came from it.", func(p *sidecar.Pod) float64 { return float64(p.BytesIn) }),
		ofEndpoint("endpoint_sent_bytes_total", "counter", "Bytes of messages that went to it.", func(p *sidecar.Pod) float64 { return float64(p.BytesOut) }),
		ofEndpoint("endpoint_passthrough_connections", "gauge", "Connections that are passed through to it now.",
			func(p *sidecar.Pod) float64 { return float64(p.Passthrough) }),
		ofEndpoint("endpoint_passthrough_bytes_total", "counter", "Bytes of connections that are passed through to it, both ways.",
			func(p *sidecar.Pod) float64 { return float64(p.PassthroughBytes) }),
	}
}

// grpcCodes are the status codes of gRPC, and what the sidecar says where a call
// ended without one.
var grpcCodes = map[string]bool{
	"OK": true, "CANCELLED": true, "UNKNOWN": true, "INVALID_ARGUMENT": true, "DEADLINE_EXCEEDED": true, "NOT_FOUND": true, "ALREADY_EXISTS": true,
	"PERMISSION_DENIED": true, "RESOURCE_EXHAUSTED": true, "FAILED_PRECONDITION": true, "ABORTED": true, "OUT_OF_RANGE": true, "UNIMPLEMENTED": true,
	"INTERNAL": true, "UNAVAILABLE": true, "DATA_LOSS": true, "UNAUTHENTICATED": true, "NONE": true,
}

// boundedCodes keeps the number of series from what a server writes.
func boundedCodes(codes map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(codes))
	for code, n := range codes {
		if !grpcCodes[code] {
			code = "OTHER"
		}
		out[code] += n
	}
	return out
}

// processFamilies are the few of the process that everybody asks for, under the
// names that Prometheus' own libraries use.
func processFamilies() []family {
	alone := func(name, kind, help string, value func(Info) (float64, bool)) family {
		return family{Metric{name, kind, help, nil}, func(e *exposition, s snapshot) {
			if v, ok := value(s.info); ok {
				e.value(v)
			}
		}}
	}
	return []family{
		alone("go_goroutines", "gauge", "Number of goroutines that currently exist.",
			func(Info) (float64, bool) { return float64(runtime.NumGoroutine()), true }),
		alone("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
			func(Info) (float64, bool) { return cpuSeconds() }),
		alone("process_resident_memory_bytes", "gauge", "Resident memory size in bytes; Linux alone.",
			func(Info) (float64, bool) { return residentBytes() }),
		alone("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
			func(i Info) (float64, bool) { return unix(i.Started), true }),
	}
}

// residentBytes is the second field of /proc/self/statm, in pages (proc(5)).
func residentBytes() (float64, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize()), err == nil
}
