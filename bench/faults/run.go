package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/cli"
	"github.com/grpclb/kubectl-grpclb/bench/internal/machine"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var chosen []scenario
	for _, s := range scenarios() {
		if o.only.MatchString(s.name) && (o.sidecar || !s.sidecar) {
			chosen = append(chosen, s)
		}
	}
	if o.list {
		for _, s := range chosen {
			fmt.Printf("%-18s %s\n", s.name, s.title)
		}
		return nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario matches %q, -list names them; %w", o.only, cli.ErrUsage)
	}
	c, err := open(ctx, o)
	if c != nil {
		defer func() { err = errors.Join(err, c.close(ctx)) }()
	}
	if err != nil {
		return err
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	section := c.section(ctx)
	err = c.playAll(ctx, chosen, &section)
	if perr := result.Text(os.Stdout, section); perr != nil || ctx.Err() != nil {
		return errors.Join(err, perr)
	}
	if o.write != "" && err == nil {
		err = c.writeDocument(section)
	}
	return err
}

// playAll plays one scenario after the other. One that fails does not take the others with it.
func (c *cluster) playAll(ctx context.Context, chosen []scenario, section *result.Section) error {
	var errs []error
	table := result.Table{Head: head()}
	var lag time.Duration
	for _, s := range chosen {
		before := time.Now()
		c.say("%s: %s", s.name, s.title)
		st, err := c.play(ctx, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			c.say("%s went wrong: %v", s.name, err)
		}
		if ctx.Err() != nil {
			errs = []error{errors.New("interrupted")}
			break
		}
		rows := st.rows()
		table.Rows = append(table.Rows, rows...)
		for _, row := range rows {
			c.say("  %s", strings.Join(row[1:], " | "))
		}
		for _, line := range st.remarks() {
			c.say("  # %s", line)
		}
		for _, r := range st.reports {
			lag = max(lag, r.Lag)
		}
		load, _ := machine.Load()
		c.say("%s: done in %s, load average %.1f", s.name, time.Since(before).Round(100*time.Millisecond), load)
	}
	section.Tables = []result.Table{table}
	if load, ok := machine.Load(); ok {
		section.Note("Other work on the machine made the clients late with a call by up to %s; load average at the end %.1f.", lag.Round(time.Millisecond), load)
	}
	return errors.Join(errs...)
}

// remarks are what a reader of the progress wants to know beside the table.
func (st *stage) remarks() []string {
	var out []string
	for _, v := range st.variants() {
		r, ok := st.reports[v.Name]
		if !ok {
			continue
		}
		if r.Lag > 100*time.Millisecond {
			out = append(out, fmt.Sprintf("%s: the client itself was late by up to %s", v.Name, r.Lag.Round(time.Millisecond)))
		}
		for _, m := range r.Errors {
			out = append(out, v.Name+": "+m)
		}
		for _, m := range r.Notes {
			out = append(out, v.Name+": "+m)
		}
		for _, s := range r.Streams {
			if s.Broken() {
				out = append(out, fmt.Sprintf("%s: stream on %s: %s %s", v.Name, s.Peer, s.Code, s.Message))
			}
		}
	}
	return out
}

func (c *cluster) section(ctx context.Context) result.Section {
	s := result.Section{ID: c.sectionID(), Title: "faults, side by side"}
	if c.sidecar {
		s.Title = "faults, through the sidecar"
	}
	s.Where = machine.Describe().String() + "; " + c.title
	describe := exec.CommandContext(ctx, "git", "-C", c.root, "describe", "--tags", "--always", "--dirty", "--abbrev=12")
	if out, err := describe.Output(); err == nil {
		s.Where += "; commit " + strings.TrimSpace(string(out))
	}
	s.Note("Each client makes %d calls a second (5 ms of work each, deadline %s, no retryPolicy unless said) from its own pod on node %s, all at "+
		"the same time, and holds one stream on each pod.", c.rate, deadline, clientNode)
	s.Note("Calls are counted from %s before the fault to the end of the scenario; p50 and p99 are those of all calls after the fault, failed ones "+
		"included. %q is from the API server's word that a pod is ready.", baseline, head()[5])
	s.Note("Names are answered by the lab's CoreDNS with kubeadm's Corefile, which does not cache the cluster's names, unless said. The 400 endpoints " +
		"are addresses of one pod in EndpointSlices written by hand.")
	if c.sidecar {
		s.Note("%q and %q are one client, grpc-go without a word about balancing, that calls a Service by its name; beside the second runs the daemon "+
			"with its defaults. The pod that a fault hits is the one that the first is on; whether a dead node has it is chance.", "ClusterIP", "sidecar")
	}
	s.Note("Rows of scenarios that the last run left out are from an earlier one; what is said of the machine is of the last.")
	s.Note("The lab's processes had the machine's CPUs before all others.")
	return s
}

func (c *cluster) sectionID() string {
	if c.sidecar {
		return "faults-sidecar"
	}
	return "faults"
}

// earlier are the rows of a section's table in a document, the titles filled in.
func earlier(doc, section string) [][]string {
	_, part, _ := strings.Cut(doc, "<!-- measured: "+section+" -->")
	part, _, _ = strings.Cut(part, "<!-- end: "+section+" -->")
	var out [][]string
	title := ""
	for line := range strings.Lines(part) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != len(head()) || strings.HasPrefix(line, "|-") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == head()[0] {
			continue
		}
		if cells[0] != "" {
			title = cells[0]
		}
		cells[0] = title
		out = append(out, cells)
	}
	return out
}

// merge keeps the earlier rows of scenarios that were not played this time, in the order of all.
func merge(old, played [][]string) [][]string {
	groups := map[string][][]string{}
	collect := func(rows [][]string) {
		title := ""
		fresh := map[string]bool{}
		for _, row := range rows {
			if row[0] != "" {
				title = row[0]
			}
			if !fresh[title] {
				fresh[title], groups[title] = true, nil
			} else {
				row = append([]string{""}, row[1:]...)
			}
			groups[title] = append(groups[title], row)
		}
	}
	collect(old)
	collect(played)
	var out [][]string
	for _, s := range scenarios() {
		out = append(out, groups[s.title]...)
	}
	return out
}

func (c *cluster) writeDocument(s result.Section) error {
	old, err := os.ReadFile(c.write)
	if err != nil {
		return fmt.Errorf("-write: %w", err)
	}
	s.Tables[0].Rows = merge(earlier(string(old), s.ID), s.Tables[0].Rows)
	if err := result.Write(c.write, s); err != nil {
		return fmt.Errorf("-write: %w", err)
	}
	c.say("wrote %s", filepath.Base(c.write))
	return nil
}
