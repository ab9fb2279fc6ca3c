package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/child"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

// What is promised.
const (
	startTarget     = 60 * time.Millisecond
	sizeTarget      = 60_000_000
	staticTarget    = 300 * time.Millisecond
	observeTarget   = 2 * time.Second
	endpointsTarget = 2 * time.Second
	memoryTarget    = 150_000_000
)

// command runs a program whose output only matters when it fails.
func command(ctx context.Context, dir string, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%q: %w: %s", argv, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// build makes the programs as a release does, for the machine at hand.
func (b *bench) build(ctx context.Context) error {
	b.say("building")
	b.plugin = filepath.Join(b.dir, exe("kubectl-grpclb"))
	b.refresher = filepath.Join(b.dir, exe("grpclb-refresher"))
	b.launcher = filepath.Join(b.dir, exe("measured"))
	for _, p := range []struct{ dir, out, pkg string }{
		{b.root, b.plugin, "./cmd/kubectl-grpclb"},
		{b.root, b.refresher, "./cmd/grpclb-refresher"},
		{b.path("bench"), b.launcher, "./measured"},
	} {
		if err := stripped(ctx, p.dir, p.out, p.pkg, runtime.GOOS, runtime.GOARCH); err != nil {
			return err
		}
	}
	return nil
}

func exe(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

func stripped(ctx context.Context, dir, out, pkg, goos, goarch string) error {
	env := []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch}
	return command(ctx, dir, env, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

// sizes weighs the programs for linux/amd64, whatever the machine is.
func sizes(ctx context.Context, b *bench, s *result.Section) error {
	for _, p := range []struct {
		name, built string
		target      int64
	}{{"kubectl-grpclb", b.plugin, sizeTarget}, {"grpclb-refresher", b.refresher, 0}} {
		if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
			p.built = filepath.Join(b.dir, p.name+"-linux-amd64")
			if err := stripped(ctx, b.root, p.built, "./cmd/"+p.name, "linux", "amd64"); err != nil {
				return err
			}
		}
		info, err := os.Stat(p.built)
		if err != nil {
			return fmt.Errorf("weigh %s: %w", p.name, err)
		}
		row := result.Bytes(p.name, []int64{info.Size()}, p.target)
		row.Spread = strconv.FormatInt(info.Size(), 10) + " bytes"
		s.Add(row)
	}
	if info, err := os.Stat(b.kubectl); err == nil {
		row := result.Bytes("kubectl", []int64{info.Size()}, 0)
		row.Peer, row.Spread = true, strconv.FormatInt(info.Size(), 10)+" bytes"
		s.Add(row)
	}
	s.Note("For linux/amd64, built with CGO_ENABLED=0 -trimpath -ldflags \"-s -w\".")
	return nil
}

// start takes the time of the least that the plugin can do.
func start(ctx context.Context, b *bench, s *result.Section) error {
	plan := child.Plan{Runs: max(b.runs, 20), Warm: 3, Commands: []child.Command{{Argv: []string{b.plugin, "version"}}}}
	if b.kubectl != "" {
		plan.Commands = append(plan.Commands, child.Command{Argv: []string{b.kubectl, "version", "--client"}})
	}
	got, err := b.measure(ctx, plan, nil)
	if err != nil {
		return err
	}
	s.Add(got[0].rows("kubectl-grpclb version", startTarget)...)
	if b.kubectl != "" {
		s.Add(peers(got[1].rows("kubectl version --client", 0))...)
	} else {
		s.Note("There is no kubectl on this machine to compare with.")
	}
	return nil
}

// samples is what the runs of one command took.
type samples struct {
	wall, cpu []time.Duration
	rss       []int64
	calls     []calls
}

// measure carries out a plan and sorts the runs by command.
func (b *bench) measure(ctx context.Context, plan child.Plan, env []string) ([]samples, error) {
	out := make([]samples, len(plan.Commands))
	err := child.Measure(ctx, b.launcher, plan, append(os.Environ(), env...), func(r child.Run) {
		if r.Warm {
			return
		}
		s := &out[r.Command]
		s.wall, s.cpu, s.rss = append(s.wall, r.Wall), append(s.cpu, r.CPU), append(s.rss, r.MaxRSS)
		if c, ok := parseCalls(r.Stderr); ok {
			s.calls = append(s.calls, c)
		}
	})
	return out, err
}

// rows are the wall time, held against a limit for its median when there is one, and the CPU time, which a busy machine stretches less.
func (s samples) rows(what string, limit time.Duration) []result.Row {
	wall := result.Times(what, s.wall)
	if limit > 0 {
		wall = wall.Under(limit, s.wall)
	}
	return []result.Row{wall, result.Times(what+", CPU time", s.cpu)}
}

func peers(rows []result.Row) []result.Row {
	for i := range rows {
		rows[i].Peer = true
	}
	return rows
}

// calls is what one run asked of the API server.
type calls struct{ lists, gets, writes, streams int }

// requests leaves the streams out, which may grow up to a limit.
func (c calls) requests() string {
	return fmt.Sprintf("%d list, %d get, %d write", c.lists, c.gets, c.writes)
}

var costLine = regexp.MustCompile(`(\d+) list, (\d+) get, (\d+) write requests, (\d+) streams`)

// parseCalls finds the line that -v=1 prints.
func parseCalls(stderr string) (calls, bool) {
	m := costLine.FindStringSubmatch(stderr)
	if m == nil {
		return calls{}, false
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // the pattern matches digits only
	}
	return calls{n[0], n[1], n[2], n[3]}, true
}
