package cluster

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
)

// lab is a lab in a fresh state directory, of which nothing runs.
func lab(t *testing.T) *Lab {
	t.Helper()
	return &Lab{
		Dir: state.Dir(t.TempDir()), Log: steps.New(io.Discard),
		Sources: func() (build.Sources, error) { return "", errors.New("no sources in this test") },
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		opts Options
		want string
	}{
		"defaults":       {Options{}, ""},
		"all set":        {Options{Nodes: 3, ProxyMode: "iptables"}, ""},
		"too many nodes": {Options{Nodes: 9}, "1 to 8 nodes, not 9"},
		"negative nodes": {Options{Nodes: -1}, "not -1"},
		"unknown mode":   {Options{ProxyMode: "ipvs"}, `nftables and iptables here, not "ipvs"`},
	} {
		err := tc.opts.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestMatches(t *testing.T) {
	up := &state.Cluster{Nodes: 2, ProxyMode: "nftables"}
	for name, tc := range map[string]struct {
		opts Options
		want string
	}{
		"anything":     {Options{}, ""},
		"the same":     {Options{Nodes: 2, ProxyMode: "nftables"}, ""},
		"other nodes":  {Options{Nodes: 3}, "with 2 nodes instead of 3"},
		"other mode":   {Options{Nodes: 2, ProxyMode: "iptables"}, "in mode nftables instead of iptables"},
		"both differs": {Options{Nodes: 1, ProxyMode: "iptables"}, "2 nodes instead of 1 and kube-proxy"},
	} {
		err := tc.opts.matches(up)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const info = `22 1 254:0 / / rw - ext4 /dev/vda rw
90 22 0:50 / /state/run rw - tmpfs tmpfs rw
91 90 0:51 / /state/run/nodes/n1/a\040b rw - tmpfs tmpfs rw
92 22 0:52 / /state/running rw - tmpfs tmpfs rw
93 22
`
	want := []string{"/state/run", "/state/run/nodes/n1/a b"}
	if d := cmp.Diff(want, mountsBelow(info, "/state/run")); d != "" {
		t.Error(d)
	}
}

func TestSummary(t *testing.T) {
	if got := summary([]string{"a", "b", "c"}); got != "a, b, c" {
		t.Errorf("%q", got)
	}
	if got := summary([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Errorf("%q", got)
	}
}

func TestStatusOfNoCluster(t *testing.T) {
	l := lab(t)
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.State != StateDown || s.Trouble != nil || s.Kubeconfig != l.Dir.Kubeconfig() {
		t.Errorf("%+v", s)
	}
}

func TestStatusOfAKilledUp(t *testing.T) {
	l := lab(t)
	err := l.Dir.Save(&state.Cluster{Nodes: 2, Processes: map[string]proc.ID{controlPlaneName: {PID: 1 << 30, Start: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.State != StatePartial || len(s.Trouble) != 1 || s.Trouble[0] != "controlplane has ended" {
		t.Errorf("%+v", s)
	}
}

func TestUpDoesNotTakeAnEndedClusterForOneThatIsUp(t *testing.T) {
	l := lab(t)
	err := l.Dir.Save(&state.Cluster{Nodes: 2, Complete: true, Processes: map[string]proc.ID{controlPlaneName: {PID: 1 << 30, Start: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if up, err := l.alreadyUp(t.Context(), Options{}); up || err != nil {
		t.Errorf("alreadyUp = %v, %v", up, err)
	}
}

func TestCommandsThatNeedAClusterSayWhatToDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("these commands refuse anybody but root first")
	}
	l := lab(t)
	for name, err := range map[string]error{
		"load":  l.LoadImages(t.Context(), []string{"x.tar"}),
		"fault": l.Fault(t.Context(), "kill", "n1"),
	} {
		if !errors.Is(err, ErrDown) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestWaitThatGivesUpShowsTheLog(t *testing.T) {
	l := lab(t)
	if err := state.WriteFile(filepath.Join(l.Dir.Logs(), "n1.log"), []byte("one\ntwo\nthe reason\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("it took longer than 1ms"))
	defer cancel()
	err := l.wait(ctx, &state.Cluster{}, "n1", func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "it took longer than 1ms") || !strings.HasSuffix(err.Error(), "the reason") {
		t.Errorf("error %v", err)
	}
	dead := &state.Cluster{Processes: map[string]proc.ID{"n1": {PID: 1 << 30, Start: 1}}}
	err = l.wait(t.Context(), dead, controlPlaneName, func() bool { return false })
	if err == nil || !strings.HasPrefix(err.Error(), "n1 has ended") || !strings.HasSuffix(err.Error(), "the reason") {
		t.Errorf("error %v", err)
	}
	if got := l.logTail("n1", 2); got != "two\nthe reason" {
		t.Errorf("tail %q", got)
	}
	if got := l.logTail("none", 2); got != "" {
		t.Errorf("tail of no log: %q", got)
	}
}
