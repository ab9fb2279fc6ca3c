package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
	"github.com/grpclb/kubectl-grpclb/bench/internal/machine"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

// measure is one part of the whole that can be asked for by its ID. It fills the section as it goes, so that what was measured before an
// error is kept.
type measure struct {
	id, title string
	cluster   bool // it needs one
	run       func(ctx context.Context, b *bench, s *result.Section) error
}

// measures is everything, cheap and local first.
func measures() []measure {
	return []measure{
		{id: "size", title: "size of the stripped programs", run: sizes},
		{id: "start", title: "start of the plugin", run: start},
		{id: "fake", title: "growth, against an API server in memory", run: growth},
		{id: "micro", title: "microbenchmarks", run: micro},
		{id: "policy", title: "the refresher's policies beside others", run: policies},
		{id: "fleet", title: "what many clients of one Service cost, reckoned", run: fleet},
		{id: "diagnose", title: "diagnose svc/square-service on the cluster, 3 pods", cluster: true, run: diagnoseSquare},
		{id: "endpoints", title: "a Service with 1,000 endpoints on the cluster", cluster: true, run: thousandEndpoints},
		{id: "pods", title: "many pods on the cluster", cluster: true, run: manyPods},
	}
}

// bench is what the measures share.
type bench struct {
	options
	dir       string // for what is built and made; removed at the end
	plugin    string
	refresher string
	launcher  string
	kubectl   string // empty when there is none
	cluster   *cluster
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.root}, elem...)...)
}

// say prints progress, which is no part of the answer.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	all := measures()
	if o.list {
		for _, m := range all {
			fmt.Printf("%-10s %s\n", m.id, m.title)
		}
		return nil
	}
	chosen, err := choose(all, o.only)
	if err != nil {
		return err
	}
	b := &bench{options: o}
	if b.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "grpclb-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.prepare(ctx, chosen); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.leaveCluster(ctx)) }()

	fmt.Println(strings.Join(b.heading(ctx), "\n"))
	sections, err := b.all(ctx, chosen)
	if o.write != "" && err == nil {
		err = b.writeDocument(sections)
	}
	return err
}

func choose(all []measure, only []string) ([]measure, error) {
	if len(only) == 0 {
		return all, nil
	}
	var out []measure
	for _, id := range only {
		i := slices.IndexFunc(all, func(m measure) bool { return m.id == id })
		if i < 0 {
			return nil, fmt.Errorf("there is no measure %q, -list names them; %w", id, cli.ErrUsage)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// prepare builds the programs, and the way into a cluster when a chosen measure needs one.
func (b *bench) prepare(ctx context.Context, chosen []measure) error {
	if slices.ContainsFunc(chosen, func(m measure) bool { return m.id != "micro" && m.id != "fleet" }) {
		if err := b.build(ctx); err != nil {
			return err
		}
	}
	b.kubectl, _ = exec.LookPath("kubectl") // without one the peers are left out
	if slices.ContainsFunc(chosen, func(m measure) bool { return m.cluster || m.id == "start" }) {
		return b.findCluster(ctx)
	}
	return nil
}

// all runs the measures in turn. One that fails does not take the others with it.
func (b *bench) all(ctx context.Context, chosen []measure) ([]result.Section, error) {
	var sections []result.Section
	var errs []error
	for _, m := range chosen {
		s := result.Section{ID: m.id, Title: m.title, Where: machine.Describe().String() + ", " + busy()}
		if m.cluster {
			s.Where += "; " + b.cluster.title
		}
		if m.cluster && b.cluster.why != "" {
			s.LeftOut = b.cluster.why
		} else {
			b.say("%s: %s", m.id, m.title)
			before := time.Now()
			if err := m.run(ctx, b, &s); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.id, err))
				reason, _, _ := strings.Cut(err.Error(), "\n") // the whole of it comes at the end
				s.LeftOut = "the rest, because it went wrong: " + reason
			}
			b.say("%s: done in %s", m.id, time.Since(before).Round(100*time.Millisecond))
		}
		if ctx.Err() != nil {
			return sections, errors.New("interrupted")
		}
		sections = append(sections, s)
		if err := result.Text(os.Stdout, s); err != nil {
			return sections, err
		}
	}
	return sections, errors.Join(errs...)
}

// heading says what was measured, where, and how busy it was there.
func (b *bench) heading(ctx context.Context) []string {
	lines := []string{"machine: " + machine.Describe().String(), "now: " + busy()}
	describe := exec.CommandContext(ctx, "git", "-C", b.root, "describe", "--tags", "--always", "--dirty", "--abbrev=12")
	if out, err := describe.Output(); err == nil {
		lines = append(lines, "commit: "+strings.TrimSpace(string(out)))
	}
	if b.cluster != nil && b.cluster.why == "" {
		lines = append(lines, "cluster: "+b.cluster.title)
	}
	return lines
}

// busy says how much else the machine had to do.
func busy() string {
	load, ok := machine.Load()
	switch {
	case !ok:
		return "load unknown"
	case load > float64(runtime.NumCPU()):
		return fmt.Sprintf("load average %.1f (busy with other things: wall times and their spread are larger than on an idle machine)", load)
	}
	return fmt.Sprintf("load average %.1f", load)
}

// writeDocument puts the sections that were measured into the document and leaves the others as they are.
func (b *bench) writeDocument(sections []result.Section) error {
	var measured []result.Section
	for _, s := range sections {
		if s.LeftOut != "" {
			b.say("%s stays as it is in %s: left out, %s", s.ID, b.write, s.LeftOut)
			continue
		}
		measured = append(measured, s)
	}
	if err := result.Write(b.write, measured...); err != nil {
		return fmt.Errorf("-write: %w", err)
	}
	b.say("wrote %s", b.write)
	return nil
}
