package main

import (
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/bench/sidecar/internal/load"
)

// ran is a sample in which every call took the same time.
func ran(round int, scenario, contestant string, cpu, latency time.Duration, resident int64) sample {
	r := load.Result{Calls: 1000, Elapsed: time.Second}
	for range r.Calls {
		r.Latency = append(r.Latency, latency)
	}
	return sample{round: round, scenario: scenario, contestant: contestant, result: r, cpu: cpu, memory: memory{resident, resident / 2}}
}

// fair is an outcome in which ours uses as much of everything as said and HAProxy 100 ms of CPU and 200 µs.
func fair(cpu, added time.Duration, resident int64) *outcome {
	out := &outcome{
		scenarios: scenarios(), names: []string{direct, ours, reference}, rounds: 3,
		versions: map[string]string{reference: "2.6"}, missing: map[string]string{"Envoy": "it cannot be had"},
		idle:     map[string][]memory{ours: {{4e6, 1e6}}, reference: {{15e6, 8e6}}},
		failures: []string{"nginx in round 2: lost"},
	}
	const base = 100 * time.Microsecond
	for round := range out.rounds {
		for _, s := range out.scenarios {
			out.samples = append(out.samples,
				ran(round, s.id, direct, 0, base, 0),
				ran(round, s.id, ours, cpu, base+added, resident),
				ran(round, s.id, reference, 100*time.Millisecond, base+200*time.Microsecond, 20e6))
		}
	}
	return out
}

func TestTargets(t *testing.T) {
	tests := map[string]struct {
		out  *outcome
		want map[string]bool // what begins so is met
	}{
		"cheap": {fair(60*time.Millisecond, 100*time.Microsecond, 9e6), map[string]bool{"": true}},
		"dear":  {fair(200*time.Millisecond, 300*time.Microsecond, 11e6), map[string]bool{"": false}},
		"between": {fair(100*time.Millisecond, 200*time.Microsecond, 9e6), map[string]bool{
			"CPU per call beside HAProxy, 2,000": true, "CPU per call beside HAProxy, 10,000": false, "CPU per call beside HAProxy, 1,000": false, "added": true,
			"memory": true,
		}},
		"not run": {&outcome{scenarios: scenarios(), names: []string{direct}}, map[string]bool{"": false}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rows := test.out.rows()
			if len(rows) != 8 {
				t.Fatalf("%d promises, want 8", len(rows))
			}
			for _, row := range rows {
				for prefix, want := range test.want {
					if strings.HasPrefix(row.What, prefix) && row.Met != want {
						t.Errorf("%s: %s, spread %s, met %t", row.What, row.Value, row.Spread, row.Met)
					}
				}
			}
		})
	}
}

// Nothing added by the reference in the middle round is no ratio, and no division by it.
func TestRatioOfNothing(t *testing.T) {
	row := ratioRow("added", map[int]float64{0: 5, 1: 6}, map[int]float64{0: -3, 1: 0}, 1)
	if row.Met || row.Value != "within the noise" {
		t.Errorf("%+v", row)
	}
	row = ratioRow("added", map[int]float64{0: -5, 1: 1, 2: -7}, map[int]float64{0: 10, 1: 4, 2: 12}, 1)
	if !row.Met || row.Value != "within the noise" {
		t.Errorf("%+v", row)
	}
	row = ratioRow("added", map[int]float64{0: 5, 1: 6, 2: 7}, map[int]float64{0: 10, 1: -4, 2: 12}, 1)
	if !row.Met || row.Value != "0.60x" {
		t.Errorf("%+v", row)
	}
}

func TestSectionSaysAll(t *testing.T) {
	var text strings.Builder
	if err := result.Markdown(&text, fair(60*time.Millisecond, 100*time.Microsecond, 9e6).section()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"0.60x", "60.0 (60.0–60.0); 0.60x (0.60–0.60)", "p50 100 (100–100)", "HAProxy 2.6", "Envoy is not complete or not there: it cannot be had",
		"| 1000 (1000–1000) ", "| idle ", "9.0 (4.5)", "A run did not count: nginx in round 2: lost",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-run", "("}, {"-without", "("}, {"-duration", "0s"}, {"more"}, {"-nothing"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if o, err := parse(nil); err != nil || o.rounds < 5 {
		t.Errorf("%+v, %v", o, err)
	}
}

// Configurations name every backend, and nothing else of the machine.
func TestConfigurationsNameAllBackends(t *testing.T) {
	f := &field{port: "6565"}
	if got, want := f.lines("{n} {ip}:{port}"), "1 127.0.0.11:6565\n2 127.0.0.12:6565\n3 127.0.0.13:6565\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
