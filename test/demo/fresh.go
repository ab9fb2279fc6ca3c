package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// savedFile is the snapshot that anybody can replay, kept in the repository.
const savedFile = "examples/square/pinned.snapshot.yaml"

// writePinned takes the snapshot of this run into the repository.
func (d *demo) writePinned() error {
	b, err := os.ReadFile(filepath.Join(d.root, filepath.FromSlash(pinnedFile)))
	if err != nil {
		return err
	}
	d.say("writing %s", savedFile)
	// Unlike a snapshot of a user's cluster, this one is for everybody to read.
	return os.WriteFile(filepath.Join(d.root, filepath.FromSlash(savedFile)), b, 0o644)
}

// comparePinned fails when the repository's snapshot no longer tells what this
// build finds on the real cluster.
func (d *demo) comparePinned() error {
	saved, err := storyOf(filepath.Join(d.root, filepath.FromSlash(savedFile)))
	if err != nil {
		return fmt.Errorf("%w; make demo DEMOFLAGS=-update writes it anew", err)
	}
	taken, err := storyOf(filepath.Join(d.root, filepath.FromSlash(pinnedFile)))
	if err != nil {
		return err
	}
	if diff := differing(saved, taken); diff != "" {
		return fmt.Errorf("%s is stale; make demo DEMOFLAGS=-update writes it anew:\n%s", savedFile, diff)
	}
	d.say("%s tells the same story", savedFile)
	return nil
}

func storyOf(file string) ([]string, error) {
	snap, err := snapfile.LoadFile(file)
	if err != nil {
		return nil, err
	}
	return story(snap)
}

// story is a snapshot and what is found in it, one fact a line, without what
// differs between two runs of the same thing: names that the cluster makes up,
// addresses, times and rates.
func story(snap *diagnose.Snapshot) ([]string, error) {
	r := diagnose.Run(snap, diagnose.Options{Checks: checks.All(), FailOn: diagnose.High})
	if len(r.Services) != 1 {
		return nil, fmt.Errorf("the snapshot is of %d services, want 1", len(r.Services))
	}
	s := r.Services[0]
	var out []string
	add := func(format string, args ...any) { out = append(out, steady(fmt.Sprintf(format, args...))) }
	add("%s %s, depth %s, status %s", snap.APIVersion, snap.Kind, snap.Depth, r.Status)
	for _, f := range diagnose.FactNames {
		if f != diagnose.FactMetrics { // CPU samples come when they come
			add("facts %s: %s", f, snap.Status(f).State)
		}
	}
	add("%s: %s: %s", s.Key, s.Verdict.State, s.Verdict.Headline)
	add("gRPC %s: %s", s.GRPC.Level, strings.Join(s.GRPC.Because, "; "))
	add("traffic %s by %s", s.Spread.State, s.Spread.Basis)
	for _, p := range s.Spread.Probes {
		add("probe via %s: %d channels, %d calls, %s", p.Via, p.Channels, p.Calls, p.State)
	}
	for _, c := range s.Clients {
		add("client %s: %s", c.Workload, strings.Join(c.Targets, " "))
	}
	for _, f := range s.Findings {
		add("finding %s %s %s %s: %s", f.Check, f.Severity, f.Confidence, f.Subject, f.Summary)
		for _, fx := range f.Fixes {
			add("fix %s: %s", fx.Strategy, fx.Title)
		}
	}
	add("passed %s", strings.Join(s.Passed, " "))
	for _, k := range s.Skipped {
		add("skipped %s: %s", k.Check, k.Reason)
	}
	return out, nil
}

// generated matches what a cluster makes up: the suffixes of a Deployment's pods, and addresses.
var generated = regexp.MustCompile(`-[0-9a-f]{6,10}-[a-z0-9]{5}\b|\b[0-9]{1,3}(\.[0-9]{1,3}){3}\b`)

func steady(line string) string { return generated.ReplaceAllString(line, "*") }

// differing lists the lines that only one side has.
func differing(saved, taken []string) string {
	var out bytes.Buffer
	for _, l := range saved {
		if !slices.Contains(taken, l) {
			fmt.Fprintf(&out, "  - %s\n", l)
		}
	}
	for _, l := range taken {
		if !slices.Contains(saved, l) {
			fmt.Fprintf(&out, "  + %s\n", l)
		}
	}
	return out.String()
}
