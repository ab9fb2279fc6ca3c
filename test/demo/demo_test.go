package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

func TestCount(t *testing.T) {
	tests := map[string]struct {
		answer  string
		pods    map[string]int
		wantErr string
	}{
		"one pod":      {`[{"input":1,"result":1,"hostname":"a"},{"input":2,"result":4,"hostname":"a"}]`, map[string]int{"a": 2}, ""},
		"two pods":     {`[{"input":1,"result":1,"hostname":"a"},{"input":2,"result":4,"hostname":"b"}]`, map[string]int{"a": 1, "b": 1}, ""},
		"wrong square": {`[{"input":3,"result":6,"hostname":"a"}]`, nil, "3 squared is 6"},
		"no calls":     {`[]`, nil, "no calls"},
		"no JSON":      {`upstream connect error`, nil, "read the aggregator's answer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := count([]byte(tt.answer))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.pods, got.pods); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandsAreTypedForAShell(t *testing.T) {
	got := shell([]string{"kubectl", "get", "pods", "-l", "app in (a, b)", "-o", "jsonpath={.x}", "it's", ""})
	want := `kubectl get pods -l 'app in (a, b)' -o 'jsonpath={.x}' 'it'\''s' ''`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// saved reads the repository's snapshot, so that the tests below also fail when
// it no longer loads.
func saved(t *testing.T) *diagnose.Snapshot {
	t.Helper()
	snap, err := snapfile.LoadFile(filepath.Join("..", "..", filepath.FromSlash(savedFile)))
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func TestSavedSnapshotTellsOfThePinnedService(t *testing.T) {
	got, err := story(saved(t))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"pinned: all traffic lands on 1 of 3 ready pods",
		"finding clusterip-pinned critical observed",
		"client deploy/aggregator-app: static://square-service:6565",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the story lacks %q:\n%s", want, all)
		}
	}
}

func TestStoryIsSteadyAndNoticesChanges(t *testing.T) {
	before, err := story(saved(t))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*diagnose.Snapshot)
		want   string // in a line that differs; empty: none does
	}{
		"nothing":             {func(*diagnose.Snapshot) {}, ""},
		"another cluster IP":  {func(s *diagnose.Snapshot) { s.Services.Value[0].ClusterIPs = []string{"10.96.7.7"} }, ""},
		"no CPU samples":      {func(s *diagnose.Snapshot) { s.Metrics.Value = nil }, ""},
		"nobody asked DNS":    {func(s *diagnose.Snapshot) { s.DNS = diagnose.Fact[[]diagnose.DNSAnswer]{} }, "facts dns"},
		"no client was found": {func(s *diagnose.Snapshot) { s.Workloads.Value = nil }, "client deploy/aggregator-app"},
		"affinity was turned on": {func(s *diagnose.Snapshot) {
			for i := range s.Services.Value {
				s.Services.Value[i].SessionAffinity = "ClientIP"
			}
		}, "+ finding session-affinity"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			snap := saved(t)
			tt.change(snap)
			taken, err := story(snap)
			if err != nil {
				t.Fatal(err)
			}
			diff := differing(before, taken)
			if tt.want == "" && diff != "" || !strings.Contains(diff, tt.want) {
				t.Errorf("want a difference with %q, got:\n%s", tt.want, diff)
			}
		})
	}
}

func TestTearDown(t *testing.T) {
	tests := map[string]struct {
		keep    bool
		fail    bool
		want    string
		wantErr string
	}{
		"last first":              {want: "example cluster "},
		"a failure stops nothing": {fail: true, want: "example cluster ", wantErr: "delete the example: gone wrong"},
		"kept":                    {keep: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out, done bytes.Buffer
			s := newStage(&out, &out)
			s.undo = []undo{
				{"take the cluster down", []string{"stop it"}, func(context.Context) error { done.WriteString("cluster "); return nil }},
				{"delete the example", []string{"look at it"}, func(context.Context) error {
					done.WriteString("example ")
					if tt.fail {
						return errors.New("gone wrong")
					}
					return nil
				}},
			}
			err := s.tearDown(t.Context(), tt.keep)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
			if done.String() != tt.want {
				t.Errorf("undone: %q, want %q", done.String(), tt.want)
			}
			if said := strings.Contains(out.String(), "stop it"); said != tt.keep {
				t.Errorf("what is kept was told: %t; output:\n%s", said, out.String())
			}
		})
	}
}

func TestRunTellsExitCodesApart(t *testing.T) {
	bed := &testbed.Bed{Root: t.TempDir()}
	self := []string{"go", "tool", "no-such-tool"}
	for name, tt := range map[string]struct {
		allowed []int
		cancel  bool
		want    int
		wantErr bool
	}{
		"failure":    {wantErr: true, want: -1},
		"interrupt":  {cancel: true, wantErr: true, want: -1},
		"as allowed": {allowed: []int{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.cancel {
				cancel()
			}
			var out bytes.Buffer
			code, err := newStage(&out, &out).run(ctx, bed, self, tt.allowed...)
			if (err != nil) != tt.wantErr || tt.wantErr && code != tt.want || !tt.wantErr && code == 0 {
				t.Errorf("code %d, error %v", code, err)
			}
			if !strings.Contains(out.String(), "$ go tool no-such-tool") {
				t.Errorf("the command was not typed: %s", out.String())
			}
		})
	}
}

func TestWrongCalls(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"extra"}, {"-update", "-context", "kind"}} {
		var out bytes.Buffer
		if code := run(t.Context(), args, &out, &out); code != exitUsage || out.Len() == 0 {
			t.Errorf("%q: exit code %d, output %q", args, code, out.String())
		}
	}
}
