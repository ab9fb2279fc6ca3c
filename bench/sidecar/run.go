package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
	"github.com/grpclb/kubectl-grpclb/bench/internal/machine"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/bench/sidecar/internal/load"
)

// scenario is one way of calling.
type scenario struct {
	id, title string
	cfg       load.Config
}

// The scenarios that targets speak of.
const (
	slow100, fast100, large = "2k-100B", "10k-100B", "1k-64KB"
)

// scenarios are all of them, those first that memory is judged by.
func scenarios() []scenario {
	return []scenario{
		{slow100, "2,000 calls/s, 100 B", load.Config{Mode: load.Open, Rate: 2000, Size: 100}},
		{"2k-1KB", "2,000 calls/s, 1 KB", load.Config{Mode: load.Open, Rate: 2000, Size: 1 << 10}},
		{fast100, "10,000 calls/s, 100 B", load.Config{Mode: load.Open, Rate: 10000, Size: 100}},
		{"10k-1KB", "10,000 calls/s, 1 KB", load.Config{Mode: load.Open, Rate: 10000, Size: 1 << 10}},
		{large, "1,000 calls/s, 64 KB", load.Config{Mode: load.Open, Rate: 1000, Size: 64 << 10}},
		{"closed-64", "closed loop, 64 calls at once, 100 B", load.Config{Mode: load.Closed, Streams: 64, Size: 100}},
		{"pingpong-64", "64 long streams, a message at a time on each, 100 B", load.Config{Mode: load.PingPong, Streams: 64, Size: 100}},
	}
}

// sample is one run of one scenario with one contestant.
type sample struct {
	round                int
	scenario, contestant string
	result               load.Result
	cpu                  time.Duration // of the proxy, in the time that counts; 0 without one
	memory               memory        // afterwards
}

// perCall is the proxy's CPU time per call in microseconds.
func (s sample) perCall() float64 {
	return float64(s.cpu.Nanoseconds()) / 1e3 / float64(max(1, s.result.Calls))
}

// outcome is everything that was measured.
type outcome struct {
	scenarios []scenario
	names     []string          // of the contestants that ran, direct first
	versions  map[string]string // of the programs
	missing   map[string]string // contestant -> why it did not run
	samples   []sample
	idle      map[string][]memory // after the start and a few calls, by contestant
	failures  []string
	load      [2]float64 // the load average before and after
	rounds    int
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var chosen []scenario
	for _, s := range scenarios() {
		if o.list {
			fmt.Printf("%-12s %s\n", s.id, s.title)
		}
		if o.only.MatchString(s.id) {
			s.cfg.Warm, s.cfg.Duration = o.warm, o.duration
			chosen = append(chosen, s)
		}
	}
	if o.list {
		return nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run %s: no scenario is called so, -list names them; %w", o.only, cli.ErrUsage)
	}
	if why := onlyHere(); why != "" {
		fmt.Println("left out:", why)
		return nil
	}
	fmt.Println("machine:", machine.Describe())
	out, err := measure(ctx, o, chosen)
	if err != nil {
		return err
	}
	if o.raw != "" {
		if err := out.csv(o.raw); err != nil {
			return err
		}
	}
	section := out.section()
	if err := result.Text(os.Stdout, section); err != nil || o.write == "" {
		return err
	}
	section.Where = machine.Describe().String()
	if err := result.Write(o.write, section); err != nil {
		return fmt.Errorf("-write: %w", err)
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "sidecar: "+format+"\n", args...) }

// measure runs everything. A contestant that cannot be started is left out from then on.
func measure(ctx context.Context, o options, chosen []scenario) (_ *outcome, err error) {
	f := &field{envoy: o.envoy}
	if f.root, err = filepath.Abs(o.root); err != nil {
		return nil, err
	}
	if f.dir, err = os.MkdirTemp("", "grpclb-bench-sidecar-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.dir)) }()
	stop, err := startPods(ctx, f)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	out := &outcome{
		scenarios: chosen, names: []string{direct}, versions: map[string]string{}, missing: map[string]string{}, idle: map[string][]memory{},
		rounds: o.rounds,
	}
	out.load[0], _ = machine.Load()
	var field []contestant
	for _, c := range contestants() {
		if o.without.MatchString(c.name) {
			out.missing[c.name] = "-without says so"
			continue
		}
		argv, err := c.prepare(ctx, f, "127.0.0.1:1")
		if err != nil {
			out.missing[c.name] = err.Error()
			say("%s is left out: %v", c.name, err)
			continue
		}
		out.versions[c.name] = c.ask(ctx, argv[0])
		field = append(field, c)
		out.names = append(out.names, c.name)
	}
	for round := range o.rounds {
		say("round %d of %d", round+1, o.rounds)
		if err := out.round(ctx, f, field, round); err != nil {
			return nil, err
		}
	}
	out.load[1], _ = machine.Load()
	return out, nil
}

// entrant is a contestant that runs.
type entrant struct {
	name  string
	addrs []string
	proxy *process // nil for direct
}

// round starts every contestant, runs every scenario with each in turn, and stops them.
func (out *outcome) round(ctx context.Context, f *field, all []contestant, round int) (err error) {
	entrants := []entrant{{name: direct, addrs: f.pods()}}
	defer func() {
		for _, e := range entrants {
			if e.proxy != nil {
				err = errors.Join(err, e.proxy.stop())
			}
		}
	}()
	for _, c := range all {
		if out.missing[c.name] != "" {
			continue
		}
		p, addr, err := launch(ctx, f, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			out.leave(c.name, err)
			continue
		}
		entrants = append(entrants, entrant{c.name, []string{addr}, p})
	}
	time.Sleep(300 * time.Millisecond)
	for _, e := range entrants[1:] {
		if m, err := memoryOf(e.proxy.pid()); err == nil {
			out.idle[e.name] = append(out.idle[e.name], m)
		}
	}
	for i, s := range out.scenarios {
		for j := range entrants {
			e := entrants[(i+j+round)%len(entrants)]
			if out.missing[e.name] != "" {
				continue
			}
			r, err := e.run(ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the run does not count, and the tables say so
				out.failures = append(out.failures, fmt.Sprintf("%s in round %d of %s: %v", e.name, round+1, s.id, err))
				say("%s", out.failures[len(out.failures)-1])
				continue
			}
			r.round = round
			out.samples = append(out.samples, r)
		}
	}
	return nil
}

func (out *outcome) leave(name string, err error) {
	out.missing[name] = strings.ReplaceAll(err.Error(), "\n", " ")
	say("%s is left out from here on: %v", name, err)
}

// launch starts a contestant and waits until it answers.
func launch(ctx context.Context, f *field, c contestant) (*process, string, error) {
	port, err := freePort("127.0.0.10")
	if err != nil {
		return nil, "", err
	}
	addr := "127.0.0.10:" + port
	argv, err := c.prepare(ctx, f, addr)
	if err != nil {
		return nil, "", err
	}
	p, err := start(c.name, f.dir, nil, argv...)
	if err != nil {
		return nil, "", err
	}
	if err := p.answers(ctx, addr); err != nil {
		return nil, "", errors.Join(err, p.stop())
	}
	return p, addr, nil
}

// run is one scenario with one contestant. The proxy's CPU time is read at the two ends of the time that counts.
func (e entrant) run(ctx context.Context, s scenario) (sample, error) {
	cfg := s.cfg
	cfg.Addrs = e.addrs
	out := sample{scenario: s.id, contestant: e.name}
	var marks []time.Duration
	var failed error
	if e.proxy != nil {
		cfg.Mark = func() { // called twice, and not at once
			t, err := cpuTime(e.proxy.pid())
			marks, failed = append(marks, t), errors.Join(failed, err)
		}
	}
	var err error
	out.result, err = load.Run(ctx, cfg)
	if err != nil {
		return out, err
	}
	if out.result.Failed > 0 || out.result.Unserved > 0 {
		return out, fmt.Errorf("%d calls failed (%s), %d had no answer", out.result.Failed, out.result.Error, out.result.Unserved)
	}
	if e.proxy != nil {
		if failed != nil || len(marks) != 2 {
			return out, errors.Join(failed, errors.New("its CPU time could not be read"))
		}
		out.cpu = marks[1] - marks[0]
		out.memory, err = memoryOf(e.proxy.pid())
	}
	return out, err
}
